"""Items held out whole: lists are of these alone, and what knows none of them finds none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.naive_cold_items import NEW, two_tastes

from pipeline.data.prepare import prepare_interactions
from pipeline.data.splits import Split, items_split
from pipeline.errors import LeakageError, SplitError
from pipeline.evaluation.evaluate import evaluate
from pipeline.models import registry
from pipeline.options import TrainOptions
from pipeline.training.train import train


def test_held_out_items_are_in_no_other_part() -> None:
    x = prepare_interactions(two_tastes()[0]).interactions
    split = items_split(x, 0.2, seed=4)
    held_out = set(x.item_ids.values[split.test.items].tolist())
    assert len(held_out) == 6
    assert held_out.isdisjoint(split.train.item_ids.values.tolist())
    assert split.ranked is not None
    assert set(split.ranked.values.tolist()) == held_out
    assert len(split.train) + len(split.test) == len(x)
    assert split.items == x.item_ids
    assert split.item_counts[split.items.rows(split.ranked.values)].tolist() == [0] * 6
    assert items_split(x, 0.2, seed=4).digest == split.digest != items_split(x, 0.2, seed=5).digest
    with pytest.raises(LeakageError, match="6 held-out item"):
        Split(x, split.test.take(np.zeros(len(split.test), bool)), ranked=split.ranked)
    with pytest.raises(SplitError, match="it needs two items"):
        items_split(x.take(x.items == 0).compact())


def test_a_model_beside_a_random_order_and_the_order_that_nobody_knows() -> None:
    x, texts = two_tastes()
    options = TrainOptions(algorithm="als", cold_items=5, n_components=4, max_iter=10, split="items")
    evaluation = train(x, options, texts=texts).evaluation
    assert evaluation is not None
    assert evaluation.split.ranked is not None
    own = evaluation.own
    assert own.lists is not None
    listed = evaluation.split.items.ids(own.lists[own.lists >= 0])
    assert set(listed.tolist()) <= set(evaluation.split.ranked.values.tolist())
    ndcg = {name: value.metrics["ndcg_at_10"] for name, value in evaluation.evaluations.items()}
    assert ndcg["popular"] == ndcg["item_knn"] == 0
    assert 0 < ndcg["random"] < ndcg["als"]
    assert 0 < ndcg["held_out_popular"] < ndcg["als"]  # nobody's taste is everybody's here
    assert evaluation.lift is None
    assert evaluation.better_than_popular is None
    metrics = evaluation.report.metrics
    assert metrics["baseline/random/ndcg_at_10"] == ndcg["random"]
    assert metrics["baseline/held-out-popular/ndcg_at_10"] == ndcg["held_out_popular"]
    assert "lists are of the 6 held-out items alone" in evaluation.messages[-1]


def test_a_usual_split_ranks_new_items_too_and_changes_no_baseline() -> None:
    x, texts = two_tastes()
    options = TrainOptions(n_components=4, max_iter=10)
    without = train(x, options).evaluation
    with_cold = train(x, replace(options, cold_items=5), texts=texts).evaluation
    assert without is not None
    assert with_cold is not None
    assert set(NEW.values()) <= set(with_cold.split.items.values.tolist())
    assert with_cold.split.digest == without.split.digest
    for baseline in ("popular", "item_knn"):
        for metric in ("ndcg_at_10", "recall_at_10", "diversity_at_10", "novelty_at_10"):
            assert with_cold.evaluations[baseline].metrics[metric] == without.evaluations[baseline].metrics[metric]


def test_a_ranker_of_unknown_items_is_refused() -> None:
    x, texts = two_tastes()
    trained = train(x, TrainOptions(cold_items=5, n_components=4, max_iter=5, holdout=0), texts=texts)
    split = Split(
        prepare_interactions(x).interactions, prepare_interactions(x.take(np.zeros(len(x), bool))).interactions
    )
    from pipeline.ranking.scorer import Scorer

    with pytest.raises(LeakageError, match="knows 2 item"):
        evaluate(Scorer(trained.model, registry.DEFAULT.name), split)
    assert not len(evaluate(Scorer(trained.model), replace(split, catalogue=trained.model.items)))
