"""Settings, read once from the environment (``RANKLINE_*``)."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["PROJECT_ROOT", "Settings"]

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
