"""A ClickHouse HTTP endpoint over the embedded engine, run as a process of its own, with faults on demand.

``python clickhouse_http.py FOLDER [USER PASSWORD] [--port N]`` listens on 127.0.0.1 (a free port, unless one is named),
prints its port, and ends when its standard input closes, so it never outlives the tests; `engine.start` does all that.
``CLICKHOUSE_CONFIG`` names a configuration of the engine: its user "default" is who every statement runs as, with the
grants that it has there. What a real server does is done by the engine: SQL, formats, settings, bound parameters,
errors and their codes. Rows go out as the engine makes them (Native, ArrowStream), in chunks of HTTP/1.1.

Faults are rules, POSTed as JSON to ``/-/rules`` (``[]`` takes them away); the first whose `match`
(a regular expression) is found in a statement, bound identifiers in their places, applies to it,
`times` times (default 1), after the first `skip` that it fits:

    {"do": "cut", "bytes": n}                run it, and break the connection after n bytes of the answer
    {"do": "batches", "n": n, "clean": b}    answer with n Arrow messages; then end as if that were all, or break
    {"do": "cut request", "bytes": n}        break the connection after n bytes of what is to be inserted: nothing runs
    {"do": "drop", "run": b}                 run it, or not (default), and close the connection without an answer
    {"do": "hang", "run": b, "bytes": n}     never answer, run (b) or not; with bytes: stop after so many
    {"do": "answer", "status": s, "body": t} what some other server would say
    {"do": "endless", "bytes": n, "seconds": s} an answer that never ends: n bytes every s seconds
    {"do": "instead", "sql": t}              run another statement
    {"do": "hold"}                           run it once ``/-/release`` is asked for, as if the network had been slow

``/-/log`` gives every statement so far (the same text) with its parameters and user; ``/-/clear`` forgets them, and
``/-/reset`` the rules too, and drops every database that is not the engine's own.
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import json
import os
import re
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
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
SELECT = re.compile(r"(?:\s+|(?:--|#[ !])[^\n]*\n|/\*.*?\*/)*(?:SELECT|WITH)\b", re.IGNORECASE | re.DOTALL)
IDENTIFIER = re.compile(r"\{(\w+):Identifier\}")
CODE = re.compile(r"Code: (\d+)\.")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, folder: str, user: str, password: str, port: int = 0) -> None:
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
        self.released = threading.Event()
        super().__init__(("127.0.0.1", port), Handler)

    def drop_databases(self) -> None:
        own = "'default', 'system', 'INFORMATION_SCHEMA', 'information_schema', '_local'"
        names = self.keeper.query(f"SELECT name FROM system.databases WHERE name NOT IN ({own})", "TabSeparated")
        for name in names.bytes().decode().split():
            self.keeper.query(f"DROP DATABASE IF EXISTS `{name}`")

    def rule_for(self, statement: str) -> dict[str, Any] | None:
        with self.lock:
            for rule in self.rules:
                if rule.get("times", 1) > 0 and re.search(rule["match"], statement, re.DOTALL):
                    if rule.get("skip", 0) > 0:
                        rule["skip"] -= 1
                        return None
                    rule["times"] = rule.get("times", 1) - 1
                    return rule
        return None


class BrokenOffError(Exception):
    """The connection is to be broken here."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer goes out in pieces: with Nagle's algorithm each statement takes 40 ms.
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.handle_one(iter(()))

    def do_POST(self) -> None:
        self.handle_one(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length", 0))
        while left:
            piece = self.rfile.read1(min(left, 65536))
            if not piece:
                raise BrokenOffError
            left -= len(piece)
            yield piece

    def handle_one(self, body: Iterator[bytes]) -> None:
        path = urlsplit(self.path)
        if path.path.startswith("/-/"):
            return self.control(path.path, b"".join(body))
        try:
            return self.statement(dict(parse_qsl(path.query, keep_blank_values=True)), body)
        except (BrokenOffError, ConnectionError, ValueError):  # ValueError: a chunk's length that never came
            self.hang_up()

    def hang_up(self) -> None:
        """Close the connection so that the other side is told at once."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def statement(self, query: dict[str, str], pieces: Iterator[bytes]) -> None:
        user, password = self.credentials(query)
        if (user, password) != (self.server.user, self.server.password):
            b"".join(pieces)
            return self.fail(
                f"Code: 516. DB::Exception: {user}: Authentication failed: password is incorrect, or there is no user "
                "with such name. (AUTHENTICATION_FAILED) (version 26.9.1.1)",
                status=403,
            )
        statement, data = query.get("query", ""), b""
        if not statement:
            data = next(pieces, b"")
            if match := INSERT.match(data):
                statement, data = match[0].decode(), data[match.end() :]
            else:
                statement, data = (data + b"".join(pieces)).decode(), b""
        said = IDENTIFIER.sub(lambda match: query.get(f"param_{match[1]}", match[0]), statement)
        with self.server.lock:
            self.server.log.append({"statement": said, "params": query, "user": user, "path": self.path})
        rule = self.server.rule_for(said) or {"do": ""}
        if rule["do"] == "cut request":
            while len(data) < rule["bytes"] and (piece := next(pieces, b"")):
                data += piece
            raise BrokenOffError
        data += b"".join(pieces)
        if rule["do"] == "answer":
            return self.answer([rule["body"].encode()], {"Content-Type": "text/html"}, rule["status"])
        if rule["do"] == "endless":
            return self.answer(_endless(rule["bytes"], rule["seconds"]), {"Content-Type": "text/plain"})
        if rule["do"] in ("hang", "drop") and not rule.get("run") and "bytes" not in rule:
            return self.give_up(rule)
        if rule["do"] == "hold":
            self.server.released.wait()
        if rule["do"] == "instead":
            kept = FORMAT.search(statement)
            statement = rule["sql"] + (f"\nFORMAT {kept[1]}" if kept else "")
        handle = self.server.engine.connect(self.server.folder)
        try:
            blocks, form = self.run(handle, statement, data, query)
            # As a server: an error before the first row is an answer of its own.
            first = list(itertools.islice(blocks, 1))
        except Exception as error:  # noqa: BLE001 (whatever the engine's C++ says is the answer)
            handle.close()
            return self.give_up(rule) if rule["do"] in ("hang", "drop") else self.fail(str(error))
        try:
            answer = itertools.chain(first, blocks)
            headers = {"X-ClickHouse-Timezone": "UTC", "Content-Type": "application/octet-stream"}
            if form:
                headers["X-ClickHouse-Format"] = form
            if rule["do"] == "batches":
                return self.answer(_first_batches(b"".join(answer), rule["n"]), headers, whole=rule["clean"])
            if rule["do"] in ("cut", "hang") and "bytes" in rule:
                self.answer(_first_bytes(answer, rule["bytes"]), headers, whole=False)
            if rule["do"] in ("hang", "drop"):
                return self.give_up(rule)
            return None if rule["do"] == "cut" else self.answer(answer, headers)
        finally:
            handle.close()

    def give_up(self, rule: dict[str, Any]) -> None:
        if rule["do"] == "hang":
            self.server.hung.wait()
        raise BrokenOffError

    def credentials(self, query: dict[str, str]) -> tuple[str, str]:
        kind, _, text = self.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            user, _, password = base64.b64decode(text).decode().partition(":")
            return user, password
        user = self.headers.get("X-ClickHouse-User") or query.get("user") or "default"
        return user, self.headers.get("X-ClickHouse-Key") or query.get("password") or ""

    def run(self, handle: Any, statement: str, data: bytes, query: dict[str, str]) -> tuple[Iterator[bytes], str]:
        """The engine's answer, as it comes, and its format ("" for a statement without a result)."""
        if database := query.get("database"):
            handle.query(f"USE `{database}`")
        own = {name: value for name, value in query.items() if name not in TRANSPORT and not name.startswith("param_")}
        if own:
            handle.query("SET " + ", ".join(f"{name} = {_quoted(value)}" for name, value in own.items()))
        params = {name[6:]: value for name, value in query.items() if name.startswith("param_")}
        inserted = INSERT.match(statement.encode())
        if inserted:
            with tempfile.NamedTemporaryFile(suffix=".block") as file:
                file.write(data)
                file.flush()
                head = statement[: inserted.start(1)].rstrip()[: -len("FORMAT")]
                handle.query(f"{head} FROM INFILE {_quoted(file.name)} FORMAT {inserted[1].decode()}")
            return iter(()), ""
        named = FORMAT.search(statement)
        if named and named[1] in ("Native", "ArrowStream") and SELECT.match(statement):
            made = handle.send_query(statement[: named.start()], named[1], params=params)
            chunks = iter(lambda: getattr(made.fetch(), "bytes", bytes)(), b"")
            if first := next(chunks, b""):
                chunks = itertools.chain([first], chunks)
                return (_one_stream(chunks) if named[1] == "ArrowStream" else chunks), named[1]
        if named:  # no rows at all, or none that the engine streams: names and types alone
            return iter([handle.query(statement, "TabSeparated", params=params).bytes() or b""]), named[1]
        # Only a statement that has a result says its names.
        text = handle.query(statement, "TabSeparatedWithNames", params=params).bytes() or b""
        return iter([text.partition(b"\n")[2]]), "TabSeparated" if text else ""

    def fail(self, message: str, status: int = 500) -> None:
        message = message[message.find("Code: ") :] if "Code: " in message else message
        code = CODE.search(message)
        self.answer([message.encode() + b"\n"], {"X-ClickHouse-Exception-Code": code[1] if code else "1"}, status)

    def answer(self, body: Iterable[bytes], headers: dict[str, str], status: int = 200, whole: bool = True) -> None:
        """The body in chunks; where it is not `whole`, without the mark that ends it."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for block in body:
                for start in range(0, len(block), 65536):
                    piece = block[start : start + 65536]
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        except RuntimeError as error:  # the engine's, in the middle of the rows
            text = str(error).encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
            whole = False
        if whole:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.flush()
            self.close_connection = True

    def control(self, path: str, body: bytes) -> None:
        with self.server.lock:
            if path == "/-/rules":
                self.server.released.clear()
                self.server.rules = json.loads(body)
            elif path == "/-/release":
                self.server.released.set()
            elif path in ("/-/clear", "/-/reset"):
                self.server.log = []
            if path == "/-/reset":
                self.server.rules = []
                self.server.drop_databases()
            answer = json.dumps(self.server.log).encode()
        self.answer([answer], {"Content-Type": "application/json"})


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _one_stream(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The engine makes an Arrow stream of each block; a server makes one of all."""
    import pyarrow as pa

    sink, writer = io.BytesIO(), None
    for chunk in chunks:
        reader = pa.ipc.open_stream(chunk)
        writer = writer or pa.ipc.new_stream(sink, reader.schema)
        for batch in reader:
            writer.write_batch(batch)
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    if writer is not None:
        writer.close()
        yield sink.getvalue()


def _first_batches(stream: bytes, n: int) -> Iterator[bytes]:
    """The Arrow stream up to the end of its nth batch, without the mark that ends a stream."""
    import pyarrow as pa

    source = pa.BufferReader(stream)
    reader = pa.ipc.open_stream(source)
    for _ in range(n):
        reader.read_next_batch()
    yield stream[: source.tell()]


def _endless(n: int, seconds: float) -> Iterator[bytes]:
    while True:
        yield b"x" * n
        time.sleep(seconds)


def _first_bytes(blocks: Iterator[bytes], n: int) -> Iterator[bytes]:
    for block in blocks:
        yield block[:n]
        n -= len(block)
        if n <= 0:
            return


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("user", nargs="?", default="default")
    parser.add_argument("password", nargs="?", default="")
    parser.add_argument("--port", type=int, default=0)
    asked = parser.parse_args()
    server = Server(asked.folder, asked.user, asked.password, asked.port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    # No waiting for threads that hang on purpose.
    os._exit(0)


if __name__ == "__main__":
    main()
