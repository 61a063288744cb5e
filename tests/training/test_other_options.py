"""The options of another training: read back, compared, and measured on this training's holdout."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from support.tastes import three_tastes

from pipeline.errors import InputError
from pipeline.evaluation.storage import read_evaluation, write_evaluation
from pipeline.options import TrainOptions
from pipeline.training.other_options import measure_options, same_model, stored_options
from pipeline.training.train import train

QUICK = TrainOptions(n_components=3, max_iter=15, threads=1)


@pytest.mark.parametrize(
    "other",
    [
        replace(QUICK, n_components=2, half_life_days=30.0),
        TrainOptions(algorithm="item-knn", n_neighbours=5),
        replace(QUICK, split="users", n_components=2),
    ],
    ids=["faded", "item-knn", "users"],
)
def test_they_measure_as_a_training_by_them_would(other, tmp_path):
    x, spec = three_tastes(), replace(QUICK, split=other.split)
    trained = train(x, spec)
    measured = measure_options(trained, other)
    twin = train(x, other).evaluation  # the same split, as data, seed and way are the same
    assert twin.split.digest == measured.split.digest
    stored = read_evaluation(write_evaluation(measured, trained.data_digest, tmp_path), "rankline/2")
    for metric in ("ndcg_at_10", "recall_at_10", "map_at_10"):
        np.testing.assert_array_equal(stored.of_champion(metric), twin.own.per_user[metric])
        np.testing.assert_array_equal(stored.metric(metric), trained.evaluation.own.per_user[metric])
    assert same_model(stored_options(stored.champion_options), other)


def test_a_training_by_its_own_options_is_the_same_to_the_bit():
    trained = train(three_tastes(), QUICK)
    measured = measure_options(trained, stored_options(json.loads(json.dumps(trained.model.meta["parameters"]))))
    np.testing.assert_array_equal(measured.champion.per_user["ndcg_at_10"], measured.own.per_user["ndcg_at_10"])


def test_where_nothing_is_held_out_nothing_is_measured():
    with pytest.raises(InputError, match="held out"):
        measure_options(train(three_tastes(), replace(QUICK, holdout=0.0)), QUICK)


def test_what_makes_another_model():
    assert same_model(QUICK, replace(QUICK, threads=None, memory_limit=9, on_interrupt="keep", algorithm="nmf"))
    for changed in ({"max_iter": 14}, {"random_state": 1}, {"algorithm": "als"}, {"min_interactions": 2}):
        assert not same_model(QUICK, replace(QUICK, **changed))
    assert not same_model(QUICK, replace(QUICK, algorithm="auto"))


def test_options_that_this_version_does_not_have():
    assert stored_options({**asdict(QUICK), "n_components_used": 3, "of_tomorrow": 1}) == QUICK
    assert stored_options({"algorithm": "nmf", "max_iter": 7}) == TrainOptions(algorithm="nmf", max_iter=7)
    for none in (
        None,
        [],
        {},
        {"algorithm": "of-tomorrow"},
        {"algorithm": "nmf", "max_iter": "many"},
        {"algorithm": 1},
    ):
        assert stored_options(none) is None
