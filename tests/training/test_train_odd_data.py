"""Too little data, odd shapes, and metrics that are left out with a message."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.made_up_ratings import (
    ALL_CELLS,
    AVERAGES,
    EVALUATED,
    FITTED,
    POPULAR,
    QUICK,
    RANKING,
    RATINGS,
    Calls,
    ratings,
)

from pipeline.data.interactions import Interactions
from pipeline.errors import TooLittleDataError, UsageError
from pipeline.options import TrainOptions
from pipeline.training.train import train

NO_RATINGS = "holdout/rmse and holdout/mae left out: no held-out interaction has its user and its item in training"


NOBODY = "ranking metrics left out: no known user has a held-out interaction"


# ---- left out, with a message ------------------------------------------------------------------------


def test_nothing_held_out():
    report = train(ratings(), dataclasses.replace(QUICK, holdout=0.0, tol=10.0)).report
    assert set(report.metrics) == FITTED
    assert report.messages == ("holdout metrics left out: nothing is held out (--holdout 0)",)


def test_one_interaction_a_user():
    x = Interactions.of(np.arange(150), np.arange(150) % 7)
    report = train(x, dataclasses.replace(QUICK, tol=10.0)).report
    assert set(report.metrics) == FITTED
    assert report.messages == (NO_RATINGS, NOBODY)


def test_only_new_items_held_out():
    # The latest of each user is an item that nobody has otherwise: nothing to rate, and a miss for the ranking.
    u, i = np.repeat(np.arange(30), 5), np.tile(np.arange(5), 30)
    x = Interactions.of(u, np.where(i == 4, 100 + u, i), None, i)
    report = train(x, dataclasses.replace(QUICK, tol=10.0)).report
    assert set(report.metrics) >= FITTED | RANKING | POPULAR
    assert not set(report.metrics) & (RATINGS | AVERAGES)
    assert {report.metrics[name] for name in RANKING | POPULAR} == {0.0}
    assert not any(name.startswith("lift") for name in report.metrics)
    assert report.messages == (
        NO_RATINGS,
        "30 held-out interactions are of items that training has not seen: they count as missed",
        "k = 10 exceeds the 4 items that are ranked: the lists end there",
        "this model ranks no better than most popular on the held-out part: NDCG@10 0.0000 and 0.0000",
    )


def test_binary_has_no_ratings():
    report = train(ratings(), dataclasses.replace(QUICK, transform="binary", tol=10.0)).report
    assert set(report.metrics) == FITTED | EVALUATED
    assert report.messages == ("holdout/rmse and holdout/mae left out: a binary matrix holds no scores to predict",)


def test_a_training_side_too_small_for_its_start_is_no_reason_to_fail():
    # Item 4 is everybody's latest: the whole matrix has 5 columns, the training side 4.
    x = Interactions.of(np.repeat(np.arange(30), 5), np.tile(np.arange(5), 30), None, np.tile(np.arange(5), 30))
    spec = dataclasses.replace(QUICK, n_components=5, init="nndsvd", tol=10.0)
    trained = train(x, spec)
    assert trained.model.n_components == 5
    assert set(trained.report.metrics) == FITTED
    assert trained.report.messages == (
        "holdout metrics left out: init = nndsvd starts at most 4 factors on the training side of the holdout, "
        "and 5 are asked for",
    )
    assert set(train(x, dataclasses.replace(spec, n_components=4)).report.metrics) > RANKING
    assert set(train(x, dataclasses.replace(spec, init="random")).report.metrics) > RANKING
    with pytest.raises(UsageError, match="init = 'nndsvd' can only be used when n_components <= min"):
        train(x, dataclasses.replace(spec, n_components=6))


# ---- too little data, and odd shapes -------------------------------------------------------------------


def test_too_little_data_before_the_filters():
    x = ratings(n=99)
    with pytest.raises(TooLittleDataError, match=r"^Too little data: 99 interaction\(s\), and at least 100 are needed"):
        train(x, TrainOptions())
    assert train(x, dataclasses.replace(QUICK, min_data=99)).facts["n_interactions"] == 99
    assert train(ratings(n=100), QUICK).facts["n_interactions"] == 100


def test_too_little_data_after_the_filters():
    # 120 events, but of 60 pairs; and 300 pairs, but of users who have too few.
    twice = Interactions.of(np.tile(np.arange(60), 2), np.zeros(120, int))
    with pytest.raises(
        TooLittleDataError, match=r"Too little data: 60 interaction\(s\).*at least 100 are needed.*--min-data"
    ):
        train(twice, TrainOptions())
    with pytest.raises(TooLittleDataError, match=r"Too little data: 0 interaction\(s\)"):
        train(ratings(), TrainOptions(min_interactions=26))
    with pytest.raises(TooLittleDataError, match=r"Too little data: \d+ interaction\(s\)"):
        train(ratings(), TrainOptions(max_interactions=3))


@pytest.mark.parametrize("spec", [TrainOptions(), TrainOptions(min_data=0)])
def test_no_data_at_all(spec):
    with pytest.raises(TooLittleDataError, match=r"Too little data: 0 interaction\(s\), and at least"):
        train(Interactions.of([], []), spec)


def test_too_little_data_is_found_before_any_fit():
    calls = Calls()
    with pytest.raises(TooLittleDataError):
        train(ratings(n=99), TrainOptions(), calls)
    assert [call[0] for call in calls] == ["matrix"]


@pytest.mark.parametrize("init", ["random", "nndsvd", "nndsvda", "nndsvdar"])
@pytest.mark.parametrize("transform", ["none", "log1p", "binary"])
def test_nothing_but_zeros(init, transform):
    x = ratings()
    x = dataclasses.replace(x, scores=np.zeros_like(x.scores))
    trained = train(x, dataclasses.replace(QUICK, init=init, transform=transform))
    assert not trained.model.user_factors.any()
    assert {trained.report.metrics[name] for name in ALL_CELLS | {"observed_rmse", "observed_mae"}} == {0.0}
    assert trained.report.metrics["n_iter"] == 1.0
    assert trained.report.metrics["sparsity"] == 1 - 300 / (30 * 25)
    assert trained.model.seen.nnz == 300


@pytest.mark.parametrize(
    ("n_users", "n_items", "k"), [(1, 120, 1), (120, 1, 1), (2, 60, 1), (60, 3, 2), (11, 11, 10), (40, 40, 10)]
)
def test_the_shape_and_the_number_of_factors(n_users, n_items, k):
    u, i = np.divmod(np.arange(n_users * n_items), n_items)
    trained = train(Interactions.of(u, i, 1 + (u + i) % 5), TrainOptions(max_iter=5))
    assert trained.model.n_components == k
    assert trained.facts == {
        "algorithm_used": "nmf",
        "n_components_used": k,
        "matrix_shape": f"{n_users}x{n_items}",
        "n_users": n_users,
        "n_items": n_items,
        "n_interactions": n_users * n_items,
    }
    assert all(map(math.isfinite, trained.report.metrics.values()))


odd = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 4), st.sampled_from([0.0, 0.5, 5.0, 1e30]), st.integers(0, 2)),
    min_size=1,
    max_size=25,
)


@given(
    odd,
    st.sampled_from([0.0, 0.2, 0.9]),
    st.sampled_from(["none", "log1p", "binary"]),
    st.sampled_from(["random", "nndsvda"]),
    st.booleans(),
)
def test_every_metric_is_finite_or_is_left_out_with_a_message(rows, share, transform, init, timed):
    users, items, scores, at = zip(*rows, strict=True)
    scores = np.minimum(scores, 1e6) if transform == "none" else scores
    spec = TrainOptions(max_iter=3, min_data=0, holdout=share, transform=transform, init=init)
    report = train(Interactions.of(users, items, scores, at if timed else None), spec).report
    assert all(type(value) is float and math.isfinite(value) for value in report.metrics.values())
    assert set(report.metrics) >= FITTED
    said = " " + " ".join(report.messages)
    for name in (RATINGS | RANKING | POPULAR) - set(report.metrics):
        ranked = name not in RATINGS and "ranking metrics left out" in said
        assert ranked or f" {name} " in said or "holdout metrics left out" in said
    for name in set(report.metrics):
        assert f" {name} left out" not in said
