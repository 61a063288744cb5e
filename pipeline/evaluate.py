"""`evaluate(scorer, split) → Report`: how the lists and the scores fare on what was held out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics import errors, ndcg_at_k, observed_predictions, recall_at_k
from pipeline.report import Report
from pipeline.scorer import Scorer
from pipeline.spec import Transform
from pipeline.splits import Split

__all__ = ["evaluate_ranking", "evaluate_ratings"]

_USERS_A_BLOCK = 4096


def evaluate_ranking(scorer: Scorer, split: Split, k: int = 10, prefix: str = "holdout_") -> Report:
    """NDCG and recall at k: all items ranked, training items left out.

    Relevant is every held-out interaction. Recall divides by all of them and the ideal of NDCG by
    min(k, n), so an item that training has not seen counts as missed. Averaged over the users who
    have a held-out interaction and are known to the model.
    """
    test = split.test
    user_rows = scorer.users.rows(test.user_ids.values, missing="negative")
    item_cols = scorer.items.rows(test.item_ids.values, missing="negative").astype(np.int64)
    n_items = len(scorer.items)
    known = user_rows[test.users] >= 0
    rows = user_rows[test.users[known]]
    n_relevant = np.bincount(rows, minlength=len(scorer.users))
    users = np.flatnonzero(n_relevant)
    if not users.size:
        return Report(
            messages=(
                f"{prefix}ndcg_at_{k} and {prefix}recall_at_{k} left out: no known user has a held-out interaction",
            )
        )
    cols = item_cols[test.items[known]]
    # A pair as one number; unseen items never match a ranked one.
    relevant = np.unique((rows.astype(np.int64) * n_items + cols)[cols >= 0])
    ndcg: list[NDArray[np.float64]] = []
    recall: list[NDArray[np.float64]] = []
    for start in range(0, users.size, _USERS_A_BLOCK):
        block = users[start : start + _USERS_A_BLOCK]
        ranked = scorer.recommend_rows(block, k).items
        hits = np.isin(block[:, None] * n_items + ranked, relevant) & (ranked >= 0)
        ndcg.append(ndcg_at_k(hits, n_relevant[block]))
        recall.append(recall_at_k(hits, n_relevant[block]))
    return Report(
        {
            f"{prefix}ndcg_at_{k}": float(np.concatenate(ndcg).mean()),
            f"{prefix}recall_at_{k}": float(np.concatenate(recall).mean()),
        }
    )


def evaluate_ratings(scorer: Scorer, split: Split, transform: Transform = "none", prefix: str = "holdout_") -> Report:
    """RMSE and MAE on held-out scores whose user and item were in training.

    Predictions are clipped to the range of the training scores, and mapped back to their scale
    where the matrix held log(1 + score).
    """
    left_out = f"{prefix}rmse and {prefix}mae left out: "
    if transform == "binary":
        return Report(messages=(left_out + "a binary matrix holds no scores to predict",))
    test = split.test
    rows = scorer.users.rows(test.user_ids.values, missing="negative")[test.users]
    cols = scorer.items.rows(test.item_ids.values, missing="negative")[test.items]
    known = (rows >= 0) & (cols >= 0)
    if not known.any():
        return Report(messages=(left_out + "no held-out interaction has its user and its item in training",))
    predicted = observed_predictions(rows[known], cols[known], scorer.model.user_factors, scorer.model.item_factors)
    if transform == "log1p":
        predicted = np.expm1(predicted)
    predicted = np.clip(predicted, split.train.scores.min(), split.train.scores.max())
    found = errors(test.scores[known], predicted)
    return Report({f"{prefix}rmse": found.rmse, f"{prefix}mae": found.mae})
