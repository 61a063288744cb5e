"""Spark as the engine of a training: a session whose executors have been looked at, and a folder that they share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.data.sources.files import ReadFiles
from pipeline.errors import LockedError, ServerError
from pipeline.models.solvers.block_engine import BlockEngine
from pipeline.runtime.file_lock import FileLock
from pipeline.runtime.files import advice_for, reason_of
from pipeline.spark.executors import SparkTasks, check_executors
from pipeline.spark.reading import read_on
from pipeline.spark.session import spark_session

__all__ = ["SparkWork", "open_spark"]


@dataclass(frozen=True, eq=False)
class SparkWork:
    """What a training takes from Spark.

    Attributes
    ----------
    session : the `pyspark.sql.SparkSession`
    tags : engine, executors and their cores, for the run
    """

    session: Any
    engine: BlockEngine
    read_files: ReadFiles
    tags: Mapping[str, str]


@contextmanager
def open_spark(master: str | None, folder: Path, say: Callable[[str], None] = lambda _: None) -> Iterator[SparkWork]:
    """A session and the shared folder, for one training; where it succeeds, the folder is emptied.

    What a training that failed or was killed has left there, the next one goes on from.

    Raises
    ------
    UsageError, InputError, ServerError
        As `spark_session` and `check_executors`.
    LockedError
        Where another training uses the folder.
    """
    lock = _locked(folder)
    with lock, spark_session(master) as session:
        n, notes = check_executors(session, folder)
        for note in notes:
            say(note)
        tasks = SparkTasks(session)
        context = session.sparkContext
        say(f"Spark {context.version} at {context.master}: {n} executor(s), {tasks.slots} core(s)")
        engine = BlockEngine(folder, tasks, say=say)
        tags = {
            "engine": "spark",
            "spark_executors": str(n),
            "spark_cores": str(tasks.slots),
            "spark_master": context.master,
        }
        yield SparkWork(session, engine, partial(read_on, tasks, folder / "read"), tags)
        engine.clear()
        shutil.rmtree(folder / "read", ignore_errors=True)


def _locked(folder: Path) -> FileLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / "lock")
    except LockedError as error:
        raise LockedError(f"{error}: wait for it, or give this training its own --spark-folder") from None
    except OSError as error:
        raise ServerError(f"the shared folder can't be used: {reason_of(error)}; {advice_for(error)}") from None
