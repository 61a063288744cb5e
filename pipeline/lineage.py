"""Where one score comes from: what each factor puts in, exactly, and how it ranks among the unseen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.artifact import FactorModel

__all__ = ["Factor", "contributions", "factors_of", "rank_of"]


@dataclass(frozen=True)
class Factor:
    """One factor's part in a score.

    Attributes
    ----------
    component : its row in H
    contribution : w_t·h_ti, in the score's units
    seen : item rows the user has seen with the largest h_tj, largest first
    loads : (n,) h_tj of these
    """

    component: int
    contribution: float
    seen: NDArray[np.int64]
    loads: NDArray[np.float32]


def contributions(model: FactorModel, user_row: int, item_row: int) -> NDArray[np.float64]:
    """w_t·h_ti, (k,) float64: added up in this order and rounded once to float32 they are the score."""
    w = model.user_factors[user_row].astype(np.float64)
    parts: NDArray[np.float64] = w * model.item_factors[:, item_row]
    return parts


def factors_of(model: FactorModel, user_row: int, item_row: int, n_factors: int = 3, n_seen: int = 3) -> list[Factor]:
    """The factors that put in most, by size, each with what the user has seen that loads most on it."""
    parts = contributions(model, user_row, item_row)
    mine = np.asarray(model.seen.indices[model.seen.indptr[user_row] : model.seen.indptr[user_row + 1]], np.int64)
    found = []
    for t in np.argsort(-np.abs(parts), kind="stable")[:n_factors].tolist():
        loads = model.item_factors[t, mine]
        order = np.lexsort((mine, -loads))[:n_seen]
        order = order[loads[order] > 0]
        found.append(Factor(t, float(parts[t]), mine[order], loads[order]))
    return found


def rank_of(model: FactorModel, user_row: int, item_row: int) -> tuple[int | None, int]:
    """The item's place among the items that the artifact has as unseen (None for a seen one), and their number."""
    scores = model.predict(np.full(len(model.items), user_row), np.arange(len(model.items)))
    unseen = np.ones(len(model.items), bool)
    unseen[model.seen.indices[model.seen.indptr[user_row] : model.seen.indptr[user_row + 1]]] = False
    if not unseen[item_row]:
        return None, int(unseen.sum())
    ahead = (scores > scores[item_row]) | ((scores == scores[item_row]) & (np.arange(scores.size) < item_row))
    return 1 + int((ahead & unseen).sum()), int(unseen.sum())
