"""MLflow's store: opened, seen to answer, and its errors as ours."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import requests
from mlflow.exceptions import MlflowException

from pipeline.errors import ConnectionLostError, RefusedError, ServerError, UnreachableError, UsageError
from pipeline.patience import AGAIN
from pipeline.settings import address_of_store, without_secrets
from pipeline.store_file import make_store

__all__ = ["as_server_error", "impatient", "is_file", "locked_store", "open_store", "sqlite_path"]

# Seconds to say that it is there.
HELLO = 10
_HINT = "MLFLOW_TRACKING_URI names it"


def open_store(uri: str) -> None:
    """Point MLflow at its store, and see that it is there: a server that is down is refused at once.

    Raises
    ------
    UnreachableError, RefusedError
        A tracking server that does not answer, or answers otherwise than MLflow.
    """
    # The client would try for minutes; a job that is scheduled again tomorrow had better say so now.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # it draws where no terminal is, too
    address_of_store(uri)
    if uri.startswith(("http://", "https://")):
        _ping(uri)
    # A server may say that it is well, and hang over the first question about its database.
    try:
        with as_server_error(uri), locked_store(uri), impatient():
            if (path := sqlite_path(uri)) is not None and path.parent.is_dir():
                make_store(path)
            mlflow.set_tracking_uri(uri)
            mlflow.MlflowClient().search_experiments(max_results=1)
    except ModuleNotFoundError as error:  # of a database's driver
        raise RefusedError(
            f"MLflow's store at {address_of_store(uri)} needs the package {error.name}: pip install it. {_HINT}"
        ) from None


@contextmanager
def impatient(seconds: int | None = None) -> Iterator[None]:
    """One try of so many seconds for each request to a server: where one that is down is no surprise."""
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
    """One at a time for a store in a file: its first use makes the tables, and two at once break each other."""
    import logging

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    path = sqlite_path(uri)
    if path is None or not path.parent.is_dir():
        yield
        return
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_file(uri: str) -> bool:
    """Whether the store is in a file, which `locked_store` locks."""
    return sqlite_path(uri) is not None


def sqlite_path(uri: str) -> Path | None:
    """The file of a store in a file, None for any other."""
    return Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else None


def _ping(uri: str) -> None:
    address = address_of_store(uri)
    try:
        response = requests.get(uri.rstrip("/") + "/health", timeout=HELLO, **_credentials())
    except requests.ConnectionError as error:
        raise UnreachableError(f"No MLflow server answers at {address} ({_system_reason(error)}). {_HINT}") from None
    except requests.Timeout:
        raise UnreachableError(f"The MLflow server at {address} does not answer in time. {_HINT}") from None
    except requests.RequestException as error:
        raise UsageError(f"MLFLOW_TRACKING_URI is no valid address ({type(error).__name__})") from None
    if response.status_code in (401, 403):
        raise RefusedError(
            f"The MLflow server at {address} refused (HTTP {response.status_code}). "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD name the user"
        )
    if response.status_code >= 400:
        raise RefusedError(f"What answers at {address} is no MLflow server (HTTP {response.status_code}). {_HINT}")


def _credentials() -> dict[str, Any]:
    """MLflow's own settings of who asks, and whom to trust."""
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    insecure = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("1", "true")
    return {
        "auth": (user, password or "") if user else None,
        "headers": {"Authorization": f"Bearer {token}"} if token and not user else None,
        "verify": os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or not insecure,
    }


def _system_reason(error: BaseException | None) -> str:
    """The deepest system error in a chain, in its own words."""
    reason, seen = "no connection", set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror.lower()
        inner = [arg for arg in error.args if isinstance(arg, BaseException)]
        error = getattr(error, "reason", None) or error.__cause__ or error.__context__ or next(iter(inner), None)
        error = error if isinstance(error, BaseException) else None
    return reason


@contextmanager
def as_server_error(uri: str) -> Iterator[None]:
    """MLflow's errors as ours: its address without the password, in one line.

    ConnectionLostError where asking again may help, ServerError where not.
    """
    try:
        yield
    except (MlflowException, requests.RequestException) as error:
        text = re.sub(r"\s+", " ", without_secrets(str(error)))[:300]
        text = re.sub(r"://[^@/\s]*@", "://", text)
        where = f"MLflow at {address_of_store(uri)}"
        if _transient(error, uri):
            raise ConnectionLostError(f"{where} failed: {text}. {_HINT}{AGAIN}") from None
        raise ServerError(f"{where} failed: {text}. {_HINT}") from None


def _transient(error: MlflowException | requests.RequestException, uri: str) -> bool:
    """Whether asking again may help: no connection, an error of the server's own, another's lock on a file."""
    if not uri.startswith(("http://", "https://")):
        return "database is locked" in str(error)
    return not isinstance(error, MlflowException) or bool(error.get_http_status_code() >= 500)  # type: ignore[no-untyped-call]
