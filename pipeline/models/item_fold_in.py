"""Folding items in: the factors of items the model was not fitted to, from the scores of its users.

It is the items' half of the fit with the users' factors W held fixed: what a half-step for H solves, one column at a
time. For the objective of `pipeline.models.objective` and an item i, with D = diag(c_ui − w₀) over its cells,

    minimise over h       ½ h·A·h − b·h        A = w₀·WᵀW + Wᵀ·D·W + λ_i(1 − ρ)·I        b = Σ_u c·x·w_u − λ_i·ρ

which is the problem of a user's row with the sides exchanged, and is solved by the same code, `pipeline.models.fold_in`
(for iALS it is Hu, Koren & Volinsky 2008, eq. 5). For `svd`, with y = σ·[q_i, b_i],

    minimise over y       Σ_u (r − μ − σ·b_u − y·[p_u, 1])² + λ·n_i^ν·‖y‖²

Nothing else moves: users keep their rows, so a list changes only where a folded item enters it. That an item is not
among a user's says nothing while nearly nobody could choose it; folding *users* in therefore leaves these items out of
H·Hᵀ (`fold_in.way.ItemRows`), as it does cold ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.id_map import IdMap, distinct
from pipeline.data.matrix import UserItems
from pipeline.errors import BadRowsError, InputError, UsageError
from pipeline.kernels import available
from pipeline.kernels.arguments import CsrRows
from pipeline.models.factor_model import FactorModel
from pipeline.models.fold_in import objective_of, transformed
from pipeline.models.fold_in.non_negative import NonNegative
from pipeline.models.fold_in.rating import KEY, Rating, RatingTerms
from pipeline.models.fold_in.ridge import Ridge
from pipeline.models.fold_in.way import COLD, FOLDED, Way, folded_rows

__all__ = ["fold_in_items", "widened", "with_items"]


def with_items(model: FactorModel, new: UserItems, *, compiled: bool | None = None) -> FactorModel:
    """The model with the items of `new` folded in; those that it does not have become columns of their own.

    The item's cells are those that the model has of it, and those of `new`, which count where both have one.

    Parameters
    ----------
    new : scores as they were before the fit's transform. Users whom the model does not have are left out.
    compiled : use compiled kernels; None: if numba is installed

    Raises
    ------
    UsageError
        For a model whose items are not learned row by row (`elsa`, `bpmf`).
    BadRowsError, InputError
        For scores that are not finite and ≥ 0, and for ids of the other kind.
    """
    scores = new.scores.data
    bad = int(np.count_nonzero(~(np.isfinite(scores) & (scores >= 0))))
    if bad:
        raise BadRowsError(f"{bad} score(s) are not finite and ≥ 0")
    if model.seen.dtype != np.float32:
        raise UsageError("A model that was saved without scores can't fold items in: train it again")
    wide = widened(model, new.items)
    cols = wide.items.rows(new.items.values).astype(np.int64)
    rows = wide.users.rows(wide.users.same_kind(new.users.values), missing="negative")
    cells = new.scores.tocoo()
    kept = rows[cells.row] >= 0
    values = transformed(np.asarray(cells.data[kept], np.float32), model.meta)
    seen = _replaced(wide.seen, rows[cells.row[kept]], cols[cells.col[kept]], values)
    of_items = seen.tocsc()[:, cols].T.tocsr()
    of_items.sort_indices()
    factors = wide.item_factors.copy()
    factors[:, cols] = fold_in_items(wide, of_items, compiled=compiled)
    folded = distinct(folded_rows(wide.meta, len(wide.items)), cols[_is_new(wide, cols, model)])
    meta = {**wide.meta, FOLDED: folded.tolist()}
    return replace(wide, item_factors=factors, seen=seen, meta=meta)


def fold_in_items(
    model: FactorModel, cells: sparse.csr_matrix, n_threads: int | None = None, *, compiled: bool | None = None
) -> NDArray[np.float32]:
    """Factors (k, n) of n items, each from its own cells alone, with the model's users as they are.

    Parameters
    ----------
    cells : csr (n, n_users) float32, columns ascending; scores after the fit's transform, as `model.seen` has them

    Raises
    ------
    UsageError
        For a model whose items are not learned row by row (`elsa`, `bpmf`).
    InputError
        If the cells are for another number of users, or so large that a factor overflows float32.
    """
    if cells.shape[1] != len(model.users):
        raise InputError(f"Cells of {cells.shape[1]} users for a model of {len(model.users)}")
    name = model.meta.get("fold_in") or "non_negative"
    kernels = available() if compiled is None else compiled
    n = cells.shape[0]
    if not n or not model.n_components:
        return np.zeros((model.n_components, n), np.float32)
    rows = CsrRows.of(0, n, cells.indptr, cells.indices, np.asarray(cells.data, np.float32))
    if name == "rating":
        out = _rating(model, rows, kernels, n_threads)
    elif name in ("non_negative", "ridge"):
        out = _half_step(model, rows, name, kernels, n_threads)
    else:
        raise _impossible(model)
    if not (np.isfinite(out.min()) and np.isfinite(out.max())):
        raise InputError("Scores to fold in are too large for float32: scale them down")
    return np.ascontiguousarray(out.T)


def _half_step(
    model: FactorModel, rows: CsrRows, name: str, kernels: bool, n_threads: int | None
) -> NDArray[np.float32]:
    """(n, k). The users take the place of the items: their factors, and the items' penalty."""
    objective = objective_of(model.meta)
    exchanged = replace(objective, alpha_W=objective.alpha_H, alpha_H=objective.alpha_W)
    order = np.arange(model.n_components)
    if objective.biases:  # of a user the last component is the bias and the one before it 1; of an item, the reverse
        order[-2:] = order[-1], order[-2]
    users = np.ascontiguousarray(model.user_factors[:, order].T)
    way: Way = (NonNegative if name == "non_negative" else Ridge)(users, {"objective": exchanged.as_json()}, kernels)
    return way.solve(rows, n_threads)[:, order]


def _rating(model: FactorModel, rows: CsrRows, kernels: bool, n_threads: int | None) -> NDArray[np.float32]:
    """(n, k). See `pipeline.models.biased_mf.item_rows` for the units: H = [σq, σ, μ + σb_i], W = [p, b_u, 1]."""
    terms = RatingTerms.of_meta(model.meta, model.n_components)
    if terms.blocks != 1:
        raise _impossible(model)
    mean = float(model.seen.data.mean(dtype=np.float64))
    spread = float(model.seen.data.std(dtype=np.float64)) or 1.0
    users = np.ascontiguousarray(model.user_factors.T)
    bias = users[-2].astype(np.float64)
    users[-2], users[-1] = 1, mean + spread * bias
    of_items = RatingTerms(1, terms.strength / spread**2, terms.exponent)
    solved = Rating(users, {KEY: of_items.as_meta()[KEY]}, kernels).solve(rows, n_threads)
    solved[:, -1] = mean + solved[:, -2].astype(np.float64)
    solved[:, -2] = spread
    return solved


def _impossible(model: FactorModel) -> UsageError:
    name = model.meta.get("model") or model.meta.get("fold_in")
    return UsageError(f"A model of {name} learns no item by itself: new items are in it after the next training")


# ---- columns -------------------------------------------------------------------------------------


def widened(model: FactorModel, more: IdMap) -> FactorModel:
    """The model with these items, too: new ones have factors 0 and were seen by nobody. The factors are a copy.

    Rows of items in its metadata move with the items. Raises InputError for ids of the other kind.
    """
    items = IdMap(distinct(model.items.values, model.items.same_kind(more.values)))
    col = items.rows(model.items.values)
    factors = np.zeros((model.n_components, len(items)), np.float32)
    factors[:, col] = model.item_factors
    seen = model.seen
    cells = sparse.csr_matrix((seen.data, col[seen.indices], seen.indptr), shape=(seen.shape[0], len(items)))
    cells.has_canonical_format = True
    return replace(model, item_factors=factors, items=items, seen=cells, meta=_moved(model.meta, col))


def _moved(meta: Mapping[str, Any], col: NDArray[np.int32]) -> dict[str, Any]:
    moved = dict(meta)
    if isinstance(cold := meta.get(COLD), Mapping):
        rows = {name: col[cold[name]].tolist() for name in ("rows", "new_rows") if cold.get(name)}
        moved[COLD] = {**cold, **rows}
    if meta.get(FOLDED):
        moved[FOLDED] = col[meta[FOLDED]].tolist()
    return moved


def _is_new(wide: FactorModel, cols: NDArray[np.int64], model: FactorModel) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = model.items.rows(wide.items.ids(cols), missing="negative") < 0
    return known


def _replaced(
    seen: sparse.csr_matrix, rows: NDArray[Any], cols: NDArray[Any], values: NDArray[np.float32]
) -> sparse.csr_matrix:
    """`seen` with these cells; where it has one already, the new value counts."""
    before = seen.tocoo()
    shape = seen.shape
    keys = np.concatenate(
        [before.row.astype(np.int64) * shape[1] + before.col, rows.astype(np.int64) * shape[1] + cols]
    )
    data = np.concatenate([before.data, values])
    # The last of equal keys counts: the new ones stand after those that were there.
    keys, last = np.unique(keys[::-1], return_index=True)
    row, col = np.divmod(keys, shape[1])
    indptr = np.append(0, np.cumsum(np.bincount(row, minlength=shape[0])))
    cells = sparse.csr_matrix((data[::-1][last], col.astype(np.int32), indptr), shape=shape)
    cells.has_canonical_format = True
    return cells
