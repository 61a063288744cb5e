"""The embedded engine. One process at a time can use its folder."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DoesNotFitError, LockedError, RefusedError, UsageError, WarehouseInUseError
from pipeline.runtime.file_lock import FileLock
from pipeline.runtime.memory import addresses_left
from pipeline.warehouse.dsn import HINT
from pipeline.warehouse.errors import one_line

__all__ = ["close_embedded", "open_embedded"]


# Bytes. Tried with chdb 4.4.0: below some 1,600 MB it aborts, and below 1,780 MB it may not start.
_ADDRESSES = 1800 << 20


@dataclass
class _Held:
    """A folder that this process uses: its lock, and the number of clients."""

    lock: FileLock
    clients: int = 1


# Paths whose engine runs in this process; all clients of a path share one lock.
_open_here: dict[str, _Held] = {}


def open_embedded(path_in_dsn: str, address: str) -> tuple[Any, str]:
    """A client of the engine in this process, and the path for `close_embedded`.

    Raises
    ------
    WarehouseInUseError
        Another process uses the folder.
    DoesNotFitError
        The limit on address space is too low for the engine.
    RefusedError, UsageError
        The path can't be used as a folder of the engine.
    """
    from importlib.util import find_spec

    if find_spec("chdb") is None:
        raise RefusedError(f"The embedded warehouse at {address} needs chdb: pip install 'rankline[embedded]'. {HINT}")
    folder = Path(path_in_dsn)
    if not folder.name:
        raise UsageError("RANKLINE_WAREHOUSE names no folder; write chdb:///path/to/warehouse")
    path = str(folder.resolve())
    _check_addresses(address)
    _hold(folder, path, address)
    import clickhouse_connect

    try:
        client = clickhouse_connect.get_client(interface="chdb", path=path)
    except Exception as error:  # noqa: BLE001 (the engine raises any C++ error)
        close_embedded(path)
        raise RefusedError(f"The embedded warehouse at {address} can't be opened ({one_line(error)}). {HINT}") from None
    return client, path


def _check_addresses(address: str) -> None:
    """Raise DoesNotFitError where the engine would end the process, since it can't map its code and its threads."""
    left = addresses_left()
    if "chdb" not in sys.modules and left is not None and left < _ADDRESSES:
        raise DoesNotFitError(
            f"The embedded warehouse at {address} needs {_ADDRESSES >> 20:,} MB of address space to start, and "
            f"{left >> 20:,} MB are left (ulimit -v): raise the limit, or set RANKLINE_WAREHOUSE to a ClickHouse server"
        )


def _in_use(address: str) -> WarehouseInUseError:
    return WarehouseInUseError(
        f"The embedded warehouse at {address} is in use by another process: wait for it to end, "
        "or set RANKLINE_WAREHOUSE to a ClickHouse server, which serves many at once"
    )


def _hold(folder: Path, path: str, address: str) -> None:
    """Take the folder for this process, or raise WarehouseInUseError.

    There are two locks. Our own is held while any client here is open, so that of two processes that start together
    one succeeds. The engine's lock is only tested: another program may hold it.
    """
    if path in _open_here:
        _open_here[path].clients += 1
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".rankline.lock")
    except LockedError:
        raise _in_use(address) from None
    except OSError as error:
        raise RefusedError(f"The embedded warehouse at {address} can't be opened ({error.strerror}). {HINT}") from None
    try:
        with suppress(FileNotFoundError):
            FileLock(folder / "status", mode="rb").release()
    except (LockedError, OSError):
        lock.release()
        raise _in_use(address) from None
    _open_here[path] = _Held(lock)


def close_embedded(path: str) -> None:
    """Count one client less of the folder; the last one releases the lock."""
    held = _open_here.get(path)
    if held is None:
        return
    held.clients -= 1
    if not held.clients:
        held.lock.release()
        del _open_here[path]
