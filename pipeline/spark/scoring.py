"""Scoring on Spark: blocks of users go out to the executors, their lists come back in the order of the blocks.

The driver cuts the blocks, and alone writes to the warehouse: executors need no password and no way there. Each block
is a file that is in its place whole or not at all, so what a killed executor had begun is scored again and counts once.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import LockedError, ServerError, UsageError
from pipeline.models.model_files import ALL_FILES
from pipeline.publishing.batch_scoring import Rank, ScoredBlock
from pipeline.publishing.lists import Lineage
from pipeline.publishing.parquet_lists import block_path, read_block
from pipeline.publishing.user_blocks import UserBlock
from pipeline.ranking.rules import Rules
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.file_lock import FileLock
from pipeline.runtime.files import advice_for, reason_of
from pipeline.spark.executors import check_executors
from pipeline.spark.failures import as_rankline_error
from pipeline.spark.scoring_job import ScoringJob, metadata_digest
from pipeline.spark.scoring_task import score_blocks
from pipeline.spark.session import spark_session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["open_scoring", "rank_on", "scoring_job", "users_a_block"]

# Users of a block: some blocks for each core, so that none waits long for another; large ones cost less a user.
_BLOCKS_A_CORE, _FEWEST, _MOST = 4, 1024, 16384
_MOST_PARTITIONS = 10_000
_BETWEEN_LOOKS = 0.02  # seconds
_PREFIX, _LOCK = "score-", "lock"  # of a job's folder
_SETTLED = 60.0  # seconds: a folder that is younger may not have its lock yet


@contextmanager
def open_scoring(
    master: str | None, scorer: Scorer, rules: Rules, k: int, lineage: Lineage, shared: Path, lists: Path | None = None
) -> Iterator[tuple[SparkSession, ScoringJob, tuple[str, ...]]]:
    """A session whose executors have been looked at, the files of a scoring, and what is to be said of both.

    Parameters as `scoring_job`. Raises UsageError, InputError and ServerError, as `check_executors`, too.
    """
    with spark_session(master, "rankline score") as session:
        _make(shared)
        n, notes = check_executors(session, shared)
        context = session.sparkContext
        said = f"Spark {context.version} at {context.master}: {n} executor(s), {context.defaultParallelism} core(s)"
        with scoring_job(session, scorer, rules, lineage, k, shared, lists) as job:
            yield session, job, (*notes, said)


@contextmanager
def scoring_job(
    session: SparkSession,
    scorer: Scorer,
    rules: Rules,
    lineage: Lineage,
    k: int,
    shared: Path,
    lists: Path | None = None,
) -> Iterator[ScoringJob]:
    """The files of a scoring, in a folder of its own that goes at the end.

    Parameters
    ----------
    scorer : as it was read from its folder, with the limits of the lists
    rules : those that hold at the time of the lineage
    shared : a folder that the driver and every executor see; made if missing
    lists : an empty folder for the lists that all see, too; default, one that goes

    Raises UsageError, ServerError.
    """
    if scorer.folder is None:
        raise UsageError("A model that was not read from a folder can't be scored on Spark: save it first")
    with ExitStack() as stack:
        _make(shared)
        try:
            _clear_up(shared)
            scratch = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=shared, ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(scratch)).resolve()
            stack.enter_context(FileLock(folder / _LOCK))
            model = scorer.folder.resolve()
            if not (str(session.sparkContext.master).startswith("local") or model.is_relative_to(shared.resolve())):
                model = _copy_of(model, folder / "model")
            if lists is None:
                lists = folder / "lists"
                lists.mkdir()
            limit = scorer.limit
            most = (None, None) if limit is None else (limit.max_per_genre, limit.max_per_series)
            digest = metadata_digest(scorer.folder)
            job = ScoringJob(folder, model, digest, lists, k, lineage.generated_at_ms, lineage, *most)
        except OSError as error:
            raise _unwritable(error) from None
        job.write(rules)
        yield job


def _clear_up(shared: Path) -> None:
    """Delete the files of jobs that were killed: nobody holds their lock any more."""
    for folder in shared.glob(f"{_PREFIX}*"):
        with suppress(OSError, LockedError):
            if time.time() - folder.stat().st_mtime > _SETTLED:
                FileLock(folder / _LOCK, mode="rb").release()
                shutil.rmtree(folder)


def _make(shared: Path) -> None:
    try:
        shared.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(error) from None


def _unwritable(error: OSError) -> ServerError:
    reason = " ".join(reason_of(error).split())[:200]
    return ServerError(f"The files for the executors can't be written ({reason}); {advice_for(error)}")


def _copy_of(model: Path, folder: Path) -> Path:
    """The files of a saved model in a new folder; a run's other artifacts stay where they are."""
    folder.mkdir()
    for path in (model / name for name in ALL_FILES):
        if path.is_dir():
            shutil.copytree(path, folder / path.name)
        elif path.exists():
            shutil.copyfile(path, folder / path.name)
    return folder


def users_a_block(session: SparkSession, n_users: int) -> int:
    """The size of a block for these executors; lists do not depend on it."""
    cores = max(1, int(session.sparkContext.defaultParallelism))
    return min(max(-(-n_users // (_BLOCKS_A_CORE * cores)), _FEWEST), _MOST)


def rank_on(session: SparkSession, job: ScoringJob) -> Rank:
    """A `Rank` for `score_all` that has the executors find the lists of a job whose files are written."""

    def rank(blocks: Iterable[UserBlock]) -> Iterator[ScoredBlock]:
        n = 0
        for n, block in enumerate(blocks, 1):
            job.put(n - 1, block)
        if not n:
            return
        with _running(session, job, n) as running:
            for number in range(n):
                running.wait_for(block_path(job.lists, number))
                yield read_block(job.lists, number)

    return rank


class _Running:
    """A Spark job in a thread of its own, which is cancelled where the driver needs it no more."""

    def __init__(self, session: SparkSession, job: ScoringJob, n_blocks: int) -> None:
        from pyspark import InheritableThread

        self._session, self._job, self._n = session, job, n_blocks
        self._group = f"rankline-score-{uuid.uuid4().hex}"
        self._error: Exception | None = None
        self._ended = threading.Event()
        self._thread = InheritableThread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        context = self._session.sparkContext
        try:
            context.setJobGroup(self._group, "rankline score: lists of users", interruptOnCancel=True)
            n_threads = int(context.getConf().get("spark.task.cpus", "1") or 1)
            numbers = self._session.range(0, self._n, 1, min(self._n, _MOST_PARTITIONS))
            task = partial(score_blocks, str(self._job.folder), n_threads)
            numbers.mapInArrow(task, "block long").collect()
        except Exception as error:  # noqa: BLE001 (raised again in the caller's thread, whatever Spark raised)
            self._error = error
        finally:
            self._ended.set()

    def wait_for(self, path: Path) -> None:
        """Return when the file is there. Raises the error of the job, as one of ours, where it failed first."""
        while not path.exists():
            if self._ended.wait(_BETWEEN_LOOKS) and not path.exists():
                if self._error is not None:
                    raise as_rankline_error(self._error, "Scoring") from self._error
                raise ServerError(f"The executors have ended, and {path} is not there: do all see its folder?")

    def cancel(self) -> None:
        """Stop what still runs, and wait for its end."""
        if not self._ended.is_set():
            with suppress(Exception):  # Spark itself has gone, and the job with it
                self._session.sparkContext.cancelJobGroup(self._group)
        self._thread.join()


@contextmanager
def _running(session: SparkSession, job: ScoringJob, n_blocks: int) -> Iterator[_Running]:
    running = _Running(session, job, n_blocks)
    try:
        yield running
    finally:
        running.cancel()
