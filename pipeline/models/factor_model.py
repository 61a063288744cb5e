"""`FactorModel`: user and item factors with everything needed to rank; saved, loaded and verified.

Files: ``user_features.npy``, ``movie_features.npy``, ``seen.npz`` and ``metadata.json``, and besides these four
``scores.npy`` and ``items.npz`` (docs/artifacts.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.errors import ArtifactError
from pipeline.models.item_snapshot import ItemTexts
from pipeline.models.model_files import FORMAT, METADATA, OWN_FILES, SEEN, Kind, ModelFolder, load_ids, release
from pipeline.models.model_writer import array_writer, write_model
from pipeline.models.validation import check_pairs, check_rows

__all__ = ["FILES", "FORMAT", "METADATA", "FactorModel", "load_ids"]

USER_FACTORS, ITEM_FACTORS = OWN_FILES["factors"]
# The four files that a factor model has in every format.
FILES = (USER_FACTORS, ITEM_FACTORS, SEEN, METADATA)


@dataclass(frozen=True, eq=False)
class FactorModel:
    """V ≈ W·H with the ids of its rows and columns and the seen items of each user.

    Attributes
    ----------
    user_factors : (n_users, k) float32, W
    item_factors : (k, n_items) float32, H
    users, items : ids of W's rows and of H's columns
    seen : csr (n_users, n_items); a stored cell is a seen item, whatever its value; of float32 the values are scores
    meta : JSON-able facts (parameters, metrics, run), written to metadata.json
    """

    kind: ClassVar[Kind] = "factors"

    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]
    users: IdMap
    items: IdMap
    seen: sparse.csr_matrix
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        w, h = self.user_factors, self.item_factors
        if w.ndim != 2 or h.ndim != 2 or w.shape[1] != h.shape[0]:
            raise ArtifactError(f"Factors of shapes {w.shape} and {h.shape} can't be multiplied")
        if w.dtype != np.float32 or h.dtype != np.float32:
            raise ArtifactError(f"Factors must be float32, got {w.dtype} and {h.dtype}")
        # min and max pass NaN and infinity on, so no array of flags is needed.
        if any(a.size and not (np.isfinite(a.min()) and np.isfinite(a.max())) for a in (w, h)):
            raise ArtifactError("Factors must be finite")
        shape = (len(self.users), len(self.items))
        if (w.shape[0], h.shape[1]) != shape or self.seen.shape != shape:
            raise ArtifactError(
                f"Factors are for {(w.shape[0], h.shape[1])}, seen for {self.seen.shape}, ids for {shape}"
            )

    @property
    def n_components(self) -> int:
        """k, the number of latent factors."""
        return int(self.item_factors.shape[0])

    def predict(self, user_rows: ArrayLike, item_rows: ArrayLike) -> NDArray[np.float32]:
        """Score of each pair (user_rows[i], item_rows[i]), (n,) float32.

        A score is Σ_t w_ut·h_ti, added up in float64 in the order of t and rounded once. Every ranking uses this
        definition. Raises RowRangeError.
        """
        rows, cols = check_pairs(user_rows, item_rows, (len(self.users), len(self.items)))
        total = np.zeros(rows.size, np.float64)
        w, h = np.asarray(self.user_factors), np.asarray(self.item_factors)  # faster than mapped arrays
        for t in range(self.n_components):
            total += w[rows, t].astype(np.float64) * h[t, cols]
        with np.errstate(over="ignore"):
            return total.astype(np.float32)

    def scores_of(self, user_row: int) -> NDArray[np.float32]:
        """Scores of all items for one user, (n_items,) float32: the bits of `predict`, in a fraction of its time."""
        total = np.zeros(len(self.items), np.float64)
        factors = self.user_factors[user_row].astype(np.float64).tolist()
        for w, h in zip(factors, np.asarray(self.item_factors), strict=True):
            total += w * h.astype(np.float64)
        with np.errstate(over="ignore"):
            return total.astype(np.float32)

    def user_embeddings(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Factors of the users in `rows`, (n, k)."""
        return np.array(self.user_factors[check_rows(rows, "User", len(self.users))])

    def item_embeddings(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Factors of the items in `rows`, (n, k)."""
        return np.array(self.item_factors[:, check_rows(rows, "Item", len(self.items))].T)

    # ---- disk -------------------------------------------------------------------------------

    def save(self, folder: str | Path, texts: ItemTexts | None = None) -> Path:
        """Write the model into `folder` (made if missing): see `pipeline.models.model_writer`.

        texts : titles and genres of the items, if known
        """
        files = {USER_FACTORS: array_writer(self.user_factors), ITEM_FACTORS: array_writer(self.item_factors)}
        return write_model(self, folder, files, {"n_components": self.n_components}, texts)

    @classmethod
    def load(cls, folder: str | Path, *, mapped: bool = False) -> FactorModel:
        """Read and verify the files: format number, sha256s, shapes and types.

        `mapped=True` leaves the user factors and the seen items on disk (memory-mapped), so that
        a walk over all users in blocks needs the memory of one block.

        Raises
        ------
        ArtifactError
            Names the file and the fault. Raised too for a model of another kind.
        """
        return cls.read(ModelFolder(folder), mapped=mapped)

    @classmethod
    def read(cls, source: ModelFolder, *, mapped: bool = False) -> FactorModel:
        """As `load`, from a folder whose metadata has been read. Raises ArtifactError."""
        source.expect(cls.kind)
        (n_users, n_items), k = source.shape, source.metadata["n_components"]
        user_factors = source.array(USER_FACTORS, "<f4", (n_users, k), mapped=mapped)
        item_factors = source.array(ITEM_FACTORS, "<f4", (k, n_items))
        seen = source.seen(mapped=mapped)
        source.check_items()
        with source.named():
            model = cls(user_factors, item_factors, source.users, source.items, seen, source.meta)
        if mapped:
            model.release()
        return model

    def release(self) -> None:
        """Free the memory of mapped pages that were read; they are read again if needed."""
        release(self.user_factors, self.seen.indices, self.seen.data)
