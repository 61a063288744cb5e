"""`NeuralModel`: a network that orders what a factor model proposes; saved, loaded and verified.

The factor model gives each user an embedding and `candidates` items; the network scores these (`neural_network`). So a
list needs no scores of all items, and a new user is folded in as the factor model folds them in. Its files are those of
a factor model and ``network.npz``, besides those of every saved model (`pipeline.models.model_files`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.errors import ArtifactError
from pipeline.models import safe_files
from pipeline.models.factor_model import FactorModel
from pipeline.models.item_snapshot import ItemTexts
from pipeline.models.model_files import METADATA, OWN_FILES, Kind, ModelFolder, release
from pipeline.models.model_writer import array_writer, write_model
from pipeline.models.neural_network import Network, weight_shapes
from pipeline.models.validation import check_pairs

__all__ = ["CANDIDATES", "NeuralModel"]

CANDIDATES = 500  # items that the factor model proposes for a list
USER_FACTORS, ITEM_FACTORS, NETWORK = OWN_FILES["neural"]
_PAIRS = 1 << 16  # pairs that are scored together
_MOST_LAYERS, _MOST_UNITS = 16, 1 << 14


@dataclass(frozen=True, eq=False)
class NeuralModel:
    """Attributes
    ----------
    user_factors, item_factors : W (n_users, k) and H (k, n_items) float32, of the factor model
    network : over the same items
    users, items : ids of W's rows and of H's columns
    seen : csr (n_users, n_items); a stored cell is a seen item, whatever its value; of float32 the values are scores
    candidates : items of the factor model that a list is made of; more where a longer list is asked for
    meta : JSON-able facts (parameters, metrics, run), written to metadata.json; they say how users are folded in
    """

    kind: ClassVar[Kind] = "neural"

    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]
    network: Network
    users: IdMap
    items: IdMap
    seen: sparse.csr_matrix
    candidates: int = CANDIDATES
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        FactorModel(self.user_factors, self.item_factors, self.users, self.items, self.seen)  # checks them
        network, (k, n_items) = self.network, self.item_factors.shape
        if (network.n_factors, network.n_items) != (k, n_items):
            raise ArtifactError(
                f"The network is for {network.n_factors} factors of {network.n_items} items, the factors for "
                f"{k} of {n_items}"
            )
        if self.candidates < 1:
            raise ArtifactError(f"A list needs a candidate at least, not {self.candidates}")

    def predict(self, user_rows: ArrayLike, item_rows: ArrayLike) -> NDArray[np.float32]:
        """Score of each pair (user_rows[i], item_rows[i]), (n,) float32, whether the item is a candidate or not.

        Raises RowRangeError.
        """
        rows, cols = check_pairs(user_rows, item_rows, (len(self.users), len(self.items)))
        out = np.empty(rows.size, np.float32)
        for first in range(0, rows.size, _PAIRS):
            part = slice(first, first + _PAIRS)
            users, of = np.unique(rows[part], return_inverse=True)
            out[part] = self.network.scores(np.asarray(self.user_factors[users]), of, cols[part])
        return out

    # ---- disk -------------------------------------------------------------------------------

    def save(self, folder: str | Path, texts: ItemTexts | None = None) -> Path:
        """Write the model into `folder` (made if missing); `texts` are titles and genres, if known."""
        weights = self.network.weights
        files = {
            USER_FACTORS: array_writer(self.user_factors),
            ITEM_FACTORS: array_writer(self.item_factors),
            NETWORK: lambda file: np.savez(file, allow_pickle=False, **weights),
        }
        facts = {
            "n_components": int(self.item_factors.shape[0]),
            "embedding": self.network.embedding,
            "layers": list(self.network.layers),
            "candidates": self.candidates,
        }
        return write_model(self, folder, files, facts, texts)

    @classmethod
    def load(cls, folder: str | Path, *, mapped: bool = False) -> NeuralModel:
        """Read and verify the files; `mapped=True` leaves the user factors and the seen items on disk.

        Raises ArtifactError, which names the file and the fault; also for a model of another kind.
        """
        return cls.read(ModelFolder(folder), mapped=mapped)

    @classmethod
    def read(cls, source: ModelFolder, *, mapped: bool = False) -> NeuralModel:
        """As `load`, from a folder whose metadata has been read. Raises ArtifactError."""
        source.expect(cls.kind)
        (n_users, n_items), k = source.shape, source.metadata["n_components"]
        user_factors = source.array(USER_FACTORS, "<f4", (n_users, k), mapped=mapped)
        item_factors = source.array(ITEM_FACTORS, "<f4", (k, n_items))
        with source.named():
            embedding, layers, candidates = _sizes(source.metadata)
        shapes = weight_shapes(k, n_items, embedding, layers)
        with source.verified(NETWORK, 4 * sum(map(prod, shapes.values())) + 1024 * len(shapes)) as file:
            parts = safe_files.members(file, tuple(f"{name}.npy" for name in shapes))
            weights = {
                name: safe_files.read_array(file, parts[f"{name}.npy"], "<f4", len(shape))
                for name, shape in shapes.items()
            }
            for name, shape in shapes.items():
                if weights[name].shape != shape:
                    raise ArtifactError(f"its {name} has shape {weights[name].shape}, and {METADATA} says {shape}")
            network = Network(weights, layers)
        seen = source.seen(mapped=mapped)
        source.check_items()
        with source.named():
            model = cls(user_factors, item_factors, network, source.users, source.items, seen, candidates, source.meta)
        if mapped:
            model.release()
        return model

    def release(self) -> None:
        """Free the memory of mapped pages that were read; they are read again if needed."""
        release(self.user_factors, self.seen.indices, self.seen.data)


def _sizes(metadata: Mapping[str, Any]) -> tuple[int, tuple[int, ...], int]:
    """Numbers in an embedding, units of the layers, candidates. Raises ArtifactError."""
    layers = metadata.get("layers")
    if not isinstance(layers, list) or not 1 <= len(layers) <= _MOST_LAYERS:
        raise ArtifactError(f"{METADATA} has layers = {layers!r:.60}, which are none")
    for name, value in (*(("layers", units) for units in layers), ("embedding", metadata.get("embedding"))):
        if type(value) is not int or not 1 <= value <= _MOST_UNITS:
            raise ArtifactError(f"{METADATA} has {name} with {value!r:.60}, which is no number of units")
    candidates = metadata.get("candidates")
    if type(candidates) is not int or candidates < 1:
        raise ArtifactError(f"{METADATA} has candidates = {candidates!r:.60}, which is no number of items")
    return metadata["embedding"], tuple(layers), candidates
