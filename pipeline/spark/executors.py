"""`SparkTasks`: carries out the tasks of a fit on executors, as `pipeline.models.solvers.block_engine.Tasks`."""

from __future__ import annotations

import socket
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import __version__
from pipeline.errors import InputError, RanklineError, ServerError
from pipeline.kernels.compile_cache import sources
from pipeline.runtime.files import advice_for, reason_of

__all__ = ["SparkTasks", "check_executors"]


class _Outcome(NamedTuple):
    """What a task returned, or the error that ended it: raised there, it would be tried again in vain."""

    value: Any
    error: BaseException | None = None
    host: str = ""
    trace: str = ""


def _carried_out(function: Callable[[Any], Any], task: Any) -> _Outcome:
    try:
        return _Outcome(function(task))
    except (RanklineError, OSError, MemoryError) as error:
        return _Outcome(None, error, socket.gethostname())
    except Exception as error:  # noqa: BLE001 - the driver raises it again, with the executor's traceback
        return _Outcome(
            None, RuntimeError(f"{type(error).__name__}: {error}"), socket.gethostname(), traceback.format_exc()
        )


class SparkTasks:
    """As `Tasks`, on the executors of a session.

    Spark carries a task out again whose executor has died, four times.
    """

    def __init__(self, session: Any) -> None:
        self._context = session.sparkContext

    @property
    def slots(self) -> int:
        """Cores of all executors that have registered."""
        return max(int(self._context.defaultParallelism), 1)

    def run(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> list[Any]:
        """See `Tasks.run`.

        Raises ServerError where executors are lost too often, or a file can't be read or written there.
        """
        if not tasks:
            return []
        try:
            # Several in a partition: one costs some 50 ms of its own.
            spread = self._context.parallelize(list(tasks), min(len(tasks), 4 * self.slots))
            outcomes = spread.map(partial(_carried_out, function)).collect()
        except Exception as error:  # noqa: BLE001 - py4j's errors have no common class
            raise as_server_error(error) from None
        for outcome in outcomes:
            if outcome.error is not None:
                raise _as_raised_here(outcome)
        return [outcome.value for outcome in outcomes]


def _as_raised_here(outcome: _Outcome) -> BaseException:
    error, place = outcome.error, f"executor on {outcome.host}"
    if isinstance(error, RanklineError):
        error.add_note(place)
        return error
    if isinstance(error, OSError):
        return ServerError(f"{place}: {reason_of(error)}; {advice_for(error)}")
    if isinstance(error, MemoryError):
        return ServerError(f"{place} has too little memory: give executors more (--conf spark.executor.memory=…)")
    assert error is not None  # noqa: S101 - asked before
    error.add_note(f"{place}:\n{outcome.trace}")
    return error


_CAUSES = (
    ("No module named 'pipeline'", "executors have no rankline: install it there, or send it along (--py-files)"),
    ("PYTHON_VERSION_MISMATCH", "executors run another Python than the driver: set PYSPARK_PYTHON to the same version"),
    ("Cannot run program", "executors have no such Python: set PYSPARK_PYTHON to one that every executor has"),
    ("No module named", "executors lack a package: install rankline there with its dependencies"),
    ("cancelled because SparkContext was shut down", "the session ended: the cluster's master is gone, or refused it"),
    ("Job aborted due to stage failure", "executors were lost again and again: look into their logs"),
)


def as_server_error(error: BaseException) -> ServerError:
    """What Spark's error means, in a line."""
    text = str(error)
    for mark, meaning in _CAUSES:
        if mark in text:
            detail = next((line.strip() for line in text.splitlines() if mark in line), mark)
            return ServerError(f"Spark: {meaning} ({detail[:200]})")
    line = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return ServerError(f"Spark: {line[:300]}")


class _Look(NamedTuple):
    """What an executor has: as text, since it may have another version of everything."""

    host: str
    version: str
    kernels: str
    cpu: str
    trouble: str


WAIT = 120.0  # seconds for a first executor: a cluster may have none free


def check_executors(session: Any, folder: Path, wait: float = WAIT) -> tuple[int, tuple[str, ...]]:
    """Look at executors before they are given work; how many there are, and notes.

    Raises
    ------
    InputError
        For an executor with another version of the package, or that does not see the shared folder.
    ServerError
        For an executor without the package, or that may not write into the folder; where none comes in `wait` seconds.
    """
    context = session.sparkContext
    _wait_for_one(context, wait)
    token, content = folder / f"driver-{uuid.uuid4().hex}", uuid.uuid4().hex
    token.write_text(content)
    place, name = str(folder), str(token)

    # Sent by value: an executor that has no such package could not even say so.
    def look(_: int) -> tuple[str, str, str, str, str]:
        import os
        import platform
        import socket as sockets
        import time

        time.sleep(0.05)  # so that no executor takes all
        cpu = platform.processor() or platform.machine()
        if os.path.exists("/proc/cpuinfo"):  # noqa: PTH110 - nothing but the standard library is sure to be there
            with open("/proc/cpuinfo") as file:  # noqa: PTH123 - as above
                cpu = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), cpu)
        host, version, kernels, trouble = sockets.gethostname(), "", "", ""
        try:
            from pipeline import __version__ as version
            from pipeline.kernels.compile_cache import sources as digest

            kernels = digest()
        except ImportError as error:
            trouble = f"import {error}"
        try:
            with open(name) as file:  # noqa: PTH123 - as above
                trouble = trouble or ("" if file.read() == content else "another")
            own = f"{name}-{os.getpid()}"
            with open(own, "w"):  # noqa: PTH123 - as above
                pass
            os.unlink(own)  # noqa: PTH108 - as above
        except FileNotFoundError:
            trouble = trouble or "unseen"
        except OSError as error:
            trouble = trouble or f"write {error.strerror}"
        return host, version, kernels, cpu, trouble

    try:
        n = 2 * max(int(context.defaultParallelism), 1)
        looks = [_Look(*found) for found in context.parallelize(range(n), n).map(look).collect()]
    except Exception as error:  # noqa: BLE001 - py4j's errors have no common class
        raise as_server_error(error) from None
    finally:
        token.unlink(missing_ok=True)
    for found in looks:
        _refuse(found, place)
    return _count(context), _notes(looks)


def _notes(looks: Sequence[_Look]) -> tuple[str, ...]:
    cpus = sorted({look.cpu for look in looks})
    many = "executors have CPUs of several types, so that last bits depend on who computes what: " + ", ".join(cpus)
    return (many,) if len(cpus) > 1 else ()


def _wait_for_one(context: Any, seconds: float) -> None:
    """Without an executor Spark itself would wait for ever, and say nothing."""
    end = time.monotonic() + seconds
    while not context.master.startswith("local") and _registered(context) == 0:
        if time.monotonic() > end:
            raise ServerError(
                f"no executor came in {seconds:g} seconds: {context.master} has no free cores, or no worker with "
                f"{context.getConf().get('spark.executor.memory', '1g')} of memory (spark.executor.memory)"
            )
        time.sleep(0.2)


def _refuse(found: _Look, place: str) -> None:
    who = f"executor on {found.host}"
    if found.trouble.startswith("import"):
        raise ServerError(f"{who} can't import rankline ({found.trouble[7:]}): install it there, with its dependencies")
    if found.trouble in ("unseen", "another"):
        raise InputError(
            f"{who} does not see {place} as this machine does: --spark-folder names a folder that all of them share"
        )
    if found.trouble:
        raise ServerError(f"{who} may not write into {place} ({found.trouble[6:]}): let its user write there")
    if found.version != __version__:
        raise InputError(f"{who} has rankline {found.version}, this is {__version__}: install the same version there")
    if found.kernels != sources():
        raise InputError(f"{who} has rankline {found.version} with other kernels than this: install the same there")


def _count(context: Any) -> int:
    """How many executors there are; this process is one where it is all there is."""
    return max(_registered(context), 1)


def _registered(context: Any) -> int:
    """Executors that have registered, which Spark lists beside the driver."""
    return int(context._jsc.sc().getExecutorMemoryStatus().size()) - 1
