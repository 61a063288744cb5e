"""Servers that take an alert, and servers that hang, drip, refuse, break off, send on or have a wrong certificate."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.listeners import SECRET, certificate, drip, listening
from support.told import MailServer, Webhook, command_target

from pipeline.monitoring.notify_delivery import Letter, deliver
from pipeline.monitoring.notify_targets import parse_target

NIGHT = datetime(2026, 11, 29, 2, tzinfo=UTC)
LETTER = Letter.of(
    [
        {
            "kind": "drift",
            "subject": "rankline psi_scores",
            "message": "<!channel> & co: 0.3 > 0.25",
            "facts": {"value": 0.3},
        },
        {"kind": "table_age", "subject": "analytics.recommendations", "message": "50 hours old", "facts": {}},
    ],
    NIGHT,
)
MAIL = "?from=rankline@example.org&to=ops@example.org,shop@example.org"


def tell(target: str, seconds: float = 10.0) -> str:
    """Why it did not arrive, "" if it did; without a secret, in a line."""
    (reason,) = deliver([(parse_target(target), LETTER)], seconds)
    assert SECRET not in reason
    assert "\n" not in reason
    return reason


# ---- webhooks ------------------------------------------------------------------------------------


def test_slack_reads_text_in_which_nothing_is_markup() -> None:
    with Webhook() as hook:
        assert tell(f"slack+{hook.url}/services/x") == ""
    (letter,) = hook.letters
    assert letter == {
        "text": "*Rankline: 2 alerts*\n• drift: &lt;!channel&gt; &amp; co: 0.3 &gt; 0.25\n• table_age: 50 hours old"
    }
    assert hook.heads[0]["content-type"] == "application/json"


@pytest.mark.parametrize(("status", "reason"), [(500, "HTTP 500"), (404, "HTTP 404"), (204, ""), (302, "HTTP 302")])
def test_what_a_webhook_answers(status: int, reason: str) -> None:
    with Webhook() as other, Webhook(status, other.url if status == 302 else "") as hook:
        assert tell(f"{hook.url}/{SECRET}") == reason
        assert other.letters == []  # nobody else is told


def test_a_webhook_that_hangs_drips_or_breaks_off() -> None:
    def hang(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(65536)
        over.wait(30)

    def break_off(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(1)

    with listening(hang) as hanging, drip(b"HTTP/1.1 200 OK\r\nX: ", b"x") as dripping, listening(break_off) as broken:
        targets = [parse_target(f"http://127.0.0.1:{port}/{SECRET}") for port in (hanging, dripping)]
        reasons = deliver([(target, LETTER) for target in targets], 0.6)
        assert reasons == ["no answer within 0.6 s"] * 2
        assert tell(f"http://127.0.0.1:{broken}/{SECRET}").startswith(("connection reset", "no sensible answer"))
    names = [thread.name for thread in threading.enumerate()]
    assert "rankline-notify" not in names, "a connection that is cut ends its thread"


def test_a_webhook_that_is_not_there_or_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert tell(f"http://127.0.0.1:{port}/") == "connection refused"
    assert tell("https://no-such-host.invalid/x").startswith(("name or service", "temporary failure", "no address"))
    with drip(b"SSH-2.0-OpenSSH\r\n", b"") as port:
        assert "no sensible answer" in tell(f"http://127.0.0.1:{port}/{SECRET}")
        assert tell(f"https://127.0.0.1:{port}/{SECRET}").startswith("TLS failed")


def test_a_certificate_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from support.listeners import relay

    pem = certificate(tmp_path)
    with Webhook() as hook:
        port = int(hook.url.rpartition(":")[2])
        with relay(port, pem) as (tls_port, _):
            assert tell(f"https://127.0.0.1:{tls_port}/x") == "TLS failed (CERTIFICATE_VERIFY_FAILED)"
            assert hook.letters == []
            monkeypatch.setenv("SSL_CERT_FILE", str(pem))
            assert tell(f"https://127.0.0.1:{tls_port}/x") == ""
        assert len(hook.letters) == 1


# ---- mail ----------------------------------------------------------------------------------------


def test_a_mail_says_all_and_whom_it_is_from() -> None:
    with MailServer() as server:
        assert tell(f"smtp://127.0.0.1:{server.port}{MAIL}") == ""
    ((sender, recipients, message, who),) = server.mails
    assert (sender, recipients, who) == ("rankline@example.org", ["ops@example.org", "shop@example.org"], "")
    assert message["Subject"] == "Rankline: 2 alerts"
    assert message["Date"] == "Sun, 29 Nov 2026 02:00:00 +0000"
    assert message["Auto-Submitted"] == "auto-generated"
    assert "drift: <!channel> & co: 0.3 > 0.25" in message.get_content()
    assert "table_age: 50 hours old" in message.get_content()


def test_a_password_goes_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    asks = {"user": "anna", "password": SECRET, "must_log_in": True}
    with MailServer(pem, **asks) as server:
        assert tell(f"smtp://anna:{SECRET}@127.0.0.1:{server.port}{MAIL}") == ""
        assert server.mails[0][3] == "anna"
        assert tell(f"smtp://anna:{SECRET}x@127.0.0.1:{server.port}{MAIL}") == "the mail server refused (535)"
        assert tell(f"smtp://127.0.0.1:{server.port}{MAIL}") == "the mail server refused (530)"
    with MailServer(pem, tls=True, **asks) as server:
        assert tell(f"smtps://anna:{SECRET}@127.0.0.1:{server.port}{MAIL}") == ""
        assert server.mails[0][3] == "anna"
    monkeypatch.delenv("SSL_CERT_FILE")
    with MailServer(pem) as server:
        assert tell(f"smtp://127.0.0.1:{server.port}{MAIL}") == "TLS failed (CERTIFICATE_VERIFY_FAILED)"


def test_a_password_is_sent_nowhere_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.monitoring.notify_mail._is_here", lambda _: False)
    with MailServer(user="anna", password=SECRET) as server:
        target = f"smtp://anna:{SECRET}@127.0.0.1:{server.port}{MAIL}"
        assert tell(target) == "it has no TLS, and a password is not sent without"
        monkeypatch.undo()
        assert tell(target) == ""  # to this machine it is


def says(first: bytes, on: bytes = b"") -> Callable[[socket.socket, threading.Event], None]:
    """A server that speaks first, as those of mail do; then it drips, or waits."""

    def serve(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(first)
        while not over.wait(0.05):
            connection.sendall(on)

    return serve


def test_a_mail_server_that_refuses_hangs_or_drips() -> None:
    with MailServer(refuses="shop@example.org") as server:
        # The other address has it: and yet not all were told.
        assert tell(f"smtp://127.0.0.1:{server.port}{MAIL}") == "the mail server refused an address"
    servers = listening(says(b"220 hello\r\n")), listening(says(b"220-", b"x")), listening(says(b"554 no\r\n"))
    with servers[0] as hanging, servers[1] as dripping, servers[2] as closed:
        targets = [parse_target(f"smtp://127.0.0.1:{port}{MAIL}") for port in (hanging, dripping)]
        reasons = deliver([(target, LETTER) for target in targets], 0.6)
        assert reasons == ["no answer within 0.6 s"] * 2
        assert tell(f"smtp://127.0.0.1:{closed}{MAIL}") == "the mail server refused (554)"


# ---- programs ------------------------------------------------------------------------------------


def test_programs_that_end_badly_hang_or_read_nothing(tmp_path: Path) -> None:
    def with_script(name: str, script: str) -> str:
        folder = tmp_path / name
        folder.mkdir()
        return command_target(folder, script)[0]

    assert tell(with_script("bad", "exit 3")) == "the program ended with status 3"
    assert tell(with_script("killed", "kill -9 $$")) == "the program was ended by signal 9"
    assert tell(with_script("deaf", "exec <&-; exit 0")) == ""
    hangs = with_script("hangs", "sleep 300 & echo $! > {got}; wait")
    assert tell(hangs, 4) == "no answer within 4 s"
    child = int((tmp_path / "hangs" / "got.json").read_text())
    with pytest.raises(ProcessLookupError):
        wait_gone(child)


def wait_gone(pid: int) -> None:
    """Raise ProcessLookupError once there is no such process, or only what is left of it."""
    for _ in range(100):
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            raise ProcessLookupError
        time.sleep(0.05)
