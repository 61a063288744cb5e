"""Planted passwords, after commands that succeed and commands that fail: they are nowhere but in the environment."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from support.processes import Home, free_port
from support.signing import OLD, OTHER, VARIABLE, keys
from support.warehouse_fixtures import HttpServer

pytest_plugins = ["support.homes", "support.warehouse_fixtures"]
pytestmark = pytest.mark.slow

WRONG, STORE = "planted:wr0ng/p@ss", "planted-st0re-pass"
QUERY = "SELECT number % 40 AS user_id, cityHash64(number) % 53 AS item_id, 1 + number % 5 AS score FROM numbers(600)"


def spellings(secret: str) -> list[bytes]:
    """As it stands, in an address, in a header, and within quotes."""
    plain = [secret, quote(secret, safe=""), quote(secret), repr(secret)[1:-1], json.dumps(secret)[1:-1]]
    of_users = [base64.b64encode(f"{user}:{secret}".encode()).decode().rstrip("=") for user in ("anna", "u", "ann")]
    return [text.encode() for text in {*plain, *of_users}]


def holds(data: bytes, secrets: list[str]) -> list[str]:
    return [secret for secret in secrets if any(spelling in data for spelling in spellings(secret))]


def watch(home: Home, command: tuple[str, ...], env: dict[str, str], forked: bool = False) -> tuple[int, bytes, bytes]:
    """Status, output and errors, and what a process list showed of it and its children meanwhile."""
    process = home.fork(*command, env=env) if forked else home.start(*command, env=env)
    shown, done = set(), threading.Event()

    def look() -> None:
        while not done.is_set():
            for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 (twenty times a second: pathlib is slow)
                try:
                    # The test's own server has its password among its arguments.
                    if os.getsid(int(name)) == process.pid:
                        shown.add(Path("/proc", name, "cmdline").read_bytes())
                except OSError:
                    continue
            time.sleep(0.05)

    looking = threading.Thread(target=look)
    looking.start()
    output, errors = process.communicate(timeout=300)
    done.set()
    looking.join()
    return process.wait(), (output + errors).encode(), b"\n".join(shown)


@pytest.fixture
def refusing():
    """A server that says no, and repeats in its answer what it was asked with."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            if self.path == "/health":
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"OK")
                return
            self.send_response(401)
            self.end_headers()
            header = self.headers.get("Authorization", "")
            self.wfile.write(f"no: {header} {base64.b64decode(header[6:] or b'').decode()}".encode())

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


@pytest.mark.takes(40)
def test_no_password_is_anywhere(home: Home, http_server: HttpServer, refusing: int) -> None:
    right = http_server.password
    secrets = [right, WRONG, STORE, OLD, OTHER]
    wrong = f"clickhouse://anna:{quote(WRONG, safe='')}@"
    (home.folder / "my.sql").write_text(QUERY)
    (home.folder / "bad.sql").write_text(
        "SELECT currentUser() AS user_id, throwIf(1, getSetting('no_such')) AS item_id"
    )
    good = {"RANKLINE_WAREHOUSE": http_server.dsn, VARIABLE: keys(old=OLD)}
    train = ("rankline", "train", "--query", "my.sql", "--max-iter", "5")
    cases: list[tuple[tuple[str, ...], dict[str, str], int]] = [
        (train, good, 0),
        (("rankline", "score", "--query", "my.sql", "--log-format", "json"), good, 0),
        (("rankline", "score", "--query", "my.sql"), {**good, VARIABLE: keys(other=OTHER)}, 3),
        (("rankline", "score", "--query", "my.sql", "--debug"), {**good, VARIABLE: keys(old=OTHER)}, 1),
        (("rankline", "train", "--query", "my.sql"), {**good, VARIABLE: OLD}, 2),  # without an id
        (("rankline", "train", "--query", "my.sql", "--debug"), {**good, VARIABLE: f"old:{OLD}x"}, 1),
        (("rankline", "train", "--query", "bad.sql"), good, 4),
        (("rankline", "train", "--log-format", "json"), {"RANKLINE_WAREHOUSE": wrong + http_server.host}, 4),
        (("rankline", "sql", "SELECT 1", "--debug"), {"RANKLINE_WAREHOUSE": wrong + http_server.host}, 1),
        (("rankline", "sql", "SELECT 1"), {"RANKLINE_WAREHOUSE": f"{wrong}127.0.0.1:{free_port()}"}, 4),
        (("rankline", "sql", "SELECT 1", "--debug"), {"RANKLINE_WAREHOUSE": f"{wrong}127.0.0.1:{free_port()}"}, 1),
        # TLS where there is none, and the other way round an address with a slip in it.
        (("rankline", "sql", "SELECT 1"), {"RANKLINE_WAREHOUSE": wrong.replace("://", "s://") + http_server.host}, 4),
        (("rankline", "sql", "SELECT 1"), {"RANKLINE_WAREHOUSE": f"clickhouse://anna:{WRONG}@{http_server.host}"}, 2),
        (("rankline", "sql", "SELECT 1", "--debug"), {"RANKLINE_WAREHOUSE": f"clickhouse:/anna:{WRONG}@host"}, 1),
    ]
    stores = {
        "down": f"http://ann:{STORE}@127.0.0.1:{free_port()}",
        "refusing": f"http://ann:{STORE}@127.0.0.1:{refusing}",
        "a slip": f"http://ann:{STORE}/x@127.0.0.1:{refusing}",
        "a database": f"postgresql://ann:{STORE}@127.0.0.1:{free_port()}/mlflow",
    }
    for name, uri in stores.items():
        for debug in ((), ("--debug",)) if name == "refusing" else ((),):
            status = 1 if debug else 2 if name == "a slip" else 4
            cases.append((("rankline", "score", *debug), {**good, "MLFLOW_TRACKING_URI": uri}, status))
    user = {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": STORE}
    cases.append((("rankline", "score"), {**good, **user, "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{refusing}"}, 4))
    for number, (command, env, status) in enumerate(cases):
        # The first two as a user starts them: what they read, and all that they start.
        leaks, output, shown = watch(home, command, env, forked=number >= 2)
        assert leaks == status, (command, env, output.decode())
        assert holds(output, secrets) == [], (command, env, output.decode())
        assert holds(shown, secrets) == [], command
        if "--debug" not in command:
            assert b"Traceback" not in output, (command, env, output.decode())
    files = [path for path in home.folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert {str(path): holds(path.read_bytes(), secrets) for path in files if holds(path.read_bytes(), secrets)} == {}


def test_what_the_search_would_find(tmp_path: Path) -> None:
    for spelling in spellings(WRONG):
        assert holds(b"x" + spelling + b"y", [WRONG])
    home = Home(tmp_path)
    _, _, shown = watch(home, ("sleep", "0.3", "--", "0"), {"X": STORE})
    assert not holds(shown, [STORE])
    _, _, shown = watch(home, ("python", "-c", f"import time; time.sleep(0.5) #{STORE}"), {})
    assert holds(shown, [STORE]) == [STORE]
    assert STORE not in os.environ.values()
