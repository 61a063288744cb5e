"""Settings, read once from the environment (``RANKLINE_*``)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from pydantic import BeforeValidator, Field, PositiveInt, PrivateAttr, SecretStr, create_model
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.config import ConfigFile
from pipeline.errors import UsageError
from pipeline.options import DataLimits, Names, TrainOptions
from pipeline.runtime.installation import CHECKOUT, PROJECT_ROOT
from pipeline.runtime.retry import RetryPolicy
from pipeline.runtime.sqlite_address import sqlite_path

__all__ = ["CHECKOUT", "PROJECT_ROOT", "Settings"]


def _day(value: object) -> date:
    """Parse an ISO date. Without this validator pydantic reads 2020 as seconds since 1970."""
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise ValueError("it is a day such as 2020-01-31") from None


def _limit_fields() -> Mapping[str, Any]:
    """A setting for each field of `DataLimits`, with its type and bounds: ``limit_min_users`` for ``min_users``."""
    hints = get_type_hints(DataLimits, include_extras=True)
    day = Annotated[date, BeforeValidator(_day)]
    return {
        f"limit_{limit.name}": (day | None if hints[limit.name] == date | None else hints[limit.name], None)
        for limit in fields(DataLimits)
    }


_LONGEST = 10_000_000  # seconds, some four months; sockets and servers take no 10**20

if TYPE_CHECKING:
    _WithLimits = BaseSettings
else:
    _WithLimits = create_model("_WithLimits", __base__=BaseSettings, **_limit_fields())


class Settings(_WithLimits):
    """Settings that all commands share.

    `warehouse` may hold a password. It is therefore no command-line option, which a process list would show,
    and it prints as stars.
    """

    model_config = SettingsConfigDict(
        env_prefix="RANKLINE_", frozen=True, extra="ignore", env_ignore_empty=True, allow_inf_nan=False
    )

    warehouse: SecretStr | None = None
    connect_timeout: Annotated[int, Field(ge=1, le=_LONGEST)] = 10
    read_timeout: Annotated[int, Field(ge=1, le=_LONGEST)] = 300
    # Seconds that one statement may take in the warehouse; how often and for how long a failed one is retried.
    query_timeout: Annotated[int, Field(ge=1, le=_LONGEST)] = 3600
    retries: Annotated[int, Field(ge=0, le=1000)] = 5
    retry_seconds: Annotated[float, Field(ge=0, le=_LONGEST)] = 60.0

    # Locks: seconds without a sign of life until others take the publishing lock over, and to wait for a store's file.
    lock_expiry: Annotated[float, Field(ge=1, le=_LONGEST)] = 60.0
    lock_timeout: Annotated[float, Field(gt=0, le=_LONGEST)] = 60.0

    # The file with the snapshot of the rules about items, instead of one beside the store.
    rules: Path | None = None

    # The folder of what a service on this host keeps, instead of one beside the store.
    live_dir: Path | None = None

    # A memory limit set by the user, instead of the detected one.
    memory_limit_mb: PositiveInt | None = None

    _config: ConfigFile | None = PrivateAttr(default=None)
    _names: Names = PrivateAttr(default=Names())

    @classmethod
    def with_config(cls, config: ConfigFile | None) -> Settings:
        """Settings from the environment. Limits of the data gate that it does not set come from the file."""
        limits = {} if config is None else config.values_of(DataLimits)
        in_environment = {name.upper() for name, value in os.environ.items() if value}
        values = {f"limit_{name}": value for name, value in limits.items()}
        settings = cls(**{n: v for n, v in values.items() if f"RANKLINE_{n.upper()}" not in in_environment})
        settings._config = config
        return settings

    @property
    def config(self) -> ConfigFile | None:
        """The ``rankline.yaml`` named by ``--config``, if any."""
        return self._config

    def limited(self, spec: TrainOptions) -> tuple[TrainOptions, Settings]:
        """Both with the limit on memory that the options have, else with that of the settings."""
        limit = self.memory_limit_mb if spec.memory_limit is None else spec.memory_limit
        settings = self.model_copy(update={"memory_limit_mb": limit})
        settings._config, settings._names = self._config, self._names
        return replace(spec, memory_limit=limit), settings

    def named(self, names: Names) -> Settings:
        """The same settings, for the model of this name."""
        settings = self.model_copy()
        settings._names = names
        return settings

    @property
    def names(self) -> Names:
        """The model that the command is about, and what belongs to it."""
        return self._names

    @property
    def data_limits(self) -> DataLimits:
        """The limits of the data gate. Raises UsageError for an unknown RANKLINE_LIMIT_… variable, such as a typo."""
        known = {f"RANKLINE_LIMIT_{limit.name.upper()}" for limit in fields(DataLimits)}
        if unknown := sorted(
            name for name in os.environ if name.upper().startswith("RANKLINE_LIMIT_") and name.upper() not in known
        ):
            raise UsageError(f"{', '.join(unknown)} is no limit; there are {', '.join(sorted(known))}")
        return DataLimits(**{limit.name: getattr(self, f"limit_{limit.name}") for limit in fields(DataLimits)})

    @property
    def warehouse_dsn(self) -> str:
        """The configured DSN, else the embedded warehouse under the project root."""
        if self.warehouse is None:
            return f"chdb://{PROJECT_ROOT / 'data' / 'warehouse'}"
        return self.warehouse.get_secret_value()

    @property
    def tracking_uri(self) -> str:
        """MLflow's store: ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` under the project root."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{PROJECT_ROOT / 'mlflow.db'}"

    @property
    def tuning_path(self) -> Path:
        """The file with the trials of searches: ``tuning.db`` beside a store in a file, else under the project root.

        A model of another name has a file of its own: ``tuning_NAME.db``.
        """
        return self._beside_store / ("tuning.db" if self.names.is_default else f"tuning_{self.names.name}.db")

    @property
    def unlogged_path(self) -> Path:
        """The folder of runs that MLflow has not accepted yet: ``unlogged``, in the same folder as `tuning_path`."""
        return self._beside_store / "unlogged"

    @property
    def nightly_path(self) -> Path:
        """What the nightly job knows of its last night: ``nightly.json``, else ``nightly_NAME.json``."""
        return self._beside_store / ("nightly.json" if self.names.is_default else f"nightly_{self.names.name}.json")

    @property
    def rules_path(self) -> Path:
        """The snapshot of the rules that `score` and `rules push` write: ``rules.json``, else ``rules_NAME.json``."""
        return self.rules or self._beside_store / (
            "rules.json" if self.names.is_default else f"rules_{self.names.name}.json"
        )

    @property
    def live_path(self) -> Path:
        """The folder of what a service on this host keeps: ``live``, in the same folder as `tuning_path`."""
        return self.live_dir or self._beside_store / "live"

    @property
    def state_path(self) -> Path:
        """The folder of small files that jobs keep between runs, such as which alerts were sent: as `tuning_path`'s."""
        return self._beside_store

    @property
    def spark_path(self) -> Path:
        """The folder that executors of Spark share, where no other is named: ``spark``, beside `tuning_path`."""
        return self._beside_store / "spark"

    @property
    def interaction_log_path(self) -> Path:
        """The log of new interactions, which one host has once, for the models of all names."""
        return self.live_path / "interactions.db"

    @property
    def exposure_log_path(self) -> Path:
        """The log of what was shown in experiments, beside the log of new interactions."""
        return self.live_path / "exposures.db"

    @property
    def experiments_path(self) -> Path:
        """The folder of what is decided of experiments: ``experiments``, in the same folder as `tuning_path`."""
        return self._beside_store / ("experiments" if self.names.is_default else f"experiments_{self.names.name}")

    @property
    def retry_policy(self) -> RetryPolicy:
        """How often and for how long a call that is safe to repeat is retried."""
        return RetryPolicy(self.retries, self.retry_seconds)

    @property
    def _beside_store(self) -> Path:
        path = sqlite_path(self.tracking_uri)
        return path.parent if path is not None else PROJECT_ROOT
