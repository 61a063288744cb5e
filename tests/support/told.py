"""Those who are told of alerts: a webhook, a mail server, a program. All of them are real, on this machine."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.processes import free_port


class Webhook:
    """An HTTP server that keeps what it is sent, and answers with a status.

    Attributes
    ----------
    status : of its answers; 302 sends on to `to`
    letters, paths, heads : of the requests, as they came
    """

    def __init__(self, status: int = 200, to: str = "") -> None:
        self.status, self.to = status, to
        self.letters: list[Any] = []
        self.paths: list[str] = []
        self.heads: list[dict[str, str]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.letters.append(json.loads(body))
                hook.paths.append(self.path)
                hook.heads.append({name.lower(): value for name, value in self.headers.items()})
                self.send_response(hook.status)
                if hook.to:
                    self.send_header("Location", hook.to)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST  # noqa: N815  # the server's name for it

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Webhook:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def command_target(folder: Path, script: str = "cat > {got}") -> tuple[str, Path]:
    """A target that runs a program, and the file that the program writes."""
    program, got = folder / "told.sh", folder / "got.json"
    program.write_text(f"#!/bin/sh\n{script.format(got=got)}\n")
    with suppress(OSError):
        program.chmod(0o755)
    return f"command:{program}", got


class MailServer:
    """An SMTP server, as a context manager.

    Parameters
    ----------
    pem : its key and certificate, for STARTTLS
    tls : TLS from the first byte, instead of STARTTLS
    user, password : who may log in; nobody has to, unless `must_log_in`
    refuses : an address that it does not take

    Attributes
    ----------
    mails : (sender, recipients, message, who had logged in)
    """

    def __init__(
        self,
        pem: Path | None = None,
        *,
        tls: bool = False,
        user: str = "",
        password: str = "",
        must_log_in: bool = False,
        refuses: str = "",
    ) -> None:
        import ssl

        from aiosmtpd.controller import Controller
        from aiosmtpd.smtp import AuthResult

        self.mails: list[tuple[str, list[str], EmailMessage, str]] = []
        server = self

        class Handler:
            async def handle_RCPT(  # noqa: N802  # aiosmtpd's name
                self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
            ) -> str:
                if address == refuses:
                    return "550 5.1.1 hunter2-s3cret is the password of nobody"
                envelope.rcpt_tos.append(address)
                return "250 OK"

            async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  # its name
                message = message_from_bytes(envelope.content, policy=policy.default)
                who = str(getattr(session, "auth_data", "") or "")
                server.mails.append((envelope.mail_from, list(envelope.rcpt_tos), message, who))
                return "250 OK"

        def authenticated(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
            known = (data.login.decode(), data.password.decode()) == (user, password)
            return AuthResult(success=known, handled=known, auth_data=user)

        context = None
        if pem is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
        self.port = free_port()
        self._controller = Controller(
            Handler(),
            hostname="127.0.0.1",
            port=self.port,
            ssl_context=context if tls else None,
            tls_context=None if tls else context,
            authenticator=authenticated if user else None,
            auth_required=must_log_in,
            auth_require_tls=context is not None and not tls,
        )

    def __enter__(self) -> MailServer:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()
