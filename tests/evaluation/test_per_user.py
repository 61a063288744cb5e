"""What lists are worth: the compiled pass and numpy's give the same values, of every shape of list and catalogue."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support import naive_metrics

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import PreparedInteractions, prepare_interactions
from pipeline.data.splits import holdout, users_split
from pipeline.evaluation import metrics as m
from pipeline.evaluation import per_user
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.per_user import NAMES, Given, diversity, measure, tally, worth_compiling
from pipeline.evaluation.relevance import Relevance
from pipeline.kernels import available
from pipeline.kernels import list_metrics as kernel
from pipeline.models.item_knn import fit_item_knn
from pipeline.models.popularity import popular_model
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.threads import ThreadPool

pytestmark = pytest.mark.skipif(not available(), reason="needs numba")

lengths = st.sampled_from([(1,), (4,), (1, 2, 7), (3, 10, 20)])


def case(seed, n, n_items, k, density=0.3, empty=0.2):
    """Lists of distinct items, some short or empty, and what is relevant; some users have nothing that is known."""
    rng = np.random.default_rng(seed)
    lists = np.full((n, k), -1, np.int32)
    for row in lists:
        size = 0 if rng.random() < empty else min(int(rng.integers(1, k + 1)), n_items)
        row[:size] = rng.permutation(n_items)[:size]
    relevant = rng.random((n, n_items)) < density
    start = np.append(0, np.cumsum(relevant.sum(axis=1)))
    unseen = rng.integers(0, 3, n)
    n_relevant = relevant.sum(axis=1) + unseen
    count = rng.integers(0, 40, n_items)
    relevance = Relevance(np.arange(n), np.arange(n), n_relevant, start, np.nonzero(relevant)[1].astype(np.int32), ())
    return lists, relevance, count


def same(first, other):
    np.testing.assert_allclose(first, other, rtol=1e-12, atol=1e-12)


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 30), lengths, st.integers(1, 40), st.integers(1, 3))
def test_a_block_is_measured_alike_both_ways(seed, n, n_items, ks, block, threads):
    lists, relevance, count = case(seed, n, n_items, ks[-1])
    given_ = Given(relevance, count, m.popularity_bands(count), 50, ks)
    whole = measure(given_, slice(0, n), lists, None)
    assert whole.shape == (len(ks) * len(NAMES), n)
    with ThreadPool(threads) as pool:
        for first in range(0, n, block):
            some = slice(first, min(first + block, n))
            same(measure(given_, some, lists[some], pool), whole[:, some])
            alone = measure(given_, some, lists[some], None)
            np.testing.assert_allclose(alone, whole[:, some], rtol=1e-12, atol=1e-15)


def test_by_hand():
    # Two relevant items, one of them unseen in training; the other is third. Items had by 8, 1, 4 and 0 of 16 users.
    relevance = Relevance(np.array([5]), np.array([9]), np.array([2]), np.array([0, 1]), np.array([2], np.int32), ())
    given_ = Given(relevance, np.array([8, 1, 4, 0]), np.array([0, 2, 1, 2], np.int8), 16, (2, 3))
    lists = np.array([[0, 3, 2]], np.int32)
    nan = math.nan
    ideal = 1 + 1 / math.log2(3)
    expected = [
        *(0, 0, 0, 0, 0, 0, (1 + 4) / 2, 4, nan, 0, nan),
        *(1 / 3, 1 / 2, 1, 0.5 / ideal, 1 / 6, 1 / 3, (1 + 4 + 2) / 3, 4, nan, 1, nan),
    ]
    with ThreadPool(1) as pool:
        for way in (pool, None):
            same(measure(given_, slice(0, 1), lists, way)[:, 0], expected)


@given(
    st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 25), lengths, st.sampled_from([1, 9, 70, 200]),
    st.sampled_from([0.0, 0.05, 0.5]), st.sampled_from([1, 40, 1 << 20]), st.booleans(),
)  # fmt: skip
def test_diversity_is_alike_both_ways_and_the_twins(seed, n, n_items, ks, n_users, density, room, again):
    """With bits for all, some or one of the items; more and fewer members than words; an item twice in a list."""
    lists, _, _ = case(seed, n, n_items, ks[-1])
    if again and ks[-1] > 1:
        lists[::2, -1] = lists[::2, 0]
    had = np.random.default_rng(seed).random((n_users, n_items)) < density * np.arange(1, n_items + 1) / n_items
    likeness = m.cosine_of_users(sparse.csr_matrix(had.astype(np.float32)))
    with pytest.MonkeyPatch.context() as patch, ThreadPool(2) as pool:
        patch.setattr(per_user, "_BITS", room)
        diversities, plain = diversity(lists, likeness, ks, pool), diversity(lists, likeness, ks, None)
    same(diversities, plain)
    users_of = [set(np.flatnonzero(had[:, i]).tolist()) for i in range(n_items)]
    if not again:
        for k, values in zip(ks, diversities, strict=True):
            for u, row in enumerate(lists[:, :k]):
                expected = naive_metrics.diversity([i for i in row.tolist() if i >= 0], users_of)
                assert math.isnan(values[u]) if expected is None else values[u] == pytest.approx(expected, abs=1e-12)


def test_more_pairs_than_are_kept(rng, monkeypatch):
    """The table of cosines is for speed: what it forgets is found again."""
    n_items = 700
    had = sparse.random(900, n_items, 0.05, "csr", np.float32, rng=rng)
    had = had.multiply(rng.random(n_items) < 0.9).tocsr()
    lists = np.argsort(rng.random((6000, n_items)), axis=1)[:, :12].astype(np.int32)
    likeness = m.cosine_of_users(had)
    i, j = np.triu_indices(12, 1)
    assert (
        np.unique(np.sort(lists, axis=1)[:, i].astype(int) * n_items + np.sort(lists, axis=1)[:, j]).size > kernel.KEPT
    )
    monkeypatch.setattr(per_user, "_BITS", 8 * 15 * 100)
    with ThreadPool(2) as pool:
        same(diversity(lists, likeness, (5, 12), pool), diversity(lists, likeness, (5, 12), None))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=40))
def test_a_tally_is_alike_both_ways(cells):
    users, items = (np.array([cell[side] for cell in cells], np.int32) for side in (0, 1))
    value = np.arange(8.0) ** 2
    with ThreadPool(1) as pool:
        for way in (pool, None):
            n, total = tally(users, items, 6, value, way)
            assert n.tolist() == [sum(u == user for u, _ in cells) for user in range(6)]
            assert total.tolist() == [sum(i**2 for u, i in cells if u == user) for user in range(6)]


def skewed(seed, n_users=400, n_items=120, n=9000):
    rng = np.random.default_rng(seed)
    u, i = (np.floor(size * rng.random(n) ** 2).astype(np.int64) for size in (n_users, n_items))
    cells = np.unique(u * n_items + i)
    at = rng.integers(0, 10**6, cells.size).astype("datetime64[ms]")
    return prepare_interactions(Interactions.of(cells // n_items, cells % n_items, None, at)).interactions


@pytest.mark.parametrize("way", ["holdout", "users"])
@pytest.mark.parametrize("ks", [(10,), (1, 5, 30)])
def test_an_evaluation_is_alike_both_ways(way, ks, monkeypatch):
    x = skewed(3)
    split = holdout(x, 0.3) if way == "holdout" else users_split(x, 0.4, 0.3)
    base = Scorer(fit_item_knn(to_matrix(split.train)))
    fold = base.for_users
    with monkeypatch.context() as patch:
        patch.setattr(per_user, "compiled", lambda _: pytest.fail("numpy was asked for"))
        plain = evaluate(base, split, ks, fold_in=fold, keep_lists=True, compiled=False)
    evaluation = evaluate(base, split, ks, fold_in=fold, keep_lists=True, compiled=True)
    assert evaluation.lists.tobytes() == plain.lists.tobytes()
    assert list(evaluation.per_user) == list(plain.per_user)
    for name, values in plain.per_user.items():
        same(evaluation.per_user[name], values)
    assert evaluation.metrics == pytest.approx(plain.metrics, rel=1e-12, abs=1e-12)
    assert evaluation.by_segment.keys() == plain.by_segment.keys()
    for name, values in plain.by_segment.items():
        assert evaluation.by_segment[name] == pytest.approx(values, rel=1e-12, abs=1e-12)
    assert (evaluation.messages, evaluation.cuts) == (plain.messages, plain.cuts)
    assert evaluation.n_train.tolist() == plain.n_train.tolist()


def test_kernels_evaluate_no_user_either():
    x = PreparedInteractions.of([1, 2], [1, 2])
    split = holdout(x)
    assert len(split.test) == 0
    assert len(evaluate(Scorer(popular_model(to_matrix(x))), split, compiled=True)) == 0


def test_kernels_are_for_many_places(monkeypatch):
    assert worth_compiling(1, True)
    assert not worth_compiling(10**9, False)
    assert worth_compiling(per_user.WORTH, None)
    assert not worth_compiling(per_user.WORTH - 1, None)
    monkeypatch.setattr(per_user, "available", lambda: False)
    assert not worth_compiling(10**9, None)
