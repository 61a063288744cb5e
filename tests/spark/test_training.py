"""Training on executors: the factors, the data and the run of one process, and clear errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.processes import Home

from pipeline.data.blocks import Block, StoredFile
from pipeline.data.sources.files import read_file
from pipeline.errors import ArtifactError, InputError, LockedError, ServerError, UsageError
from pipeline.jobs.executors import open_executors
from pipeline.jobs.train import train_job
from pipeline.models.factor_model import FactorModel
from pipeline.models.solvers import block_engine, half_steps
from pipeline.models.solvers.block_engine import BlockEngine
from pipeline.models.solvers.block_steps import Unit, map_block
from pipeline.options import EngineOptions, ReadOptions, TrainOptions
from pipeline.runtime.file_lock import FileLock
from pipeline.runtime.progress import Reporter, silent
from pipeline.settings import Settings
from pipeline.spark import executors
from pipeline.spark.executors import SparkTasks, check_executors
from pipeline.training.train import train

pytest_plugins = ["support.homes", "support.spark_session"]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("spark")]

PLAIN = TrainOptions(n_components=6, max_iter=8, holdout=0.2)


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    """A folder of Parquet: 120 users with a taste each, 60 items, in three files."""
    rng = np.random.default_rng(5)
    folder = tmp_path / "ratings"
    folder.mkdir()
    users, items = rng.integers(0, 120, 3000), rng.integers(0, 60, 3000)
    scores = np.where(users % 3 == items % 3, 5.0, 2.0)
    table = pa.table(
        {
            "user_id": users,
            "item_id": items,
            "rating": scores,
            "timestamp": 1_600_000_000 + rng.integers(0, 10**6, 3000),
        }
    )
    for i in range(3):
        pq.write_table(table.slice(1000 * i, 1000), folder / f"part-{i}.parquet", row_group_size=300)
    return folder


def trained_by(engine: EngineOptions, spec: TrainOptions, ratings: Path, said: list[str] | None = None) -> Any:
    settings, reporter = Settings(), Reporter((said if said is not None else []).append, silent)
    read = ReadOptions(source="file", input=ratings)
    with open_executors(engine, spec, settings, reporter) as elsewhere:
        return train_job(spec, read, settings, reporter, "rankline", elsewhere)


def saved(home: Home, run_id: str) -> FactorModel:
    (folder,) = home.folder.rglob(f"{run_id}/artifacts")
    return FactorModel.load(folder)


def test_the_run_is_like_any_other_and_the_model_is_the_same(
    spark: Any, here: Home, ratings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half_steps, "PIECE", 5_000)  # some blocks, for so little data; the driver alone cuts them
    folder, said = here.folder / "shared", list[str]()
    result = trained_by(EngineOptions(engine="spark", spark_folder=folder), PLAIN, ratings, said)
    local = train(read_file([ratings]).interactions, PLAIN)
    assert result.metrics == dict(local.report.metrics)
    model = saved(here, result.run_id)
    assert np.array_equal(model.user_factors, local.model.user_factors)
    assert np.array_equal(model.item_factors, local.model.item_factors)
    run = here.client().get_run(result.run_id)
    assert run.info.status == "FINISHED"
    assert {name: run.data.tags[name] for name in ("engine", "spark_executors", "spark_cores", "data_digest")} == {
        "engine": "spark", "spark_executors": "1", "spark_cores": "2", "data_digest": local.data_digest,
    }  # fmt: skip
    assert any("Spark 4" in line for line in said)
    assert [path.name for path in folder.iterdir()] == ["lock"]


@pytest.mark.parametrize(
    "spec",
    [
        replace(PLAIN, unobserved_weight=0.2, confidence=1.0, alpha_W=0.01, duplicates="sum"),
        replace(PLAIN, algorithm="als", transform="log1p", min_interactions=20),
    ],
    ids=["weighted", "als"],
)
def test_other_objectives_are_the_same_too(
    spark: Any, tmp_path: Path, ratings: Path, monkeypatch: pytest.MonkeyPatch, spec: TrainOptions
) -> None:
    monkeypatch.setattr(half_steps, "PIECE", 5_000)
    x = read_file([ratings]).interactions
    there = train(x, spec, engine=BlockEngine(tmp_path / "shared", SparkTasks(spark)))
    here = train(x, spec)
    assert there.report.metrics == here.report.metrics
    assert np.array_equal(there.model.user_factors, here.model.user_factors)
    assert np.array_equal(there.model.item_factors, here.model.item_factors)


def test_what_fails_publishes_nothing_and_a_second_try_goes_on(
    spark: Any, here: Home, ratings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, engine = replace(PLAIN, holdout=0), EngineOptions(engine="spark", spark_folder=here.folder / "shared")
    write, n = block_engine.StepFiles.write, []

    def full(folder: Path, step: Any) -> Any:
        n.append(1)
        if len(n) == 9:  # the disk is full in the fifth iteration
            raise OSError(28, "No space left on device", str(folder))
        return write(folder, step)

    monkeypatch.setattr(block_engine.StepFiles, "write", full)
    with pytest.raises(OSError, match="No space left"):
        trained_by(engine, spec, ratings)
    (run,) = here.runs()
    assert run.info.status == "FAILED"
    assert not here.client().search_model_versions("name = 'rankline'")
    monkeypatch.setattr(block_engine.StepFiles, "write", write)
    said: list[str] = []
    result = trained_by(engine, spec, ratings, said)
    assert "the fit goes on after iteration 4, to which an earlier one came" in said
    local = train(read_file([ratings]).interactions, spec)
    assert np.array_equal(saved(here, result.run_id).item_factors, local.model.item_factors)


def test_an_executor_that_is_not_as_the_driver_is_refused(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_executors(spark, tmp_path) == (1, ())
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(executors, "__version__", "9.9")
    with pytest.raises(InputError, match=r"executor on \S+ has rankline \S+, this is 9.9: install"):
        check_executors(spark, tmp_path)


LOOK = executors._Look("node7", executors.__version__, executors.sources(), "a CPU", "")


@pytest.mark.parametrize(
    ("look", "kind", "words"),
    [
        (LOOK._replace(trouble="import No module named 'pipeline'"), ServerError, "can't import rankline"),
        (LOOK._replace(trouble="unseen"), InputError, "does not see /shared as this machine does: --spark-folder"),
        (LOOK._replace(trouble="another"), InputError, "does not see /shared"),
        (
            LOOK._replace(trouble="write Permission denied"),
            ServerError,
            "may not write into /shared",
        ),
        (LOOK._replace(kernels="other"), InputError, "has rankline \\S+ with other kernels than this"),
    ],
)
def test_what_an_executor_lacks_is_said(look: executors._Look, kind: type[Exception], words: str) -> None:
    executors._refuse(LOOK, "/shared")
    with pytest.raises(kind, match=f"executor on node7 {words}"):
        executors._refuse(look, "/shared")


def _fails(task: str) -> None:
    if task == "disk":
        raise OSError(28, "No space left on device", "/shared/steps/1/out0")
    if task == "ours":
        raise ArtifactError("block x is damaged")
    if task == "fault":
        raise ZeroDivisionError("why")


def test_an_error_in_a_task_is_told_with_its_place_and_not_tried_again(spark: Any) -> None:
    tasks = SparkTasks(spark)
    assert tasks.run(str, [1, 2, 3]) == ["1", "2", "3"]
    assert tasks.run(str, []) == []
    with pytest.raises(ArtifactError, match=r"/nowhere/rows-00000.indptr.npy can't be read"):
        tasks.run(map_block, [Unit("/nowhere", Block("rows", 0, 0, 1, 1, 1.0, 1.0, {"indptr": StoredFile(144, "")}))])
    for task, kind, words in (
        ("disk", ServerError, r"executor on \S+: /shared/steps/1/out0: No space left on device; make room there"),
        ("fault", RuntimeError, "ZeroDivisionError: why"),
    ):
        outcome = executors._carried_out(_fails, task)
        raised = executors._as_raised_here(outcome)
        with pytest.raises(kind, match=words):
            raise raised


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ModuleNotFoundError: No module named 'pipeline'", "executors have no rankline"),
        ("x\n  [PYTHON_VERSION_MISMATCH] Python in worker", "executors run another Python"),
        ("Job aborted due to stage failure: Task 3 in stage 2 failed 4 times", "executors were lost again and again"),
        ("\nsomething else\nmore", "Spark: something else"),
    ],
)
def test_what_sparks_errors_mean(text: str, words: str) -> None:
    assert words in str(executors.as_server_error(RuntimeError(text)))


def test_two_trainings_in_one_folder(spark: Any, here: Home, ratings: Path) -> None:
    folder = here.folder / "shared"
    folder.mkdir()
    with FileLock(folder / "lock"), pytest.raises(LockedError, match="give this training its own --spark-folder"):
        trained_by(EngineOptions(engine="spark", spark_folder=folder), PLAIN, ratings)


@pytest.mark.parametrize(
    "spec", [TrainOptions(algorithm="ease"), TrainOptions(algorithm="auto"), TrainOptions(solver="sklearn")]
)
def test_what_is_fitted_in_one_process_is_refused_before_spark_starts(spec: TrainOptions) -> None:
    elsewhere = open_executors(EngineOptions(engine="spark"), spec, Settings(), Reporter(print, silent))
    with pytest.raises(UsageError, match="runs in one process: --engine local, or --algorithm nmf or als"), elsewhere:
        pass
