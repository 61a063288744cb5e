"""Metrics of lists, held to their definitions: by hand, by the twins, and by trec_eval's own code."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support import naive, naive_metrics

from pipeline.evaluation import metrics as m
from pipeline.evaluation.metrics import catalogue

NAMES = {
    "precision": (m.precision_at_k, naive_metrics.precision),
    "recall": (m.recall_at_k, naive.recall),
    "hit_rate": (m.hit_rate_at_k, naive_metrics.hit_rate),
    "ndcg": (m.ndcg_at_k, naive.ndcg),
    "map": (m.average_precision_at_k, naive_metrics.average_precision),
    "mrr": (m.reciprocal_rank_at_k, naive_metrics.reciprocal_rank),
}


@st.composite
def rankings(draw):
    """Lists of distinct items, some shorter than k (padded with -1), and who finds what relevant."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    n_users, n_items, k = draw(st.integers(1, 7)), draw(st.integers(1, 25)), draw(st.integers(1, 12))
    lists = np.full((n_users, k), -1)
    for row in lists:
        n = min(rng.integers(0, k + 1), n_items)
        row[:n] = rng.permutation(n_items)[:n]
    relevant = rng.random((n_users, n_items)) < draw(st.sampled_from([0.1, 0.4, 0.9]))
    relevant[:, rng.integers(n_items)] = True
    return lists, relevant


def hits_of(lists, relevant):
    return np.take_along_axis(relevant, np.maximum(lists, 0), axis=1) & (lists >= 0)


@pytest.mark.parametrize("name", NAMES)
@given(rankings())
def test_a_metric_is_its_twin(name, ranking):
    lists, relevant = ranking
    ours, twin = NAMES[name]
    values_of_ours = ours(hits_of(lists, relevant), relevant.sum(axis=1))
    k = lists.shape[1]
    for u in range(len(lists)):
        ranked, mine = [i for i in lists[u].tolist() if i >= 0], set(np.flatnonzero(relevant[u]).tolist())
        assert values_of_ours[u] == pytest.approx(twin(ranked, mine, k), rel=1e-12)
    assert ((values_of_ours >= 0) & (values_of_ours <= 1 + 1e-12)).all()


@given(rankings())
def test_a_metric_is_trec_evals(ranking):
    """Its map_cut divides by all relevant items, ours by those that k places can hold."""
    trec = pytest.importorskip("pytrec_eval")
    lists, relevant = ranking
    n_relevant, k = relevant.sum(axis=1), lists.shape[1]
    truth = {f"u{u}": {f"i{i}": 1 for i in np.flatnonzero(row)} for u, row in enumerate(relevant)}
    run = {
        f"u{u}": {f"i{item}": float(k - place) for place, item in enumerate(row) if item >= 0}
        for u, row in enumerate(lists)
    }
    measures = {f"{name}.{k}" for name in ("P", "recall", "success", "ndcg_cut", "map_cut")} | {"recip_rank"}
    theirs = trec.RelevanceEvaluator(truth, measures).evaluate({u: items for u, items in run.items() if items})
    hits = hits_of(lists, relevant)
    ours = {name: metric(hits, n_relevant) for name, (metric, _) in NAMES.items()}
    ours["map"] = ours["map"] * np.minimum(n_relevant, k) / n_relevant
    names = {
        "precision": f"P_{k}",
        "recall": f"recall_{k}",
        "hit_rate": f"success_{k}",
        "ndcg": f"ndcg_cut_{k}",
        "map": f"map_cut_{k}",
        "mrr": "recip_rank",
    }
    for u in range(len(lists)):
        for name, their_name in names.items():
            expected = theirs[f"u{u}"][their_name] if run[f"u{u}"] else 0.0
            assert ours[name][u] == pytest.approx(expected, rel=1e-9), name


@pytest.mark.parametrize("name", NAMES)
def test_without_relevant_items_there_is_no_value(name):
    hits = np.zeros((2, 3), bool)
    hits[1, 0] = True
    values_of_ours = NAMES[name][0](hits, np.array([0, 1]))
    assert math.isnan(values_of_ours[0])
    assert values_of_ours[1] > 0


def test_by_hand():
    # Four places: hit, miss, hit, miss; three are relevant.
    hits, n = np.array([[True, False, True, False]]), np.array([3])
    assert m.precision_at_k(hits, n) == [0.5]
    assert m.recall_at_k(hits, n) == [2 / 3]
    assert m.hit_rate_at_k(hits, n) == [1.0]
    assert m.average_precision_at_k(hits, n) == pytest.approx([(1 + 2 / 3) / 3])
    assert m.reciprocal_rank_at_k(hits, n) == [1.0]
    assert m.reciprocal_rank_at_k(hits[:, 1:], n) == [0.5]
    # Ten relevant and two places: a perfect list has AP 1, and a fifth of the recall.
    both = np.array([[True, True]])
    assert m.average_precision_at_k(both, np.array([10])) == [1.0]
    assert m.recall_at_k(both, np.array([10])) == [0.2]


# ---- the catalogue --------------------------------------------------------------------------------


@given(rankings(), st.integers(1, 50))
def test_novelty_and_popularity_are_the_twins(ranking, n_users):
    lists, relevant = ranking
    count = np.random.default_rng(n_users).integers(0, n_users + 1, relevant.shape[1])
    novelty, popularity = m.novelty(lists, count, n_users), m.mean_popularity(lists, count)
    for u, row in enumerate(lists):
        ranked = [i for i in row.tolist() if i >= 0]
        expected = naive_metrics.novelty(ranked, count.tolist(), n_users)
        if expected is None:
            assert math.isnan(novelty[u])
            assert math.isnan(popularity[u])
        else:
            assert novelty[u] == pytest.approx(expected, rel=1e-12, abs=1e-12)
            assert popularity[u] == pytest.approx(np.mean(count[ranked]))


def test_novelty_by_hand():
    # Half, all, and (counted as one) none of eight users.
    lists = np.array([[0, -1], [1, -1], [2, -1], [0, 1], [-1, -1]])
    assert m.novelty(lists, np.array([4, 8, 0]), 8).tolist()[:4] == [1.0, 0.0, 3.0, 0.5]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_gini_is_half_the_mean_difference_over_the_mean(times):
    expected = naive_metrics.gini(times)
    gini = m.gini(np.array(times))
    assert (math.isnan(gini) and expected is None) or gini == pytest.approx(expected, abs=1e-12)


def test_gini_and_coverage_by_hand():
    assert m.gini(np.array([5, 5, 5])) == 0.0
    assert m.gini(np.array([0, 9, 0])) == pytest.approx(2 / 3)
    assert m.coverage(np.array([0, 9, 0])) == pytest.approx(1 / 3)
    assert math.isnan(m.gini(np.array([0, 0])))
    assert m.coverage(np.array([0, 0])) == 0.0
    assert math.isnan(m.coverage(np.array([], int)))


def test_popularity_lift_by_hand():
    nan = float("nan")
    assert m.popularity_lift(np.array([10.0, 20.0, nan, 7.0]), np.array([5.0, 5.0, 1.0, nan])) == 3.0
    assert math.isnan(m.popularity_lift(np.array([nan]), np.array([1.0])))


def seen_matrix(rng, n_users, n_items, density):
    return sparse.csr_matrix((rng.random((n_users, n_items)) < density).astype(np.float32))


@given(rankings(), st.sampled_from([0.0, 0.2, 0.7]), st.integers(1, 40), st.integers(1, 30))
def test_diversity_is_the_twins_for_every_k_and_block(ranking, density, cells, pairs):
    lists, relevant = ranking
    k, n_items = lists.shape[1], relevant.shape[1]
    seen = seen_matrix(np.random.default_rng(cells), 9, n_items, density)
    users_of = [set(np.flatnonzero(seen.toarray()[:, i]).tolist()) for i in range(n_items)]
    ks = sorted({1, (k + 1) // 2, k})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "_CELLS", cells)
        patch.setattr(catalogue, "_PAIRS", pairs)
        diversities = m.intra_list_diversity(lists, m.cosine_of_users(seen), ks)
    for top, values in zip(ks, diversities, strict=True):
        for u, row in enumerate(lists[:, :top]):
            expected = naive_metrics.diversity([i for i in row.tolist() if i >= 0], users_of)
            assert (expected is None and math.isnan(values[u])) or values[u] == pytest.approx(expected, abs=1e-6)


def test_of_many_users_a_sample_says_how_alike_items_are(rng):
    seen = seen_matrix(rng, 4000, 6, 0.3)
    rows = np.arange(6)
    exact, sampled = (m.cosine_of_users(seen, n)(rows, rows) for n in (4000, 1000))
    assert np.abs(exact - sampled).max() < 0.06
    assert not np.array_equal(exact, sampled)
    assert np.array_equal(sampled, m.cosine_of_users(seen, 1000)(rows, rows))


# ---- segments -------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_segments_and_bands_are_the_twins(counts):
    codes, cuts = m.user_segments(np.array(counts))
    assert [m.SEGMENTS[c] for c in codes] == naive_metrics.segments(counts)
    assert cuts[0] <= cuts[1]
    bands = m.popularity_bands(np.array(counts))
    assert dict(enumerate(m.BANDS[b] for b in bands)) == naive_metrics.bands(dict(enumerate(counts)))


def test_segments_by_hand():
    codes, cuts = m.user_segments(np.array([0, 21, 5, 6, 20, 22]))
    assert codes.tolist() == [0, 2, 0, 1, 1, 2]
    assert cuts == (5, 20)
    assert m.user_segments(np.array([7, 7, 7, 9]))[0].tolist() == [0, 0, 0, 2]
    assert m.user_segments(np.array([], int))[0].size == 0


def test_bands_by_hand():
    # 12 interactions: the items that begin before the 4th are the head, before the 8th the mid.
    assert m.popularity_bands(np.array([1, 4, 3, 2, 2])).tolist() == [2, 0, 1, 1, 2]
    assert m.popularity_bands(np.array([0, 0])).tolist() == [0, 0]
