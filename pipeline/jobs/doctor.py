"""`doctor`: everything that a command needs, looked at before one fails over it."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.checkup import LIMIT, Check, Finding, Group, examine, leftovers, machine, packages, surroundings
from pipeline.checkup.secret import Mask
from pipeline.checkup.store import artifact_folder, store_group, store_path
from pipeline.checkup.surroundings import read_settings
from pipeline.checkup.warehouse import warehouse_group
from pipeline.settings import PROJECT_ROOT, Settings

__all__ = ["Checkup", "doctor_job"]


_HEAVY = ("clickhouse_connect", "pyarrow", "mlflow")
# Of a warehouse, and a store, on this machine.
_HEAVY_HERE = ("chdb", "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store")


@dataclass(frozen=True)
class Checkup:
    """Attributes
    ----------
    findings : in the order in which they are shown
    hanging : whether a check still waits for an answer: its thread must not be waited for
    """

    findings: tuple[Finding, ...]
    hanging: bool

    @property
    def status(self) -> str:
        """The worst of all."""
        there = {one.status for one in self.findings}
        return next((one for one in ("fail", "warn") if one in there), "ok")

    @property
    def exit_status(self) -> int:
        """0 where nothing fails; 4 where a server does, or refuses; else 3."""
        failed = [one for one in self.findings if one.status == "fail"]
        if not failed:
            return 0
        return 4 if any(one.server for one in failed) else 3

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "status": self.status,
            "exit_status": self.exit_status,
            "findings": [asdict(one) for one in self.findings],
        }


def doctor_job(known: Collection[str], debug: Callable[[str], None] = lambda _: None, limit: float = LIMIT) -> Checkup:
    """Look at everything, without changing anything, whatever is broken; no check takes longer than `limit` seconds.

    Parameters
    ----------
    known : variables ``RANKLINE_…`` of the commands' options
    debug : told the tracebacks of checks that broke, without secrets
    """
    environ = dict(os.environ)  # before anything below, or MLflow, adds to it
    mask = Mask(environ)
    # Importing takes seconds on a busy machine, and waits for no server: it is not to be timed.
    for name in (*_HEAVY, *_HEAVY_HERE):
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001  (what is missing or broken is found below)
            debug(mask(f"{name}: {error}"))
    settings, bad = read_settings()
    groups = [
        Group(
            "rankline",
            [
                Check("python", lambda: packages.python(PROJECT_ROOT)),
                Check("packages", lambda: packages.versions(PROJECT_ROOT / "requirements.lock")),
            ],
        ),
        Group(
            "settings",
            [
                Check("settings", lambda: [*bad, *surroundings.settings_in_force(settings)]),
                Check("options", lambda: surroundings.options(known, environ)),
                Check("mlflow", lambda: surroundings.mlflow_settings(settings, environ)),
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
            ],
        ),
        warehouse_group(settings, mask),
        store_group(settings),
    ]
    found, hanging = examine(groups, mask, limit, debug)
    return Checkup(tuple(found), hanging)


def _folders(settings: Settings) -> dict[str, Path]:
    """Where files go, by what they are."""
    folders = {"temporary files": Path(tempfile.gettempdir())}
    if settings.warehouse_dsn.startswith("chdb://"):
        folders["the warehouse"] = Path(settings.warehouse_dsn.removeprefix("chdb://"))
    store, artifacts = store_path(settings.tracking_uri), artifact_folder(settings.tracking_uri)
    if store is not None and artifacts is not None:
        folders |= {"runs": store.parent, "artifacts": artifacts}
    else:
        folders["searches"] = settings.tuning_path.parent
    return folders
