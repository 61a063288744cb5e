"""Where the runs and the warehouse are."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipeline.jobs.inputs import LoadedInput
from pipeline.runtime.redact import address_of_store
from pipeline.settings import CHECKOUT, Settings

__all__ = ["runs_place", "warehouse_place"]


def runs_place(settings: Settings) -> str:
    """The address of the tracking server, or the command that starts one."""
    address = address_of_store(settings.tracking_uri)
    if address.startswith(("http://", "https://")):
        return address
    command = f"mlflow ui --backend-store-uri {address}"
    return f"make ui (or: {command})" if CHECKOUT is not None else command


def warehouse_place(chosen: LoadedInput, settings: Settings) -> str:
    """A line about the embedded warehouse, if it was read because no other is named; else ""."""
    if chosen.source != "warehouse" or settings.warehouse is not None:
        return ""
    # `mlflow run` of a git address works in a temporary clone, which is deleted together with its warehouse.
    scratch = CHECKOUT is not None and Path(tempfile.gettempdir()).resolve() in CHECKOUT.parents
    name = "scratch warehouse" if scratch else "warehouse"
    return f"{name}: {chosen.where} (embedded; RANKLINE_WAREHOUSE names another)"
