"""The embedded engine: its folder is one process's at a time."""

from __future__ import annotations

import fcntl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.errors import LockedError, RefusedError, UsageError
from pipeline.warehouse.address import HINT
from pipeline.warehouse.translation import one_line

__all__ = ["let_go", "open_embedded"]


@dataclass
class _Held:
    """A folder that this process has: the open lock file, and how many clients use it."""

    lock: IO[str]
    clients: int = 1


# Paths whose engine runs in this process: one lock for all its clients.
_open_here: dict[str, _Held] = {}


def open_embedded(path_in_dsn: str, address: str) -> tuple[Any, str]:
    """A client of the engine in this process, and the path to let go of when it is closed.

    Raises
    ------
    LockedError
        Another process has the folder.
    RefusedError, UsageError
        It can't be one.
    """
    from importlib.util import find_spec

    if find_spec("chdb") is None:
        raise RefusedError(f"The embedded warehouse at {address} needs chdb: pip install 'rankline[embedded]'. {HINT}")
    folder = Path(path_in_dsn)
    if not folder.name:
        raise UsageError("RANKLINE_WAREHOUSE names no folder; write chdb:///path/to/warehouse")
    path = str(folder.resolve())
    _hold(folder, path, address)
    import clickhouse_connect

    try:
        client = clickhouse_connect.get_client(interface="chdb", path=path)
    except Exception as error:  # noqa: BLE001 (the engine raises whatever its C++ does)
        let_go(path)
        raise RefusedError(f"The embedded warehouse at {address} can't be opened ({one_line(error)}). {HINT}") from None
    return client, path


def _in_use(address: str) -> LockedError:
    return LockedError(
        f"The embedded warehouse at {address} is in use by another process: wait for it to end, "
        "or set RANKLINE_WAREHOUSE to a ClickHouse server, which serves many at once"
    )


def _hold(folder: Path, path: str, address: str) -> None:
    """Take the folder for this process, or raise LockedError.

    Two locks: one of our own, held while any client here is open, so that two starts at once can't
    both fail over the engine's; and a look at the engine's, which another program may hold.
    """
    if path in _open_here:
        _open_here[path].clients += 1
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".rankline.lock").open("a")
    except OSError as error:
        raise RefusedError(f"The embedded warehouse at {address} can't be opened ({error.strerror}). {HINT}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with suppress(FileNotFoundError), (folder / "status").open("rb") as engine:
            fcntl.flock(engine, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise _in_use(address) from None
    _open_here[path] = _Held(lock)


def let_go(path: str) -> None:
    """One client less in the folder; the last takes the lock with it."""
    held = _open_here.get(path)
    if held is None:
        return
    held.clients -= 1
    if not held.clients:
        held.lock.close()
        del _open_here[path]
