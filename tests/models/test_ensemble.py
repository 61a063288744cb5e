"""The selection of an ensemble beside a slow twin, and what the algorithm takes, decides, says and costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support import naive_ensemble
from support.contract_data import make_interactions

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import prepare_interactions
from pipeline.errors import InputError, UsageError
from pipeline.models import block_scores, ensemble
from pipeline.models.ensemble import Pools, Selection, held_out_of, pools_of, select, validation_split
from pipeline.models.footprint import Size
from pipeline.models.registry import find
from pipeline.options import TrainOptions, TuneOptions
from pipeline.training.train import train
from pipeline.training.tune import tune

ALGORITHM = find("ensemble")


def pools(signals: list[float], shared: float = 0.0, n: int = 200, pool: int = 60, seed: int = 0) -> Pools:
    """Members whose scores tell so much about what is relevant; `shared` is the part of their noise in common."""
    rng = np.random.default_rng(seed)
    relevant = rng.random((n, pool)) < 0.1
    relevant[:, 0] = True
    common = rng.normal(size=(n, pool))
    standard = [signal * relevant + shared * common + (1 - shared) * rng.normal(size=(n, pool)) for signal in signals]
    return Pools(np.array(standard, np.float32), relevant, relevant.sum(axis=1) + 2)


def test_ndcg_is_that_of_the_twin():
    some = pools([1.0], n=40)
    expected = [
        naive_ensemble.ndcg(*user) for user in zip(some.standard[0], some.relevant, some.n_relevant, strict=True)
    ]
    assert some.ndcg(some.standard[0]) == pytest.approx(expected)
    few = Pools(some.standard[:, :, :4], some.relevant[:, :4], some.n_relevant)
    expected = [naive_ensemble.ndcg(*user) for user in zip(few.standard[0], few.relevant, few.n_relevant, strict=True)]
    assert few.ndcg(few.standard[0]) == pytest.approx(expected)


def test_members_that_know_different_things_are_better_together():
    found = select(pools([1.0, 1.0, 0.9]), 1)
    assert found.better
    assert all(found.counts)
    assert 0 < found.low < found.difference < found.high
    assert found.ensemble > found.single == max(found.means)
    assert found.difference == pytest.approx(found.ensemble - found.single)


@pytest.mark.parametrize(
    ("signals", "shared"), [([1.5, 0.0, 0.0], 0.0), ([1.0, 1.0], 1.0), ([0.0, 0.0], 0.0), ([1.0], 0.0)]
)
def test_where_nothing_is_gained_the_best_one_is_kept(signals, shared):
    found = select(pools(signals, shared), 1)
    assert not found.better
    assert found.counts == tuple(int(i == found.best) for i in range(len(signals)))
    assert found.best == int(np.argmax(found.means))


def test_a_gain_that_is_not_sure_is_no_gain():
    found = select(pools([1.0, 0.6], n=40, seed=1), 1)
    assert found.low < 0 < found.difference
    assert (found.better, found.counts) == (False, (1, 0))


def test_few_users_tell_nothing():
    assert not select(pools([1.0, 1.0], n=ensemble._FEWEST_USERS - 1), 1).better
    none = pools([1.0, 1.0]).part(np.zeros(200, bool))
    assert (select(none, 1).counts, select(none, 1).n_users) == ((1, 0), 0)


def test_a_list_for_everybody_is_kept_unless_something_is_surely_better():
    close = pools([1.0, 0.95], shared=0.8, n=40)
    means = [float(close.ndcg(scores).mean()) for scores in close.standard]
    assert means[0] > means[1]
    assert select(close, 1).counts == (1, 0)
    kept = select(close, 1, lists=[1])
    assert (kept.better, kept.best, kept.counts, kept.single) == (False, 1, (0, 1), pytest.approx(means[1]))
    assert kept.difference == pytest.approx(kept.ensemble - kept.single)
    # What is surely better is taken all the same: a model, or an ensemble.
    assert select(pools([1.5, 0.1, 0.0]), 1, lists=[1, 2]).counts == (1, 0, 0)
    assert select(pools([1.0, 1.0, 0.9]), 1, lists=[0]).better
    assert select(pools([1.0, 0.9], n=ensemble._FEWEST_USERS - 1), 1, lists=[1]).counts == (0, 1)


def test_lists_for_everybody_count_where_the_split_is_by_time(monkeypatch):
    asked = []
    monkeypatch.setattr(ensemble, "select", lambda pools, seed, lists: asked.append(list(lists)) or chosen((1, 0, 0)))
    x = prepare_interactions(make_interactions("int"), "last", None, None, 0).interactions
    for split in ("time", "latest"):
        options = TrainOptions(algorithm="ensemble", members="ease,recent,popular", split=split)
        ALGORITHM.fit(to_matrix(x), options, interactions=x)
    assert asked == [[1, 2], []]


def test_weights_of_a_fold_are_chosen_on_the_others(monkeypatch):
    some, asked = pools([1.0, 0.8], n=50), []
    greedy = ensemble._greedy
    monkeypatch.setattr(ensemble, "_greedy", lambda part: asked.append(part.n_relevant.size) or greedy(part))
    select(some, 3)
    assert asked == [40] * 5 + [50]


def test_pools_hold_what_the_members_rank_high_and_what_is_held_out(monkeypatch):
    monkeypatch.setattr(ensemble, "TOP", 3)
    monkeypatch.setattr(block_scores, "TOP", 3)
    x = prepare_interactions(make_interactions("int"), "last", None, None, 0).interactions
    split = validation_split(x, 0.2, "auto", 42)
    matrix = to_matrix(split.train)
    members = [
        find(name).fit(matrix, find(name).default_options(), interactions=split.train).model
        for name in ("ease", "item-knn")
    ]
    found = pools_of(members, held_out_of(split, 42))
    assert found.standard.shape == (2, 30, 6)
    assert found.n_relevant.tolist() == np.bincount(split.test.users).tolist()
    held_out = set(zip(split.test.user_ids.ids(split.test.users).tolist(), split.test.items.tolist(), strict=True))
    assert found.relevant.sum() <= len(held_out)
    for user in range(30):
        seen = set(matrix.scores[user].indices.tolist())
        best = [
            i for i in np.argsort(-members[0].predict(np.full(24, user), np.arange(24)), kind="stable") if i not in seen
        ]
        scores = members[0].predict(np.full(24, user), np.arange(24)).tolist()
        expected = naive_ensemble.standard_score(scores, seen, best[0], 3)
        assert found.standard[0, user].max() == pytest.approx(expected)
    monkeypatch.setattr(ensemble, "MOST_USERS", 7)
    assert pools_of(members, held_out_of(split, 42)).n_relevant.size == 7


def chosen(counts: tuple[int, ...], better: bool = True) -> Selection:
    return Selection(counts, 0, better, 0.1, 0.12, 0.02, 0.01, 0.03, (0.1, 0.05), 610)


@pytest.fixture
def decided(monkeypatch):
    """The selection is decided: EASE three times, item-kNN once."""
    monkeypatch.setattr(ensemble, "select", lambda pools, seed, lists: chosen((3, 1)))


def test_the_final_fit_takes_what_was_decided_before_the_evaluation(decided, monkeypatch):
    trained = train(
        make_interactions("int"), TrainOptions(algorithm="ensemble", members="ease:regularization=50,item-knn")
    )
    assert trained.model.weights == (0.75, 0.25)
    assert [member.meta["label"] for member in trained.model.members] == ["ease:regularization=50", "item-knn"]
    assert trained.facts["ensemble_weights"] == "ease:regularization=50 3, item-knn 1"
    assert trained.facts["ensemble_shipped"] == "yes"
    (sentence,) = [message for message in trained.report.messages if "an ensemble of" in message]
    assert sentence == (
        "an ensemble of EASE:regularization=50 75% and item-kNN 25% is trained (NDCG@10 of 610 validation users: "
        "EASE:regularization=50 0.1000, ensemble 0.1200 (cross-validated), difference +0.0200 (+0.0100 to +0.0300))"
    )
    assert trained.algorithm.label(trained.spec, trained.facts) == "ensemble of EASE:regularization=50 and item-kNN"
    # Only the fit of the holdout selects: the held-out part has measured its weights.
    monkeypatch.setattr(ensemble, "select", None)
    x = prepare_interactions(make_interactions("int"), "last", None, None, 0).interactions
    again = ALGORITHM.refit(trained.fitted, to_matrix(x), trained.spec, interactions=x)
    assert (again.model.weights, again.facts) == (trained.model.weights, trained.fitted.facts)


def test_the_best_model_alone_is_trained_and_said(monkeypatch):
    monkeypatch.setattr(ensemble, "select", lambda pools, seed, lists: chosen((1, 0), better=False))
    trained = train(make_interactions("int"), TrainOptions(algorithm="ensemble", members="ease,item-knn"))
    alone = train(make_interactions("int"), TrainOptions(algorithm="ease"))
    assert any(m.startswith("EASE alone is trained: no ensemble is surely better (") for m in trained.report.messages)
    assert trained.algorithm.label(trained.spec, trained.facts) == "ensemble: EASE alone"
    assert trained.report.metrics["holdout/ndcg_at_10"] == alone.report.metrics["holdout/ndcg_at_10"]
    rows = np.arange(30)
    assert trained.model.alone.scores(rows).tobytes() == alone.model.scores(rows).tobytes()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ("ease", "2 to 8 different models, got 'ease'"),
        ("ease,ease", "2 to 8 different models"),
        (",".join(f"als:n_components={k}" for k in range(2, 11)), "at most 8 models, got 9"),
        ("ease,magic", "--members is one of NMF"),
        ("ease,ensemble", "a model that is made of others can't be a member itself"),
        ("ease:shrinkage=3,als", "'shrinkage=3' is none; it has: half_life_days, regularization, transform"),
        ("ease:regularization=-1,als", "--members ease:regularization=-1: regularization must be at least 0"),
        ("ease:regularization=x,als", "regularization must be NUMBER|none, got 'x'"),
        ("ease:weight=2,als", "give each model one weight, as in ease:weight=2,als:weight=1, or none of them"),
        ("ease:weight=2,ease:weight=3,als:weight=1", "give each model one weight"),
        ("ease:weight=2:weight=3,als:weight=1", "weight must be one number between 1e-06 and 1e+06"),
        ("ease:weight=0,als:weight=1", "weight must be one number"),
        ("ease:weight=nan,als:weight=1", "weight must be one number"),
        ("ease:weight=inf,als:weight=1", "weight must be one number"),
        ("ease:weight=,als:weight=1", "weight must be one number"),
        ("ease:weight=-1,als:weight=1", "weight must be one number"),
        ("ease:weight=x,als:weight=1", "weight must be one number"),
    ],
)
def test_members_that_can_not_be_are_refused(members, message):
    with pytest.raises(UsageError) as refused:
        ALGORITHM.check_options(TrainOptions(algorithm="ensemble", members=members))
    assert message in str(refused.value)


def test_weights_that_are_named_are_taken_and_nothing_is_selected(monkeypatch):
    monkeypatch.setattr(ensemble, "select", None)
    options = TrainOptions(algorithm="ensemble", members="ease:weight=3:regularization=50,item-knn:weight=1")
    trained = train(make_interactions("int"), options)
    assert trained.model.weights == (0.75, 0.25)
    assert [member.meta["label"] for member in trained.model.members] == ["ease:regularization=50", "item-knn"]
    assert trained.facts["ensemble_shipped"] == "as named"
    assert trained.algorithm.label(options, trained.facts) == "ensemble of EASE:regularization=50 and item-kNN"
    sentence = "an ensemble of EASE:regularization=50 75% and item-kNN 25% is trained (--members gives the weights)"
    assert sentence in trained.report.messages
    # What a selection found, named as weights, is the same model.
    monkeypatch.setattr(ensemble, "select", lambda pools, seed, lists: chosen((3, 1)))
    unnamed = replace(options, members="ease:regularization=50,item-knn")
    selected = train(make_interactions("int"), unnamed)
    again = ALGORITHM.settled(unnamed, selected.facts)
    assert again.members == "ease:regularization=50:weight=3,item-knn:weight=1"
    assert train(make_interactions("int"), again).report.metrics == selected.report.metrics == trained.report.metrics
    assert ALGORITHM.settled(unnamed, {"ensemble_weights": "item-knn 1"}) == unnamed
    freely = replace(options, members="EASE : --Weight = 3 : regularization = 50, item-knn:weight=1e0")
    first, _ = ALGORITHM._members(freely)
    assert (first.weight, first.options.regularization) == (3.0, 50.0)


def test_members_may_be_joined_by_a_plus():
    options = TrainOptions(algorithm="ensemble", members="EASE+item_knn")
    assert [member.word for member in ALGORITHM._members(options)] == ["ease", "item-knn"]
    assert [member.word for member in ALGORITHM._members(TrainOptions())] == ["ease", "als", "item-knn", "recent"]


def test_a_member_that_needs_times_is_left_out_of_the_default_alone():
    timed = make_interactions("int")
    x = Interactions(timed.users, timed.items, timed.scores, timed.user_ids, timed.item_ids)
    x = prepare_interactions(x, "last", None, None, 0).interactions
    assert len(ALGORITHM._able(TrainOptions(), x)) == 3
    for members in ("ease,recent", "ease:half_life_days=30,item-knn"):
        options = TrainOptions(algorithm="ensemble", members=members)
        with pytest.raises(InputError, match="goes by the times of interactions"):
            ALGORITHM.fit(to_matrix(x), options, interactions=x)


def test_a_fit_of_a_matrix_alone_has_no_times():
    x = prepare_interactions(make_interactions("int"), "last", None, None, 0).interactions
    fitted = ALGORITHM.fit(to_matrix(x), TrainOptions(algorithm="ensemble", members="ease,item-knn"))
    assert fitted.facts["ensemble_validation_users"] == 30


def test_the_validation_part_is_made_as_the_held_out_part():
    x = prepare_interactions(make_interactions("int"), "last", None, None, 0).interactions
    names = {
        split: validation_split(x, 0.2, split, 42).name
        for split in ("auto", "latest", "last", "users", "random", "time")
    }
    assert names == {
        "auto": "latest",
        "latest": "latest",
        "last": "latest",
        "users": "latest",
        "random": "random",
        "time": "time",
    }


def test_nobody_to_select_by():
    x = prepare_interactions(Interactions.of(range(5), range(5), np.ones(5)), "last", None, None, 0).interactions
    fitted = ALGORITHM.fit(to_matrix(x), TrainOptions(algorithm="ensemble", members="item-knn,popular"), interactions=x)
    assert fitted.messages[0] == "item-kNN alone is trained: no user has a validation part to select an ensemble by"


def test_it_is_not_searched():
    with pytest.raises(UsageError, match="tune those, and name their options: --members ease:regularization=300"):
        tune(make_interactions("int"), TrainOptions(algorithm="ensemble"), TuneOptions())
    with pytest.raises(UsageError, match="has no options to search"):
        ALGORITHM.search_space(TrainOptions(), "auto", (10, 10), times=True)


def test_it_costs_more_than_its_members():
    size, options = Size(10**6, 10**6, 50_000, 5000), TrainOptions(algorithm="ensemble", members="ease,als")
    cost = ALGORITHM.footprint(size, ALGORITHM.plan(options, (50_000, 5000), 2))
    for name in ("ease", "als"):
        one = find(name)
        own = one.footprint(size, one.plan(replace(options, algorithm=name, members=None), (50_000, 5000), 2))
        assert cost.fit_seconds > own.fit_seconds
        assert sum(cost.fit.values()) > sum(own.fit.values())
        assert sum(cost.log.values()) > sum(own.log.values())
    # Weights that are given need no selection.
    options = replace(options, members="ease:weight=2,als:weight=1")
    given = ALGORITHM.footprint(size, ALGORITHM.plan(options, (50_000, 5000), 2))
    assert given.fit_seconds < 0.6 * cost.fit_seconds
    assert sum(given.fit.values()) < sum(cost.fit.values())
    assert given.log == cost.log
