"""`doctor`: checks everything that the commands need."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.jobs.doctor import LIMIT, Check, Finding, Group, environment, examine, leftovers, machine, packages
from pipeline.jobs.doctor.environment import read_settings
from pipeline.jobs.doctor.interaction_log import interaction_log
from pipeline.jobs.doctor.warehouse import warehouse_group
from pipeline.options.names import DEFAULT, Names
from pipeline.runtime.redact import Mask
from pipeline.runtime.sqlite_address import sqlite_path
from pipeline.settings import CHECKOUT, PROJECT_ROOT, Settings
from pipeline.tracking.health import artifact_folder, store_group

__all__ = ["DoctorResult", "doctor_job"]


_HEAVY = ("clickhouse_connect", "pyarrow", "mlflow")
# Modules for an embedded warehouse and a store in a file.
_HEAVY_HERE = ("chdb", "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store")


@dataclass(frozen=True)
class DoctorResult:
    """Attributes
    ----------
    findings : in the order of display
    hanging : whether a check still waits for an answer; its thread must not be joined
    """

    findings: tuple[Finding, ...]
    hanging: bool

    @property
    def status(self) -> str:
        """The worst status of all findings."""
        statuses = {finding.status for finding in self.findings}
        return next((status for status in ("fail", "warn") if status in statuses), "ok")

    @property
    def exit_status(self) -> int:
        """0 without a failure, 4 where a server fails or refuses, else 3."""
        failed = [finding for finding in self.findings if finding.status == "fail"]
        if not failed:
            return 0
        return 4 if any(finding.server for finding in failed) else 3

    def as_json(self) -> dict[str, Any]:
        """The result as JSON."""
        return {
            "status": self.status,
            "exit_status": self.exit_status,
            "findings": [asdict(finding) for finding in self.findings],
        }


def doctor_job(
    known: Collection[str],
    debug: Callable[[str], None] = lambda _: None,
    limit: float = LIMIT,
    names: Names = DEFAULT,
) -> DoctorResult:
    """Run all checks, each for at most `limit` seconds. They change nothing, and a broken check stops no other.

    Parameters
    ----------
    known : the ``RANKLINE_…`` variables of the commands' options
    debug : receives the tracebacks of broken checks, without secrets
    names : the model whose champion and table are checked
    """
    environ = dict(os.environ)  # copied first, since the code below and MLflow add variables
    mask = Mask(environ)
    # Import before the checks: an import can take seconds, which must not count as a check's time.
    for name in (*_HEAVY, *_HEAVY_HERE):
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001  (a check reports what is missing or broken)
            debug(mask(f"{name}: {error}"))
    settings, bad = read_settings()
    settings = settings.named(names)
    groups = [
        Group(
            "rankline",
            [
                Check("python", lambda: packages.python(CHECKOUT)),
                Check("packages", lambda: packages.versions(PROJECT_ROOT / "requirements.lock")),
            ],
        ),
        Group(
            "settings",
            [
                Check("settings", lambda: [*bad, *environment.settings_in_force(settings)]),
                Check("options", lambda: environment.options(known, environ)),
                Check("signing keys", lambda: environment.signing_keys(environ)),
                Check("mlflow", lambda: environment.mlflow_settings(settings, environ)),
            ],
        ),
        Group(
            "machine",
            [
                Check("memory", lambda: machine.memory(settings.memory_limit_mb)),
                Check("disk", lambda: machine.disk(_folders(settings))),
                Check("kernels", machine.kernel_cache),
                Check("temporary folders", leftovers.scratch),
                Check("unlogged", lambda: leftovers.unlogged(settings.unlogged_path)),
                Check("interaction log", lambda: interaction_log(settings.interaction_log_path)),
            ],
        ),
        warehouse_group(settings, mask),
        store_group(settings.tracking_uri, names.model),
    ]
    findings, hanging = examine(groups, mask, limit, debug)
    return DoctorResult(tuple(findings), hanging)


def _folders(settings: Settings) -> dict[str, Path]:
    """Purpose → the folder that files of this purpose are written to."""
    folders = {"temporary files": Path(tempfile.gettempdir())}
    if settings.warehouse_dsn.startswith("chdb://"):
        folders["the warehouse"] = Path(settings.warehouse_dsn.removeprefix("chdb://"))
    store, artifacts = sqlite_path(settings.tracking_uri), artifact_folder(settings.tracking_uri)
    if store is not None and artifacts is not None:
        folders |= {"runs": store.parent, "artifacts": artifacts}
    else:
        folders["searches"] = settings.tuning_path.parent
    return folders
