"""Where `score` finds the lists: in this process, or on the executors of a Spark cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from pipeline.options import EngineOptions
from pipeline.publishing.batch_scoring import Rank, Sink
from pipeline.publishing.lists import Recommendations
from pipeline.publishing.parquet_lists import ParquetTarget
from pipeline.publishing.recommendations_table import RecommendationsTable
from pipeline.ranking.rules import Rules
from pipeline.ranking.scorer import Scorer
from pipeline.settings import Settings

__all__ = ["By", "Lists", "check_engine", "engine_tags", "lists_by"]


class Lists(NamedTuple):
    """The lists that are asked for: by a scorer under the rules and its limits, k items a user."""

    scorer: Scorer
    rules: Rules
    k: int


class By(NamedTuple):
    """What finds the lists and where they go, as `score_all` takes them."""

    sink: Sink
    rank: Rank | None = None
    users_a_block: int | None = None


class _Both:
    """A sink that passes each block on to two."""

    def __init__(self, first: Sink, second: Sink) -> None:
        self._sinks = first, second

    def write(self, block: Recommendations) -> None:
        for sink in self._sinks:
            sink.write(block)


@contextmanager
def lists_by(
    engine: EngineOptions,
    lists: Lists,
    settings: Settings,
    table: RecommendationsTable,
    parquet: ParquetTarget | None,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[By]:
    """What finds the lists while the context is open.

    Raises ServerError and InputError for executors that can't do the work, UsageError.
    """
    if not engine.on_spark:
        yield By(table if parquet is None else _Both(table, parquet.sink(table.lineage)))
        return
    from pipeline.spark.scoring import open_scoring, rank_on, users_a_block

    shared = (engine.spark_folder or settings.spark_path).absolute()
    lists_in = None if parquet is None else parquet.folder
    with open_scoring(engine.spark_master, *lists, table.lineage, shared, lists_in) as (session, job, sentences):
        for sentence in sentences:
            say(sentence)
        # Executors have written the Parquet files themselves.
        yield By(table, rank_on(session, job), users_a_block(session, len(lists.scorer.users)))


def check_engine(engine: EngineOptions) -> None:
    """Raise UsageError where what the engine needs is not installed, before anything is begun."""
    if engine.on_spark:
        from pipeline.spark.session import require_spark

        require_spark()


def engine_tags(engine: EngineOptions) -> dict[str, str]:
    """Tags of the run that tell where the lists were found."""
    return {"engine": engine.engine}
