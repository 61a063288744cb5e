"""`load_saved_model`: the model of a folder, whatever its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pipeline.models.ensemble_model import EnsembleModel
from pipeline.models.factor_model import FactorModel
from pipeline.models.item_item_model import ItemItemModel
from pipeline.models.item_snapshot import ItemSnapshot, ItemTexts
from pipeline.models.model_files import DEFAULT_NAMES, ModelFolder
from pipeline.models.neural_model import NeuralModel
from pipeline.models.popularity_model import PopularityModel
from pipeline.models.protocols import SavedModel
from pipeline.models.rerank_model import RerankModel

__all__ = ["ItemTexts", "SavedModel", "load_item_snapshot", "load_saved_model", "model_name", "with_meta"]


def load_saved_model(folder: str | Path | ModelFolder, *, mapped: bool = False) -> SavedModel:
    """The model in the folder, verified, of the kind that its ``metadata.json`` names.

    Where there are signing keys (`pipeline.models.signatures`), a model that is not signed with one is refused.

    `mapped=True` leaves the arrays that grow with the users on disk, so that a walk over all users in blocks needs the
    memory of one block. Raises ArtifactError, which names the file and the fault.
    """
    source = folder if isinstance(folder, ModelFolder) else ModelFolder(folder)
    if source.kind == "item_item":
        return ItemItemModel.read(source, mapped=mapped)
    if source.kind == "popularity":
        return PopularityModel.read(source, mapped=mapped)
    if source.kind == "neural":
        return NeuralModel.read(source, mapped=mapped)
    if source.kind == "ensemble":
        return EnsembleModel.read(source, load_saved_model, mapped=mapped)
    if source.kind == "rerank":
        return RerankModel.read(source, load_saved_model, mapped=mapped)
    return FactorModel.read(source, mapped=mapped)


def load_item_snapshot(folder: str | Path) -> ItemSnapshot | None:
    """The items with titles, genres and popularity; None for a model saved before format 2. Raises ArtifactError."""
    return ModelFolder(folder).snapshot()


def model_name(model: SavedModel) -> str:
    """The model's name in the registry of models, which is the `source` of its rows: ``nmf``, ``item-knn``."""
    return str(model.meta.get("model") or DEFAULT_NAMES[model.kind])


M = TypeVar("M", bound=SavedModel)


def with_meta(model: M, meta: Mapping[str, Any]) -> M:
    """A copy of the model with other facts; every saved model is a dataclass."""
    return replace(model, meta=meta)  # type: ignore[type-var]  # a protocol can't say that it is a dataclass
