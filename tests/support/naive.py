"""The slow, obvious twin of each fast routine. A twin is the specification: loops and dictionaries only."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pipeline.models.factor_model import FactorModel
from pipeline.models.objective import Objective

Row = tuple[Any, Any, float, Any]  # user id, item id, score, time or None


# ---- duplicates, order, matrix --------------------------------------------------------------------


def aggregate(rows: Iterable[Row], duplicates: str = "last") -> dict[tuple[Any, Any], float]:
    """One score a user and item, rounded to float32; rows without times are in order of position."""
    events: dict[tuple[Any, Any], list[tuple[Any, float]]] = {}
    for position, (user, item, score, at) in enumerate(rows):
        # With times: by time, of equal times the larger score last. Without: by position.
        key = position if at is None else (at, score)
        events.setdefault((user, item), []).append((key, float(np.float32(score))))
    result = {}
    for cell, found in events.items():
        scores = [score for _, score in sorted(found)]
        if duplicates == "last":
            value = scores[-1]
        elif duplicates == "max":
            value = max(scores)
        elif duplicates == "sum":
            value = math.fsum(scores)
        elif duplicates == "mean":
            value = math.fsum(scores) / len(scores)
        else:
            raise AssertionError(duplicates)
        result[cell] = float(np.float32(value))
    return result


def filter_users(
    cells: Mapping[tuple[Any, Any], float], least: int | None = None, most: int | None = None
) -> dict[tuple[Any, Any], float]:
    """Without the users who have fewer than `least` or more than `most` items."""
    count: dict[Any, int] = {}
    for user, _ in cells:
        count[user] = count.get(user, 0) + 1
    return {
        (user, item): score
        for (user, item), score in cells.items()
        if (least is None or count[user] >= least) and (most is None or count[user] <= most)
    }


def csr(cells: Mapping[tuple[Any, Any], float]) -> tuple[list[Any], list[Any], list[int], list[int], list[float]]:
    """User ids, item ids, indptr, indices, data of the matrix with these cells, ids in ascending order."""
    users = sorted({user for user, _ in cells})
    items = sorted({item for _, item in cells})
    indptr, indices, data = [0], [], []
    for user in users:
        for col, item in enumerate(items):
            if (user, item) in cells:
                indices.append(col)
                data.append(cells[user, item])
        indptr.append(len(indices))
    return users, items, indptr, indices, data


# ---- ranking --------------------------------------------------------------------------------------


def score(model: FactorModel, user_row: int, item_row: int) -> np.float32:
    """Σ_t w_t·h_t in Python's float64, in the order of t, rounded once."""
    total = 0.0
    for t in range(model.item_factors.shape[0]):
        total += float(model.user_factors[user_row, t]) * float(model.item_factors[t, item_row])
    with np.errstate(over="ignore"):
        return np.float32(total)


def seen_rows(model: FactorModel, user_row: int) -> set[int]:
    """Item rows that the user has an interaction with, whatever the stored value."""
    return set(model.seen.indices[model.seen.indptr[user_row] : model.seen.indptr[user_row + 1]].tolist())


def top_k(model: FactorModel, user_row: int, k: int, hidden: Collection[int] = ()) -> list[tuple[int, np.float32]]:
    """The k best (item row, score) that are not hidden, by score, ties by row."""
    left = set(range(len(model.items))) - set(hidden)
    ranked = sorted((-score(model, user_row, item), item) for item in left)
    return [(item, -negated) for negated, item in ranked[:k]]


def popular(model: FactorModel, k: int, hidden: Collection[int] = ()) -> list[tuple[int, int]]:
    """The k (item row, number of users who have seen it) with the most users, ties by row."""
    count = [0] * len(model.items)
    for row in range(len(model.users)):
        for item in seen_rows(model, row):
            count[item] += 1
    ranked = sorted((-count[item], item) for item in range(len(count)) if item not in hidden)
    return [(item, -negated) for negated, item in ranked[:k]]


# ---- folding in -----------------------------------------------------------------------------------


def user_objective(
    objective: Objective, H: ArrayLike, cells: Mapping[int, float], w: Sequence[float]
) -> tuple[float, list[float], list[float]]:
    """A user's half of the objective at w, its slope and its curvature: item by item as it is written down."""
    H = np.asarray(H, np.float64).tolist()
    k, n_items = len(H), len(H[0]) if H else 0
    value, slope, curvature = 0.0, [0.0] * k, [0.0] * k
    for item in range(n_items):
        weight, x = objective.unobserved_weight, 0.0
        if item in cells:
            x = float(np.float32(cells[item]))
            weight = objective.dislike_weight if x == 0 else 1 + objective.confidence * x
        error = sum(w[t] * H[t][item] for t in range(k)) - x
        value += 0.5 * weight * error**2
        for t in range(k):
            slope[t] += weight * error * H[t][item]
            curvature[t] += weight * H[t][item] ** 2
    n = len(cells)
    strength = objective.alpha_W * (n + objective.unobserved_weight * (n_items - n)) ** objective.reg_exponent
    for t in range(k):
        if objective.biases and t >= k - 2:
            if t == k - 1:
                value += 0.5 * strength * (w[t] - objective.bias_prior) ** 2
                slope[t] += strength * (w[t] - objective.bias_prior)
                curvature[t] += strength
            continue
        value += strength * (objective.l1_ratio * w[t] + 0.5 * (1 - objective.l1_ratio) * w[t] ** 2)
        slope[t] += strength * (objective.l1_ratio + (1 - objective.l1_ratio) * w[t])
        curvature[t] += strength * (1 - objective.l1_ratio)
    return value, slope, curvature


def fold_in(objective: Objective, H: ArrayLike, cells: Mapping[int, float], sweeps: int = 400) -> list[float]:
    """The w ≥ 0 with the least of it, one component after the other, from nothing."""
    k = len(np.asarray(H))
    w = [0.0] * k
    if objective.biases:
        w[-2:] = 1.0, objective.bias_prior
    for _ in range(sweeps):
        before = list(w)
        for t in range(k):
            _, slope, curvature = user_objective(objective, H, cells, w)
            if curvature[t] > 0 and not (objective.biases and t == k - 2):
                w[t] = max(0.0, w[t] - slope[t] / curvature[t])
        if max((abs(a - b) for a, b in zip(w, before, strict=True)), default=0.0) < 1e-12:
            break
    return w


# ---- metrics --------------------------------------------------------------------------------------


def errors(cells: Mapping[tuple[int, int], float], W: ArrayLike, H: ArrayLike) -> dict[str, float]:
    """All-cells and observed errors of V ≈ WH, densely; `cells` maps (row, column) to the score."""
    product = np.asarray(W, np.float64) @ np.asarray(H, np.float64)
    all_cells, observed = [], []
    for u in range(product.shape[0]):
        for i in range(product.shape[1]):
            difference = float(cells.get((u, i), 0.0)) - float(product[u, i])
            all_cells.append(difference)
            if (u, i) in cells:
                observed.append(difference)
    squares = math.fsum(d * d for d in all_cells)
    result = {
        "reconstruction_error": math.sqrt(squares),
        "rmse": math.sqrt(squares / len(all_cells)),
        "mae": math.fsum(map(abs, all_cells)) / len(all_cells),
        "sparsity": 1 - len(observed) / len(all_cells),
    }
    if observed:
        result["observed_rmse"] = math.sqrt(math.fsum(d * d for d in observed) / len(observed))
        result["observed_mae"] = math.fsum(map(abs, observed)) / len(observed)
    return result


def recall(ranked: Sequence[Any], relevant: Collection[Any], k: int = 10) -> float:
    """Share of the relevant items among the first k."""
    return sum(item in relevant for item in ranked[:k]) / len(relevant)


def ndcg(ranked: Sequence[Any], relevant: Collection[Any], k: int = 10) -> float:
    """Discounted gain of the first k over that of the best possible list; relevance is 0 or 1."""
    gain = sum(1 / math.log2(place + 2) for place, item in enumerate(ranked[:k]) if item in relevant)
    return gain / sum(1 / math.log2(place + 2) for place in range(min(k, len(relevant))))
