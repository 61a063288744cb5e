"""What a worker has shown in experiments: kept in memory for a moment, then written to the exposure log together.

A request adds a row to a list and a one to a number in a mapped file, in a microsecond. A thread writes the list to the
log twice a second. When a process is killed, its list is lost, and the number is in the file still: the agent
settles it (`settle_ended`). So at most half a second of a worker's exposures is lost, or what exceeds `MOST` where the
log can't be written, and how many is known.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import mmap
import os
import secrets
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import RanklineError
from pipeline.interaction_log.exposures import Exposure, ExposureLog

__all__ = ["MOST", "Exposures", "settle_ended"]

_LOG = logging.getLogger("rankline")
MOST = 50_000  # exposures that wait in a worker's memory
_FLUSH_SECONDS = 0.5
_NUMBER = struct.Struct("<Q")
_SUFFIX = ".shown"


class _Batch(NamedTuple):
    """Exposures on their way to the log: of one counter, with how many it lost."""

    counter: _Counter
    rows: list[Exposure]
    lost: int


class Exposures:
    """What one worker shows. All methods are of the worker's event loop.

    Parameters
    ----------
    path : of the exposure log
    folder : for the worker's counters
    counted : told how many were written, and how many lost

    Attributes
    ----------
    fault : why nothing can be written; "" where all is well
    """

    def __init__(
        self, path: Path, folder: Path, counted: Callable[[int, int], None] = lambda _written, _lost: None
    ) -> None:
        self._path, self._folder, self._counted = path, folder, counted
        self._log: ExposureLog | None = None
        self._rows: list[Exposure] = []
        self._counter: _Counter | None = None
        self._lost = 0
        self.fault = ""

    def add(self, exposure: Exposure) -> None:
        """Take an exposure; never raises, and does not wait but for the first of another experiment."""
        counter = self._counter
        if counter is None or counter.experiment != exposure.experiment:
            counter = self._count(exposure.experiment)
        counter.add()
        if len(self._rows) < MOST:
            self._rows.append(exposure)
        else:
            self._lost += 1

    def _count(self, experiment: str) -> _Counter:
        """Count what is shown of another experiment by itself; the agent settles that of before."""
        if self._counter is not None:
            self.flush()
            self._counter.close()
        self._counter = _Counter(self._folder, experiment)
        return self._counter

    # ---- to the log -------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what waits. What can't be written stays, up to `MOST`."""
        batch = self._take()
        if batch is not None:
            self._written(batch, *self._write(batch))

    async def watch(self) -> None:
        """Write what waits twice a second, for ever."""
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            batch = self._take()
            if batch is not None:
                self._written(batch, *await asyncio.to_thread(self._write, batch))

    def close(self) -> None:
        """Write what waits, and count no more."""
        self.flush()
        if self._counter is not None:
            self._counter.close()
            self._counter = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def _take(self) -> _Batch | None:
        if self._counter is None or not (self._rows or self._lost):
            return None
        batch = _Batch(self._counter, self._rows, self._lost)
        self._rows, self._lost = [], 0
        return batch

    def _write(self, batch: _Batch) -> tuple[int, str]:
        """How many the log had no room for, and why nothing was written, "" where it was."""
        try:
            if self._log is None:
                self._log = ExposureLog.open(self._path)
            return self._log.append(batch.rows, batch.counter.name, batch.lost, batch.counter.experiment), ""
        except (RanklineError, OSError) as error:
            return 0, str(error)

    def _written(self, batch: _Batch, left_out: int, fault: str) -> None:
        if fault:
            rows = batch.rows + self._rows
            self._rows, self._lost = rows[:MOST], self._lost + batch.lost + len(rows[MOST:])
            if fault != self.fault:
                _LOG.warning(f"exposures wait in memory: {fault}")
            self.fault = fault
            return
        self._lost += left_out
        self.fault = f"{self._path} is full: exposures are lost until the warehouse takes some" if left_out else ""
        self._counted(len(batch.rows) - left_out, left_out)


class _Counter:
    """How many lists a worker has shown of an experiment: a number in a mapped file, which outlives a kill.

    The file is locked while the worker lives.
    """

    def __init__(self, folder: Path, experiment: str) -> None:
        self.experiment = experiment
        self.name = f"{experiment}-{os.getpid()}-{secrets.token_hex(6)}"
        self._n = 0
        self._map: mmap.mmap | None = None
        self._file: int | None = None
        try:
            folder.mkdir(exist_ok=True)
            # Under its name it is locked and whole: the agent settles, and removes, what nobody has locked.
            partial = folder / f".{self.name}"
            self._file = os.open(partial, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            os.write(self._file, _NUMBER.pack(0))  # on a full disk this fails, and not a write to the map
            self._map = mmap.mmap(self._file, _NUMBER.size)
            partial.rename(folder / f"{self.name}{_SUFFIX}")
        except OSError as error:
            _LOG.warning(f"what is shown can't be counted in {folder} ({error.strerror}): a loss would not be known")

    def add(self) -> None:
        """One more."""
        self._n += 1
        if self._map is not None:
            _NUMBER.pack_into(self._map, 0, self._n)

    def close(self) -> None:
        """The number stays in the file, for the agent to settle."""
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._file is not None:
            os.close(self._file)
            self._file = None


def settle_ended(path: Path, folder: Path) -> int:
    """Count what workers that have ended showed and did not write; returns how many. Raises the log's errors.

    path : of the exposure log
    """
    lost = 0
    for file in sorted(folder.glob(f"*{_SUFFIX}")):
        with _of_an_ended(file) as shown:
            if shown is None:
                continue
            name = file.name.removesuffix(_SUFFIX)
            with ExposureLog.open(path) as log:
                lost += log.settle(name, shown, name.rsplit("-", 2)[0])
                file.unlink(missing_ok=True)
                log.forget_writer(name)
    return lost


@contextmanager
def _of_an_ended(file: Path) -> Iterator[int | None]:
    """The number in a worker's file; None while the worker lives."""
    try:
        handle = os.open(file, os.O_RDONLY)
    except OSError:
        yield None
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        content = os.read(handle, _NUMBER.size)
        yield _NUMBER.unpack(content)[0] if len(content) == _NUMBER.size else 0
    finally:
        os.close(handle)
