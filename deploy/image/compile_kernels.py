"""Compiles the kernels into NUMBA_CACHE_DIR, by using them as trainings, the batch job and the service do.

A kernel is compiled for the types that it is called with. So each model that has kernels of its own is trained on
made-up ratings, saved, read back as the batch job and the service read it, and asked for lists.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import Interactions, Scorer, TrainOptions, train
from pipeline.kernels import cache_folder, compiled
from pipeline.publishing.batch_scoring import score_all

# Options of trainings that together use all kernels.
TRAININGS: tuple[dict[str, Any], ...] = (
    {"algorithm": "NMF", "max_iter": 20},
    {"algorithm": "NMF", "max_iter": 20, "unobserved_weight": 0.1, "confidence": 1.0},
    {"algorithm": "NMF", "max_iter": 20, "unobserved_weight": 0.0, "biases": "yes", "n_components": 4},
    {"algorithm": "als", "max_iter": 3},
    {"algorithm": "svd", "max_iter": 3},
    {"algorithm": "svd", "solver": "als", "max_iter": 3},
    {"algorithm": "bpmf", "max_iter": 6},
    {"algorithm": "item-knn"},
    {"algorithm": "ease"},
    {"algorithm": "popular"},
)


class Nowhere:
    """A table that keeps nothing."""

    def write(self, block: Any) -> None:
        """Take a block."""


def ratings(n_users: int = 120, n_items: int = 160) -> Interactions:
    """Made-up ratings 0.5 to 5 with times."""
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((n_users, n_items)) < 0.2)
    scores = rng.integers(1, 11, users.size).astype(np.float32) / 2
    at = (np.datetime64("2024-01-01", "ms") + rng.integers(0, 10**10, users.size)).astype("datetime64[ms]")
    return Interactions.of(100 + users, 1000 + items, scores, at)


def ask(folder: Path) -> None:
    """Lists as the batch job, the command line and the service make them."""
    for mapped in (True, False):
        scorer = Scorer.load(folder, mapped=mapped)
        scorer.prepare()
        score_all(scorer, Nowhere())
        user = scorer.users.values[0]
        scorer.recommend(user, k=10)
        seen = scorer.model.seen
        scorer.rank_cells(seen[:1].astype(np.float32), 10)
        scorer.rank_cells(seen[:40].astype(np.float32), 10)
        scorer.recommend_rows(np.arange(40), 10, also_seen=seen[:40])


def main() -> int:
    """Use them all. 1 where there is no folder for them."""
    begun = time.perf_counter()
    kernels = cache_folder()
    if kernels is None:
        print("NUMBA_CACHE_DIR can't be written", file=sys.stderr)
        return 1
    data = ratings()
    for options in TRAININGS:
        with tempfile.TemporaryDirectory() as folder:
            trained = train(data, TrainOptions(**options))
            trained.model.save(Path(folder) / "model")
            ask(Path(folder) / "model")
    seconds = time.perf_counter() - begun
    files = list(kernels.rglob("*.nbc"))
    print(f"{len(files)} compiled functions, {sum(path.stat().st_size for path in files) >> 10} KB, {seconds:.0f} s")
    return 0 if compiled("topk") and files else 1


if __name__ == "__main__":
    sys.exit(main())
