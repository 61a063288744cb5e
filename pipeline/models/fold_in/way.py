"""`Way`: how users' factors are computed from the item factors; and what several ways share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipeline.data.id_map import distinct
from pipeline.errors import ArtifactError
from pipeline.kernels import compiled
from pipeline.kernels.arguments import CsrRows
from pipeline.models.objective import Objective
from pipeline.runtime.threads import ThreadPool

__all__ = [
    "COLD",
    "FOLDED",
    "PIECE",
    "ItemRows",
    "ScoreParts",
    "Splitting",
    "Way",
    "cold_rows",
    "folded_rows",
    "in_pieces",
    "objective_of",
]

COLD = "cold_items"  # in metadata: what is known of predicted items, see `pipeline.models.cold_items`
FOLDED = "folded_items"  # in metadata: rows of items folded in after the fit, see `pipeline.models.item_fold_in`

# As in the fit (`pipeline.models.solvers.half_steps`): widths are a multiple of WIDTH, a piece of HHᵀ has so many
# multiply-adds.
WIDTH, PIECE = 16, 1_000_000
ROWS = 256  # rows in a piece of work


class Way(Protocol):
    """Made of item factors (k, n_items), metadata, and whether to use compiled kernels; raises ArtifactError.

    Several threads may use one at the same time.
    """

    def solve(self, cells: CsrRows, n_threads: int | None) -> NDArray[np.float32]:
        """Factors (n, k) of the n rows of `cells`, each from its own cells alone.

        cells : all rows of its arrays; columns ascending in a row, scores transformed, finite and ≥ 0
        """


class ScoreParts(NamedTuple):
    """A user's score of one item as a sum over the user's own items: `level` and `parts` add up to it.

    Attributes
    ----------
    parts : (n,) float64, what each of the user's items adds
    level : what the score is besides: the item's level in a model of ratings, what L1 takes away; mostly 0
    """

    parts: NDArray[np.float64]
    level: float


@runtime_checkable
class Splitting(Protocol):
    """A way whose scores are sums over the user's own items."""

    def split(self, cells: CsrRows, item: int) -> ScoreParts:
        """The score of `item` for the one row of `cells`, split by cell; exact up to rounding."""


def objective_of(meta: Mapping[str, Any]) -> Objective:
    """The objective of the model, from its metadata; older metadata has none: the plain objective.

    Raises ArtifactError.
    """
    if meta.get("objective") is not None:
        return Objective.from_json(meta["objective"])
    parameters = meta.get("parameters")
    asked = parameters if isinstance(parameters, Mapping) else {}
    named = {name: asked[name] for name in ("alpha_W", "l1_ratio") if asked.get(name) is not None}
    return Objective.from_json({**Objective().as_json(), **named})


def cold_rows(meta: Mapping[str, Any], n_items: int, which: Literal["rows", "new_rows"] = "rows") -> NDArray[np.int64]:
    """Rows of the items whose factors were predicted, or of those of them that nobody had; none in most models.

    Raises ArtifactError.
    """
    facts = meta.get(COLD)
    if facts is None:
        return np.zeros(0, np.int64)
    rows = facts.get(which) if isinstance(facts, Mapping) else None
    if not isinstance(rows, list) or not all(type(row) is int and 0 <= row < n_items for row in rows):
        raise ArtifactError(f"The model's {COLD} have no {which} among its {n_items} items")
    return np.array(rows, np.int64)


def folded_rows(meta: Mapping[str, Any], n_items: int) -> NDArray[np.int64]:
    """Rows of the items that were folded in after the fit; none in most models. Raises ArtifactError."""
    rows = meta.get(FOLDED, [])
    if not isinstance(rows, list) or not all(type(row) is int and 0 <= row < n_items for row in rows):
        raise ArtifactError(f"The model's {FOLDED} are not rows of its {n_items} items")
    return np.array(rows, np.int64)


class ItemRows:
    """H by item, and its Gram matrix, made at the first use.

    Nearly nobody could choose a cold item yet, or one that was folded in after the fit, so not having it says nothing
    of a user: the Gram matrix leaves these items out.

    item_factors : (k, n_items) float32
    meta : names these items
    kernels : whether the Gram matrix has the bits that the compiled fit gives it

    Raises ArtifactError.
    """

    def __init__(self, item_factors: NDArray[np.float32], meta: Mapping[str, Any], kernels: bool) -> None:
        self._h = item_factors
        self._kernels = kernels
        n = item_factors.shape[1]
        self._cold = distinct(cold_rows(meta, n), folded_rows(meta, n))
        self.n_known = item_factors.shape[1] - self._cold.size
        self._lock = threading.Lock()
        self._made: tuple[NDArray[np.float32], NDArray[np.float64]] | None = None

    def get(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Hᵀ (n_items, width), padded with zeros, and its Gram matrix (width, width)."""
        with self._lock:
            if self._made is None:
                k, n = self._h.shape
                rows = np.zeros((n, -(-k // WIDTH) * WIDTH), np.float32)
                rows[:, :k] = self._h.T
                known = np.delete(rows, self._cold, axis=0) if self._cold.size else rows
                self._made = rows, _gram(known) if self._kernels else _gram_in_numpy(known)
            return self._made


def in_pieces(piece: Callable[[int, int], None], n: int, n_threads: int | None) -> None:
    """Call piece(lo, hi) for the rows 0 … n − 1, some at a time."""
    pieces = -(-n // ROWS)
    if pieces == 1:
        piece(0, n)
    else:
        with ThreadPool(n_threads) as threads:
            threads.run(lambda i: piece(i * ROWS, min(n, (i + 1) * ROWS)), pieces)


def _gram(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """rowsᵀ·rows with the bits of the fit: the same pieces, added up in the same order."""
    n, width = rows.shape
    pieces = int(np.clip(n * width // PIECE, 1, 8))
    cuts = np.linspace(0, n, pieces + 1).astype(np.int64)
    grams, stored = np.zeros((pieces, width, width)), np.empty_like(rows)
    for i in range(pieces):
        compiled("half_step").keep_rows(cuts[i], cuts[i + 1], rows, stored, np.float32(1), grams[i])
    upper = np.triu(grams.sum(axis=0))
    out: NDArray[np.float64] = upper + np.triu(upper, 1).T
    return out


def _gram_in_numpy(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """rowsᵀ·rows in float64, a few rows at a time."""
    out = np.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, rows.shape[0], 65536):
        some = rows[start : start + 65536].astype(np.float64)
        out += some.T @ some
    return out
