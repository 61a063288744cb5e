"""Made-up ratings to train on, and the names of the metrics of a training."""

from __future__ import annotations

import numpy as np

from pipeline.data.interactions import Interactions
from pipeline.options import TrainOptions

ALL_CELLS = {"reconstruction_error", "rmse", "mae"}


FITTED = ALL_CELLS | {"observed_rmse", "observed_mae", "sparsity", "n_iter"}


RATINGS = {"holdout/rmse", "holdout/mae"}


RANKING = {"holdout/ndcg_at_10", "holdout/recall_at_10"}


POPULAR = {"baseline/popular/ndcg_at_10", "baseline/popular/recall_at_10"}


BASELINES = ("popular", "recent", "item-knn")


ACCURACY = [f"{name}_at_10" for name in ("ndcg", "recall", "hit_rate", "map", "mrr", "precision")]


BANDS = ("head", "mid", "tail")


EVALUATED = {
    *(f"holdout/{name}" for name in ("n_users", "consumed_popularity", *ACCURACY)),
    *("ndcg_at_10", "recall_at_10", "interval/ndcg_at_10_low", "interval/ndcg_at_10_high"),
    *(
        f"holdout/{name}_at_10"
        for name in ("coverage", "gini", "novelty", "diversity", "popularity", "popularity_lift")
    ),
    *(f"band/{band}/{name}_at_10" for name in ("recall", "share") for band in BANDS),
    *(
        f"segment/{segment}/{name}"
        for segment in ("cold", "warm", "hot")
        for name in (*ACCURACY, "coverage_at_10", "novelty_at_10", "popularity_lift_at_10")
    ),
    *(f"baseline/{one}/{name}" for one in BASELINES for name in ACCURACY),
    *(f"baseline/{one}/{name}_at_10" for one in BASELINES for name in ("coverage", "novelty", "popularity_lift")),
    *("lift_over_popular", "interval/lift_over_popular_low", "interval/lift_over_popular_high"),
}


AVERAGES = {
    f"baseline/{one}/{error}"
    for one in ("global-mean", "user-mean", "item-mean", "biases")
    for error in ("rmse", "mae")
}


QUICK = TrainOptions(max_iter=15, tol=0.0, n_components=4)


def ratings(seed=0, n_users=30, n_items=25, n=300, timed=True):
    """Distinct pairs in a random order, with stars from 0 to 5 and times."""
    rng = np.random.default_rng(seed)
    u, i = np.divmod(rng.choice(n_users * n_items, n, replace=False), n_items)
    at = rng.integers(0, 50, n).astype("datetime64[ms]") if timed else None
    return Interactions.of(10 + 3 * u, [f"m{v:03d}" for v in i], rng.integers(0, 11, n) / 2, at)


class Calls(list):
    """A progress callback that remembers, and interrupts at a stage if told to."""

    def __init__(self, interrupt_at=None):
        super().__init__()
        self.interrupt_at = interrupt_at

    def __call__(self, stage, done, total, note=""):
        self.append((stage, done, total, note))
        if (stage, done) == self.interrupt_at:
            raise KeyboardInterrupt
