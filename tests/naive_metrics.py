"""The slow, obvious twins of the holdout and of what is measured on it: loops and dictionaries by external id."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping

import naive
import numpy as np

from pipeline.artifact import FactorModel
from pipeline.interactions import Interactions


def pairs(x: Interactions) -> dict[tuple, float]:
    """{(user id, item id): score}, and that no pair comes twice."""
    users, items = x.user_ids.ids(x.users).tolist(), x.item_ids.ids(x.items).tolist()
    result = dict(zip(zip(users, items, strict=True), x.scores.tolist(), strict=True))
    assert len(result) == len(x)
    return result


def times(x: Interactions) -> dict[tuple, int]:
    """{(user id, item id): milliseconds}."""
    users, items = x.user_ids.ids(x.users).tolist(), x.item_ids.ids(x.items).tolist()
    return dict(zip(zip(users, items, strict=True), x.at.astype("int64").tolist(), strict=True))


def by_user(cells: Collection[tuple]) -> dict:
    """{user id: set of item ids}."""
    result = defaultdict(set)
    for user, item in cells:
        result[user].add(item)
    return dict(result)


def n_held_out(n: int, share: float) -> int:
    """How many of a user's n interactions are held out: the nearest whole number, and one stays."""
    return max(0, min(math.floor(share * n + 0.5), n - 1))


def ranking(model: FactorModel, train: Collection[tuple], test: Collection[tuple], k: int = 10, popular=False):
    """(NDCG, recall) over the users in training who have something held out, None where there are none."""
    in_training, held_out = by_user(train), by_user(test)
    users, items = model.users.values.tolist(), model.items.values.tolist()
    ndcg, recall = [], []
    for user, relevant in held_out.items():
        if user not in users:
            continue
        hidden = {items.index(item) for item in in_training.get(user, ()) if item in items}
        listed = naive.popular(model, k, hidden) if popular else naive.top_k(model, users.index(user), k, hidden)
        ids = [items[row] for row, _ in listed]
        ndcg.append(naive.ndcg(ids, relevant, k))
        recall.append(naive.recall(ids, relevant, k))
    return (math.fsum(ndcg) / len(ndcg), math.fsum(recall) / len(recall)) if ndcg else None


def ratings(model: FactorModel, train: Mapping[tuple, float], test: Mapping[tuple, float], log1p: bool = False):
    """(RMSE, MAE) over held-out pairs whose user and item are in training, None where there are none."""
    users, items = model.users.values.tolist(), model.items.values.tolist()
    low, high = min(train.values()), max(train.values())
    differences = []
    for (user, item), score in test.items():
        if user in users and item in items:
            w, h = model.user_factors[users.index(user)], model.item_factors[:, items.index(item)]
            value = math.fsum(float(a) * float(b) for a, b in zip(w, h, strict=True))
            value = math.expm1(value) if log1p else value
            differences.append(min(max(value, low), high) - score)
    if not differences:
        return None
    n = len(differences)
    return math.sqrt(math.fsum(d * d for d in differences) / n), math.fsum(map(abs, differences)) / n


def dense_loss(V: np.ndarray, W: np.ndarray, H: np.ndarray) -> float:
    """‖V − WH‖_F in float64, densely."""
    return float(np.linalg.norm(np.asarray(V, np.float64) - np.asarray(W, np.float64) @ np.asarray(H, np.float64)))
