"""Opens MLflow's store, and checks that it answers."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import mlflow
import requests
from mlflow.entities import Run, ViewType

from pipeline.errors import LockedError, RefusedError, UnreachableError, UsageError
from pipeline.runtime.file_lock import FileLock
from pipeline.runtime.files import reason_of
from pipeline.runtime.redact import address_of_store
from pipeline.runtime.sqlite_address import sqlite_path
from pipeline.tracking import http
from pipeline.tracking.store_errors import HINT, as_server_error, package_of

__all__ = [
    "as_server_error",
    "impatient",
    "is_file",
    "locked_store",
    "open_or_make_store",
    "open_store",
    "package_of",
    "search_runs",
    "sqlite_path",
    "store_in_use",
]

# Seconds to wait for an answer to the first request.
HELLO = 10
# Seconds to wait for another command that uses the store's file.
LOCK_TIMEOUT = 60.0
_LOG = logging.getLogger("rankline")
_TRIES = 4  # of MLflow to connect to a database: a second in all


def open_store(uri: str) -> None:
    """Set MLflow's tracking URI and check that the store answers.

    Raises
    ------
    UnreachableError, RefusedError
        The tracking server does not answer, or is no MLflow server; there is no such file.
    """
    path = sqlite_path(uri)
    if path is not None and path.parent.is_dir() and not path.exists():
        raise RefusedError(
            f"{path}: no store there. The first training makes it (make train, or rankline train); else correct the "
            f"address. {HINT}"
        )
    _open(uri)


def open_or_make_store(uri: str, say: Callable[[str], None]) -> None:
    """`open_store` for commands that write runs: a store in a file is made where there is none, and that is said."""
    path = sqlite_path(uri)
    new = path is not None and not path.exists()
    _open(uri)
    if new:
        say(f"{path} was not there: MLflow's store begins there")


def _open(uri: str) -> None:
    # By default the client retries for minutes. A scheduled job should fail at once.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # MLflow draws it without a terminal, too
    address_of_store(uri)
    if uri.startswith(("http://", "https://")):
        http.bound_answers()
        _ping(uri)
    else:
        _check_database(uri)
    # A server may pass its health check and still hang on the first query of its database.
    with as_server_error(uri), locked_store(uri), impatient():
        if (path := sqlite_path(uri)) is not None:
            _make_store(path)
        mlflow.set_tracking_uri(uri)
        mlflow.MlflowClient().search_experiments(max_results=1)


def _check_database(uri: str) -> None:
    """Raise RefusedError for a SQLite file that can't be one: MLflow would make its folders, or try for minutes."""
    with as_server_error(uri):
        from mlflow.store.db import utils

        utils.MAX_RETRY_COUNT = _TRIES
    path = sqlite_path(uri)
    if path is None:
        return
    if not path.parent.is_dir():
        raise RefusedError(
            f"{path.parent}, the folder of MLflow's store, is not there: make it, or correct the address. {HINT}"
        )
    if not path.exists():
        return  # it is made
    if not path.is_file():
        raise RefusedError(f"MLflow's store {path} is no file. {HINT}")
    try:
        # Not read-only: SQLite first undoes what a killed process left half done.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as database:
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        if "locked" not in str(error):
            raise RefusedError(
                f"MLflow's store {path} can't be opened as a SQLite database ({error}). {HINT}"
            ) from None


def store_in_use() -> str:
    """The address of the store, for a message."""
    return address_of_store(mlflow.get_tracking_uri())


@contextmanager
def impatient(seconds: int | None = None) -> Iterator[None]:
    """Within the block, send each request once, with a short timeout: for a server that may be down."""
    brief = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds or HELLO)}
    before = {name: os.environ.get(name) for name in brief}
    os.environ.update(brief)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def locked_store(uri: str) -> Iterator[None]:
    """Lock a store in a file. Its first use creates the tables, and two processes at once would break them."""
    # It logs the traceback of every error that it raises; `as_server_error` says what is wrong in one line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    path = sqlite_path(uri)
    if path is None:
        yield
        return
    lock = path.with_name(path.name + ".lock")
    try:
        held = FileLock(lock, float(os.environ.get("RANKLINE_LOCK_TIMEOUT") or LOCK_TIMEOUT), say=_LOG.warning)
    except LockedError as error:
        raise LockedError(
            f"{error}; the store {path} is used by one command at a time: wait for that one to end, or end it "
            "(RANKLINE_LOCK_TIMEOUT says how long to wait, in seconds)"
        ) from None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        if not path.exists():
            raise RefusedError(f"MLflow's store {path} can't be made ({reason_of(error)}). {HINT}") from None
        # This user may only read there, and then needs no lock: the tables are there.
        yield
        return
    with held:
        yield


def search_runs(query: str, *, deleted: bool = False) -> list[Run]:
    """Runs of all experiments that match the query, the newest first; with `deleted`, deleted runs too."""
    view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
    experiments = [experiment.experiment_id for experiment in mlflow.search_experiments(view_type=view)]
    if not experiments:
        return []  # MLflow would search the default experiment
    return mlflow.search_runs(
        experiments, query, view, max_results=sys.maxsize, order_by=["start_time DESC"], output_format="list"
    )


def is_file(uri: str) -> bool:
    """Whether the store is a file, which `locked_store` locks."""
    return sqlite_path(uri) is not None


def _make_store(path: Path) -> None:
    """Create the store's tables in a temporary file, and rename it to `path`. An existing store is not changed.

    MLflow creates the tables in some fifty steps without a transaction. A process killed between two steps would
    leave a store that MLflow can neither use nor repair. The caller holds `locked_store`.
    """
    if path.exists() and path.stat().st_size:
        return
    partial = path.with_name(path.name + ".partial")
    for old in path.parent.glob(partial.name + "*"):  # its journals, too
        old.unlink()
    mlflow.MlflowClient(f"sqlite:///{partial}").search_experiments(max_results=1)
    partial.replace(path)


def _ping(uri: str) -> None:
    address = address_of_store(uri)
    try:
        response = http.get(uri.rstrip("/") + "/health", HELLO, **_credentials())
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
        if "Read timed out" in str(error):
            raise UnreachableError(f"The MLflow server at {address} does not answer in time. {HINT}") from None
        if "it sends" in str(error):
            raise RefusedError(f"What answers at {address} is no MLflow server (it sends too much). {HINT}") from None
        raise UnreachableError(f"No MLflow server answers at {address} ({_system_reason(error)}). {HINT}") from None
    except requests.Timeout:
        raise UnreachableError(f"The MLflow server at {address} does not answer in time. {HINT}") from None
    except requests.RequestException as error:
        raise UsageError(f"MLFLOW_TRACKING_URI is no valid address ({type(error).__name__})") from None
    if response.status_code in (401, 403):
        raise RefusedError(
            f"The MLflow server at {address} refused (HTTP {response.status_code}). "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD name the user"
        )
    if response.status_code >= 400:
        raise RefusedError(f"What answers at {address} is no MLflow server (HTTP {response.status_code}). {HINT}")


def _credentials() -> dict[str, Any]:
    """MLflow's settings for authentication and TLS, as arguments for `requests`."""
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    insecure = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("1", "true")
    return {
        "auth": (user, password or "") if user else None,
        "headers": {"Authorization": f"Bearer {token}"} if token and not user else None,
        "verify": os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or not insecure,
    }


def _system_reason(error: BaseException | None) -> str:
    """The message of the innermost OSError in a chain of exceptions."""
    reason, seen = "no connection", set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror.lower()
        inner = [arg for arg in error.args if isinstance(arg, BaseException)]
        error = getattr(error, "reason", None) or error.__cause__ or error.__context__ or next(iter(inner), None)
        error = error if isinstance(error, BaseException) else None
    return reason
