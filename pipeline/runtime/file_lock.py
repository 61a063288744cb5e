"""`FileLock`: a lock on a file. The system releases it when its process ends, even when the process is killed."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

from pipeline.errors import LockedError

__all__ = ["FileLock", "can_lock", "holder"]

_BETWEEN_TRIES = 0.05  # seconds
_QUIET = 1.0  # seconds of waiting that are not worth a line


class FileLock:
    """An exclusive `flock` on a file. Use it as a context manager, or call `release`.

    The file may be renamed while the lock is held. Two locks of one process on the same file exclude each other, too.

    Parameters
    ----------
    path : the file; created if missing (unless `mode` is ``rb``), its content stays
    timeout : seconds to wait for another process; None waits without a limit
    say : told once who is waited for, where it takes more than a moment
    mode : ``rb`` for a file of another program, which must exist and is never written

    Raises
    ------
    LockedError
        Another process holds the lock, or the file system has no locks.
    OSError
        The file can't be opened.
    """

    def __init__(
        self,
        path: Path,
        timeout: float | None = 0.0,
        mode: Literal["a", "rb"] = "a",
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._file: IO[Any] = path.open(mode)
        try:
            self._acquire(path, timeout, say)
        except BaseException:
            self._file.close()
            raise

    def _acquire(self, path: Path, timeout: float | None, say: Callable[[str], None]) -> None:
        if timeout is None:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            return
        since, said = time.monotonic(), False
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if not isinstance(error, BlockingIOError) or time.monotonic() - since >= timeout:
                    raise LockedError(f"{path} is locked by {holder(path)}") from None
            if not said and time.monotonic() - since >= _QUIET:
                say(f"waiting for {holder(path)}, which holds {path}")
                said = True
            time.sleep(_BETWEEN_TRIES)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, _kind: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.release()

    def release(self) -> None:
        """Release the lock; a second call does nothing."""
        self._file.close()


def can_lock(path: Path) -> bool:
    """Whether the file can be opened and no process holds its lock at the moment."""
    try:
        FileLock(path).release()
    except (LockedError, OSError):
        return False
    return True


def holder(path: Path) -> str:
    """Who holds the lock on the file: "another process", with its number and state where the system tells."""
    try:
        inode = str(path.stat().st_ino)
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        pid = next(
            int(lock[4])
            for lock in locks
            if lock[1] == "FLOCK" and lock[5].rpartition(":")[2] == inode and _opened(lock[4], path)
        )
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, StopIteration, ValueError, IndexError):
        return "another process"
    return f"another process (number {pid}{', which is stopped: kill -CONT ' + str(pid) if state == 'T' else ''})"


def _opened(pid: str, path: Path) -> bool:
    """Whether the process has the file open: the number of a file is one of its own disk alone."""
    return any(descriptor.exists() and descriptor.samefile(path) for descriptor in Path(f"/proc/{pid}/fd").iterdir())
