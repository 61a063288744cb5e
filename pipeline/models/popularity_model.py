"""`PopularityModel`: one score per item, the same for all users; saved, loaded and verified.

Its files are ``item_scores.npy`` and those of every saved model (`pipeline.models.model_files`).
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
from pipeline.models.model_files import OWN_FILES, Kind, ModelFolder, release
from pipeline.models.model_writer import array_writer, write_model
from pipeline.models.validation import check_pairs

__all__ = ["PopularityModel"]

(ITEM_SCORES,) = OWN_FILES["popularity"]


@dataclass(frozen=True, eq=False)
class PopularityModel:
    """Attributes
    ----------
    item_scores : (n_items,) float32, finite: numbers of interactions, or weights of recent ones
    users, items : ids of the rows and columns of `seen`
    seen : csr (n_users, n_items); a stored cell is a seen item, whatever its value; of float32 the values are scores
    meta : JSON-able facts (parameters, metrics, run), written to metadata.json
    """

    kind: ClassVar[Kind] = "popularity"

    item_scores: NDArray[np.float32]
    users: IdMap
    items: IdMap
    seen: sparse.csr_matrix
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        scores, shape = self.item_scores, (len(self.users), len(self.items))
        if scores.dtype != np.float32 or scores.ndim != 1:
            raise ArtifactError(f"Item scores must be float32 of shape (n,), got {scores.dtype} of {scores.shape}")
        if scores.size and not (np.isfinite(scores.min()) and np.isfinite(scores.max())):
            raise ArtifactError("Item scores must be finite")
        if scores.size != shape[1] or self.seen.shape != shape:
            raise ArtifactError(f"Item scores are for {scores.size}, seen for {self.seen.shape}, ids for {shape}")

    def predict(self, user_rows: ArrayLike, item_rows: ArrayLike) -> NDArray[np.float32]:
        """Score of each pair (user_rows[i], item_rows[i]), (n,) float32. Raises RowRangeError."""
        _, cols = check_pairs(user_rows, item_rows, (len(self.users), len(self.items)))
        scores: NDArray[np.float32] = self.item_scores[cols]
        return scores

    def save(self, folder: str | Path, texts: ItemTexts | None = None) -> Path:
        """Write the model into `folder` (made if missing); `texts` are titles and genres, if known."""
        files = {ITEM_SCORES: array_writer(self.item_scores)}
        return write_model(self, folder, files, {}, texts)

    @classmethod
    def load(cls, folder: str | Path, *, mapped: bool = False) -> PopularityModel:
        """Read and verify the files; `mapped=True` leaves the seen items on disk.

        Raises ArtifactError, which names the file and the fault; also for a model of another kind.
        """
        return cls.read(ModelFolder(folder), mapped=mapped)

    @classmethod
    def read(cls, source: ModelFolder, *, mapped: bool = False) -> PopularityModel:
        """As `load`, from a folder whose metadata has been read. Raises ArtifactError."""
        source.expect(cls.kind)
        item_scores = source.array(ITEM_SCORES, "<f4", (source.shape[1],))
        seen = source.seen(mapped=mapped)
        source.check_items()
        with source.named():
            model = cls(item_scores, source.users, source.items, seen, source.meta)
        if mapped:
            model.release()
        return model

    def release(self) -> None:
        """Free the memory of mapped pages that were read; they are read again if needed."""
        release(self.seen.indices, self.seen.data)
