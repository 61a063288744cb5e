"""What an executor does to score: reads a block of users, ranks for them with the `Scorer`, and writes their lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pipeline.publishing.batch_scoring import score_block
from pipeline.publishing.parquet_lists import block_path, write_block
from pipeline.ranking.scorer import Scorer
from pipeline.spark.scoring_job import ScoringJob

__all__ = ["score_blocks"]

# Of this process, which Spark keeps for the tasks of a job: reading a model takes longer than a block.
_loaded: dict[str, tuple[ScoringJob, Scorer]] = {}


def score_blocks(folder: str, n_threads: int, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """For `DataFrame.mapInArrow`: write the lists of each block whose number comes in; the numbers go out again.

    A block whose lists are there was scored by a task that did not live to say so. Lists depend on the job alone, so
    nothing is gained by scoring it again; and a file that is written twice is the same file.

    Raises
    ------
    RanklineError
        Its text becomes the driver's error (`failures.as_rankline_error`).
    """
    for batch in batches:
        for number in batch.column(0).to_pylist():
            job, scorer = _job(folder)
            if not block_path(job.lists, number).exists():
                scored = score_block(scorer, job.take(number, scorer), job.k, n_threads)
                write_block(job.lists, number, scored, job.lineage)
                scorer.model.release()
        yield pa.RecordBatch.from_arrays([batch.column(0)], names=["block"])


def _job(folder: str) -> tuple[ScoringJob, Scorer]:
    if folder not in _loaded:
        _loaded.clear()  # one model at a time
        job = ScoringJob.read(Path(folder))
        _loaded[folder] = job, job.scorer()
    return _loaded[folder]
