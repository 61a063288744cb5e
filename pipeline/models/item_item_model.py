"""`ItemItemModel`: scores items by their similarity to a user's history; saved, loaded and verified.

    score(u, i) = Σ_{j in u's history} x_uj · s_ji

A score is computed in float64 in a fixed order and rounded once, so it does not depend on the block size. The weights
s_ji are stored in one of three forms (`pipeline.models.similarity`), each with files of its own
(`model_files.ITEM_ITEM_FORMS`), besides those of every saved model. A user's history is the user's seen items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.errors import ArtifactError, UsageError
from pipeline.models import safe_files
from pipeline.models.block_scores import pairs_by_user
from pipeline.models.item_snapshot import ItemTexts
from pipeline.models.model_files import ITEM_ITEM_FORMS, METADATA, Form, Kind, ModelFolder, release
from pipeline.models.model_writer import Write, array_writer, sparse_writer, write_model
from pipeline.models.pattern import read_pattern
from pipeline.models.similarity import DenseWeights, DualWeights, Neighbours, Similarity

__all__ = ["ItemItemModel", "Weights"]

BLOCK_BYTES = 64 * 2**20  # bytes of a block of dense float64 scores
(NEIGHBOURS,), (WEIGHTS,), (KERNEL, LEVERAGE) = (ITEM_ITEM_FORMS[form] for form in ("neighbours", "dense", "dual"))
_MEMBERS = ("indptr.npy", "indices.npy", "shape.npy", "values.npy")

Weights = Literal["seen", "score"]


@dataclass(frozen=True, eq=False)
class ItemItemModel:
    """Attributes
    ----------
    similarity : csr (n_items, n_items) float32, whose row j has item j's neighbours in ascending order, each once; or
        the weights in another form
    users, items : ids of the rows and columns of `seen`
    seen : csr (n_users, n_items); a stored cell is a seen item, whatever its value; of float32 the values are scores
    weights : the weight of an item in a user's history: 1 (``seen``), or its score
    meta : JSON-able facts (parameters, metrics, run), written to metadata.json
    """

    kind: ClassVar[Kind] = "item_item"

    similarity: sparse.csr_matrix | Similarity
    users: IdMap
    items: IdMap
    seen: sparse.csr_matrix
    weights: Weights = "seen"
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n_items, shape = self._similarity.n_items, (len(self.users), len(self.items))
        if n_items != shape[1] or self.seen.shape != shape:
            raise ArtifactError(f"Similarities of {n_items} items, seen for {self.seen.shape}, ids for {shape}")
        if self.weights not in ("seen", "score"):
            raise ArtifactError(f"An item of a history counts 1 or its score, not {self.weights!r:.60}")
        if isinstance(self.similarity, DualWeights) and self.weights != "score":
            raise ArtifactError("Weights that follow from the scores are for a history that counts by its scores")
        if self.weights == "score" and self.seen.dtype != np.float32:
            raise ArtifactError("The history counts by its scores, and there are none")

    @cached_property
    def _similarity(self) -> Similarity:
        return Neighbours(self.similarity) if sparse.issparse(self.similarity) else self.similarity

    def with_users(self, users: IdMap, seen: sparse.csr_matrix) -> ItemItemModel:
        """The same items and weights for other users with these histories: fold-in."""
        # The weights are neither checked nor converted again: a service does this for each user.
        return replace(self, similarity=self._similarity, users=users, seen=seen)

    def _trained(self, rows: NDArray[np.intp]) -> NDArray[np.intp] | None:
        """The rows in the fit; None for users who were folded in."""
        of_fit = isinstance(self.similarity, DualWeights) and self.similarity.cells is self.seen
        return rows if of_fit else None

    def history(self, rows: NDArray[np.intp]) -> sparse.csr_matrix:
        """Weight of each item in each user's history, csr (n, n_items) float64."""
        indptr, indices = self.seen.indptr, self.seen.indices
        n = indptr[rows + 1] - indptr[rows]
        ends = np.append(0, np.cumsum(n))
        # Not `seen[rows]`: scipy would copy the whole matrix, mapped or not, to give its indices one type.
        cells = np.repeat(indptr[rows] - ends[:-1], n) + np.arange(ends[-1])
        data = np.ones(cells.size) if self.weights == "seen" else self.seen.data[cells].astype(np.float64)
        return sparse.csr_matrix((data, indices[cells], ends), shape=(rows.size, len(self.items)))

    def scores(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Scores of all items for the users in `rows`, (n, n_items)."""
        return self._similarity.scores(self.history(rows), self._trained(rows))

    def parts(self, user_row: int, item_row: int) -> NDArray[np.float64]:
        """The part of each of the user's items in the score, (n_seen,), in the order of `seen`.

        The score is their sum in this order, rounded once to float32.
        """
        rows = np.array([user_row])
        return self._similarity.parts(self.history(rows), item_row, self._trained(rows))

    @property
    def users_a_block(self) -> int:
        """Number of users whose scores are held at the same time."""
        return max(1, BLOCK_BYTES // (8 * max(1, len(self.items))))

    def predict(self, user_rows: ArrayLike, item_rows: ArrayLike) -> NDArray[np.float32]:
        """Score of each pair (user_rows[i], item_rows[i]), (n,) float32. Raises RowRangeError."""
        shape = (len(self.users), len(self.items))
        return pairs_by_user(user_rows, item_rows, shape, self.users_a_block, self.scores)

    def save(self, folder: str | Path, texts: ItemTexts | None = None) -> Path:
        """Write the model into `folder` (made if missing); `texts` are titles and genres, if known."""
        files: dict[str, Write] = {}
        facts: dict[str, Any] = {"weights": self.weights}
        form = self._similarity
        if isinstance(form, Neighbours):
            files = {NEIGHBOURS: sparse_writer(form.matrix, values=np.ascontiguousarray(form.matrix.data))}
        elif isinstance(form, DenseWeights):
            files = {WEIGHTS: array_writer(form.matrix)}
        elif isinstance(form, DualWeights):
            if form.cells is not self.seen:
                raise UsageError("A model whose weights follow from its users is saved with them, not with other users")
            files = {KERNEL: array_writer(form.kernel), LEVERAGE: array_writer(form.leverage)}
            facts["regularization"] = form.regularization
        return write_model(self, folder, files, facts, texts)

    @classmethod
    def load(cls, folder: str | Path, *, mapped: bool = False) -> ItemItemModel:
        """Read and verify the files; `mapped=True` leaves the seen items on disk.

        Raises ArtifactError, which names the file and the fault; also for a model of another kind.
        """
        return cls.read(ModelFolder(folder), mapped=mapped)

    @classmethod
    def read(cls, source: ModelFolder, *, mapped: bool = False) -> ItemItemModel:
        """As `load`, from a folder whose metadata has been read. Raises ArtifactError."""
        source.expect(cls.kind)
        seen = source.seen(mapped=mapped)
        similarity = _read_similarity(source, seen, mapped)
        source.check_items()
        weights = source.metadata.get("weights")
        with source.named():
            model = cls(similarity, source.users, source.items, seen, weights, source.meta)  # type: ignore[arg-type]
        if mapped:
            model.release()
        return model

    def release(self) -> None:
        """Free the memory of mapped pages that were read; they are read again if needed."""
        release(self.seen.indices, self.seen.data)
        self._similarity.release()


def _read_similarity(source: ModelFolder, seen: sparse.csr_matrix, mapped: bool) -> sparse.csr_matrix | Similarity:
    (m, n), form = source.shape, _form_of(source)
    if form == "neighbours":
        with source.verified(NEIGHBOURS, 8 * (n + 1) + 8 * n * n) as file:
            return _read_neighbours(file, n)
    if form == "dense":
        matrix = source.array(WEIGHTS, "<f4", (n, n), mapped=mapped)
        with source.named():
            return DenseWeights(matrix)
    kernel = source.array(KERNEL, "<f8", (m, m), mapped=mapped)
    leverage = source.array(LEVERAGE, "<f8", (n,))
    with source.named():
        return DualWeights(kernel, leverage, source.metadata.get("regularization"), seen)


def _form_of(source: ModelFolder) -> Form:
    """The form whose files the metadata lists. Raises ArtifactError."""
    listed = source.metadata["files"]
    forms: list[Form] = [form for form, names in ITEM_ITEM_FORMS.items() if any(name in listed for name in names)]
    if len(forms) != 1:
        known = "; ".join(", ".join(names) for names in ITEM_ITEM_FORMS.values())
        raise ArtifactError(f"{source.folder / METADATA} must list one of these for kind item_item: {known}")
    return forms[0]


def _read_neighbours(file: BufferedReader, n: int) -> sparse.csr_matrix:
    parts = safe_files.members(file, _MEMBERS)
    shape = tuple(safe_files.read_array(file, parts["shape.npy"], "<i8", 1).tolist())
    if shape != (n, n):
        raise ArtifactError(f"it is for {str(shape)[:60]}, the ids for {(n, n)}")
    indptr, indices = read_pattern(file, parts, (n, n))
    values = safe_files.read_array(file, parts["values.npy"], "<f4", 1)
    if values.size != indices.size:
        raise ArtifactError(f"it has {values.size} values for {indices.size} neighbours")
    # Indices must ascend within a row; from the last of a row to the first of the next they may fall.
    step = np.diff(indices.astype(np.int64))
    step[indptr[(indptr > 0) & (indptr < indices.size)] - 1] = 1
    if (step <= 0).any():
        raise ArtifactError("an item's neighbours must be in ascending order, each once")
    return sparse.csr_matrix((values, indices, indptr), shape=(n, n))
