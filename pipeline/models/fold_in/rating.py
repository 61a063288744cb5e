"""Rows of a rating model: what a user's scores say beyond the items' levels.

The item factors are `blocks` blocks of d + 1 components: d features f_i of an item, then its level o_i. In each block

    x  minimises  Σ_obs (r − o_i − f_i·x)² + strength·n^exponent·‖x‖²        n: the user's cells

and the user's components of the block are x / blocks, then 1 / blocks: the score is the mean of o_i + f_i·x over the
blocks. `svd` has one block, `bpmf` one for each sample that it keeps. Each block is solved by itself: one regression on
all components would divide each score between the samples. The fits end with this, so a training user's row comes back
bit for bit (without numba, up to rounding).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtifactError
from pipeline.kernels import compiled
from pipeline.kernels.arguments import CsrRows, RatingRows, RowNoise
from pipeline.models.fold_in.way import ScoreParts, in_pieces

__all__ = ["Rating", "RatingTerms"]

KEY = "rating_terms"  # in metadata
_NO_NOISE = RowNoise(np.zeros((0, 0), np.float32), np.zeros(0, np.float32))


@dataclass(frozen=True)
class RatingTerms:
    """Attributes
    ----------
    blocks : how many blocks the components are in
    strength, exponent : of the penalty of a user with n cells: strength·n^exponent·‖x‖²
    """

    blocks: int
    strength: float
    exponent: float

    def as_meta(self) -> dict[str, Any]:
        """The entries of the model's metadata."""
        return {"fold_in": "rating", KEY: asdict(self)}

    @classmethod
    def of_meta(cls, meta: Mapping[str, Any], n_components: int) -> RatingTerms:
        """What `as_meta` gave, for a model of so many components. Raises ArtifactError."""
        values = meta.get(KEY)
        if not isinstance(values, Mapping) or set(values) != {"blocks", "strength", "exponent"}:
            raise ArtifactError(f"The model's {KEY} are none: {values!r:.200}")
        blocks, strength, exponent = values["blocks"], values["strength"], values["exponent"]
        if type(blocks) is not int or blocks < 1 or n_components % blocks or n_components // blocks < 2:
            raise ArtifactError(f"The model's {KEY} have blocks = {blocks!r:.50} for {n_components} components")
        # λ times the variance of the scores; a power of a number of cells.
        for name, value, least, most in (("strength", strength, 1e-60, 1e60), ("exponent", exponent, 0, 10)):
            if type(value) not in (int, float) or not least <= value <= most:
                raise ArtifactError(f"The model's {KEY} have {name} = {value!r:.50}")
        return cls(blocks, float(strength), float(exponent))


class Rating:
    """As `way.Way`."""

    def __init__(self, item_factors: NDArray[np.float32], meta: Mapping[str, Any], kernels: bool) -> None:
        self.terms = RatingTerms.of_meta(meta, item_factors.shape[0])
        self._h = item_factors
        self._kernels = kernels
        self._lock = threading.Lock()
        self._rows: NDArray[np.float32] | None = None

    def solve(self, cells: CsrRows, n_threads: int | None) -> NDArray[np.float32]:
        """As `way.Way.solve`."""
        ridge, share = self._ridge(cells), 1 / self.terms.blocks
        out = np.full((cells.hi, self._h.shape[0]), share, np.float32)
        for block in self._blocks():
            if self._kernels:
                self._solve_block(cells, block, ridge, n_threads, out)
            else:
                _in_numpy(cells, block, ridge, share, out)
        return out

    def split(self, cells: CsrRows, item: int) -> ScoreParts:
        """As `way.Splitting.split`: a cell's part is f·A⁻¹·f_j·(r_j − o_j), averaged over the blocks.

        The level is the item's, averaged as well.
        """
        ridge, blocks = self._ridge(cells)[0], self._blocks()
        total, levels = np.zeros(cells.indices.size), []
        for block in blocks:
            F, left = _features(block, cells.indices, cells.data)
            of_item = block.rows[item, block.first : block.first + block.width].astype(np.float64)
            total += F @ _solved(F.T @ F + ridge * np.eye(block.width), of_item) * left
            levels.append(block.rows[item, block.first + block.width])
        return ScoreParts(total / self.terms.blocks, float(np.mean(levels, dtype=np.float64)))

    def _ridge(self, cells: CsrRows) -> NDArray[np.float64]:
        # A user without cells has x = 0 whatever the penalty.
        counts: NDArray[np.int64] = np.maximum(np.diff(cells.indptr), 1)
        ridge: NDArray[np.float64] = self.terms.strength * counts.astype(np.float64) ** self.terms.exponent
        return ridge

    def _blocks(self) -> list[RatingRows]:
        rows, n_components = self._item_rows(), self._h.shape[0]
        each = n_components // self.terms.blocks
        return [RatingRows(rows, first, each - 1) for first in range(0, n_components, each)]

    def _item_rows(self) -> NDArray[np.float32]:
        with self._lock:
            if self._rows is None:
                self._rows = np.array(self._h.T, np.float32, order="C")
            return self._rows

    def _solve_block(
        self,
        cells: CsrRows,
        known: RatingRows,
        ridge: NDArray[np.float64],
        n_threads: int | None,
        out: NDArray[np.float32],
    ) -> None:
        kernel, share = compiled("rating_rows").solve_rows, 1 / self.terms.blocks
        in_pieces(
            lambda lo, hi: kernel(cells._replace(lo=lo, hi=hi), known, ridge, _NO_NOISE, share, out),
            cells.hi,
            n_threads,
        )


def _in_numpy(
    cells: CsrRows, known: RatingRows, ridge: NDArray[np.float64], share: float, out: NDArray[np.float32]
) -> None:
    first, end = known.first, known.first + known.width
    for u in range(cells.hi):
        own = slice(cells.indptr[u], cells.indptr[u + 1])
        F, left = _features(known, cells.indices[own], cells.data[own])
        if len(left) < known.width:  # the smaller system
            x = F.T @ _solved(F @ F.T + ridge[u] * np.eye(len(left)), left)
        else:
            x = _solved(F.T @ F + ridge[u] * np.eye(known.width), F.T @ left)
        out[u, first:end] = share * x


def _solved(A: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    try:
        x: NDArray[np.float64] = np.linalg.solve(A, b).astype(np.float64, copy=False)
    except np.linalg.LinAlgError:
        raise ArtifactError(f"The strength of the model's {KEY} is lost beside its item factors") from None
    return x


def _features(
    block: RatingRows, items: NDArray[np.int32], scores: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The features of these items (n, d), and what their levels leave of the scores (n,)."""
    rows = block.rows[items, block.first : block.first + block.width + 1].astype(np.float64)
    return rows[:, :-1], scores - rows[:, -1]
