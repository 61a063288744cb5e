"""The file of a study's trials, and the lock that lets one process at a time search."""

from __future__ import annotations

import fcntl
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pipeline.errors import InputError, LockedError
from pipeline.models.search_space import Choice, Dimension, IntegerRange

if TYPE_CHECKING:
    import optuna

__all__ = ["alone", "distribution", "open_storage"]


def open_storage(path: Path | None) -> optuna.storages.BaseStorage:
    """Open the SQLite file, or make it; memory where there is none. Raises InputError for a file of another kind."""
    import optuna
    import sqlalchemy

    if path is None:
        return optuna.storages.InMemoryStorage()
    url = sqlalchemy.engine.URL.create("sqlite", database=str(path)).render_as_string()
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
    except (sqlalchemy.exc.SQLAlchemyError, RuntimeError) as error:
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        raise InputError(f"{path} can't keep the trials ({reason}): move it away, and tuning begins anew") from None


@contextmanager
def alone(path: Path | None, name: str) -> Iterator[None]:
    """Allow one process per study: a second one would forget the running trial of the first."""
    if path is None:
        yield
        return
    with path.with_name(path.name + ".lock").open("a") as lock:
        _lock_byte(lock, name)
        yield


def _lock_byte(lock: IO[str], name: str) -> None:
    """Lock one byte of the file per study, so that two studies can run at once; the lock ends with the process."""
    place = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
    end = time.monotonic() + 1.0  # a process that was just killed may still be ending
    while True:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError:
            if time.monotonic() > end:
                raise LockedError("The same search is under way in another process: wait for it, or end it") from None
            time.sleep(0.05)
        else:
            return


def distribution(dimension: Dimension) -> Any:
    """Optuna's distribution of the encoded values."""
    import optuna

    if isinstance(dimension, Choice):
        return optuna.distributions.CategoricalDistribution(dimension.values)
    if isinstance(dimension, IntegerRange):
        return optuna.distributions.IntDistribution(dimension.low, dimension.high, log=True)
    low, high = dimension.ends
    return optuna.distributions.FloatDistribution(low, high, log=True)
