"""A message that says where an installed wheel creates its files, before it creates the first one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipeline.runtime.installation import CHECKOUT, PROJECT_ROOT

if TYPE_CHECKING:
    from pipeline.settings import Settings

__all__ = ["first_use"]


def first_use(settings: Settings) -> str | None:
    """The message, if this command is the first to create files; None in a checkout and once such files exist."""
    if CHECKOUT is not None:
        return None
    made, variables = [], []
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        made, variables = ["mlflow.db", "mlruns", "unlogged"], ["MLFLOW_TRACKING_URI"]
    if settings.warehouse is None:
        made, variables = [*made, "data/warehouse"], [*variables, "RANKLINE_WAREHOUSE"]
    if not made or any((PROJECT_ROOT / name).exists() for name in made):
        return None
    return (
        f"files go into {PROJECT_ROOT}: {', '.join(made)} "
        f"(the folder that a command is started in; {' and '.join(variables)} name other places)"
    )
