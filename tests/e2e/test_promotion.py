"""`compare`, `promote` and `rollback` over a real MLflow store: what is moved, written down and said."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mlflow
import numpy as np
import pytest
from support.processes import Home, answers, end, free_port
from support.stored_evaluations import add_version, stored_evaluation, write
from support.typed import one_line, typed

from pipeline.errors import ArtifactError, InputError, UsageError
from pipeline.evaluation.gate_checks import Gate
from pipeline.jobs.compare import compare_job
from pipeline.jobs.promote import promote_job
from pipeline.jobs.rollback import rollback_job
from pipeline.models.factor_model import FactorModel
from pipeline.models.saved_model import with_meta
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.tracking import champion as champions
from pipeline.tracking.lookup import find_run
from pipeline.tracking.registry import resolve

pytest_plugins = ["support.homes"]

BASE = np.clip(np.random.default_rng(5).normal(0.3, 0.1, 120), 0, 1)
said: list[str] = []
REPORTER = Reporter(said.append, lambda *arguments: None)


@pytest.fixture
def model(rng: np.random.Generator, make_model: Callable[..., FactorModel]) -> FactorModel:
    return make_model(rng)


@pytest.fixture(autouse=True)
def _nothing_said() -> None:
    said.clear()


def promote(version: str | None = None, *, force: bool = False, reason: str | None = None) -> Any:
    return promote_job(version, Gate(), force, reason, Settings(), REPORTER)


def tags(home: Home, version: str) -> dict[str, str]:
    return dict(home.client().get_model_version("rankline", version).tags)


def champion(home: Home) -> str:
    return str(home.client().get_model_version_by_alias("rankline", "champion").version)


def test_a_life_of_promotions(here: Home, model: FactorModel) -> None:
    add_version(here, model, stored_evaluation(BASE))
    result = promote()
    assert (result.version, result.before, result.outcome) == ("rankline/1", "", "promoted")
    assert champion(here) == "1"
    written = tags(here, "1")
    assert written["promotion"] == "promoted"
    assert "ok · better than popular: ndcg_at_10 0.2" in written["promotion_reasons"]
    assert written["promoted_at"].startswith("20")
    assert promote().outcome == "already"

    add_version(here, model, stored_evaluation(BASE - 0.1))
    result = promote()
    assert (result.outcome, result.before) == ("refused", "rankline/1")
    assert champion(here) == "1"
    assert tags(here, "2")["promotion"] == "refused"
    assert "NO · worse than the champion" in tags(here, "2")["promotion_reasons"]
    result = promote("2", force=True, reason="  the others\n are worse ")
    assert (result.outcome, champion(here)) == ("forced", "2")
    assert tags(here, "2")["promotion_reason"] == "the others are worse"
    assert tags(here, "2")["champion_before"] == "1"

    result = rollback_job("complaints", Settings(), REPORTER)
    assert (result.version, result.before, result.deleted) == ("rankline/1", "rankline/2", ())
    assert champion(here) == "1"
    assert tags(here, "2")["promotion"] == "rolled back"
    assert tags(here, "2")["rollback_reason"] == "complaints"
    assert tags(here, "1")["promotion"] == "champion again"
    with pytest.raises(InputError, match="first champion"):
        rollback_job(None, Settings(), REPORTER)

    # The newest was rolled back: a schedule must not bring it back by itself.
    add_version(here, model, stored_evaluation(BASE + 0.1))
    assert promote("rankline/3").outcome == "promoted"
    rollback_job(None, Settings(), REPORTER)
    result = promote()
    assert result.outcome == "refused"
    assert [check.name for check in result.decision.failed] == ["not rolled back"]
    assert promote(force=True, reason="it was the data").outcome == "forced"
    assert tags(here, "3")["rolled_back_at"] == ""
    assert champions.history() == ["1", "3"]


def _versions_on(kind: str, home: Home, model: FactorModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two versions in a store whose artifacts have another kind of address."""
    if kind == "path":  # what `mlflow run` makes beside a store in a file
        with sqlite3.connect(home.folder / "mlflow.db") as db:
            db.execute("UPDATE experiments SET artifact_location = ?", (str(home.folder / "artifacts"),))
    if kind != "server":
        for change in (0.0, 0.1):
            add_version(home, model, stored_evaluation(BASE + change))
        yield
        return
    served = home.folder / "served.db"
    served.write_bytes((home.folder / "mlflow.db").read_bytes())  # its tables are there
    with sqlite3.connect(served) as db:  # an experiment that the server makes hands its artifacts through
        db.execute("DELETE FROM experiments WHERE name = 'rankline'")
    port = free_port()
    server = home.fork(
        *("mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{served}"),
        *("--artifacts-destination", str(home.folder / "served")),
        quiet=True,
    )
    try:
        answers(f"http://127.0.0.1:{port}/health")
        home.env["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", home.env["MLFLOW_TRACKING_URI"])
        client = home.client()
        experiment = client.create_experiment("rankline")
        client.create_registered_model("rankline")
        for change in (0.0, 0.1):
            run_id = client.create_run(experiment).info.run_id
            folder = home.folder / run_id
            model.save(folder)
            write(stored_evaluation(BASE + change), folder / "evaluation")
            client.log_artifacts(run_id, str(folder))
            client.set_terminated(run_id)
            client.create_model_version("rankline", f"runs:/{run_id}", run_id=run_id)
        yield
    finally:
        end(server)


@pytest.mark.parametrize("kind", ["file", "path", pytest.param("server", marks=pytest.mark.slow)])
def test_the_gate_opens_wherever_the_artifacts_are(
    here: Home, model: FactorModel, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with contextmanager(_versions_on)(kind, here, model, monkeypatch):
        assert promote("1").outcome == "promoted"
        assert promote("2").outcome == "promoted"
        comparison = compare_job("rankline/1", "rankline/2", "ndcg_at_10", Settings(), REPORTER)
        assert comparison.comparison.overall.b_is_better == "yes"
        done = here.rankline("score")
        assert done.returncode == 0, done.stderr
        rows = here.sql("SELECT user_id, item_id, model_version FROM analytics.recommendations ORDER BY user_id, rank")
        user, item, version = rows[0].split("\t")
        assert version == "2"
        done = here.rankline("why", user, item)
        assert done.returncode == 0, done.stderr
        assert "rankline/2" in done.stdout
        assert rollback_job(None, Settings(), REPORTER).version == "rankline/1"


def test_an_evaluation_that_cannot_be_read_is_4(
    here: Home, model: FactorModel, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, _ = add_version(here, model, stored_evaluation(BASE))
    (here.folder / "artifacts" / run_id / "artifacts" / "evaluation" / "summary.json").write_text("{")
    status, _, err = typed(capsys, "promote")
    assert (status, "The evaluation of rankline/1 can't be read" in one_line(err)) == (4, True)


def test_a_champion_whose_run_was_deleted_for_good_is_no_dead_end(
    here: Home, model: FactorModel, capsys: pytest.CaptureFixture[str]
) -> None:
    purged, _ = add_version(here, model, stored_evaluation(BASE))
    assert promote().outcome == "promoted"
    add_version(here, model, stored_evaluation(BASE))
    here.client().delete_run(purged)
    assert promote("2").outcome == "promoted", "it can be restored, and its evaluation is read"
    assert rollback_job(None, Settings(), REPORTER).version == "rankline/1"
    mlflow.MlflowClient()._tracking_client.store._hard_delete_run(purged)

    status, _, err = typed(capsys, "score")
    assert status == 3
    assert f"The run {purged} of rankline/1, the champion, is no longer in sqlite:///" in (text := one_line(err))
    assert "rankline promote rankline/NUMBER --force --reason … makes one champion" in text
    (lost,) = [check.sentence for check in promote("2").decision.failed if check.name == "not worse than the champion"]
    assert lost.startswith(f"nothing to compare with: the run {purged} of rankline/1 is no longer in")
    assert promote("2", force=True, reason="its run is gone").outcome == "forced"
    with pytest.raises(ArtifactError, match=r"no longer in .* Name another: rankline promote MODEL --force"):
        rollback_job(None, Settings(), REPORTER)


def test_a_version_of_before_is_told_apart(here: Home, model: FactorModel) -> None:
    add_version(here, model, None)
    result = promote()
    assert result.outcome == "refused"
    assert "trained before runs were evaluated" in result.decision.failed[0].sentence
    here.client().set_registered_model_alias("rankline", "champion", "1")
    add_version(here, model, stored_evaluation(BASE))
    result = promote()
    assert "nothing to compare with: rankline/1, the champion" in result.decision.failed[0].sentence
    assert promote(force=True, reason="the old one was never evaluated").outcome == "forced"
    assert rollback_job(None, Settings(), REPORTER).version == "rankline/1"


def test_damaged_artifacts_are_not_promoted_even_by_force_and_nobody_goes_back_to_them(
    here: Home, model: FactorModel
) -> None:
    runs = [add_version(here, model, stored_evaluation(BASE))[0] for _ in range(2)]
    promote("1")
    path = here.folder / "artifacts" / runs[1] / "artifacts" / "user_features.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    for result in (promote("2"), promote("2", force=True, reason="please")):
        assert result.outcome == "refused"
        assert "user_features.npy has a wrong checksum" in result.decision.failed[0].sentence
    assert champion(here) == "1"
    path.write_bytes(whole)
    assert promote("2").outcome == "promoted"
    (here.folder / "artifacts" / runs[0] / "artifacts" / "seen.npz").unlink()
    with pytest.raises(ArtifactError, match=r"champion before, rankline/1, can't take over: .*seen\.npz"):
        rollback_job(None, Settings(), REPORTER)
    assert champion(here) == "2"
    assert champions.history() == ["1", "2"]


def test_a_version_whose_fit_was_interrupted_needs_a_reason(here: Home, model: FactorModel) -> None:
    add_version(here, model, stored_evaluation(BASE))
    here.client().set_model_version_tag("rankline", "1", "interrupted", "fit")  # as a training writes it down
    result = promote()
    assert result.outcome == "refused"
    assert "NO · cut short: Ctrl-C ended the fit (--on-interrupt keep)" in tags(here, "1")["promotion_reasons"]
    assert promote(force=True, reason="good enough").outcome == "forced"
    assert "NO · cut short" in tags(here, "1")["promotion_reasons"]
    assert tags(here, "1")["promotion_reason"] == "good enough"


def test_another_champion_in_the_meantime_is_the_one_to_beat(
    here: Home, model: FactorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for change in (0.0, 0.1, 0.05):
        add_version(here, model, stored_evaluation(BASE + change))
    promote("1")
    real = champions.promote

    def slow(version: str, **how: Any) -> Any:
        monkeypatch.setattr(champions, "promote", real)
        assert promote("2").outcome == "promoted"  # somebody else, while we think
        return real(version, **how)

    monkeypatch.setattr(champions, "promote", slow)
    result = promote("3")
    assert (result.outcome, result.before) == ("refused", "rankline/2")
    assert any("rankline/3 is not champion yet: another version became it meanwhile" in sentence for sentence in said)
    assert champions.history() == ["1", "2"]


def test_runs_by_what_people_call_them(here: Home, model: FactorModel) -> None:
    first, _ = add_version(here, model, stored_evaluation(BASE), "NMF k=10 · mine")
    two, _ = add_version(here, model, stored_evaluation(BASE), "twins")
    add_version(here, model, stored_evaluation(BASE), "twins")
    mlflow.set_tracking_uri(here.env["MLFLOW_TRACKING_URI"])
    for text in (first, first[:12], f"runs:/{first}", "NMF k=10 · mine", "rankline/1", "models:/rankline/1"):
        assert find_run(text).run_id == first, text
    here.client().set_registered_model_alias("rankline", "champion", "2")
    assert find_run("rankline@champion").run_id == two
    assert find_run("rankline").label == "rankline/3"
    with pytest.raises(InputError, match=r"2 runs are called 'twins': .*; give the id of one"):
        find_run("twins")
    for text in ("no such", "it's", "rankline/9", "rankline@nobody", "0123456789abcdef", "%", ""):
        with pytest.raises(InputError, match=r"No (run|model) |has no (version 9|alias .nobody.) in "):
            find_run(text)


def test_a_run_stands_for_the_version_it_registered(here: Home, model: FactorModel) -> None:
    run_id, _ = add_version(here, model, stored_evaluation(BASE))
    add_version(here, model, stored_evaluation(BASE))
    assert promote(run_id[:10]).version == "rankline/1"
    experiment = here.client().get_experiment_by_name("rankline").experiment_id
    bare = here.client().create_run(experiment, run_name="unfinished")
    with pytest.raises(InputError, match="has registered no version"):
        promote(bare.info.run_id)


def test_comparisons_that_are_refused(here: Home, model: FactorModel) -> None:
    add_version(here, model, stored_evaluation(BASE))
    add_version(here, model, stored_evaluation(BASE, data="e" * 64))
    add_version(here, model, None)

    def compare(a: str, b: str) -> Any:
        return compare_job(a, b, "ndcg_at_10", Settings(), REPORTER)

    with pytest.raises(InputError, match=r"rankline/1 and rankline/2 can't be compared.*different data"):
        compare("rankline/1", "rankline/2")
    with pytest.raises(InputError, match=r"rankline/3 can't be compared: it was trained before .*train again"):
        compare("rankline/1", "rankline/3")
    with pytest.raises(InputError, match="one and the same run"):
        compare("rankline/1", "rankline/1")


def test_who_is_scored_says_whether_anybody_was_promoted(here: Home, model: FactorModel) -> None:
    add_version(here, model, stored_evaluation(BASE))
    mlflow.set_tracking_uri(here.env["MLFLOW_TRACKING_URI"])
    assert resolve(None).how == "the newest version; none is promoted yet"
    promote()
    add_version(here, model, stored_evaluation(BASE))
    assert (resolve(None).version, resolve(None).how) == ("1", "the champion")


def test_force_without_a_reason(here: Home) -> None:
    with pytest.raises(UsageError, match="--force needs --reason"):
        promote(force=True, reason="  ")


def test_a_version_of_another_source(here: Home, model: FactorModel) -> None:
    """Promotion says so, and scoring refuses it, although every row of it is right."""
    for number, source in (("1", "chdb:///shop"), ("2", "file:///exports")):
        add_version(here, with_meta(model, {**model.meta, "source_name": source}), stored_evaluation(BASE))
        here.client().set_model_version_tag("rankline", number, "source_name", source)
    assert promote("1").outcome == "promoted"
    assert not any("another source" in sentence for sentence in said)
    assert here.rankline("score").returncode == 0
    assert promote("2").outcome == "promoted"
    assert any("another source (file:///exports) than the champion (chdb:///shop)" in sentence for sentence in said)
    done = here.rankline("score")
    assert done.returncode == 3
    assert "check other_source" in done.stderr
    assert here.sql("SELECT DISTINCT model_version FROM analytics.recommendations") == ["1"]
    assert here.rankline("score", "--accept-changes", "yes").returncode == 0
    assert here.sql("SELECT DISTINCT model_version FROM analytics.recommendations") == ["2"]
