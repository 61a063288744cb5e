"""Leave-one-out among sampled or given negatives, and the public protocol's file."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import naive, naive_metrics

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import PreparedInteractions, prepare_interactions
from pipeline.data.splits import Split, last_split, random_split
from pipeline.errors import InputError, LeakageError, UsageError
from pipeline.evaluation import sampled_negatives
from pipeline.evaluation.negatives_file import read_negatives
from pipeline.evaluation.sampled_negatives import Negatives, evaluate_sampled, sample_negatives
from pipeline.models.factor_model import FactorModel
from pipeline.models.popularity import popular_model
from pipeline.models.popularity_model import PopularityModel
from pipeline.ranking.scorer import Scorer

tables = st.dictionaries(st.tuples(st.integers(0, 6), st.integers(0, 11)), st.integers(0, 9), min_size=2, max_size=50)


def interactions(table):
    users, items = zip(*table, strict=True)
    return prepare_interactions(
        Interactions.of(users, items, None, np.array(list(table.values()), "datetime64[ms]"))
    ).interactions


def scorer_for(train, seed=0):
    matrix = to_matrix(train)
    rng = np.random.default_rng(seed)
    w, h = (rng.integers(0, 3, shape).astype(np.float32) for shape in ((len(matrix.users), 2), (2, len(matrix.items))))
    return Scorer(FactorModel(w, h, matrix.users, matrix.items, matrix.scores))


def rows_of(negatives):
    for at, (user, item) in enumerate(zip(negatives.users.tolist(), negatives.items.tolist(), strict=True)):
        yield user, item, negatives.negatives[negatives.start[at] : negatives.start[at + 1]].tolist()


@given(tables, st.integers(1, 12), st.integers(0, 5), st.integers(1, 9))
def test_negatives_are_distinct_and_nothing_of_the_users(table, n, seed, block):
    split = last_split(interactions(table))
    train, test = naive_metrics.pairs(split.train), naive_metrics.pairs(split.test)
    known = {i for _, i in train}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampled_negatives, "_ROWS", block)
        rows_read = list(rows_of(sample_negatives(split, n, seed)))
    assert {(user, item) for user, item, _ in rows_read} == set(test)
    for user, _, negatives in rows_read:
        able = {i for i in known if (user, i) not in train and (user, i) not in test}
        assert len(set(negatives)) == len(negatives) == min(n, len(able))
        assert set(negatives) <= able


def test_negatives_are_uniform_and_by_seed():
    split = Split(
        PreparedInteractions.of([0] * 3 + [1] * 10, [*range(3), *range(3, 13)]), PreparedInteractions.of([0], [5])
    )
    drawn = [tuple(sample_negatives(split, 3, seed).negatives.tolist()) for seed in range(600)]
    assert drawn == [tuple(sample_negatives(split, 3, seed).negatives.tolist()) for seed in range(600)]
    times = np.bincount(np.ravel(drawn), minlength=13)
    assert times[[0, 1, 2, 5]].tolist() == [0, 0, 0, 0]
    assert times.sum() == 1800
    assert times[times > 0].min() > 140  # 200 each on average
    assert times.max() < 260


def naive_score(model, user_row, item_row):
    if isinstance(model, PopularityModel):
        return model.seen.indices.tolist().count(item_row)
    return naive.score(model, user_row, item_row)


def naive_ranks(scorer, negatives):
    """Rank of each held-out item among its negatives, None for one that the model does not know."""
    model = scorer.model
    users, items = model.users.values.tolist(), model.items.values.tolist()
    for user, item, others in rows_of(negatives):
        if user not in users:
            continue
        if item not in items:
            yield None
            continue
        score = {i: naive_score(model, users.index(user), items.index(i)) for i in [item, *others] if i in items}
        ahead = [i for i in others if i in items and (-score[i], i) < (-score[item], item)]
        yield 1 + len(ahead)


def check(evaluation, ranks, k):
    hits = [1 if r is not None and r <= k else 0 for r in ranks]
    n = len(ranks)
    assert evaluation[f"hit_rate_at_{k}"] == evaluation[f"recall_at_{k}"] == pytest.approx(sum(hits) / n)
    assert evaluation[f"ndcg_at_{k}"] == pytest.approx(sum(1 / math.log2(r + 1) for r in ranks if r and r <= k) / n)
    assert evaluation[f"mrr_at_{k}"] == pytest.approx(sum(1 / r for r in ranks if r and r <= k) / n)


@given(tables, st.integers(1, 12), st.integers(0, 5), st.integers(1, 9))
def test_metrics_are_the_twins(table, n, seed, block):
    split = random_split(interactions(table), 0.4, seed)
    scorer = scorer_for(split.train, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampled_negatives, "_ROWS", block)
        evaluation = evaluate_sampled(scorer, split, n, (1, 4), seed=seed)
        negatives = sample_negatives(split, n, seed)
    ranks = list(naive_ranks(scorer, negatives))
    if not ranks:
        assert dict(evaluation.metrics) == {}
        assert "left out" in evaluation.messages[-1]
        return
    for k in (1, 4):
        check(evaluation.metrics, ranks, k)


def test_given_negatives_and_what_the_model_does_not_know():
    train = PreparedInteractions.of([1, 1, 2, 2, 3], [10, 20, 20, 30, 40])
    split = Split(train, PreparedInteractions.of([1, 2, 3, 9], [30, 99, 20, 10]))
    # Popularity: 20 twice, the others once. (1, 30): behind 20, and behind 10 by id; 77 is unknown.
    given = Negatives(
        np.array([1, 2, 3, 9]),
        np.array([30, 99, 20, 10]),
        np.array([0, 3, 4, 6, 7]),
        np.array([20, 77, 10, 40, 10, 30, 20]),
    )
    scorer = Scorer(popular_model(to_matrix(train)), "popular")
    evaluation = evaluate_sampled(scorer, split, given, (2, 3), prefix="x_")
    ranks = [3, None, 1]
    assert list(naive_ranks(scorer, given)) == ranks
    check({name[2:]: value for name, value in evaluation.metrics.items()}, ranks, 2)
    check({name[2:]: value for name, value in evaluation.metrics.items()}, ranks, 3)
    assert evaluation.messages == (
        "1 held-out interactions are left out: their users have no training interaction",
        "k = 3 is at least the number of candidates of 3 held-out items: these are always in the list",
        "1 of 3 held-out items have the very score of one of their negatives: their ids decide the order",
    )


def test_what_makes_no_sense_is_refused():
    train = PreparedInteractions.of([1, 2], [10, 20])
    split = Split(train, PreparedInteractions.of([1], [20]))
    scorer = Scorer(popular_model(to_matrix(train)))
    with pytest.raises(UsageError, match="k must be"):
        evaluate_sampled(scorer, split, 1, ())
    with pytest.raises(UsageError, match="At least 1 negative"):
        evaluate_sampled(scorer, split, 0)
    other = Negatives(np.array([2]), np.array([20]), np.array([0, 1]), np.array([10]))
    with pytest.raises(InputError, match=r"1 pair\(s\) of the negatives are not held out, \(2,20\) first"):
        evaluate_sampled(scorer, split, other)
    with pytest.raises(InputError, match="an item and a range"):
        Negatives(np.array([2]), np.array([20]), np.array([0, 2]), np.array([10]))
    with pytest.raises(LeakageError):
        evaluate_sampled(Scorer(popular_model(to_matrix(PreparedInteractions.of([1, 2], [20, 20])))), split, 1)


# ---- the file -------------------------------------------------------------------------------------


def test_the_file_of_the_protocol(tmp_path):
    path = tmp_path / "test.negative"
    path.write_text("(0,25)\t1064\t174\t2791\n(1, 133)\t1072\t3154\t\r\n\n")
    negatives_read = read_negatives(path)
    assert list(rows_of(negatives_read)) == [(0, 25, [1064, 174, 2791]), (1, 133, [1072, 3154])]
    path.write_text("(a,25)\t10\tx7\n")
    assert list(rows_of(read_negatives(path))) == [("a", "25", ["10", "x7"])]


@pytest.mark.parametrize("line", ["0,25\t1", "(0,25)", "(0,25)\t1\t\t2", "(0)\t1", "(0,25) 1 2", "(0,1,2)\t3"])
def test_a_line_of_another_form_is_named(tmp_path, line):
    path = tmp_path / "test.negative"
    path.write_text(f"(0,25)\t1\n{line}\n")
    with pytest.raises(InputError, match="line 2: expected"):
        read_negatives(path)


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(InputError, match="can't be read"):
        read_negatives(tmp_path / "none")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(InputError, match="is empty"):
        read_negatives(tmp_path / "empty")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\n")
    with pytest.raises(InputError, match="can't be read"):
        read_negatives(tmp_path / "bytes")


def test_it_is_said_where_there_are_fewer_negatives_or_candidates_than_asked_for():
    train = prepare_interactions(Interactions.of([1, 1, 2, 2, 2, 2], [1, 2, 3, 4, 5, 6])).interactions
    split = Split(train, prepare_interactions(Interactions.of([1, 2], [3, 1])).interactions)
    ranker = Scorer(popular_model(to_matrix(train)))
    report = evaluate_sampled(ranker, split, 3, ks=(1, 2))
    fewer = "1 held-out items have fewer than 3 negatives: their users have no more items left (the fewest: 1)"
    assert fewer in report.messages
    shorter = "k = 2 is at least the number of candidates of 1 held-out items: these are always in the list"
    assert shorter in report.messages
    assert not [sentence for sentence in evaluate_sampled(ranker, split, 1).messages if "fewer" in sentence]
