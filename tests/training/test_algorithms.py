"""Training of every model in the registry: what is measured, what is said to be left out, what is saved."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.each_algorithm import EACH

from pipeline.data.interactions import Interactions
from pipeline.errors import InputError, UsageError
from pipeline.models.base import Algorithm
from pipeline.models.registry import POPULAR
from pipeline.options import TrainOptions
from pipeline.ranking.scorer import Scorer
from pipeline.training.train import train

each = pytest.mark.parametrize("algorithm", EACH)


def interactions(timed: bool = True, seed: int = 3) -> Interactions:
    rng = np.random.default_rng(seed)
    users, items = np.divmod(rng.choice(40 * 30, 400, replace=False), 30)
    at = rng.integers(0, 10**10, 400).astype("datetime64[ms]") if timed else None
    return Interactions.of(users, items, rng.integers(1, 6, 400), at)


@each
@pytest.mark.parametrize("split", ["auto", "users"])
def test_it_is_trained_evaluated_and_saved(algorithm: Algorithm, split: str, tmp_path) -> None:
    spec = TrainOptions(algorithm=algorithm.name.upper())
    trained = train(interactions(), dataclasses.replace(spec, split=split))
    assert type(trained.algorithm) is type(algorithm)
    assert trained.facts["algorithm_used"] == algorithm.name
    assert trained.model.meta["model"] == algorithm.name
    assert ("n_iter" in trained.report.metrics) is bool(trained.losses.size) is algorithm.stepped
    assert ("rmse" in trained.report.metrics) is algorithm.reconstructs
    assert trained.evaluation is not None
    assert trained.evaluation.model == algorithm.key
    assert set(trained.evaluation.baselines) == {"popular", "recent", "item_knn"}
    metrics = trained.report.metrics
    assert metrics["holdout/ndcg_at_10"] == trained.evaluation.own.metrics["ndcg_at_10"]
    if algorithm.baseline:  # the model is its own baseline, fitted once
        assert metrics[f"baseline/{algorithm.name}/ndcg_at_10"] == metrics["holdout/ndcg_at_10"]
        assert len(trained.evaluation.evaluations) == 3
    trained.model.save(tmp_path)
    loaded = Scorer.load(tmp_path)
    assert (loaded.source, loaded.model.kind) == (algorithm.name, algorithm.kind)


@each
def test_what_needs_times_is_refused_without_them(algorithm: Algorithm) -> None:
    spec = TrainOptions(algorithm=algorithm.name, holdout=0)
    if not algorithm.needs.times:
        assert len(train(interactions(timed=False), spec).model.items) == 30
        return
    with pytest.raises(InputError, match=f"goes by the times of interactions.*--algorithm {POPULAR} needs none"):
        train(interactions(timed=False), spec)


def test_an_unknown_model_is_refused_before_anything_is_done() -> None:
    with pytest.raises(UsageError, match="--algorithm is one of NMF"):
        train(interactions(), TrainOptions(algorithm="magic"))
