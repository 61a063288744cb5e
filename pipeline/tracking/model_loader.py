"""The entry point of a registered model (MLflow's "models from code"). It loads the code logged with the model.

MLflow copies this file into the model and runs it there. It must not import the package `pipeline`, since the
process may have another version of it or another package of that name.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

__all__ = ["LoadedRecommender", "load_package"]


class LoadedRecommender(PythonModel):
    """Wraps the `Recommender` of the code in the artifact `code`, for the saved model in the artifact `model`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the code, then the saved model with it."""
        package = load_package(Path(context.artifacts["code"]))
        self._recommender = importlib.import_module(f"{package.__name__}.tracking.pyfunc").Recommender()
        self._recommender.load_context(context)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """A row for each user and rank: user_id, rank (from 1), item_id, score, source."""
        ranked: pd.DataFrame = self._recommender.predict(context, model_input, params)
        return ranked


def load_package(folder: Path) -> ModuleType:
    """Import the package in a folder under a name made from a digest of its content, so that versions don't clash."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode() + path.read_bytes())
    name = f"rankline_model_{digest.hexdigest()[:16]}"
    if (loaded := sys.modules.get(name)) is not None and Path(str(loaded.__file__)).is_file():
        return loaded
    # Its folder was a download that has been deleted, and with it the modules that were not imported yet.
    for stale in [key for key in sys.modules if key.partition(".")[0] == name]:
        del sys.modules[stale]
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} holds no package")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


mlflow.models.set_model(LoadedRecommender())
