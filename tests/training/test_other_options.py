"""The options of another training: read back, compared, and measured on this training's holdout."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from support.tastes import three_tastes

from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import prepare_interactions
from pipeline.errors import InputError
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.storage import read_evaluation, write_evaluation
from pipeline.options import TrainOptions
from pipeline.training.other_options import measure_champion, same_model, stored_options
from pipeline.training.train import candidate, train

QUICK = TrainOptions(n_components=3, max_iter=15, threads=1)


def knew(x):
    """What a champion has as seen that was trained on `x`."""
    return to_matrix(prepare_interactions(x).interactions)


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
    measured = measure_champion(trained, "r" * 32, other, knew(x))
    twin = train(x, other).evaluation  # the same split, as data, seed and way are the same
    assert twin.split.digest == measured.split.digest
    stored = read_evaluation(write_evaluation(measured, trained.data_digest, tmp_path), "rankline/2")
    for metric in ("ndcg_at_10", "recall_at_10", "map_at_10"):
        np.testing.assert_array_equal(stored.of_champion(metric), twin.own.per_user[metric])
        np.testing.assert_array_equal(stored.metric(metric), trained.evaluation.own.per_user[metric])
    assert (stored.champion_run, same_model(stored_options(stored.champion_options), other)) == ("r" * 32, True)
    assert "champion_before_ndcg_at_10" not in stored.columns  # it knew all of the training side


def test_what_the_champion_knew_is_fitted_alone(tmp_path):
    x = three_tastes()
    trained = train(x, QUICK)
    # The champion knew neither the last ten users nor a third of the rest.
    mask = (x.users < 50) & (np.arange(len(x)) % 3 > 0)
    options = stored_options(json.loads(json.dumps(trained.model.meta["parameters"])))
    measured = measure_champion(trained, "r", options, knew(x.take(mask)))
    stored = read_evaluation(write_evaluation(measured, trained.data_digest, tmp_path), "rankline/2")
    assert "champion_ndcg_at_10" not in stored.columns  # the options are the same
    split = trained.evaluation.split
    pairs = {(int(u), int(i)) for u, i in zip(x.users[mask], x.items[mask], strict=True)}
    train_side = split.train
    users, items = train_side.user_ids.ids(train_side.users), train_side.item_ids.ids(train_side.items)
    known = np.array([(int(u), int(i)) in pairs for u, i in zip(users, items, strict=True)])
    scorer, _ = candidate(train_side.take(known).compact(), QUICK)
    twin = evaluate(scorer, replace(split, train=train_side.take(known)))
    of_user = dict(zip(twin.user_ids.tolist(), twin.per_user["ndcg_at_10"].tolist(), strict=True))
    expected = [of_user.get(user, np.nan) for user in stored.user_ids.tolist()]
    np.testing.assert_array_equal(stored.of_champion_before("ndcg_at_10"), expected)
    assert np.isnan(expected).sum() == 10


def test_where_nothing_is_held_out_nothing_is_measured():
    x = three_tastes()
    with pytest.raises(InputError, match="held out"):
        measure_champion(train(x, replace(QUICK, holdout=0.0)), "r", QUICK, knew(x))


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
