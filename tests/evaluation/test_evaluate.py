"""What is measured on held-out interactions: by hand, and by the twins that know only ids."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import naive_metrics

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import PreparedInteractions, prepare_interactions
from pipeline.data.splits import Split, holdout
from pipeline.evaluation import evaluate
from pipeline.evaluation.evaluate import evaluate_ranking, evaluate_ratings
from pipeline.evaluation.results import Report
from pipeline.models.factor_model import FactorModel
from pipeline.models.popularity import popular_model
from pipeline.ranking.scorer import Scorer

rows = st.dictionaries(
    st.tuples(st.integers(0, 7), st.integers(0, 13)), st.sampled_from([0.0, 0.5, 3.0, 5.0]), min_size=1, max_size=60
)


def interactions(table):
    """{(user, item): score} → Interactions in order."""
    users, items = zip(*table, strict=True) if table else ((), ())
    return prepare_interactions(Interactions.of(users, items, list(table.values()))).interactions


def split_of(train, test):
    return Split(interactions(train), interactions(test))


def model_for(train, by_score=None, seed=0, k=3, ties=False, scale=1.0):
    """A model over the training side: of random factors, or one that scores the items alike for all users."""
    matrix = to_matrix(train)
    rng = np.random.default_rng(seed)

    def random(shape):
        return rng.integers(0, 2, shape) if ties else scale * rng.random(shape)

    if by_score is None:
        w, h = random((len(matrix.users), k)), random((k, len(matrix.items)))
    else:
        w, h = np.ones((len(matrix.users), 1)), np.array([by_score])
    return FactorModel(w.astype(np.float32), h.astype(np.float32), matrix.users, matrix.items, matrix.scores)


# ---- ranking --------------------------------------------------------------------------------------


@given(rows, st.sampled_from([0.2, 0.5, 0.8]), st.integers(0, 99), st.sampled_from([1, 3, 10, 20]), st.booleans())
def test_ranking_is_the_twins(table, share, seed, k, ties):
    split = holdout(interactions(table), share, seed)
    train, test = naive_metrics.pairs(split.train), naive_metrics.pairs(split.test)
    for popular in (False, True):
        model = popular_model(to_matrix(split.train)) if popular else model_for(split.train, seed=seed, ties=ties)
        result = evaluate_ranking(Scorer(model), split, k, "x")
        expected = naive_metrics.ranking(model, train, test, k, popular)
        if expected is None:
            assert dict(result.metrics) == {}
            assert len(result.messages) == 1
        else:
            assert result.messages == ()
            assert set(result.metrics) == {f"x/ndcg_at_{k}", f"x/recall_at_{k}"}
            assert result.metrics[f"x/ndcg_at_{k}"] == pytest.approx(expected[0], rel=1e-12)
            assert result.metrics[f"x/recall_at_{k}"] == pytest.approx(expected[1], rel=1e-12)


@given(rows, rows, st.integers(0, 99))
def test_ranking_is_the_twins_for_sides_that_share_little(train, test, seed):
    """Users and items on one side only."""
    test = {pair: score for pair, score in test.items() if pair not in train}
    split = split_of(train, test)
    model = model_for(split.train, seed=seed)
    result = evaluate_ranking(Scorer(model), split, 4)
    expected = naive_metrics.ranking(model, train, test, 4)
    values = (result.metrics["holdout/ndcg_at_4"], result.metrics["holdout/recall_at_4"]) if result.metrics else None
    assert values == (None if expected is None else pytest.approx(expected, rel=1e-12))


def test_the_one_right_answer(checkerboard):
    withheld = PreparedInteractions.of(10 * np.arange(20), checkerboard.matrix.items.values)
    result = evaluate_ranking(Scorer(checkerboard.model), Split(checkerboard.interactions, withheld))
    assert dict(result.metrics) == {"holdout/ndcg_at_10": 1.0, "holdout/recall_at_10": 1.0}
    assert evaluate_ranking(Scorer(checkerboard.model), Split(checkerboard.interactions, withheld), 1).metrics == {
        "holdout/ndcg_at_1": 1.0,
        "holdout/recall_at_1": 1.0,
    }


def test_ranking_by_hand():
    # Items 0…4 are scored 5, 4, 3, 2, 1. User 1 has 0 in training: ranks are 1, 2, 3, 4.
    split = split_of(
        {(1, 0): 1, (2, 1): 1, (2, 2): 1, (3, 3): 1, (3, 4): 1}, {(1, 2): 1, (1, 4): 1, (2, 0): 1, (9, 1): 1}
    )
    result = evaluate_ranking(Scorer(model_for(split.train, by_score=[5, 4, 3, 2, 1])), split, 3).metrics
    # User 1: item 2 is second, item 4 is fourth of three. User 2: item 0 is first. User 3: nothing held out.
    # User 9 is not in training and is no part of the average.
    gain = (1 / math.log2(3)) / (1 + 1 / math.log2(3))
    assert result["holdout/ndcg_at_3"] == pytest.approx((gain + 1) / 2)
    assert result["holdout/recall_at_3"] == pytest.approx((1 / 2 + 1) / 2)


def test_items_unseen_in_training_are_missed_not_forgotten():
    train = {(1, 0): 1, (2, 1): 1}
    scorer = Scorer(model_for(interactions(train), by_score=[1, 1]))
    known = evaluate_ranking(scorer, split_of(train, {(1, 1): 1})).metrics
    assert known == {"holdout/ndcg_at_10": 1.0, "holdout/recall_at_10": 1.0}
    with_new = evaluate_ranking(scorer, split_of(train, {(1, 1): 1, (1, 77): 1, (1, 78): 1})).metrics
    assert with_new["holdout/recall_at_10"] == pytest.approx(1 / 3)
    assert with_new["holdout/ndcg_at_10"] == pytest.approx(1 / (1 + 1 / math.log2(3) + 1 / 2))
    # A user who only has new items counts, with 0.
    two = evaluate_ranking(scorer, split_of(train, {(1, 1): 1, (2, 77): 1})).metrics
    assert two == {"holdout/ndcg_at_10": 0.5, "holdout/recall_at_10": 0.5}


def test_the_ideal_has_at_most_ten_places():
    items = {(1, i): 1 for i in range(12)}
    train = {(1, 50): 1} | {(2, i): 1 for i in range(12)}
    result = evaluate_ranking(Scorer(model_for(interactions(train), by_score=np.ones(13))), split_of(train, items))
    assert result.metrics["holdout/ndcg_at_10"] == pytest.approx(1.0)
    assert result.metrics["holdout/recall_at_10"] == pytest.approx(10 / 12)


def test_training_items_are_left_out_of_the_list():
    # Ten items the user knows score best; the held-out one comes first only without them.
    train = {(1, i): 0.0 for i in range(10)} | {(2, 10): 1, (2, 11): 1}
    scorer = Scorer(model_for(interactions(train), by_score=[9] * 10 + [2, 1]))
    assert evaluate_ranking(scorer, split_of(train, {(1, 10): 1})).metrics["holdout/ndcg_at_10"] == 1.0


def test_padding_is_no_hit():
    # User 2 has seen all but one item: nine of ten places are padded with -1, and the row before ends with a hit.
    train = {(1, 0): 1} | {(2, i): 1 for i in range(1, 5)}
    split = split_of(train, {(1, 4): 1, (2, 0): 1, (2, 77): 1})
    result = evaluate_ranking(Scorer(model_for(split.train, seed=1)), split, 10).metrics
    assert result["holdout/recall_at_10"] == pytest.approx((1 + 1 / 2) / 2)


def test_zero_scores_held_out_are_relevant_too():
    train = {(1, 0): 1, (2, 1): 1}
    result = evaluate_ranking(Scorer(model_for(interactions(train), seed=1)), split_of(train, {(1, 1): 0.0}))
    assert result.metrics["holdout/recall_at_10"] == 1.0


@given(rows, st.integers(1, 5))
def test_ranking_in_blocks_of_any_size(table, block):
    split = holdout(interactions(table), 0.5)
    scorer = Scorer(model_for(split.train))
    whole = evaluate_ranking(scorer, split, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "_USERS_A_BLOCK", block)
        assert evaluate_ranking(scorer, split, 4) == whole


def test_ids_of_text():
    train = PreparedInteractions.of(["a", "a", "b"], ["x", "y", "z"])
    split = Split(train, PreparedInteractions.of(["a", "ö"], ["z", "x"]))
    result = evaluate_ranking(Scorer(model_for(train)), split)
    assert result.metrics == {"holdout/ndcg_at_10": 1.0, "holdout/recall_at_10": 1.0}


def test_the_lists_are_those_of_the_scorer(monkeypatch):
    """What ranks here is what ranks in the batch job: another list from the scorer is another metric."""
    train = {(1, 0): 1, (2, 1): 1, (3, 2): 1}
    split = split_of(train, {(1, 1): 1})
    scorer = Scorer(model_for(split.train, by_score=[3, 2, 1]))
    asked = []

    def last_item_only(self, rows, k=10, **options):
        asked.append((np.asarray(rows).tolist(), k, options))
        top = real(self, rows, k, **options)
        top.items[:] = 2
        return top

    real = Scorer.recommend_rows
    monkeypatch.setattr(Scorer, "recommend_rows", last_item_only)
    assert set(evaluate_ranking(scorer, split).metrics.values()) == {0.0}
    assert asked == [([0], 10, {"allow": None})]


@pytest.mark.parametrize("test", [{}, {(8, 0): 1}], ids=["nothing held out", "unknown users only"])
def test_nothing_to_rank_for_is_left_out_with_a_message(test):
    train = {(1, 0): 1, (2, 1): 1}
    result = evaluate_ranking(Scorer(model_for(interactions(train))), split_of(train, test), part="validation")
    assert dict(result.metrics) == {}
    assert result.messages == (
        "validation/ndcg_at_10 and validation/recall_at_10 left out: no known user has a held-out interaction",
    )


# ---- ratings --------------------------------------------------------------------------------------


@given(rows, rows, st.integers(0, 99), st.sampled_from([0.01, 1.0, 3.0]), st.booleans())
def test_ratings_are_the_twins(train, test, seed, scale, log1p):
    test = {pair: score for pair, score in test.items() if pair not in train}
    split = split_of(train, test)
    model = model_for(split.train, seed=seed, scale=scale)
    result = evaluate_ratings(Scorer(model), split, "log1p" if log1p else "none", "x")
    expected = naive_metrics.ratings(model, train, test, log1p)
    if expected is None:
        assert dict(result.metrics) == {}
        assert result.messages == (
            "x/rmse and x/mae left out: no held-out interaction has its user and its item in training",
        )
    else:
        assert result.messages == ()
        parts = {f"x/segment/{part}/{kind}" for part in ("cold", "warm", "hot") for kind in ("rmse", "mae")}
        parts |= {f"x/band/{band}/{kind}" for kind in ("rmse", "mae") for band in ("head", "mid", "tail")}
        assert {"x/rmse", "x/mae"} <= set(result.metrics) <= {"x/rmse", "x/mae"} | parts
        assert (result.metrics["x/rmse"], result.metrics["x/mae"]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_ratings_by_hand():
    train = {(1, 0): 1.0, (2, 1): 4.0, (3, 2): 2.0}
    scorer = Scorer(model_for(interactions(train), by_score=[3.0, 9.0, 0.5]))
    # 9 is cut to 4, 0.5 is raised to 1; user 8 and item 77 are unknown.
    test = {(1, 1): 5.0, (1, 2): 2.0, (2, 0): 3.5, (8, 0): 50.0, (1, 77): 50.0}
    evaluation = evaluate_ratings(scorer, split_of(train, test)).metrics
    assert evaluation["holdout/mae"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert evaluation["holdout/rmse"] == pytest.approx(math.sqrt((1 + 1 + 0.25) / 3))


def test_the_range_is_that_of_training_not_of_what_is_held_out():
    train = {(1, 0): 2.0, (2, 1): 3.0}
    scorer = Scorer(model_for(interactions(train), by_score=[10.0, 10.0]))
    assert evaluate_ratings(scorer, split_of(train, {(1, 1): 5.0})).metrics["holdout/mae"] == 2.0


def test_of_log1p_the_errors_are_in_stars():
    train = {(1, 0): 1.0, (2, 1): 5.0}
    scorer = Scorer(model_for(interactions(train), by_score=np.log1p([3.0, 99.0])))
    evaluation = evaluate_ratings(scorer, split_of(train, {(2, 0): 4.0, (1, 1): 5.0}), "log1p").metrics
    # 3 for 4, and 99 cut to the 5 that was asked for: the range is the stars', not that of their logarithms.
    assert evaluation["holdout/mae"] == pytest.approx(0.5, rel=1e-6)
    assert evaluation["holdout/rmse"] == pytest.approx(math.sqrt(0.5), rel=1e-6)


def test_of_binary_there_are_no_ratings():
    train = {(1, 0): 1.0, (2, 1): 5.0}
    evaluation = evaluate_ratings(Scorer(model_for(interactions(train))), split_of(train, {(1, 1): 1.0}), "binary")
    assert dict(evaluation.metrics) == {}
    assert evaluation.messages == ("holdout/rmse and holdout/mae left out: a binary matrix holds no scores to predict",)


def test_reports_are_joined():
    joined = Report({"a": 1.0, "b": 2.0}, ("one",)) | Report({"b": 3.0}, ("two",))
    assert joined == Report({"a": 1.0, "b": 3.0}, ("one", "two"))
