"""What is asked of a fitted model: `Model` to rank with it, `SavedModel` to save it, too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.models.item_snapshot import ItemTexts
from pipeline.models.model_files import Kind

__all__ = ["Model", "SavedModel"]


class Model(Protocol):
    """What ranking needs of a model: ids, seen items, and scores of pairs."""

    @property
    def users(self) -> IdMap:
        """Ids of the users that can be ranked for."""

    @property
    def items(self) -> IdMap:
        """Ids of the items that can be recommended."""

    @property
    def seen(self) -> sparse.csr_matrix:
        """csr (n_users, n_items): a stored cell is a seen item, whatever its value; of float32 the values are scores.

        A score is the cell of V, after the transform.
        """

    def predict(self, user_rows: ArrayLike, item_rows: ArrayLike) -> NDArray[np.float32]:
        """Score of each pair (user_rows[i], item_rows[i]), (n,). Raises RowRangeError."""


class SavedModel(Model, Protocol):
    """A fitted model that is saved and loaded: `FactorModel`, `ItemItemModel`, `EnsembleModel`, …"""

    @property
    def kind(self) -> Kind:
        """How the model scores; `Scorer` and `load_saved_model` choose by it."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """JSON-able facts: ``model`` (its name in the registry of models), run_id, parameters, metrics, …"""

    def save(self, folder: str | Path, texts: ItemTexts | None = None) -> Path:
        """Write the model into `folder` (made if missing); `texts` are titles and genres, if known."""

    def release(self) -> None:
        """Free the memory of mapped pages that were read; they are read again if needed."""
