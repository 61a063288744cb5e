"""Settings, read once from the environment (``RANKLINE_*``)."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.errors import UsageError

__all__ = ["PROJECT_ROOT", "Settings", "address_of_store", "without_secrets"]

PROJECT_ROOT = Path(__file__).resolve().parents[1]


class Settings(BaseSettings):
    """What does not belong to one command.

    A password is part of `warehouse`, so that is no option of the command line (a process list
    shows those) and prints as stars.
    """

    model_config = SettingsConfigDict(env_prefix="RANKLINE_", frozen=True, extra="ignore", env_ignore_empty=True)

    warehouse: SecretStr | None = None
    connect_timeout: int = 10
    read_timeout: int = 300

    @property
    def warehouse_dsn(self) -> str:
        """The DSN asked for, else the embedded warehouse under the project root."""
        if self.warehouse is None:
            return f"chdb://{PROJECT_ROOT / 'data' / 'warehouse'}"
        return self.warehouse.get_secret_value()

    @property
    def tracking_uri(self) -> str:
        """MLflow's store: ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` under the project root."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{PROJECT_ROOT / 'mlflow.db'}"

    @property
    def tuning_path(self) -> Path:
        """Where searches keep their trials: ``tuning.db`` beside a store in a file, else under the project root."""
        prefix = "sqlite:///"
        store = self.tracking_uri
        folder = Path(store.removeprefix(prefix)).resolve().parent if store.startswith(prefix) else PROJECT_ROOT
        return folder / "tuning.db"


def address_of_store(uri: str) -> str:
    """MLflow's tracking URI without user and password. Raises UsageError, which repeats none of it."""
    try:
        parts = urlsplit(uri)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise UsageError(
            "MLFLOW_TRACKING_URI is no valid address; write http://host:5000, and %2F for a / in a password"
        ) from None
    if not parts.hostname:
        # A file; or an address with a slip in it, or with its password among the options.
        return uri if parts.scheme in ("sqlite", "file") else re.sub(r":.*@", ":…@", uri.split("?", 1)[0])
    if "@" in parts.path + parts.query + parts.fragment:
        # What stands before the / would be taken for host and port, and shown.
        raise UsageError("MLFLOW_TRACKING_URI: write / ? # and @ in a user or password as %2F %3F %23 and %40")
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def without_secrets(text: str) -> str:
    """The text with the environment's passwords taken out: a server, or what stands before it, may repeat them."""
    for user, secret in _secrets():
        basic = base64.b64encode(f"{user}:{secret}".encode()).decode().rstrip("=")
        for spelling in (basic, secret, quote(secret, safe="")):
            text = text.replace(spelling, "…")
    return text


def _secrets() -> Iterator[tuple[str, str]]:
    """(user, password), the longest first; what is shorter than four characters would be found everywhere."""
    found = {(os.environ.get("MLFLOW_TRACKING_USERNAME", ""), os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))}
    found.add(("", os.environ.get("MLFLOW_TRACKING_TOKEN", "")))
    for name in ("MLFLOW_TRACKING_URI", "RANKLINE_WAREHOUSE"):
        if match := re.search(r"//([^/@:]*):(.*)@", os.environ.get(name, "")):
            found |= {(match[1], match[2]), (unquote(match[1]), unquote(match[2]))}
    yield from sorted((one for one in found if len(one[1]) > 3), key=lambda one: -len(one[1]))
