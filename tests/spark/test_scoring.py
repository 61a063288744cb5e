"""Scoring on Spark: the lists of one process, whatever the blocks; a block that fails publishes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset
import pytest
from support.item_genres import genre_texts

from pipeline.errors import ArtifactError, ServerError
from pipeline.jobs.score import score_job
from pipeline.models.factor_model import FactorModel
from pipeline.options import EngineOptions, ScoreOptions
from pipeline.publishing.batch_scoring import BatchSummary, score_all
from pipeline.publishing.lists import Lineage, Recommendations
from pipeline.publishing.recommendations_table import PUBLISHED
from pipeline.ranking.rules import Rule, Rules
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.spark import scoring
from pipeline.spark.scoring import rank_on, scoring_job
from pipeline.spark.scoring_job import ScoringJob

pytest_plugins = ["support.homes", "support.warehouse_fixtures", "support.spark_session"]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("spark")]

LINEAGE = Lineage("3", "run-a", 1_700_000_000_000)
NONE = Rules()
K = 4


class Rows:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.rows: list[tuple[object, ...]] = []

    def write(self, block: Recommendations) -> None:
        columns = (block.user_ids, block.ranks, block.item_ids, block.scores, block.sources)
        self.rows += list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.fixture
def model(make_model: Callable[..., FactorModel], rng: np.random.Generator, tmp_path: Path) -> Path:
    """30 users and 40 items with ids of text, and two genres."""
    made = make_model(rng, density=0.3, text_ids=True)
    texts = genre_texts(Scorer(made), {row: [("Drama", "Horror")[row % 2]] for row in range(40)})
    return made.save(tmp_path / "model", texts)


@contextmanager
def job_of(spark: Any, folder: Path, shared: Path, rules: Rules = NONE, limit: int | None = None) -> Iterator[Any]:
    scorer = Scorer.load(folder, mapped=True).under(rules, LINEAGE.generated_at_ms).limited(limit)
    with scoring_job(spark, scorer, rules, LINEAGE, K, shared) as job:
        yield scorer, job


def seen_now(scorer: Scorer) -> list[tuple[Any, Any]]:
    """What some users of the model, and some who are not in it, have seen by now; in two blocks."""
    users = sorted([*scorer.users.values[::3].tolist(), "a stranger", "u0000101", "zz"])
    items = scorer.items.values
    pairs = [(user, items[(7 * i + j) % 40].item()) for i, user in enumerate(users) for j in range(3)]
    return [tuple(np.array(column) for column in zip(*part, strict=True)) for part in (pairs[:11], pairs[11:])]


def scored(scorer: Scorer, **options: Any) -> tuple[list[tuple[object, ...]], BatchSummary]:
    sink = Rows()
    gone = {scorer.users.values[4].item(), "zz"}
    summary = score_all(
        scorer,
        sink,
        K,
        seen_now=seen_now(scorer),
        unknown_popular=True,
        forgotten=lambda ids: np.isin(ids, sorted(gone)),
        **options,
    )
    return sink.rows, summary


def test_lists_are_those_of_one_process(spark: Any, model: Path, tmp_path: Path) -> None:
    """Rules, promotions, a limit on genres, forgotten users and users who are not in the model; in any blocks."""
    items = Scorer.load(model).items.values.tolist()
    spring = tuple(Rule("promote", item, quota=2, label="spring") for item in items[3:9])
    rules = Rules((*(Rule("deny", item) for item in items[:2]), *spring))
    killed = tmp_path / "shared" / "score-of-a-job-that-was-killed"
    killed.mkdir(parents=True)
    (killed / "lock").touch()
    os.utime(killed, (0, 0))
    for size in (7, 1000):
        with job_of(spark, model, tmp_path / "shared", rules, 3) as (scorer, job):
            here, there = (
                scored(scorer, users_a_block=size),
                scored(scorer, users_a_block=size, rank=rank_on(spark, job)),
            )
        assert there == here
    rows, summary = here
    assert {row[4] for row in rows} == {"nmf", "popular", "promoted:spring"}
    assert (summary.n_forgotten, summary.n_unknown, summary.n_users) == (2, 2, 30)
    assert not list((tmp_path / "shared").iterdir()), "those of a killed job go, too"


@pytest.mark.parametrize("wrote", [False, True], ids=["before its lists are there", "after"])
def test_a_block_whose_executor_was_killed_is_scored_again_and_counts_once(
    spark: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrote: bool
) -> None:
    died = tmp_path / "died"

    def dies_once(folder: str, n_threads: int, batches: Any) -> Any:
        import os
        import signal
        from pathlib import Path

        from pipeline.spark.scoring_task import score_blocks

        for batch in batches:
            last = 2 in batch.column(0).to_pylist() and not Path(died).exists()
            if last:
                Path(died).touch()
            if last and not wrote:
                os.kill(os.getpid(), signal.SIGKILL)
            yield from score_blocks(folder, n_threads, iter([batch]))
            if last:
                os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(scoring, "score_blocks", dies_once)
    with job_of(spark, model, tmp_path / "shared") as (scorer, job):
        there = scored(scorer, users_a_block=7, rank=rank_on(spark, job))
        assert died.exists()
        assert there == scored(scorer)


def test_errors_say_what_is_amiss_with_an_executor(
    spark: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a real one, raised in a real task."""

    def score(change: Callable[[ScoringJob], None]) -> None:
        with job_of(spark, model, tmp_path / "shared") as (scorer, job):
            change(job)
            scored(scorer, rank=rank_on(spark, job))

    def other_version(job: ScoringJob) -> None:
        replace(job, version="0.0.1").write(Rules())

    def not_shared(job: ScoringJob) -> None:
        (job.folder / "job.json").unlink()

    def another_model(job: ScoringJob) -> None:
        replace(job, metadata="0" * 64).write(Rules())

    def no_folder(job: ScoringJob) -> None:
        job.lists.rmdir()

    def lacks_a_package(_folder: str, _n_threads: int, _batches: Any) -> Any:
        import a_package_that_is_not_there

        yield a_package_that_is_not_there

    with pytest.raises(ServerError, match=r"An executor has Rankline \S+, and the driver has 0\.0\.1"):
        score(other_version)
    with pytest.raises(ServerError, match=r"can't read \S+ \(No such file or directory\): --spark-folder names"):
        score(not_shared)
    with pytest.raises(ArtifactError, match=r"metadata\.json has a wrong checksum"):
        score(another_model)
    with pytest.raises(ServerError, match=r"part-00000[01]\.parquet can't be written \(.*No such file"):
        score(no_folder)
    monkeypatch.setattr(scoring, "score_blocks", lacks_a_package)
    with pytest.raises(ServerError, match=r"An executor's Python has no a_package_that_is_not_there: install"):
        score(lambda job: None)


def test_the_job_publishes_what_one_process_publishes_and_nothing_where_a_block_fails(
    spark: Any, here: Any, embedded_dsn: str, make_model: Any, rng: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.warehouse import connect

    monkeypatch.setenv("RANKLINE_WAREHOUSE", embedded_dsn)
    folder = make_model(rng, density=0.3).save(tmp_path / "model")
    said: list[str] = []
    reporter = Reporter(said.append, lambda *_: None)
    on_spark = EngineOptions(engine="spark", spark_folder=tmp_path / "shared", spark_master=spark.sparkContext.master)
    rows = f"SELECT * EXCEPT generated_at FROM {PUBLISHED} ORDER BY user_id, rank"

    def score(engine: EngineOptions | None = None, k: int = 5, **options: Any) -> Any:
        return score_job(ScoreOptions(str(folder), k=k), Settings(), reporter, engine=engine, **options)

    def published() -> Any:
        with connect(embedded_dsn) as warehouse:
            return warehouse.table(rows), warehouse.rows("SHOW TABLES FROM analytics")

    assert score().outcome.action == "published"
    first, _ = published()
    lists = tmp_path / "lists"
    again = score(on_spark, parquet=lists)
    # To the last bit: the publication knows them for the same rows.
    assert (again.outcome.action, again.parquet) == ("already published", lists)
    stored = (
        pyarrow.dataset.dataset(lists, format="parquet")
        .to_table()
        .sort_by([("user_id", "ascending"), ("rank", "ascending")])
    )
    assert stored.drop(["generated_at"]).equals(first.cast(stored.drop(["generated_at"]).schema))

    def fails(folder: str, n_threads: int, batches: Any) -> Any:
        raise OSError(28, "No space left on device", folder)

    assert score(on_spark, k=3).outcome.action == "published"
    before = published()
    monkeypatch.setattr(scoring, "score_blocks", fails)
    with pytest.raises(ServerError, match="No space left on device"):
        score(on_spark, k=4, parquet=tmp_path / "others")
    after = published()
    assert after[0].equals(before[0])
    assert after[1] == before[1], "no staged table is left"
    assert not list(tmp_path.glob("*others*"))
    assert not list((tmp_path / "shared").iterdir())
