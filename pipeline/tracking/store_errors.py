"""Translates what MLflow, its database and its artifact store raise into one line with the next step."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from mlflow.exceptions import MlflowException

from pipeline.errors import ConnectionLostError, RanklineError, RefusedError, ServerError
from pipeline.runtime.files import advice_for, reason_of
from pipeline.runtime.installation import PACKAGE
from pipeline.runtime.redact import address_of_store, without_secrets
from pipeline.runtime.retry import AGAIN

__all__ = ["HINT", "as_server_error", "package_of"]

HINT = "MLFLOW_TRACKING_URI names it"
# Raised by our own code, these are faults of it. Everything else comes from the store or on the way to it.
_FAULTS = (TypeError, AttributeError, NameError, LookupError, ArithmeticError, AssertionError)
# What SQLAlchemy adds behind the database's own sentence.
_STATEMENT = re.compile(r"\s*\[(?:SQL|parameters):.*|\s*\(Background on this error.*", re.DOTALL)
_NO_FILE_STORE = "maintenance mode"


@contextmanager
def as_server_error(uri: str) -> Iterator[None]:
    """Translate the errors of a store, and of its artifact store, into one-line messages that hold no password.

    Raises ConnectionLostError where a retry may help, else ServerError.
    """
    try:
        yield
    except RanklineError:
        raise
    except Exception as error:
        if isinstance(error, _FAULTS) and _raised_here(error):
            raise
        raise _translated(error, uri) from None


def package_of(error: ImportError) -> str:
    """The package to install after an import failed."""
    # The import that fails first is not always that of the package whose dependencies bring it.
    return {"botocore": "boto3", None: "that the error names"}.get(error.name, str(error.name))


def _translated(error: Exception, uri: str) -> ServerError:
    where = f"MLflow at {address_of_store(uri)}"
    if isinstance(error, ImportError):  # the driver of a database, or the client of an artifact store
        return RefusedError(
            f"MLflow's store at {address_of_store(uri)}, or its artifact store, needs the package {package_of(error)}: "
            f"pip install it. {HINT}"
        )
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, requests.RequestException):
        return ServerError(f"{where} failed: {without_secrets(reason_of(error))}; {advice_for(error)}")
    text = re.sub(r"\s+", " ", without_secrets(_STATEMENT.sub("", str(error))))[:300].rstrip(". ")
    text = re.sub(r"://[^@/\s]*@", "://", text)
    if _NO_FILE_STORE in text:
        return RefusedError(f"{where}: MLflow keeps no store in plain files any more: write sqlite:////path/mlflow.db")
    if "readonly database" in text:
        return RefusedError(
            f"{where} is read-only for this user: commands that read work, and this one writes. "
            "Let this user write to the file and to its folder, or name another store in MLFLOW_TRACKING_URI"
        )
    if not isinstance(error, MlflowException | requests.RequestException):
        text = f"{type(error).__name__}: {text}"
    if _transient(error, uri):
        return ConnectionLostError(f"{where} failed: {text}. {HINT}{AGAIN}")
    return ServerError(f"{where} failed: {text}. {HINT}")


def _raised_here(error: Exception) -> bool:
    """Whether a line of this package raised it, and not one of a library."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.startswith(f"{PACKAGE}/")


def _transient(error: Exception, uri: str) -> bool:
    """Whether a retry may help: no connection, an internal error of the server, or a locked file."""
    if not uri.startswith(("http://", "https://")):
        return "database is locked" in str(error)
    if isinstance(error, MlflowException):
        return bool(error.get_http_status_code() >= 500)  # type: ignore[no-untyped-call]
    return isinstance(error, requests.RequestException)
