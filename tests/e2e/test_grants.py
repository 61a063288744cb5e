"""The users of sql/grants/, enforced by the engine: the reader trains and writes nothing, the writer publishes no more.

The embedded engine knows no CREATE USER; it takes users from a configuration, where the same GRANT stands.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr
from support.processes import ROOT, Home

from pipeline.data.sources.warehouse import init, read_warehouse
from pipeline.errors import RefusedError, ServerError
from pipeline.interaction_log import Interaction, InteractionLog
from pipeline.jobs.doctor.warehouse import warehouse_group
from pipeline.settings import Settings
from pipeline.shipping.exposures import make_tables
from pipeline.shipping.old_exposures import OldExposures, delete_exposures
from pipeline.shipping.ship import ship
from pipeline.warehouse import Warehouse, connect, sql

pytest_plugins = ["support.homes", "support.warehouse_fixtures"]
pytestmark = pytest.mark.slow

GRANTS = ROOT / "sql" / "grants"


def grant(role: str) -> str:
    """The GRANT of a role's file as a user's own."""
    text = " ".join(sql.load(f"grants/{role}").text.split())
    assert text.endswith(f" TO rankline_{role}")
    return text.removesuffix(f" TO rankline_{role}")


def settings_of(role: str) -> dict[str, str]:
    """The settings that the role comes with."""
    match = re.search(r"SETTINGS (.*)", sql.load(f"grants/{role}_role").text)
    return dict(part.split(" = ") for part in match[1].split(", ")) if match else {}


def configuration(folder: Path, role: str | None) -> Path:
    """A server's configuration in which the one user there is has the role alone; "readonly" is its own setting 1."""
    settings = {"readonly": "1"} if role == "readonly" else settings_of(role) if role else {}
    profile = "".join(f"<{name}>{value}</{name}>" for name, value in settings.items())
    rights = "<access_management>1</access_management>"
    if role:
        rights = "" if role == "readonly" else f"<grants><query>{grant(role)}</query></grants>"
    users = folder / f"users-{role}.xml"
    users.write_text(
        f"<clickhouse><profiles><default>{profile}</default></profiles><quotas><default/></quotas><users><default>"
        f"<no_password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>{rights}"
        "</default></users></clickhouse>"
    )
    config = folder / f"config-{role}.xml"
    config.write_text(
        f"<clickhouse><users_config>{users}</users_config>"
        f"<user_directories><users_xml><path>{users}</path></users_xml></user_directories></clickhouse>"
    )
    return config


@contextmanager
def served(folder: Path, role: str | None) -> Iterator[str]:
    """The DSN of a server over the folder, for that role (None: for an administrator)."""
    server = subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "tests" / "support" / "clickhouse_http.py"),
            str(folder / "engine"),
            "me",
            "secret",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "CLICKHOUSE_CONFIG": str(configuration(folder, role))},
    )
    try:
        yield f"clickhouse://me:secret@127.0.0.1:{server.stdout.readline().strip()}"
    finally:
        server.communicate("")


def allowed(warehouse: Warehouse, *statements: str) -> list[str]:
    """Those that are not refused for want of a grant, or since the user may only read."""
    found = []
    for statement in statements:
        try:
            warehouse.command(statement)
            found.append(statement)
        except ServerError as error:
            if not re.search(r"a grant is missing|readonly", str(error)):
                found.append(f"{statement}: {error}")
    return found


WRITING = (
    "CREATE DATABASE other",
    "CREATE TABLE raw.mine (x Int8) ORDER BY x",
    "INSERT INTO raw.users VALUES (1)",
    "DROP TABLE raw.ratings",
    "DROP TABLE raw.users",
    "TRUNCATE TABLE raw.ratings",
    "ALTER TABLE raw.ratings DELETE WHERE 1",
    "ALTER TABLE raw.ratings DROP COLUMN rating",
    "RENAME TABLE raw.ratings TO raw.gone",
    "EXCHANGE TABLES raw.ratings AND raw.users",
    "DROP DATABASE raw",
    "DROP DATABASE analytics",
    "CREATE FUNCTION f AS (x) -> x",
    "CREATE USER other",
    "GRANT SELECT ON *.* TO default",
)
# What may create a table may create a view: the engine tells them not apart.
OF_THE_WRITER = (
    "CREATE TABLE analytics.mine (x Int8) ORDER BY x",
    "CREATE OR REPLACE VIEW analytics.mart_user_movie_matrix AS SELECT 1 AS user_id",
    "DROP TABLE analytics.mart_user_movie_matrix",
)
OUTSIDE = (
    "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
    "SELECT * FROM remote('127.0.0.1:1', system.one)",
)


@pytest.mark.takes(30)
def test_the_reader_trains_and_writes_nothing_and_the_writer_publishes_and_nothing_more(home: Home) -> None:
    with served(home.folder, None) as dsn:
        done = home.rankline("sample", env={"RANKLINE_WAREHOUSE": dsn})
        assert done.returncode == 0, done.stderr
        with connect(dsn) as admin:
            make_tables(admin)
    with InteractionLog.open(home.folder / "live" / "interactions.db") as log:
        log.append([Interaction(1, 912, 5.0), Interaction(1, 1)])
    with served(home.folder, "reader") as dsn:
        done = home.rankline("train", "--max-iter", "5", env={"RANKLINE_WAREHOUSE": dsn})
        assert done.returncode == 0, done.stderr
        assert re.search(
            r"new interactions were not shipped, and are not read: The warehouse at .* refused", done.stderr
        )
        with connect(dsn) as reader:
            assert allowed(reader, *WRITING, *OUTSIDE, *OF_THE_WRITER) == []
            assert reader.rows("SELECT count() AS n FROM raw.movies")[0]["n"] == 9066
        done = home.rankline("score", env={"RANKLINE_WAREHOUSE": dsn})
        assert done.returncode == 4
        assert re.search(r"^error: The warehouse at .* refused: .*$", done.stderr, re.MULTILINE), done.stderr
        assert "Traceback" not in done.stderr
        assert "secret" not in done.stderr
    with served(home.folder, "writer") as dsn:
        env = {"RANKLINE_WAREHOUSE": dsn}
        for command in (
            ("score",),
            ("score", "--k", "9", "--accept-changes", "yes"),
            ("diff",),
            ("rollback", "--table"),
            ("why", "1", "912"),
        ):
            done = home.rankline(*command, env=env)
            assert done.returncode == 0, (command, done.stderr)
        with connect(dsn) as writer:
            assert allowed(writer, *WRITING, *OUTSIDE) == []
            delete_exposures(writer, OldExposures({"x": 1}, 1))
            with pytest.raises(RefusedError, match="ALTER DELETE"):
                writer.command("ALTER TABLE analytics.publications DELETE WHERE 1")
            assert writer.rows("SELECT count() AS n FROM analytics.recommendations")[0]["n"] == 6710


def test_the_shipper_adds_events_and_nothing_more(tmp_path: Path) -> None:
    with served(tmp_path, None) as dsn, connect(dsn) as admin:
        init(admin)
    with (
        served(tmp_path, "shipper") as dsn,
        connect(dsn) as shipper,
        InteractionLog.open(tmp_path / "live" / "interactions.db") as log,
    ):
        log.append([Interaction(1, 912, 5.0), Interaction(1, 1)])
        assert ship(shipper, log).last_seq == 2
        assert shipper.rows("SELECT user_id, movie_id, rating FROM raw.ratings")[0]["movie_id"] == 912
        assert allowed(shipper, *WRITING, *OUTSIDE, *OF_THE_WRITER) == []
        group = warehouse_group(Settings(warehouse=SecretStr(dsn), live_dir=log.path.parent), str)
        findings = [finding for check in group.checks for finding in check.look()]
        group.close()
        assert "the user may ship" in [entry.detail for entry in findings if entry.name == "grants"]


def test_a_user_who_may_change_no_setting_trains(tmp_path: Path) -> None:
    """readonly = 1 refuses every setting in a request: none that the user may not change is sent."""
    own = sql.Sql("SELECT generateUUIDv4() AS user_id, number AS item_id, now() AS at FROM numbers(240)", "mine.sql")
    with served(tmp_path, "readonly") as dsn:
        with connect(dsn) as reader:
            assert reader.rows("SELECT getSetting('readonly') AS is") == [{"is": 1}]
            assert len(read_warehouse(reader, own).interactions) == 240
            with pytest.raises(RefusedError, match=r"its user may only read \(its setting readonly\)"):
                reader.command("CREATE DATABASE other")
        group = warehouse_group(Settings(warehouse=SecretStr(dsn), live_dir=tmp_path / "live"), str)
        findings = [finding for check in group.checks for finding in check.look()]
        group.close()
    assert [entry.detail for entry in findings if entry.name == "grants"] == [
        "the user may not score: its setting readonly is 1",
        "the user may not forget: its setting readonly is 1",
        "the user may train",
    ]
    assert not any("GRANT" in entry.todo for entry in findings)


@pytest.mark.parametrize("path", sorted(GRANTS.glob("*.sql")), ids=lambda path: path.stem)
def test_each_statement_is_one_that_the_engine_knows(path: Path, over_http: Warehouse) -> None:
    """It parses each, and then has no place to put users: it says so, or that this user may not."""
    text = sql.load(f"grants/{path.stem}").text
    names = {"hash": "a" * 64} if "{hash:" in text else {}
    with pytest.raises(ServerError) as caught:
        over_http.command(text, names)
    assert re.search(r"grant is missing|There is no role", str(caught.value)), caught.value


def test_no_password_stands_in_them() -> None:
    for path in GRANTS.glob("*_user.sql"):
        assert "IDENTIFIED WITH sha256_hash BY {hash:String}" in path.read_text()
    for path in GRANTS.glob("*.sql"):
        text = path.read_text()
        assert "'" not in sql.load(f"grants/{path.stem}").text
        assert "NOT IDENTIFIED" not in text
        assert "GRANT OPTION" not in text
        assert "*.*" not in text
