"""One client for a server and the embedded engine: what it runs, and what every kind of failure becomes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pyarrow as pa
import pytest

from pipeline.errors import LockedError, QueryError, RefusedError, ServerError, UnreachableError, UsageError
from pipeline.settings import Settings
from pipeline.warehouse import Patience, address_of, connect

pytest_plugins = ["warehouse_fixtures"]

SECRET = "hunter2-s3cret"


@contextmanager
def listener(answer: bytes | None = b"") -> Iterator[tuple[int, list[bytes]]]:
    """A port and the first bytes of what comes in; it answers with `answer`, or never (None)."""
    came: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            held.append(connection)
            came.append(connection.recv(65536))
            if answer is not None:
                connection.sendall(answer)
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1], came
    finally:
        # Closing alone does not wake accept.
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for connection in held:
            connection.close()
        thread.join(30)
        assert not thread.is_alive()


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def says(error: pytest.ExceptionInfo[BaseException], *parts: str) -> str:
    """The message: one line with the parts, and without any password, itself or what led to it."""
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part in text
    assert SECRET not in text
    assert "s3cret" not in text
    # `from None`: what a traceback shows is the message alone.
    assert error.value.__suppress_context__ or error.value.__context__ is None
    return text


# ---- what it runs ---------------------------------------------------------------------------------


def test_runs_and_binds(warehouse):
    warehouse.command("CREATE DATABASE own")
    warehouse.command("CREATE TABLE own.t (id Int64, name String) ORDER BY id")
    hard = ["it's", "back\\slash", "tab\tline\n", "ö–漢", "'); DROP TABLE own.t --", "{x:String}", "%s"]
    warehouse.insert("own.t", pa.table({"id": list(range(len(hard))), "name": hard}))
    assert [row["name"] for row in warehouse.rows("SELECT name FROM own.t ORDER BY id")] == hard
    for i, name in enumerate(hard):
        assert warehouse.rows("SELECT id FROM own.t WHERE name = {name:String}", {"name": name}) == [{"id": i}]
    found = warehouse.rows("SELECT count() AS n FROM own.t WHERE name IN {names:Array(String)}", {"names": hard})
    assert found == [{"n": len(hard)}]
    assert warehouse.table("SELECT id FROM own.t ORDER BY id LIMIT {k:UInt32}", {"k": 2}).to_pydict() == {"id": [0, 1]}


def test_engine(warehouse):
    warehouse.command("CREATE DATABASE own")
    warehouse.command("CREATE VIEW own.v AS SELECT 1")
    warehouse.command("CREATE TABLE own.t (id Int64) ENGINE = Memory")
    assert warehouse.engine("own.v") == "View"
    assert warehouse.engine("own.t") == "Memory"
    assert warehouse.engine("own.none") is None
    assert warehouse.engine("none.t") is None


def test_ddl_takes_merge_tree_where_the_default_is_another(warehouse):
    warehouse.command("CREATE DATABASE own")
    warehouse.ddl("CREATE TABLE own.t (id Int64) ORDER BY id")
    assert warehouse.engine("own.t") == "MergeTree"
    # The setting is of that statement, not of the connection.
    changed = "SELECT value, changed FROM system.settings WHERE name = 'default_table_engine'"
    assert warehouse.rows(changed)[0]["changed"] == 0


def test_ddl_sets_the_engine_that_the_database_needs(http_server, over_http):
    over_http.command("CREATE DATABASE own")
    http_server.clear()
    over_http.ddl("CREATE TABLE own.t (id Int64) ORDER BY id")
    assert [entry["params"]["default_table_engine"] for entry in http_server.log("CREATE TABLE")] == ["MergeTree"]
    http_server.clear()
    # The engine here runs no Replicated database: that it is there is what the server is made to say,
    # and that the setting goes along is what can be seen.
    http_server.rules({"match": "system.databases", "do": "instead", "sql": "SELECT toUInt64(1) AS n"})
    with pytest.raises(QueryError):
        over_http.ddl("CREATE TABLE own.u (id Int64) ORDER BY id")
    (entry,) = http_server.log("CREATE TABLE")
    assert entry["params"]["default_table_engine"] == "ReplicatedMergeTree"
    (asked,) = http_server.log("system.databases")
    assert "engine = 'Replicated'" in asked["statement"]


def test_blocks_are_all_the_rows_in_more_than_one_block(warehouse):
    with warehouse.blocks("SELECT number AS n FROM numbers(200000)") as blocks:
        tables = list(blocks)
    assert len(tables) > 1
    assert pa.concat_tables(tables).column("n").to_pylist() == list(range(200000))


def test_two_streams_and_a_query_at_once(warehouse):
    """The batch job inserts while it reads what is seen."""
    with (
        warehouse.blocks("SELECT number AS n FROM numbers(100000)") as first,
        warehouse.blocks("SELECT number AS n FROM numbers(100000)") as second,
    ):
        next(first)
        next(second)
        assert warehouse.rows("SELECT 1 AS one") == [{"one": 1}]


def test_no_session(http_server, over_http):
    """A real server refuses a second query of a session while a stream of it is open."""
    over_http.rows("SELECT 1 AS one")
    assert http_server.log()
    assert not any("session_id" in entry["params"] for entry in http_server.log())


def test_run(warehouse):
    assert warehouse.run("SELECT * FROM (SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, 'y') ORDER BY a") == (
        ["a", "b"],
        [(1, "x"), (2, "y")],
    )
    assert warehouse.run("CREATE DATABASE own") == ([], [])
    assert warehouse.run("CREATE TABLE own.t (id Int64) ORDER BY id") == ([], [])
    assert warehouse.run("INSERT INTO own.t VALUES (1), (2)") == ([], [])
    assert warehouse.run("SELECT id FROM own.t WHERE 0")[1] == []


@pytest.mark.parametrize(
    ("statement", "columns", "rows"),
    [
        ("-- what\n  -- for\n SELECT 1 AS a", ["a"], [(1,)]),
        ("/* what */ SELECT 1 AS a", ["a"], [(1,)]),
        ("with 2 as x select x as a", ["a"], [(2,)]),
        ("(SELECT 3 AS a)", ["a"], [(3,)]),
        ("SHOW DATABASES LIKE 'own'", ["name"], [("own",)]),
        ("EXISTS DATABASE own", ["result"], [(1,)]),
        ("EXPLAIN SELECT 1", ["explain"], None),
        ("FROM numbers(2) SELECT number AS a", ["a"], [(0,), (1,)]),
    ],
)
def test_run_knows_what_has_rows(warehouse, statement, columns, rows):
    warehouse.command("CREATE DATABASE own")
    found, values = warehouse.run(statement)
    assert found == columns
    assert values == rows or (rows is None and values)


def test_the_default_database_of_the_address(http_server, over_http):
    over_http.command("CREATE DATABASE own")
    with connect(http_server.dsn + "/own") as warehouse:
        assert warehouse.rows("SELECT currentDatabase() AS d") == [{"d": "own"}]


def test_a_query_that_fails(warehouse):
    with pytest.raises(QueryError) as error:
        warehouse.rows("SELECT nothing_such FROM numbers(1)")
    says(error, warehouse.address, "nothing_such", "UNKNOWN_IDENTIFIER")
    for call in (warehouse.command, warehouse.table, warehouse.run):
        with pytest.raises(QueryError):
            call("SELECT * FROM nope.t")
    with pytest.raises(QueryError), warehouse.blocks("SELECT * FROM nope.t") as blocks:
        list(blocks)
    with pytest.raises(QueryError):
        warehouse.insert("nope.t", pa.table({"a": [1]}))
    # It can be used as before.
    assert warehouse.rows("SELECT 1 AS one") == [{"one": 1}]


def test_a_long_message_is_cut(warehouse):
    with pytest.raises(QueryError) as error:
        warehouse.rows("SELECT " + "x" * 5000)
    assert len(says(error)) < 500


# ---- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dsn", "address"),
    [
        ("clickhouse://u:p@host", "clickhouse://host:8123"),
        ("clickhouse://u:p@host:9999/db?verify=0", "clickhouse://host:9999"),
        ("clickhouses://u:p@host", "clickhouses://host:8443"),
        ("chdb:///a/b", "chdb:///a/b"),
        ("chdb://a/b", "chdb://a/b"),
    ],
)
def test_address(dsn, address):
    assert address_of(dsn) == address


@pytest.mark.parametrize(
    "dsn",
    [
        f"http://u:{SECRET}@host",
        f"https://u:{SECRET}@host:8443",
        f"postgres://u:{SECRET}@host",
        f"u:{SECRET}@host",
        f"{SECRET}",
        f"clickhouse://u:{SECRET}@",
        f"clickhouse://u:{SECRET}@host:port",
        f"clickhouse://u:{SECRET}@host:70000",
        f"clickhouse://u:{SECRET}@[::1",
        # Passwords that are not percent-encoded: without a word, "u" would be the host, and 4567 its port.
        f"clickhouse://u:{SECRET}/more@host",
        f"clickhouse://u:4567/{SECRET}@host",
        f"clickhouse://u:4567?{SECRET}@host",
        f"clickhouses://u:4567#{SECRET}@host:8443/db",
        f"clickhouse://u:p@host?password={SECRET}",
        f"clickhouse://u:p@host?secure={SECRET}",
        "chdb://",
        "chdb:///",
        "",
    ],
)
def test_bad_addresses(dsn):
    with pytest.raises(UsageError) as error:
        connect(dsn, 1, 1)
    assert "4567" not in says(error, "RANKLINE_WAREHOUSE")


def test_settings_show_no_password(monkeypatch):
    monkeypatch.setenv("RANKLINE_WAREHOUSE", f"clickhouse://u:{SECRET}@host")
    settings = Settings()
    assert SECRET not in repr(settings) + str(settings)
    assert settings.warehouse_dsn.endswith(f"{SECRET}@host")


# ---- nothing answers ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["clickhouse", "clickhouses"])
def test_nothing_listens(scheme):
    port = unused_port()
    with pytest.raises(UnreachableError) as error:
        connect(f"{scheme}://u:{SECRET}@127.0.0.1:{port}", 2, 2)
    says(error, f"{scheme}://127.0.0.1:{port}", "connection refused", "RANKLINE_WAREHOUSE")


@pytest.mark.parametrize("scheme", ["clickhouse", "clickhouses"])
def test_no_such_host(scheme):
    with pytest.raises(UnreachableError) as error:
        connect(f"{scheme}://u:{SECRET}@no-such-host.invalid", 2, 2)
    says(error, "no-such-host.invalid", "RANKLINE_WAREHOUSE")


@pytest.mark.parametrize("scheme", ["clickhouse", "clickhouses"])
def test_it_listens_and_never_answers(scheme):
    with listener(None) as (port, _), pytest.raises(UnreachableError) as error:
        connect(f"{scheme}://u:{SECRET}@127.0.0.1:{port}", 1, 1)
    says(error, f"127.0.0.1:{port}", "RANKLINE_WAREHOUSE")


def test_it_hangs_up_at_once():
    """Not a refusal, and no answer either: whatever it is called, it must not be taken for silence."""
    with listener(b"") as (port, _), pytest.raises(ServerError) as error:
        connect(f"clickhouse://u:{SECRET}@127.0.0.1:{port}", 2, 2)
    says(error, f"127.0.0.1:{port}")
    assert not isinstance(error.value, UnreachableError)


# ---- it answers, and says no ----------------------------------------------------------------------


@pytest.mark.parametrize("password", [SECRET, "", "p%40ss%25"])
def test_wrong_password(http_server, password):
    with pytest.raises(RefusedError) as error:
        connect(f"clickhouse://{http_server.user}:{password}@{http_server.host}", 5, 5)
    says(error, http_server.host, "wrong user or password", "RANKLINE_WAREHOUSE")
    assert "p@ss%" not in str(error.value)


def test_the_password_is_decoded_and_sent_in_no_url(http_server):
    password = http_server.password
    assert quote(password, safe=":") != password, "it should need encoding"
    with connect(http_server.dsn) as warehouse:
        assert warehouse.rows("SELECT 1 AS one") == [{"one": 1}]
    log = http_server.log()
    assert {entry["user"] for entry in log} == {http_server.user}
    for entry in log:
        assert password not in str(entry)
        assert quote(password, safe="") not in str(entry)


def test_a_grant_is_missing(http_server, over_http):
    # The error code is the engine's own; who may do what is not, in this process of one user.
    denied = "SELECT throwIf(1, 'not granted', 497::Int16) SETTINGS allow_custom_error_code_in_throwif = 1"
    http_server.rules({"match": "FROM own", "do": "instead", "sql": denied})
    with pytest.raises(RefusedError) as error:
        over_http.rows("SELECT 1 FROM own.t")
    says(error, http_server.host, "grant")


@pytest.mark.parametrize("status", [200, 404, 401, 302, 500])
def test_a_foreign_http_server(http_server, status):
    page = "<html><body>Nothing here</body></html>"
    http_server.rules({"match": "", "times": 9, "do": "answer", "status": status, "body": page})
    with pytest.raises(RefusedError) as error:
        connect(http_server.dsn, 5, 5)
    says(error, http_server.host, "RANKLINE_WAREHOUSE")


def test_a_foreign_server_of_another_protocol():
    with listener(b"-ERR wrong number of arguments\r\n") as (port, _), pytest.raises(ServerError) as error:
        connect(f"clickhouse://u:{SECRET}@127.0.0.1:{port}", 2, 2)
    says(error, f"127.0.0.1:{port}")
    assert not isinstance(error.value, UnreachableError)


# ---- TLS ------------------------------------------------------------------------------------------


def test_tls_begins_with_a_handshake_and_sends_nothing_in_clear():
    # An alert (handshake_failure), as a server that speaks no common version gives.
    with listener(b"\x15\x03\x03\x00\x02\x02\x28") as (port, came), pytest.raises(RefusedError) as error:
        connect(f"clickhouses://u:{SECRET}@127.0.0.1:{port}", 2, 2)
    says(error, f"clickhouses://127.0.0.1:{port}", "TLS")
    assert came
    for first in came:
        assert first[:2] == b"\x16\x03", "a TLS handshake record"
        assert first[5] == 1, "a ClientHello"
        assert b"HTTP" not in first
        assert b"Authorization" not in first
        assert SECRET.encode() not in first


def test_tls_against_a_plain_http_port(http_server):
    with pytest.raises(RefusedError) as error:
        connect(http_server.dsn.replace("clickhouse:", "clickhouses:"), 2, 2)
    says(error, f"clickhouses://{http_server.host}", "TLS")
    assert http_server.log() == []


# ---- it answers, and then breaks ------------------------------------------------------------------


@pytest.mark.slow
def test_a_query_hangs(http_server):
    with connect(http_server.dsn, 5, 1, patience=Patience(0)) as warehouse:
        for name, call in (
            ("rows", lambda q: warehouse.rows(q)),
            ("command", lambda q: warehouse.command(q)),
            ("table", lambda q: warehouse.table(q)),
        ):
            http_server.rules({"match": f"SELECT '{name}'", "times": 99, "do": "hang"})
            with pytest.raises(QueryError) as error:
                call(f"SELECT '{name}'")
            says(error, http_server.host, "RANKLINE_READ_TIMEOUT")
        http_server.rules({"match": "SELECT 'blocks'", "times": 99, "do": "hang"})
        with pytest.raises(QueryError), warehouse.blocks("SELECT 'blocks'") as blocks:
            list(blocks)
        assert warehouse.rows("SELECT 1 AS one") == [{"one": 1}]


def test_an_insert_that_hangs_is_sent_once(http_server, over_http):
    over_http.command("CREATE DATABASE own")
    over_http.command("CREATE TABLE own.t (id Int64) ORDER BY id")
    with connect(http_server.dsn, 5, 1) as warehouse:
        http_server.rules({"match": "INSERT INTO", "times": 99, "do": "hang"})
        with pytest.raises(QueryError):
            warehouse.insert("own.t", pa.table({"id": [1]}))
    assert len(http_server.log("INSERT INTO")) == 1


@pytest.mark.parametrize("n_bytes", [0, 10, 1000, 300_000, 524_000])
def test_a_stream_is_cut(http_server, over_http, n_bytes):
    http_server.rules({"match": "numbers", "times": 9, "do": "cut", "bytes": n_bytes})
    with (
        pytest.raises(QueryError) as error,
        over_http.blocks("SELECT number FROM numbers(200000)") as blocks,
    ):
        list(blocks)
    says(error, http_server.host, "broke")


@pytest.mark.parametrize("n_batches", [0, 1, 3])
def test_a_stream_is_cut_at_a_message_boundary(http_server, over_http, n_batches):
    """The Arrow part ends well; the connection does not."""
    http_server.rules({"match": "numbers", "times": 9, "do": "batches", "n": n_batches, "clean": False})
    with (
        pytest.raises(QueryError) as error,
        over_http.blocks("SELECT number FROM numbers(200000)") as blocks,
    ):
        list(blocks)
    says(error, http_server.host, "broke")


def test_a_table_is_cut(http_server, over_http):
    http_server.rules({"match": "numbers", "times": 9, "do": "cut", "bytes": 50_000})
    with pytest.raises(QueryError) as error:
        over_http.table("SELECT number FROM numbers(200000)")
    says(error, http_server.host)


def test_the_server_goes_away_between_queries(own_server):
    with connect(own_server.dsn, 2, 2) as warehouse:
        assert warehouse.rows("SELECT 1 AS one") == [{"one": 1}]
        own_server.stop()
        with pytest.raises(ServerError) as error:
            warehouse.rows("SELECT 1 AS one")
        says(error, own_server.host)


@pytest.mark.parametrize("kind", [ZeroDivisionError, BrokenPipeError, pa.ArrowInvalid])
def test_errors_of_the_body_pass_through(warehouse, kind):
    """What the caller's own code raises while it reads is not the warehouse's failure."""

    def read() -> None:
        with warehouse.blocks("SELECT 1 AS a") as blocks:
            for _ in blocks:
                raise kind

    with pytest.raises(kind):
        read()
    assert warehouse.rows("SELECT 1 AS one") == [{"one": 1}]


# ---- the embedded engine's folder -----------------------------------------------------------------


def test_embedded_path_is_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    for dsn in (f"chdb://{path}", f"chdb://{path}/below"):
        with pytest.raises(RefusedError) as error:
            connect(dsn)
        says(error, dsn, "RANKLINE_WAREHOUSE")


def test_embedded_path_that_is_not_writable():
    # /proc takes no folders, not even root's.
    with pytest.raises(RefusedError) as error:
        connect("chdb:///proc/rankline")
    says(error, "chdb:///proc/rankline", "RANKLINE_WAREHOUSE")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_embedded_folder_that_is_read_only(tmp_path):
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o500)
    with pytest.raises(RefusedError):
        connect(f"chdb://{folder}")


def test_embedded_twice_in_one_process(embedded_dsn):
    with connect(embedded_dsn) as one, connect(embedded_dsn) as other:
        one.command("CREATE DATABASE own")
        assert other.rows("SELECT count() AS n FROM system.databases WHERE name = 'own'") == [{"n": 1}]


def test_embedded_is_no_server(embedded, over_http):
    assert embedded.embedded
    assert not over_http.embedded


_HOLD = """
import sys
from pipeline.warehouse import connect
warehouse = connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
warehouse.close()
print("closed", flush=True)
sys.stdin.close()
"""
_TRY = """
import sys
from pipeline.errors import ServerError
from pipeline.warehouse import connect
try:
    with connect(sys.argv[1]) as warehouse:
        print(warehouse.rows("SELECT 1 AS one"))
except ServerError as error:
    print(type(error).__name__, error)
"""


def _attempt(dsn: str) -> str:
    done = subprocess.run([sys.executable, "-c", _TRY, dsn], capture_output=True, text=True, timeout=120)
    return done.stdout.strip()


@pytest.mark.slow
def test_embedded_in_use_by_another_process(tmp_path):
    folder = tmp_path / "warehouse"
    dsn = f"chdb://{folder}"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, dsn], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(LockedError) as error:
            connect(dsn)
        says(error, dsn, "in use by another process", "RANKLINE_WAREHOUSE")
        # A process that dies without a word lets go too.
        holder.send_signal(signal.SIGKILL)
    assert (folder / "status").exists(), "left behind by the kill: the file alone is no lock"
    assert _attempt(dsn) == "[{'one': 1}]"


@pytest.mark.slow
def test_embedded_let_go_on_close(tmp_path):
    """A process that goes on after closing leaves the folder to others."""
    dsn = f"chdb://{tmp_path / 'warehouse'}"
    hold = _HOLD.replace("sys.stdin.read()", "sys.stdin.readline()").replace("sys.stdin.close()", "sys.stdin.read()")
    with subprocess.Popen(
        [sys.executable, "-c", hold, dsn], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "open\n"
        assert re.match(r"LockedError .* in use by another process", _attempt(dsn))
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "closed\n"
        assert _attempt(dsn) == "[{'one': 1}]"
        holder.communicate("")


@pytest.mark.slow
def test_another_folder_once_the_first_is_closed(tmp_path):
    program = """
import sys
from pipeline.errors import RefusedError
from pipeline.warehouse import connect
for name in ("a", "b", "a"):
    with connect(f"{sys.argv[1]}/{name}") as warehouse:
        warehouse.command("CREATE DATABASE IF NOT EXISTS own")
        if name == "b":
            try:
                connect(f"{sys.argv[1]}/c")
            except RefusedError as error:
                print(error)
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, f"chdb://{tmp_path}"], capture_output=True, text=True, timeout=120
    )
    lines = done.stdout.splitlines()
    assert lines[-1] == "done"
    assert str(tmp_path / "c") in lines[0]
