"""Learns the trees by LightGBM's lambdarank (Ke et al. 2017; Burges 2010), and whether they are better than nothing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.matrix import stored_cells
from pipeline.errors import UsageError
from pipeline.models.ensemble import HeldOut
from pipeline.models.protocols import SavedModel
from pipeline.models.rerank.candidates import candidates_of
from pipeline.models.rerank.features import NAMES, ItemFacts
from pipeline.models.rerank.trees import Trees

__all__ = ["Decision", "Examples", "check_lightgbm", "decide", "examples_of"]

_K, _FOLDS, _FEWEST_USERS = 10, 5, 50
_TREES = 100
_CELLS = 1 << 21  # scores that are computed at a time
# One thread, rows first and a fixed seed: the same examples give the same text.
_PARAMETERS = {
    "objective": "lambdarank", "lambdarank_truncation_level": 20, "num_leaves": 15, "learning_rate": 0.05,
    "min_data_in_leaf": 100, "lambda_l2": 10.0, "use_missing": False, "seed": 42, "deterministic": True,
    "force_row_wise": True, "num_threads": 1, "verbosity": -1,
}  # fmt: skip


class Examples(NamedTuple):
    """Attributes
    ----------
    features : (n_users, size, 9) of each user's candidates, by falling score of the first model
    relevant : (n_users, size) bool, whether the user chose it in the validation part
    n_relevant : (n_users,) ≥ 1, all items that the user chose there
    """

    features: NDArray[np.float64]
    relevant: NDArray[np.bool_]
    n_relevant: NDArray[np.int64]

    def part(self, users: NDArray[np.bool_]) -> Examples:
        """Those of some users."""
        return Examples(self.features[users], self.relevant[users], self.n_relevant[users])

    def ndcg(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """NDCG@10 of each user's candidates by these scores (n_users, size); ties as the first model has them."""
        order = np.argsort(-scores, axis=1, kind="stable")[:, :_K]
        hits = np.take_along_axis(self.relevant, order, axis=1)
        discount = 1 / np.log2(np.arange(2, _K + 2))
        ideal = np.cumsum(discount)[np.minimum(self.n_relevant, _K) - 1]
        values: NDArray[np.float64] = (hits @ discount[: hits.shape[1]]) / ideal
        return values


def examples_of(model: SavedModel, facts: ItemFacts, part: HeldOut) -> Examples:
    """The candidates of a first model for the users of a validation part."""
    blocks, hits = [], []
    step = max(1, _CELLS // max(len(model.items), 1))
    for start in range(0, part.rows.size, step):
        rows = part.rows[start : start + step]
        found = candidates_of(model, facts, rows)
        chosen = np.zeros((rows.size, len(model.items)), bool)
        chosen[stored_cells(part.relevant.indptr, part.relevant.indices, rows)] = True
        blocks.append(found.features)
        hits.append(np.take_along_axis(chosen, found.items, axis=1))
    if not blocks:
        return Examples(np.zeros((0, 1, len(NAMES))), np.zeros((0, 1), bool), part.n_relevant)
    return Examples(np.concatenate(blocks), np.concatenate(hits), part.n_relevant)


class Decision(NamedTuple):
    """Attributes
    ----------
    trees : learned from all examples; none where they are not surely better
    base, reranked : mean NDCG@10 of the first model, and of the second stage by cross-validation
    difference, low, high : mean of the users' differences, with its interval of 95 %
    """

    trees: Trees
    base: float
    reranked: float
    difference: float
    low: float
    high: float
    n_users: int

    @property
    def better(self) -> bool:
        """Whether there are trees."""
        return len(self.trees) > 0


def check_lightgbm() -> None:
    """Raise UsageError where LightGBM is not installed."""
    try:
        import lightgbm  # noqa: F401
    except ModuleNotFoundError:
        raise UsageError(
            "Training the second stage needs LightGBM, the extra \"rerank\": pip install 'rankline[rerank]'"
        ) from None


def decide(examples: Examples, seed: int) -> Decision:
    """Learn the second stage, if it is surely better by cross-validation over users; `seed` deals them into folds."""
    n = examples.n_relevant.size
    nothing = Trees("", len(NAMES))
    base = examples.ndcg(-examples.features[:, :, 0])
    if n < _FEWEST_USERS:
        mean = float(base.mean()) if n else 0.0
        return Decision(nothing, mean, mean, 0.0, 0.0, 0.0, n)
    fold: NDArray[np.int64] = np.random.default_rng(seed).permutation(n) % _FOLDS
    crossed = np.empty(n)
    for i in range(_FOLDS):
        held_out: NDArray[np.bool_] = np.asarray(fold == i)
        part = examples.part(held_out)
        crossed[held_out] = part.ndcg(_scores(_learned(examples.part(~held_out)), part))
    difference = crossed - base
    mean, error = float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(n))
    low, high = mean - 1.96 * error, mean + 1.96 * error
    trees = _learned(examples) if low > 0 else nothing
    return Decision(trees, float(base.mean()), float(crossed.mean()), mean, low, high, n)


def _scores(trees: Trees, examples: Examples) -> NDArray[np.float64]:
    n, size, n_features = examples.features.shape
    return trees.predict(examples.features.reshape(n * size, n_features)).reshape(n, size)


def _learned(examples: Examples) -> Trees:
    import lightgbm

    # A user without a relevant candidate teaches nothing.
    teaches: NDArray[np.bool_] = np.asarray(examples.relevant.any(axis=1))
    useful = examples.part(teaches)
    n, size, n_features = useful.features.shape
    data = lightgbm.Dataset(
        useful.features.reshape(n * size, n_features),
        useful.relevant.ravel().astype(np.int32),
        group=np.full(n, size),
        feature_name=list(NAMES),
    )
    return Trees(lightgbm.train(_PARAMETERS, data, _TREES).model_to_string(), len(NAMES))
