"""Makes the sparse user × item matrix from prepared interactions, with transform and half-life."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.data.interactions import Interactions
from pipeline.data.mapped import empty_beside, ends_of, parts, release
from pipeline.data.prepare import PreparedInteractions, require_enough
from pipeline.errors import InputError, UsageError

if TYPE_CHECKING:  # the code that travels with a registered model needs no list of options
    from pipeline.options import Transform

__all__ = [
    "UserItems",
    "cell_values",
    "days_before",
    "stored_cells",
    "to_matrix",
]

TRANSFORMS = ("none", "log1p", "binary")

_DAY = 86_400_000  # milliseconds


@dataclass(frozen=True, eq=False)
class UserItems:
    """The matrix V with the ids of its rows and columns.

    Attributes
    ----------
    scores : csr (n_users, n_items) float32, canonical. A stored zero is an interaction whose score
        is zero: it counts as seen.
    users, items : ids of the rows and of the columns
    """

    scores: sparse.csr_matrix
    users: IdMap
    items: IdMap

    def __post_init__(self) -> None:
        if self.scores.shape != (len(self.users), len(self.items)):
            raise InputError(f"A {self.scores.shape} matrix with {len(self.users)} user and {len(self.items)} item ids")

    @property
    def sparsity(self) -> float:
        """Share of cells without an interaction, 0–1."""
        cells = self.scores.shape[0] * self.scores.shape[1]
        return 1.0 - self.scores.nnz / cells if cells else 0.0


def stored_cells(
    indptr: NDArray[Any], indices: NDArray[Any], rows: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """The stored cells of some rows of a csr matrix, as positions in `rows` and columns.

    scipy's row indexing would copy all of a matrix whose indices are mapped from disk, for each block.
    """
    start = indptr[rows].astype(np.intp)
    count = indptr[rows + 1].astype(np.intp) - start
    row_of = np.repeat(np.arange(rows.size), count)
    position = np.arange(row_of.size) - np.repeat(np.cumsum(count) - count, count)
    return row_of, indices[np.repeat(start, count) + position]


def days_before(newest: np.datetime64, times: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """How long before `newest` each of these times (n,), in milliseconds, was: (n,) days."""
    return (newest - times).astype(np.int64) / _DAY


def cell_values(
    x: Interactions,
    transform: Transform = "none",
    half_life_days: float | None = None,
    newest: np.datetime64 | None = None,
) -> NDArray[np.float32]:
    """Cell value of each interaction, (n,): the transformed score, times ½^(age / half_life_days).

    ``log1p`` is log(1 + score); ``binary`` 1 for a score > 0 and 0 for 0. Ages are counted from `newest`
    (default: the newest of `x`); a newer interaction does not fade. Raises InputError for a half-life without times.
    """
    if transform not in TRANSFORMS:
        raise UsageError(f"Transform must be one of {TRANSFORMS}, got {transform!r}")
    if half_life_days is not None and len(x) and x.at is None:
        raise InputError(
            "--half-life-days needs times, and these interactions have none: leave it out, or name their column "
            "(--timestamp-column, or `at` in the query)"
        )
    if not len(x) or (transform == "none" and half_life_days is None):
        return x.scores
    out = empty_beside(x.scores, len(x))
    newest = ends_of(x.at)[1] if newest is None and half_life_days is not None and x.at is not None else newest
    for part in parts(len(x)):
        out[part] = _transformed(x.scores[part], transform)
        if half_life_days is not None and x.at is not None and newest is not None:
            age = days_before(newest, x.at[part])
            out[part] = out[part] * 0.5 ** (np.maximum(age, 0) / half_life_days)
            release(x.at)
        release(x.scores, out)
    return out


def _transformed(scores: NDArray[np.float32], transform: Transform) -> NDArray[np.float32]:
    if transform == "log1p":
        logarithms: NDArray[np.float32] = np.log1p(scores)
        return logarithms
    return (scores > 0).astype(np.float32) if transform == "binary" else scores


def to_matrix(
    x: PreparedInteractions, transform: Transform = "none", min_data: int = 0, half_life_days: float | None = None
) -> UserItems:
    """The CSR matrix of the interactions, with `cell_values` in it.

    A cell that is 0, or has faded to 0, still counts as seen. Raises TooLittleDataError for fewer than
    `min_data` interactions, and for none.
    """
    require_enough(x, max(min_data, 1))
    data = cell_values(x, transform, half_life_days)
    indptr = x.user_starts()
    # scipy and scikit-learn need one integer type for both index arrays.
    if indptr[-1] <= np.iinfo(np.int32).max:
        indptr = indptr.astype(np.int32)
        indices = x.items
    else:
        indices = x.items.astype(np.int64)
    shape = (len(x.user_ids), len(x.item_ids))
    scores = sparse.csr_matrix((data, indices, indptr), shape=shape, copy=False)
    scores.has_canonical_format = True
    return UserItems(scores, x.user_ids, x.item_ids)
