"""Averages of ratings and their errors: by loops over dictionaries, and by hand."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import naive_metrics

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import PreparedInteractions, prepare_interactions
from pipeline.data.splits import Split, holdout
from pipeline.errors import TooLittleDataError
from pipeline.evaluation.evaluate import evaluate_ratings
from pipeline.evaluation.rating_errors import evaluate_averages
from pipeline.models.averages import damped_biases, global_average, item_averages, user_averages
from pipeline.models.item_knn import fit_item_knn
from pipeline.models.popularity import popular_model
from pipeline.ranking.scorer import Scorer

tables = st.dictionaries(
    st.tuples(st.integers(0, 6), st.integers(0, 9)), st.sampled_from([0.0, 0.5, 3.0, 5.0]), min_size=1, max_size=45
)


def interactions(table):
    users, items = zip(*table, strict=True) if table else ((), ())
    return prepare_interactions(Interactions.of(users, items, list(table.values()))).interactions


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


def naive_averages(train, damping_items=5.0, damping_users=5.0):
    """{name: function of (user, item)} of dictionaries {(user, item): score}."""
    mu = mean(train.values())
    by_user = {u: [s for (v, _), s in train.items() if v == u] for u, _ in train}
    by_item = {i: [s for (_, j), s in train.items() if j == i] for _, i in train}
    item_bias = {i: math.fsum(s - mu for s in scores) / (len(scores) + damping_items) for i, scores in by_item.items()}
    user_bias = {
        u: math.fsum(s - mu - item_bias[i] for (v, i), s in train.items() if v == u) / (len(by_user[u]) + damping_users)
        for u in by_user
    }
    return {
        "global": lambda u, i: mu,
        "user": lambda u, i: mean(by_user[u]),
        "item": lambda u, i: mean(by_item[i]),
        "biases": lambda u, i: mu + user_bias[u] + item_bias[i],
    }


def naive_errors(predict, train, test):
    low, high = min(train.values()), max(train.values())
    left = [min(max(predict(u, i), low), high) - score for (u, i), score in test.items()]
    return math.sqrt(mean(d * d for d in left)), mean(map(abs, left))


LOGGED = {
    "global": "x/baseline/global-mean",
    "user": "x/baseline/user-mean",
    "item": "x/baseline/item-mean",
    "biases": "x/baseline/biases",
}


@given(tables, st.sampled_from([0.2, 0.5]), st.integers(0, 9))
def test_averages_and_their_errors_are_the_twins(table, share, seed):
    split = holdout(interactions(table), share, seed)
    train, test = naive_metrics.pairs(split.train), naive_metrics.pairs(split.test)
    predictors = naive_averages(train)
    users, items = split.train.user_ids.values.tolist(), split.train.item_ids.values.tolist()
    assert global_average(split.train) == pytest.approx(predictors["global"](0, 0))
    assert user_averages(split.train).tolist() == pytest.approx([predictors["user"](u, 0) for u in users])
    assert item_averages(split.train).tolist() == pytest.approx([predictors["item"](0, i) for i in items])
    known = {(u, i): s for (u, i), s in test.items() if u in users and i in items}
    averages = evaluate_averages(split, "x")
    if not known:
        assert dict(averages.metrics) == {}
        assert len(averages.messages) == 1
        return
    of_all = {f"{LOGGED[name]}/{kind}" for name in predictors for kind in ("rmse", "mae")}
    parts = {name for name in averages.metrics if re.search(r"/segment/(cold|warm|hot)/|/band/(head|mid|tail)/", name)}
    assert set(averages.metrics) - parts == of_all
    for name, predict in predictors.items():
        expected = naive_errors(predict, train, known)
        measured = tuple(averages.metrics[f"{LOGGED[name]}/{kind}"] for kind in ("rmse", "mae"))
        assert measured == pytest.approx(expected, abs=1e-9)


@given(tables, st.integers(0, 9))
def test_errors_by_segment_and_band_are_those_of_their_cells(table, seed):
    split = holdout(interactions(table), 0.5, seed)
    train, test = naive_metrics.pairs(split.train), naive_metrics.pairs(split.test)
    predict = naive_averages(train)["item"]
    evaluated = sorted(naive_metrics.by_user(test))
    n_train = [len(naive_metrics.by_user(train)[u]) for u in evaluated]
    segment = dict(zip(evaluated, naive_metrics.segments(n_train), strict=True)) if evaluated else {}
    items = split.train.item_ids.values.tolist()
    band = naive_metrics.bands({i: sum(j == i for _, j in train) for i in items})
    known = {(u, i): s for (u, i), s in test.items() if i in items}
    metrics = evaluate_averages(split, "").metrics
    for label in ("cold", "warm", "hot", "head", "mid", "tail"):
        cells_of_group = {(u, i): s for (u, i), s in known.items() if label in (segment[u], band[i])}
        group = "segment" if label in ("cold", "warm", "hot") else "band"
        rmse, mae = (f"baseline/item-mean/{group}/{label}/{kind}" for kind in ("rmse", "mae"))
        if cells_of_group:
            expected = naive_errors(predict, train, cells_of_group)
            assert metrics[rmse] == pytest.approx(expected[0], abs=1e-9)
            assert metrics[mae] == pytest.approx(expected[1], abs=1e-9)
        else:
            assert rmse not in metrics


def test_biases_by_hand():
    # Mean 3. Item 1: (5 − 3 + 3 − 3)/(2 + 2) = 0.5, item 2: (1 − 3)/(1 + 2). User 1: (5 − 3.5)/(1 + 1).
    x = interactions({(1, 1): 5.0, (2, 1): 3.0, (2, 2): 1.0})
    biases = damped_biases(x, damping_items=2.0, damping_users=1.0)
    assert biases.mean == 3.0
    assert biases.items.tolist() == pytest.approx([0.5, -2 / 3])
    assert biases.users.tolist() == pytest.approx([0.75, (-0.5 + (1 - 3 + 2 / 3)) / 3])
    assert biases.predict(np.array([0]), np.array([1])).tolist() == pytest.approx([3 + 0.75 - 2 / 3])
    undamped = damped_biases(x, 0.0, 0.0)
    assert undamped.items.tolist() == pytest.approx([1.0, -2.0])


def test_nothing_to_average():
    with pytest.raises(TooLittleDataError, match="no score"):
        global_average(Interactions.of([], []))
    train = PreparedInteractions.of([1], [1])
    for split in (Split(train, PreparedInteractions.of([], [])), Split(train, PreparedInteractions.of([1], [2]))):
        assert dict(evaluate_averages(split).metrics) == {}
        assert "left out" in evaluate_averages(split).messages[0]


def test_ratings_of_any_ranker_and_by_segment():
    split = holdout(interactions({(u, i): float(1 + (u * i) % 5) for u in range(7) for i in range(10)}), 0.3)
    knn = Scorer(fit_item_knn(to_matrix(split.train)))
    evaluation = evaluate_ratings(knn, split, part="")
    rows = split.test.users
    cols = split.train.item_ids.rows(split.test.item_ids.values)[split.test.items]
    expected = np.clip(knn.model.predict(rows, cols), 1, 5) - split.test.scores
    assert evaluation.metrics["mae"] == pytest.approx(np.abs(expected).mean())
    whole = evaluate_ratings(Scorer(popular_model(to_matrix(split.train))), split, part="").metrics
    bands = [name for name in ("head", "mid", "tail") if f"band/{name}/mae" in whole]
    assert len(bands) == 3
    assert min(whole[f"band/{b}/mae"] for b in bands) <= whole["mae"] <= max(whole[f"band/{b}/mae"] for b in bands)
    users = [whole[f"segment/{name}/mae"] for name in ("cold", "warm", "hot") if f"segment/{name}/mae" in whole]
    assert min(users) <= whole["mae"] <= max(users)
