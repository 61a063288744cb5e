"""Settings, read once from the environment (``RANKLINE_*``)."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, unquote, urlsplit

from pydantic import BeforeValidator, Field, FiniteFloat, PositiveInt, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.data_gate import Limits
from pipeline.errors import UsageError
from pipeline.patience import Patience

__all__ = ["PROJECT_ROOT", "Settings", "address_of_store", "without_secrets"]

PROJECT_ROOT = Path(__file__).resolve().parents[1]

_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Days = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _day(value: object) -> date:
    """A day as it is typed; left to itself, pydantic takes 2020 for seconds since 1970."""
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise ValueError("it is a day such as 2020-01-31") from None


class Settings(BaseSettings):
    """What does not belong to one command.

    A password is part of `warehouse`, so that is no option of the command line (a process list
    shows those) and prints as stars.
    """

    model_config = SettingsConfigDict(env_prefix="RANKLINE_", frozen=True, extra="ignore", env_ignore_empty=True)

    warehouse: SecretStr | None = None
    connect_timeout: int = 10
    read_timeout: int = 300
    # The warehouse under fire: how long one statement may take there, how often and how long we try again.
    query_timeout: Annotated[int, Field(ge=0)] = 3600
    retries: Annotated[int, Field(ge=0)] = 5
    retry_seconds: Annotated[float, Field(ge=0)] = 60.0

    # What data must keep to before a fit (data_gate.Limits has the meanings; None: no limit), and what memory there is.
    limit_min_interactions: PositiveInt | None = None
    limit_min_users: PositiveInt | None = None
    limit_min_items: PositiveInt | None = None
    limit_min_score: FiniteFloat | None = None
    limit_max_score: FiniteFloat | None = None
    limit_max_bad_share: _Share | None = None
    limit_max_duplicate_share: _Share | None = None
    limit_max_age_days: _Days | None = None
    limit_max_future_days: _Days | None = None
    limit_earliest: Annotated[date, BeforeValidator(_day)] | None = None
    limit_max_users_lost: _Share | None = None
    limit_max_items_lost: _Share | None = None
    limit_max_shrink: _Share | None = None
    memory_limit_mb: PositiveInt | None = None

    @property
    def data_limits(self) -> Limits:
        """The limits that are set. Raises UsageError for a RANKLINE_LIMIT_… that is none: a typo guards nothing."""
        known = {f"RANKLINE_LIMIT_{one.name.upper()}" for one in fields(Limits)}
        if unknown := sorted(
            name for name in os.environ if name.upper().startswith("RANKLINE_LIMIT_") and name.upper() not in known
        ):
            raise UsageError(f"{', '.join(unknown)} is no limit; there are {', '.join(sorted(known))}")
        return Limits(**{one.name: getattr(self, f"limit_{one.name}") for one in fields(Limits)})

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
        return self._beside_store / "tuning.db"

    @property
    def unlogged_path(self) -> Path:
        """Where trainings are kept until they are logged: ``unlogged`` beside a store in a file, or as above."""
        return self._beside_store / "unlogged"

    @property
    def patience(self) -> Patience:
        """How often, and for how long, what is safe to repeat is tried again."""
        return Patience(self.retries, self.retry_seconds)

    @property
    def _beside_store(self) -> Path:
        prefix, store = "sqlite:///", self.tracking_uri
        return Path(store.removeprefix(prefix)).resolve().parent if store.startswith(prefix) else PROJECT_ROOT


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
