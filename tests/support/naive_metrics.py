"""The slow, obvious twins of the holdout and of what is measured on it: loops and dictionaries by external id."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping

import numpy as np

from pipeline.data.interactions import Interactions
from pipeline.models.factor_model import FactorModel
from support import naive


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


# ---- lists, one user at a time: `ranked` item ids best first, `relevant` a set of them ------------------


def precision(ranked, relevant, k):
    """Of k places."""
    return sum(item in relevant for item in ranked[:k]) / k


def hit_rate(ranked, relevant, k):
    return 1.0 if set(ranked[:k]) & set(relevant) else 0.0


def average_precision(ranked, relevant, k):
    """Mean precision at the hits, over the hits that k places allow."""
    total = 0.0
    for place in range(1, min(k, len(ranked)) + 1):
        if ranked[place - 1] in relevant:
            total += sum(item in relevant for item in ranked[:place]) / place
    return total / min(k, len(relevant))


def reciprocal_rank(ranked, relevant, k):
    for place, item in enumerate(ranked[:k], 1):
        if item in relevant:
            return 1 / place
    return 0.0


def novelty(ranked, popularity, n_users):
    """Mean bits; `popularity` maps an item to how many users have it."""
    return math.fsum(-math.log2(max(popularity[i], 1) / n_users) for i in ranked) / len(ranked) if ranked else None


def diversity(ranked, users_of):
    """1 − mean cosine over all pairs; `users_of` maps an item to the set of users who have it."""
    values = []
    for a in range(len(ranked)):
        for b in range(a + 1, len(ranked)):
            users_a, other = users_of[ranked[a]], users_of[ranked[b]]
            below = math.sqrt(len(users_a) * len(other))
            values.append(len(users_a & other) / below if below else 0.0)
    return 1 - math.fsum(values) / len(values) if values else None


def gini(times):
    """Half the mean absolute difference over the mean."""
    n, total = len(times), sum(times)
    return sum(abs(a - b) for a in times for b in times) / (2 * n * total) if total else None


def bands(popularity):
    """{item: head, mid or tail}; `popularity` maps items in row order to counts."""
    result, before, total = {}, 0, sum(popularity.values())
    for item in sorted(popularity, key=lambda i: (-popularity[i], list(popularity).index(i))):
        result[item] = "head" if 3 * before < total else "mid" if 3 * before < 2 * total else "tail"
        before += popularity[item]
    return result


def segments(n_train):
    """[cold, warm or hot], by the smallest values that a third and two thirds of the users do not pass."""
    ordered = sorted(n_train)
    low, high = (next(v for v in ordered if 3 * sum(o <= v for o in ordered) >= t * len(ordered)) for t in (1, 2))
    return ["cold" if n <= low else "warm" if n <= high else "hot" for n in n_train]


def evaluation(lists, train, test, ks, catalogue, n_users):
    """Every metric of every user and on average, by id: `lists` {user: ranked ids}, train and test pairs."""
    had, held_out = by_user(train), by_user(test)
    users_of = {item: {u for u, i in train if i == item} for item in catalogue}
    popularity = {item: len(users_of[item]) for item in catalogue}
    band = bands(popularity)
    users = sorted(lists)
    per_user = defaultdict(list)
    for user in users:
        relevant, ranked = held_out[user], lists[user]
        for k in ks:
            top = ranked[:k]
            metrics = {
                "precision": precision(top, relevant, k),
                "recall": naive.recall(top, relevant, k),
                "hit_rate": hit_rate(top, relevant, k),
                "ndcg": naive.ndcg(top, relevant, k),
                "map": average_precision(top, relevant, k),
                "mrr": reciprocal_rank(top, relevant, k),
                "novelty": novelty(top, popularity, n_users),
                "diversity": diversity(top, users_of),
                "popularity": sum(popularity[i] for i in top) / len(top) if top else None,
            }
            for name, value in metrics.items():
                per_user[f"{name}_at_{k}"].append(value)
            for name in ("head", "mid", "tail"):
                of_user = {i for i in relevant if band.get(i) == name}
                per_user[f"recall_at_{k}_{name}"].append(naive.recall(top, of_user, k) if of_user else None)
        of_user = had.get(user, set())
        per_user["consumed_popularity"].append(sum(popularity[i] for i in of_user) / len(of_user) if of_user else None)
    return dict(per_user)


def averages(per_user, lists, ks, catalogue, train, chosen):
    """The metrics of the users at the positions `chosen`."""
    users = [sorted(lists)[position] for position in chosen]
    popularity = {item: sum(i == item for _, i in train) for item in catalogue}
    band = bands(popularity)
    result = {"n_users": len(users)}
    for name, values in per_user.items():
        present = [values[p] for p in chosen if values[p] is not None]
        if present:
            result[name] = math.fsum(present) / len(present)
    for k in ks:
        listed = [item for user in users for item in lists[user][:k]]
        if not listed:
            continue
        times = [listed.count(item) for item in catalogue]
        result[f"coverage_at_{k}"] = len(set(listed)) / len(catalogue)
        result[f"gini_at_{k}"] = gini(times)
        for name in ("head", "mid", "tail"):
            result[f"share_at_{k}_{name}"] = sum(band[i] == name for i in listed) / len(listed)
        pairs = [(per_user[f"popularity_at_{k}"][p], per_user["consumed_popularity"][p]) for p in chosen]
        pairs = [(a, b) for a, b in pairs if a is not None and b is not None]
        if sum(b for _, b in pairs):
            result[f"popularity_lift_at_{k}"] = sum(a for a, _ in pairs) / sum(b for _, b in pairs)
    return result
