"""`rankline doctor`: what is broken is a finding, one never hides another, nothing hangs, no secret is shown."""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import Home
from support.signing import NEW, OLD, VARIABLE, keys

from pipeline.data.sources.warehouse import init
from pipeline.interaction_log import Interaction, InteractionLog
from pipeline.jobs.doctor import Check, Finding, Group, examine
from pipeline.jobs.doctor.environment import options, read_settings, signing_keys
from pipeline.jobs.doctor.grants import missing
from pipeline.jobs.doctor.interaction_log import interaction_log
from pipeline.jobs.doctor.leftovers import scratch, unlogged
from pipeline.jobs.doctor.machine import disk
from pipeline.jobs.doctor.packages import versions
from pipeline.jobs.doctor.warehouse import RAW, warehouse_group
from pipeline.runtime.diagnostics import ok
from pipeline.runtime.process import ProcessIdentity
from pipeline.runtime.redact import Mask, store_shown
from pipeline.settings import Settings
from pipeline.tracking.health import store_group
from pipeline.warehouse.sql import load

pytest_plugins = ["support.homes", "support.warehouse_fixtures"]

SECRET = "hunter2-S3cret"
NOTHING = Mask({})


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    """The worst finding of each name."""
    order = ["ok", "warn", "fail"]
    return {finding.name: finding for finding in sorted(findings, key=lambda finding: order.index(finding.status))}


def looked_at(group: Group, mask: Mask = NOTHING) -> dict[str, Finding]:
    return by_name(examine([group], mask)[0])


# ---- how checks are run -------------------------------------------------------------------------


def test_a_check_that_hangs_or_breaks_hides_no_other() -> None:
    never = threading.Event()
    closed: list[str] = []

    def breaks() -> Iterator[Finding]:
        yield ok("begun", "")
        raise RuntimeError(f"at\nhttp://anna:{SECRET}@host")

    def hangs() -> Iterator[Finding]:
        never.wait()
        yield ok("two", "")

    groups = [
        Group("hangs", [Check("one", lambda: [ok("one", "")]), Check("two", hangs)], server="up?"),
        Group("breaks", [Check("three", breaks), Check("four", lambda: [ok("four", "")])], lambda: closed.append("x")),
    ]
    calls: list[str] = []
    findings, hanging = examine(groups, Mask({"X_URI": f"http://anna:{SECRET}@host"}), 0.3, calls.append)
    never.set()  # until now it hung
    assert hanging
    assert closed == ["x"]
    assert [(entry.group, entry.name, entry.status) for entry in findings] == [
        ("hangs", "one", "ok"),
        ("hangs", "two", "fail"),
        ("breaks", "three", "fail"),
        ("breaks", "four", "ok"),
    ]
    assert (findings[1].todo, findings[1].server) == ("up?", True)
    assert findings[2].detail == "RuntimeError: at http://***@host"
    assert "Traceback" in calls[0]
    assert SECRET not in calls[0]


def test_a_check_that_asks_no_server_may_be_slow() -> None:
    slow = Check("slow", lambda: [ok("slow", str(threading.Event().wait(0.2)))])
    findings, hanging = examine([Group("here", [slow]), Group("server", [slow], server="up?")], NOTHING, 0.05)
    assert [(entry.group, entry.status) for entry in findings] == [("here", "ok"), ("server", "fail")]
    assert hanging


def test_a_temporary_folder_that_a_job_takes_away_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "rankline-just-gone").symlink_to(tmp_path / "nowhere")  # it is listed, and then it is not there
    (tmp_path / "rankline-of-today").mkdir()
    (finding,) = scratch()
    assert finding.status == "ok"
    old = tmp_path / "rankline-old"
    old.mkdir()
    os.utime(old, (0, 0))
    (finding,) = scratch()
    assert (finding.status, finding.todo) == ("warn", f"rm -r {old}")


def test_secrets_are_masked_in_every_form() -> None:
    mask = Mask(
        {
            "RANKLINE_WAREHOUSE": "clickhouse://anna:s3cr%40t!@host:8123/x?ca_cert=/etc/ca.pem",
            "MLFLOW_TRACKING_URI": "bob:pa55word@mlflow",  # no scheme, so no address
            "MLFLOW_TRACKING_TOKEN": "eyJhbGciOi",
            "AWS_SECRET_ACCESS_KEY": "abc/def+ghi",
            "HOME": "/home/anybody",
        }
    )
    text = "anna:s3cr%40t! s3cr@t! anna pa55word eyJhbGciOi abc/def+ghi /home/anybody"
    assert mask(text) == "*** *** *** *** *** *** /home/anybody"
    assert NOTHING("x://a:b@c --password abc x?token=abc&y=1") == "x://***@c --password *** x?token=***&y=1"
    assert NOTHING("clickhouse://user:password@host:8123") == "clickhouse://user:password@host:8123"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:////home/a/mlflow.db", "sqlite:////home/a/mlflow.db"),
        ("http://ann:s3cret@host:5000/x?token=s3cret", "http://host:5000/x"),
        ("postgresql+psycopg2://ann:s3cret@db/mlflow?password=s3cret", "postgresql+psycopg2://db/mlflow"),
        ("ann:s3cret@host", None),
        ("s3cret", None),
        ("http://ann:s3c/ret@host:5000", None),
        ("http://[s3cret", None),
    ],
)
def test_an_address_of_a_store_is_shown_without_secrets_or_not_at_all(uri: str, shown: str | None) -> None:
    assert store_shown(uri) == shown


@pytest.mark.parametrize(
    ("grants", "lacking"),
    [
        (["GRANT ALL ON *.* TO anna WITH GRANT OPTION"], {}),
        (["GRANT SELECT ON *.* TO anna"], {"score": 3, "ship": 3, "forget": 3}),
        (["GRANT SELECT(user_id) ON raw.* TO anna", "GRANT SELECT ON `analytics`.* TO anna"],
         {"train": 1, "score": 3, "ship": 4, "forget": 3}),
        (["GRANT SELECT, INSERT, ALTER, CREATE, DROP ON raw.* TO anna"], {"train": 1, "score": 4, "forget": 2}),
        (["GRANT SELECT, INSERT, ALTER DELETE, ALTER UPDATE, CREATE TABLE, DROP TABLE ON analytics.* TO anna",
          *(f"GRANT SELECT, ALTER TABLE ON {table} TO anna" for table in RAW)], {"ship": 3}),
        (["GRANT SELECT ON *.* TO anna", "GRANT INSERT ON raw.ratings TO anna",
          "GRANT INSERT ON raw.shipments TO anna"], {"score": 3, "ship": 1, "forget": 3}),
        (["GRANT ALL ON *.* TO anna", "REVOKE SELECT ON raw.* FROM anna"], {"train": 1, "ship": 1}),
        (["GRANT reader TO anna"], {"train": 2, "score": 4, "ship": 4, "forget": 3}),
        ([], {"train": 2, "score": 4, "ship": 4, "forget": 3}),
    ],
)  # fmt: skip
def test_what_grants_allow(grants: list[str], lacking: dict[str, int]) -> None:
    missing_grants = missing(grants)
    assert {command: len(names) for command, names in missing_grants.items() if names} == lacking


def test_the_interaction_log_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "interactions.db"
    assert list(interaction_log(path)) == []
    with InteractionLog.open(path) as log:
        log.append([Interaction(user, item) for user in range(100) for item in range(20)])
    (finding,) = interaction_log(path)
    assert (finding.status, "2,000 interaction(s) wait" in finding.detail) == ("ok", True)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE interactions SET received = received - 90000000 WHERE seq = 1")
    (finding,) = interaction_log(path)
    assert (finding.status, finding.todo) == ("warn", "rankline ship")
    damaged = bytearray(path.read_bytes())
    damaged[-20_000:] = os.urandom(20_000)
    path.write_bytes(damaged)
    (finding,) = interaction_log(path)
    assert finding.status == "fail"


# ---- this machine -------------------------------------------------------------------------------


def test_packages_beside_their_pins(tmp_path: Path) -> None:
    import numpy

    lock = tmp_path / "requirements.lock"
    lock.write_text(f"numpy==0.1 ; python_version < '3'\nnumpy=={numpy.__version__} \\\n  --hash=x\nscipy==0.0.1\n")
    findings = by_name(list(versions(lock)))
    assert (findings["scipy"].status, findings["packages"].status) == ("warn", "ok")
    assert "0.0.1 is pinned" in findings["scipy"].detail
    assert f"numpy {numpy.__version__}" in findings["packages"].detail
    assert set(by_name(list(versions(tmp_path / "none")))) <= {"packages", "optuna", "chdb", "numba"}


def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    findings = by_name(list(disk({"runs": tmp_path / "file" / "below", "others": tmp_path / "new" / "below"})))
    assert findings["disk of runs"].status == "fail"
    assert findings["disk"].status != "fail"
    assert "disk of others" not in findings
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_trainings_that_were_never_logged_are_named(tmp_path: Path) -> None:
    assert list(unlogged(tmp_path / "unlogged")) == []
    (tmp_path / "unlogged" / "abc").mkdir(parents=True)
    (tmp_path / "unlogged" / "abc" / "kept.json").touch()
    (findings,) = unlogged(tmp_path / "unlogged")
    assert (findings.status, findings.todo) == ("warn", f"rankline resume {tmp_path / 'unlogged' / 'abc'}")


def test_settings_that_can_not_be_are_findings_and_hide_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKLINE_CONNECT_TIMEOUT", SECRET)
    monkeypatch.setenv("RANKLINE_READ_TIMEOUT", "30")
    settings, findings = read_settings()
    assert (settings.connect_timeout, settings.read_timeout) == (10, 30)
    assert [entry.name for entry in findings] == ["RANKLINE_CONNECT_TIMEOUT"]
    assert SECRET not in str(findings)


# ---- the warehouse, over HTTP -------------------------------------------------------------------


@pytest.fixture
def asked(http_server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Look at the server with this DSN, or its own. What a service in the checkout has kept is not looked at."""
    monkeypatch.setenv("RANKLINE_LIVE_DIR", str(tmp_path / "live"))

    def look(dsn: str | None = None) -> dict[str, Finding]:
        monkeypatch.setenv("RANKLINE_WAREHOUSE", dsn or http_server.dsn)
        return looked_at(warehouse_group(Settings(), Mask({"RANKLINE_WAREHOUSE": dsn or http_server.dsn})))

    return look


def test_a_server_from_nothing_to_published(http_server, over_http, asked) -> None:
    findings = asked()
    assert {name: finding.status for name, finding in findings.items()} == {
        "reachable": "ok", "tables": "warn", "read": "ok", "grants": "ok", "clock": "ok", "published": "warn"
    }  # fmt: skip
    assert "rankline init" in findings["tables"].todo
    assert re.search(r"127\.0\.0\.1:\d+: ClickHouse \d+\.\d+", findings["reachable"].detail)
    init(over_http)
    from support.published import publish

    publish(over_http, "run-a", [1, 2, 3])
    findings = asked()
    assert {finding.status for finding in findings.values()} == {"ok"}
    assert "3 rows for 3 users, version 1" in findings["published"].detail
    # A dead job's lock; and clocks that are apart.
    dead = {**ProcessIdentity.me().values, "process_started": "1", "what": "publishing"}
    over_http.ddl(load("ddl/publish_lock").text, {"table": "publish_lock_x", **dead})
    http_server.rules(
        {"match": "now64", "do": "instead", "sql": "SELECT 1000 AS at"},
        {"match": "SHOW GRANTS", "do": "instead", "sql": "SELECT 'GRANT SELECT ON *.* TO anna' AS grants"},
    )
    findings = asked()
    assert {name for name, finding in findings.items() if finding.status == "warn"} == {
        "publish lock",
        "clock",
        "grants",
    }
    assert "INSERT ON analytics.*" in findings["grants"].todo or "ALTER DELETE ON raw.*" in findings["grants"].todo


def test_what_services_on_several_hosts_need(http_server, over_http, asked, tmp_path: Path, monkeypatch) -> None:
    init(over_http)
    assert "shipping" not in asked()
    for name in ("log_id", "seq", "sent_log_id", "sent_seq"):
        over_http.command(f"ALTER TABLE raw.ratings DROP COLUMN {name}")
    assert asked()["shipping"].detail.startswith("raw.ratings without log_id and seq: no service finds")
    assert asked()["shipping"].todo == "rankline init adds these columns"
    init(over_http)
    assert "shipping" not in asked()
    over_http.command("ALTER TABLE analytics.exposures DROP COLUMN manifest")
    assert asked()["shipping"].detail == "analytics.exposures without manifest"
    over_http.command("DROP TABLE raw.shipments")
    monkeypatch.setenv("RANKLINE_LIVE_DIR", str(tmp_path))
    InteractionLog.open(tmp_path / "interactions.db").close()
    assert "raw.shipments is not in" in asked()["shipping"].detail


def test_a_server_that_breaks_halfway(http_server, over_http, asked) -> None:
    init(over_http)
    http_server.rules({"match": "SHOW GRANTS", "do": "answer", "status": 500, "body": "<h1>oops</h1>", "times": 9})
    findings = asked()
    assert (findings["grants"].status, findings["grants"].server) == ("fail", True)
    assert findings["clock"].status == "ok", "the others are looked at all the same"


def test_a_row_is_read_as_a_training_reads_it(http_server, over_http, asked) -> None:
    assert asked()["read"].detail.startswith("a constant: 1 row(s)")
    init(over_http)
    assert asked()["read"].detail.startswith("sql/queries/interactions.sql: 0 row(s)")
    assert "mart_user_movie_matrix" in http_server.log("FORMAT ArrowStream")[-1]["statement"]
    http_server.rules(
        {"match": "FORMAT ArrowStream", "do": "instead", "sql": "SELECT throwIf(1, 'no Arrow here') AS user_id"}
    )
    findings = asked()
    assert (findings["read"].status, findings["read"].server) == ("fail", True)
    assert "no Arrow here" in findings["read"].detail
    assert findings["grants"].detail == "the user may score, forget"


def test_a_server_that_refuses(http_server, asked) -> None:
    findings = asked(f"clickhouse://anna:{SECRET}@{http_server.host}")
    assert list(findings) == ["reachable"]
    assert (findings["reachable"].status, findings["reachable"].server) == ("fail", True)
    assert "wrong user or password" in findings["reachable"].detail
    assert SECRET not in str(findings)


def test_the_embedded_one_without_chdb_or_not_made_yet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RANKLINE_WAREHOUSE", f"chdb://{tmp_path / 'new'}")
    findings = looked_at(warehouse_group(Settings(), NOTHING))
    assert {name: entry.status for name, entry in findings.items()} == {"reachable": "warn"}
    assert list(tmp_path.iterdir()) == [], "nothing is made"
    monkeypatch.setattr("pipeline.jobs.doctor.warehouse.find_spec", lambda _: None)
    findings = looked_at(warehouse_group(Settings(), NOTHING))
    assert findings["reachable"].status == "fail"
    assert "rankline[embedded]" in findings["reachable"].todo


# ---- the store ----------------------------------------------------------------------------------


def test_a_store_in_a_file(home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "1")  # so that what the checks set does not stay
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'none' / 'mlflow.db'}")
    assert looked_at(store_group(Settings().tracking_uri))["reachable"].status == "fail"
    (tmp_path / "none").mkdir()
    assert looked_at(store_group(Settings().tracking_uri))["reachable"].status == "warn"
    assert list((tmp_path / "none").iterdir()) == [], "nothing is made"

    monkeypatch.setenv("MLFLOW_TRACKING_URI", home.env["MLFLOW_TRACKING_URI"])
    client = home.client()
    experiment = client.get_experiment_by_name("rankline").experiment_id
    run = client.create_run(experiment, start_time=1_600_000_000_000)
    findings = looked_at(store_group(Settings().tracking_uri))
    assert {name: one.status for name, one in findings.items()} == {
        "reachable": "ok", "experiment": "ok", "model": "warn", "artifacts": "ok", "runs": "warn"
    }  # fmt: skip
    assert not list((home.folder / "artifacts").glob(".rankline-doctor*")), "the probe is gone"
    assert [one.info.run_id for one in client.search_runs([experiment])] == [run.info.run_id], "no run is made"
    # What it says ends the run that nobody trains in.
    ended = home.run("bash", "-c", findings["runs"].todo.partition(": ")[2])
    assert ended.returncode == 0, ended.stderr
    assert client.get_run(run.info.run_id).info.status == "KILLED"

    (home.folder / "artifacts").rmdir()
    (home.folder / "artifacts").touch()
    findings = looked_at(store_group(Settings().tracking_uri))
    assert (findings["artifacts"].status, findings["runs"].status) == ("fail", "ok")


def test_it_says_which_installation_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pipeline.jobs.doctor import packages

    checkout, _ = packages.python(tmp_path)
    assert checkout.detail == f"{packages.__version__}, the checkout {tmp_path}; its files lie there"
    monkeypatch.setattr(packages, "PROJECT_ROOT", tmp_path / "empty")
    wheel, _ = packages.python(None)
    assert "installed in" in wheel.detail
    assert wheel.detail.endswith(f"pipeline; files lie in the working folder {tmp_path / 'empty'}")


def test_signing_keys_are_known_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(signing_keys({})) == []
    for value, status, said in (
        (keys(new=NEW, old=OLD), "ok", "new signs models; old verify, too"),
        (keys(new=NEW), "ok", "new signs models; one that"),
        (NEW, "fail", "key number 1 is not written id:key"),
    ):
        monkeypatch.setenv(VARIABLE, value)
        (finding,) = signing_keys({VARIABLE: value})
        assert finding.status == status
        assert said in finding.detail
        assert NEW[:12] not in str(finding)
        assert list(options([], {VARIABLE: value})) == []
        assert Mask({VARIABLE: value})(f"a {NEW} b") == "a *** b"
