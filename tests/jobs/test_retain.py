"""`retain` over a real store: what goes, what stays, and a kill in the middle."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from support.processes import Home
from support.published import publish
from support.stored_evaluations import add_version, stored_evaluation

from pipeline.errors import LockedError, ServerError
from pipeline.jobs.retain import RetainRequest, RetainResult, retain
from pipeline.models.factor_model import FactorModel
from pipeline.options import RetainOptions
from pipeline.publishing.recommendations_table import RecommendationsTable
from pipeline.runtime.file_lock import FileLock
from pipeline.runtime.progress import Reporter, silent
from pipeline.settings import Settings
from pipeline.tracking import version_deletion
from pipeline.warehouse import Warehouse

pytest_plugins = ["support.homes", "support.warehouse_fixtures"]
pytestmark = pytest.mark.slow

NOW = datetime.now(UTC)


@pytest.fixture
def runs(here: Home, rng: np.random.Generator, make_model: Callable[..., FactorModel]) -> list[str]:
    """Ten versions; the runs by number, from 1."""
    evaluation = stored_evaluation(np.full(4, 0.3))
    return ["", *(add_version(here, make_model(rng), evaluation)[0] for _ in range(10))]


def settings(dsn: str, **values: Any) -> Settings:
    return Settings(warehouse=SecretStr(dsn), **values)


def run(dsn: str, *, dry_run: bool = False, now: datetime = NOW, **options: Any) -> RetainResult:
    reporter = Reporter(lambda _: None, silent)
    return retain(RetainRequest(settings(dsn), reporter, now, RetainOptions(**options), dry_run))


def versions(home: Home) -> list[int]:
    return sorted(int(one.version) for one in home.client().search_model_versions("name = 'rankline'"))


def files(home: Home, run_id: str) -> list[Path]:
    return list((home.folder / "artifacts" / run_id / "artifacts").glob("*"))


def test_a_dry_run_says_what_a_real_one_deletes(
    here: Home, runs: list[str], embedded: Warehouse, embedded_dsn: str
) -> None:
    client = here.client()
    client.set_registered_model_alias("rankline", "champion", "4")
    client.set_registered_model_alias("rankline", "experiment-new-b", "2")
    client.set_model_version_tag("rankline", "4", "folded_from", "1")
    publish(embedded, runs[3], [1, 2, 3])
    publish(embedded, runs[6], [1, 2, 3, 4])
    planned = run(embedded_dsn, dry_run=True)
    assert planned.versions == ("5",)
    assert planned.kept["3"] == ("analytics.recommendations_previous was made from it",)
    assert planned.n_bytes > 1000
    assert "would go: 1 version(s) of rankline" in planned.sentence
    assert versions(here) == list(range(1, 11))
    assert files(here, runs[5])

    done = run(embedded_dsn)
    assert (done.versions, done.kept, done.n_bytes) == (planned.versions, planned.kept, planned.n_bytes)
    assert versions(here) == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert not files(here, runs[5])
    gone = client.get_run(runs[5])
    assert gone.info.lifecycle_stage == "active"  # its parameters and metrics stay
    assert {"artifacts_deleted_at"} <= gone.data.tags.keys()
    assert all(files(here, one) for number, one in enumerate(runs[1:], 1) if number != 5)
    assert run(embedded_dsn).versions == ()
    assert run(embedded_dsn, keep_versions=1).versions == ("7", "8", "9")


class Killed(BaseException):
    """Stands for a process that ends here."""


@pytest.mark.parametrize("at", ["delete_model_version", "set_tag", "delete_tag", "files"])
def test_a_kill_in_the_middle_is_finished_by_the_next(
    here: Home, runs: list[str], embedded_dsn: str, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    with monkeypatch.context() as patch:

        def die(*_: object, **__: object) -> None:
            raise Killed

        if at == "files":
            patch.setattr(version_deletion, "_delete_files", die)
        else:
            patch.setattr(f"mlflow.MlflowClient.{at}", die)
        with pytest.raises(Killed):
            run(embedded_dsn, keep_versions=8)
    here.client().set_registered_model_alias("rankline", "champion", "2")
    done = run(embedded_dsn, keep_versions=8)
    assert versions(here) == list(range(2, 11))
    assert not files(here, runs[1])
    assert files(here, runs[2])
    assert set(done.finished) | {f"rankline/{n}" for n in done.versions} == {"rankline/1"}
    assert "rankline_deleting" not in here.client().get_run(runs[1]).data.tags
    assert run(embedded_dsn, keep_versions=8).finished == ()


def test_an_alias_that_is_set_meanwhile_keeps_its_version(
    here: Home, runs: list[str], embedded_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = version_deletion._run

    def slow(client: Any, run_id: str) -> Any:
        if run_id == runs[1]:
            client.set_registered_model_alias("rankline", "mine", "1")
        return real(client, run_id)

    monkeypatch.setattr(version_deletion, "_run", slow)
    done = run(embedded_dsn, keep_versions=8)
    assert (done.versions, done.kept["1"]) == (("2",), ("it got an alias just now",))
    assert versions(here) == [1, *range(3, 11)]
    assert files(here, runs[1])


def test_champions_of_ninety_days_stay(here: Home, runs: list[str], embedded_dsn: str) -> None:
    from pipeline.tracking import champion as champions
    from pipeline.tracking.store import open_store

    open_store(here.env["MLFLOW_TRACKING_URI"])
    for version, before in (("1", ""), ("2", "1"), ("3", "2"), ("4", "3"), ("5", "4")):
        champions.promote(version, instead_of=before, how="promoted")
    assert run(embedded_dsn).versions == ()
    later = run(embedded_dsn, dry_run=True, now=NOW + timedelta(days=91))
    assert later.versions == ("1", "2")  # the last three champions stay for a rollback
    assert run(embedded_dsn, dry_run=True, now=NOW + timedelta(days=89)).versions == ()


def test_staged_tables_kept_trainings_and_logs_go(here: Home, embedded: Warehouse, embedded_dsn: str) -> None:
    publish(embedded, "a" * 32, [1, 2])
    left = RecommendationsTable(embedded, "int", "int", "1", "b" * 32)
    embedded.command(
        "ALTER TABLE analytics.publications UPDATE pid = 999999999 WHERE staged = {t:String} "
        "SETTINGS mutations_sync = 2",
        {"t": left.staged},
    )
    now = settings(embedded_dsn)
    old, young = (now.unlogged_path / name for name in ("old", "young"))
    jobs = now.live_path / "jobs"
    logs = jobs / "1.log", jobs / "2.log", jobs.parent / "shop/jobs/3.log"
    for path in (old / "kept.json", young / "kept.json", *logs):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    long_ago = time.time() - 40 * 86_400
    for path in (old / "kept.json", logs[0], logs[2]):
        os.utime(path, (long_ago, long_ago))
    planned = run(embedded_dsn, dry_run=True)
    assert planned.tables == (left.staged,)
    assert planned.trainings == (str(old),)
    assert [Path(path).name for path in planned.logs] == ["1.log", "3.log"]
    assert old.exists()
    assert run(embedded_dsn).tables == planned.tables
    assert embedded.engine(f"analytics.{left.staged}") is None
    assert embedded.engine("analytics.recommendations") is not None
    assert (old.exists(), young.exists(), sorted(path.name for path in jobs.iterdir())) == (False, True, ["2.log"])


def test_without_the_warehouse_nothing_is_deleted(here: Home, runs: list[str]) -> None:
    with pytest.raises(ServerError):
        run("clickhouse://nobody@127.0.0.1:9/")
    assert len(versions(here)) == 10
    # One that was never made holds no table.
    assert run(f"chdb://{here.folder / 'no warehouse'}").versions == ("1", "2", "3", "4", "5")
    assert not (here.folder / "no warehouse").exists()


def test_two_at_once(here: Home, runs: list[str], embedded_dsn: str) -> None:
    path = settings(embedded_dsn).nightly_path.with_name("retain_rankline.lock")
    with FileLock(path), pytest.raises(LockedError, match="are being deleted already"):
        run(embedded_dsn)
