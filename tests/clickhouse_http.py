"""A ClickHouse HTTP endpoint over the embedded engine, run as a process of its own, with faults on demand.

``python clickhouse_http.py FOLDER [USER PASSWORD]`` listens on 127.0.0.1, prints its port, and ends when
its standard input closes, so it never outlives the tests. ``CLICKHOUSE_CONFIG`` names a configuration of the engine:
its user "default" is who every statement runs as, with the grants that it has there. What a real server does is
done by the engine: SQL, formats, settings, bound parameters, errors and their codes.

Faults are rules, POSTed as JSON to ``/-/rules`` (``[]`` takes them away); the first whose `match`
(a regular expression) is found in a statement, bound identifiers in their places, applies to it,
`times` times (default 1):

    {"do": "cut", "bytes": n}                break the connection after n bytes of the answer
    {"do": "batches", "n": n, "clean": b}    answer with n Arrow messages; then end as if that were all, or break
    {"do": "hang"}                           take the statement and never answer
    {"do": "answer", "status": s, "body": t} what some other server would say
    {"do": "instead", "sql": t}              run another statement

``/-/log`` gives every statement so far (the same text) with its parameters and user; ``/-/clear`` forgets them, and
``/-/reset`` the rules too, and drops every database that is not the engine's own.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

# What the HTTP interface takes for itself; everything else in the query string is a setting.
TRANSPORT = {
    "query", "database", "buffer_size", "session_id", "session_timeout", "session_check", "query_id", "quota_key",
    "compress", "decompress", "wait_end_of_query", "client_protocol_version", "role", "send_progress_in_http_headers",
    "http_headers_progress_interval_ms", "enable_http_compression", "user", "password",
}  # fmt: skip
INSERT = re.compile(rb"\s*INSERT\s+INTO\s+[^\n]*?\bFORMAT\s+(\w+)\s*(?:\n|\Z)", re.IGNORECASE)
FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*\Z", re.IGNORECASE)
IDENTIFIER = re.compile(r"\{(\w+):Identifier\}")
CODE = re.compile(r"Code: (\d+)\.")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, folder: str, user: str, password: str) -> None:
        import chdb

        config = os.environ.get("CLICKHOUSE_CONFIG")
        self.folder = f"file:{folder}?config-file={config}" if config else folder
        self.user, self.password = user, password
        self.engine = chdb
        # Handles of single requests come and go: one stays, so that the engine does.
        self.keeper = chdb.connect(self.folder)
        self.lock = threading.Lock()
        self.rules: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []
        self.hung = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    def drop_databases(self) -> None:
        own = "'default', 'system', 'INFORMATION_SCHEMA', 'information_schema', '_local'"
        names = self.keeper.query(f"SELECT name FROM system.databases WHERE name NOT IN ({own})", "TabSeparated")
        for name in names.bytes().decode().split():
            self.keeper.query(f"DROP DATABASE IF EXISTS `{name}`")

    def rule_for(self, statement: str) -> dict[str, Any] | None:
        with self.lock:
            for rule in self.rules:
                if rule.get("times", 1) > 0 and re.search(rule["match"], statement, re.DOTALL):
                    rule["times"] = rule.get("times", 1) - 1
                    return rule
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer goes out in pieces: with Nagle's algorithm each statement takes 40 ms.
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.handle_one(b"")

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.handle_one(body)

    def handle_one(self, body: bytes) -> None:
        path = urlsplit(self.path)
        if path.path.startswith("/-/"):
            return self.control(path.path, body)
        query = dict(parse_qsl(path.query, keep_blank_values=True))
        user, password = self.credentials(query)
        if (user, password) != (self.server.user, self.server.password):
            return self.fail(
                f"Code: 516. DB::Exception: {user}: Authentication failed: password is incorrect, or there is no user "
                "with such name. (AUTHENTICATION_FAILED) (version 26.9.1.1)",
                status=403,
            )
        statement, data = query.get("query", ""), b""
        if statement:
            data = body
        elif found := INSERT.match(body):
            statement, data = found[0].decode(), body[found.end() :]
        else:
            statement = body.decode()
        said = IDENTIFIER.sub(lambda found: query.get(f"param_{found[1]}", found[0]), statement)
        with self.server.lock:
            self.server.log.append({"statement": said, "params": query, "user": user, "path": self.path})
        rule = self.server.rule_for(said)
        if rule and rule["do"] == "hang":
            self.server.hung.wait()
            self.close_connection = True
            return None
        if rule and rule["do"] == "answer":
            return self.answer(rule["body"].encode(), {"Content-Type": "text/html"}, rule["status"])
        if rule and rule["do"] == "instead":
            kept = FORMAT.search(statement)
            statement = rule["sql"] + (f"\nFORMAT {kept[1]}" if kept else "")
        try:
            result, form = self.run(statement, data, query)
        except Exception as error:  # noqa: BLE001 (whatever the engine's C++ says is the answer)
            return self.fail(str(error))
        headers = {"X-ClickHouse-Timezone": "UTC", "Content-Type": "application/octet-stream"}
        if form:
            headers["X-ClickHouse-Format"] = form
        if rule and rule["do"] == "batches":
            return self.answer(_first_batches(result, rule["n"]), headers, cut=not rule["clean"])
        if rule and rule["do"] == "cut":
            return self.answer(result[: rule["bytes"]], headers, cut=True)
        return self.answer(result, headers)

    def credentials(self, query: dict[str, str]) -> tuple[str, str]:
        kind, _, text = self.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            user, _, password = base64.b64decode(text).decode().partition(":")
            return user, password
        user = self.headers.get("X-ClickHouse-User") or query.get("user") or "default"
        return user, self.headers.get("X-ClickHouse-Key") or query.get("password") or ""

    def run(self, statement: str, data: bytes, query: dict[str, str]) -> tuple[bytes, str]:
        """The engine's answer and its format ("" for a statement without a result)."""
        handle = self.server.engine.connect(self.server.folder)
        try:
            if database := query.get("database"):
                handle.query(f"USE `{database}`")
            for name, value in query.items():
                if name not in TRANSPORT and not name.startswith("param_"):
                    handle.query(f"SET {name} = {_quoted(value)}")
            params = {name[6:]: value for name, value in query.items() if name.startswith("param_")}
            inserted = INSERT.match(statement.encode())
            if inserted:
                with tempfile.NamedTemporaryFile(suffix=".block") as file:
                    file.write(data)
                    file.flush()
                    head = statement[: inserted.start(1)].rstrip()[: -len("FORMAT")]
                    handle.query(f"{head} FROM INFILE {_quoted(file.name)} FORMAT {inserted[1].decode()}")
                return b"", ""
            named = FORMAT.search(statement)
            if named:
                return handle.query(statement, "TabSeparated", params=params).bytes() or b"", named[1]
            # Only a statement that has a result says its names.
            text = handle.query(statement, "TabSeparatedWithNames", params=params).bytes() or b""
            return text.partition(b"\n")[2], "TabSeparated" if text else ""
        finally:
            handle.close()

    def fail(self, message: str, status: int = 500) -> None:
        message = message[message.find("Code: ") :] if "Code: " in message else message
        code = CODE.search(message)
        self.answer(message.encode() + b"\n", {"X-ClickHouse-Exception-Code": code[1] if code else "1"}, status)

    def answer(self, body: bytes, headers: dict[str, str], status: int = 200, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(body), 65536):
            piece = body[start : start + 65536]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if cut:
            self.wfile.flush()
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def control(self, path: str, body: bytes) -> None:
        with self.server.lock:
            if path == "/-/rules":
                self.server.rules = json.loads(body)
            elif path in ("/-/clear", "/-/reset"):
                self.server.log = []
            if path == "/-/reset":
                self.server.rules = []
                self.server.drop_databases()
            answer = json.dumps(self.server.log).encode()
        self.answer(answer, {"Content-Type": "application/json"})


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _first_batches(stream: bytes, n: int) -> bytes:
    """The Arrow stream up to the end of its nth batch, without the mark that ends a stream."""
    import pyarrow as pa

    source = pa.BufferReader(stream)
    reader = pa.ipc.open_stream(source)
    for _ in range(n):
        reader.read_next_batch()
    return stream[: source.tell()]


def main() -> None:
    folder, user, password = [*sys.argv[1:], *("default", "")[len(sys.argv) - 2 :]]
    server = Server(folder, user, password)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    # No waiting for threads that hang on purpose.
    os._exit(0)


if __name__ == "__main__":
    main()
