"""Item-kNN: the cosine and its neighbours, the scores, and lists that follow the scorer's rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.data.interactions import Interactions
from pipeline.data.matrix import UserItems, to_matrix
from pipeline.data.prepare import prepare_interactions
from pipeline.errors import InputError, RowRangeError, UsageError
from pipeline.models import item_item_model, item_knn
from pipeline.models.item_knn import fit_item_knn
from pipeline.ranking.scorer import Scorer
from pipeline.ranking.topk_numpy import best_of_rows


def matrix(dense, stored=None):
    dense = np.asarray(dense, np.float32)
    stored = dense != 0 if stored is None else stored
    indptr = np.append(0, np.cumsum(stored.sum(axis=1))).astype(np.int32)
    csr = sparse.csr_matrix((dense[stored], np.nonzero(stored)[1].astype(np.int32), indptr), shape=dense.shape)
    return UserItems(csr, IdMap(100 + np.arange(dense.shape[0])), IdMap(np.arange(dense.shape[1]) * 3))


@st.composite
def matrices(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 12))
    stored = rng.random(shape) < draw(st.sampled_from([0.1, 0.4, 0.8]))
    return matrix(np.where(stored, rng.choice([0.0, 0.5, 1.0, 3.0], shape), 0), stored)


def naive_similarity(x, n_neighbours, shrinkage):
    """{item: {neighbour: cosine}}, each rounded to float32, as they are ranked."""
    n = x.shape[1]
    result = {}
    for j in range(n):
        likeness = {}
        for i in range(n):
            dot = math.fsum(float(a) * float(b) for a, b in zip(x[:, j], x[:, i], strict=True))
            norms = math.sqrt(math.fsum(float(a) ** 2 for a in x[:, j])) * math.sqrt(
                math.fsum(float(a) ** 2 for a in x[:, i])
            )
            if i != j and dot > 0:
                likeness[i] = float(np.float32(dot / (norms + shrinkage)))
        best = sorted(likeness, key=lambda i: (-likeness[i], i))[:n_neighbours]
        result[j] = {i: likeness[i] for i in best}
    return result


@given(
    matrices(), st.integers(1, 5), st.sampled_from([0.0, 1.5]), st.sampled_from(["seen", "score"]), st.integers(1, 900)
)
def test_neighbours_scores_and_lists_are_the_twins(items, n_neighbours, shrinkage, weights, block):
    dense = items.scores.toarray()
    if weights == "seen":
        dense = np.zeros_like(dense)
        dense[np.repeat(np.arange(len(dense)), np.diff(items.scores.indptr)), items.scores.indices] = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item_knn, "BLOCK_BYTES", block)
        patch.setattr(item_item_model, "BLOCK_BYTES", block)
        model = fit_item_knn(items, n_neighbours, shrinkage, weights)
        n_users, n_items = dense.shape
        expected = naive_similarity(dense, n_neighbours, shrinkage)
        neighbours_of = {j: {} for j in range(n_items)}
        coo = model.similarity.tocoo()
        for j, i, value in zip(coo.row.tolist(), coo.col.tolist(), coo.data.tolist(), strict=True):
            neighbours_of[i][j] = value  # row j has the items that j is a neighbour of
        # Cosines that differ by rounding alone may be ranked either way: compare what was kept by value.
        for j in range(n_items):
            assert sorted(neighbours_of[j].values()) == pytest.approx(sorted(expected[j].values()), rel=1e-6)
            for i, value in neighbours_of[j].items():
                assert value == pytest.approx(naive_similarity(dense, n_items, shrinkage)[j][i], rel=1e-6)
        scores = np.zeros(dense.shape)
        for u in range(n_users):
            for j in range(n_items):
                for i in range(n_items):
                    scores[u, i] += float(dense[u, j]) * neighbours_of[i].get(j, 0.0)
        rows, cols = np.divmod(np.random.default_rng(0).permutation(dense.size), n_items)
        assert model.predict(rows, cols).tolist() == scores[rows, cols].astype(np.float32).tolist()
        check_lists(Scorer(model), scores.astype(np.float32), items, k=3)


def check_lists(ranker, scores, items, k):
    n_users, n_items = scores.shape
    csr = items.scores
    extra = sparse.csr_matrix(np.eye(n_users, n_items)[::-1])
    for options in (
        {},
        {"exclude_seen": False},
        {"also_seen": extra},
        {"allow": np.array([0, n_items - 1])},
        {"deny": np.array([0])},
    ):
        top = ranker.recommend_rows(np.arange(n_users)[::-1], k, **options)
        for place, u in enumerate(range(n_users)[::-1]):
            left = set(range(n_items))
            if options.get("exclude_seen", True):
                left -= set(csr.indices[csr.indptr[u] : csr.indptr[u + 1]].tolist())
            if "also_seen" in options:
                left -= set(extra[place].indices.tolist())
            left &= set(options["allow"].tolist()) if "allow" in options else left
            left -= set(options["deny"].tolist()) if "deny" in options else set()
            best = sorted(left, key=lambda i: (-scores[u, i], i))[:k]
            n = len(best)
            assert top.items[place].tolist() == best + [-1] * (k - n)
            assert top.scores[place].tolist() == [scores[u, i] for i in best] + [0.0] * (k - n)


@given(
    st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 300), st.integers(1, 12), st.sampled_from([2, 5, 10**6])
)
def test_best_of_rows_is_a_sort(seed, n, n_items, k, levels):
    """Many ties, many zeros, hidden items; wide enough for groups and for rows that are sorted whole."""
    rng = np.random.default_rng(seed)
    scores = (rng.integers(0, levels, (n, n_items)) / 7).astype(np.float32)
    scores[rng.random(scores.shape) < 0.3] = -np.inf
    top = best_of_rows(scores.copy(), k)
    for u in range(n):
        left = [i for i in range(n_items) if scores[u, i] > -np.inf]
        best = sorted(left, key=lambda i: (-scores[u, i], i))[:k]
        assert top.items[u].tolist() == best + [-1] * (k - len(best))
        assert top.scores[u].tolist() == [scores[u, i] for i in best] + [0.0] * (k - len(best))


def test_best_of_rows_of_an_empty_block():
    assert best_of_rows(np.empty((0, 5), np.float32), 2).items.shape == (0, 2)
    assert best_of_rows(np.empty((2, 0), np.float32), 2).items.tolist() == [[-1, -1], [-1, -1]]


def test_the_one_right_answer(checkerboard):
    ranker = Scorer(fit_item_knn(checkerboard.matrix))
    assert ranker.recommend_rows(np.arange(20), 1).items[:, 0].tolist() == checkerboard.answer.tolist()
    assert (ranker.source, ranker.users, ranker.items) == (
        "item-knn",
        checkerboard.matrix.users,
        checkerboard.matrix.items,
    )


def test_other_users_by_what_they_have_had(checkerboard):
    """Fold-in: the training users' own history gives their own lists again."""
    model = fit_item_knn(checkerboard.matrix, 7, 2.0)
    other = UserItems(checkerboard.matrix.scores[3:5], IdMap([1, 2]), checkerboard.matrix.items)
    folded = Scorer(model).for_users(other).recommend_rows([0, 1], 5)
    own = Scorer(model).recommend_rows([3, 4], 5)
    assert folded.items.tolist() == own.items.tolist()
    assert folded.scores.tolist() == own.scores.tolist()
    with pytest.raises(InputError, match="over 2 items for a model of 20"):
        Scorer(model).for_users(matrix([[1, 1]]))


def test_what_makes_no_sense_is_refused():
    x = matrix([[1, 1, 0], [0, 1, 1]])
    for bad in ({"n_neighbours": 0}, {"shrinkage": -1.0}):
        with pytest.raises(UsageError, match="at least"):
            fit_item_knn(x, **bad)
    model = fit_item_knn(x)
    ranker = Scorer(model)
    with pytest.raises(UsageError, match="k must be at least 1"):
        ranker.recommend_rows([0], 0)
    with pytest.raises(RowRangeError, match=r"User IDs must be in range \[0, 2\)"):
        ranker.recommend_rows([2])
    with pytest.raises(RowRangeError, match=r"Item IDs must be in range \[0, 3\)"):
        model.predict([0], [3])
    with pytest.raises(InputError, match="one item a user"):
        model.predict([0, 1], [0])
    with pytest.raises(InputError, match="must be integers"):
        ranker.recommend_rows([0.5])
    with pytest.raises(InputError, match="also_seen has shape"):
        ranker.recommend_rows([0], also_seen=sparse.csr_matrix((2, 3)))


def test_of_equally_like_items_the_first_are_neighbours():
    """Two users who have everything: all pairs are alike."""
    matrix = to_matrix(
        prepare_interactions(Interactions.of(np.repeat([1, 2], 12), np.tile(np.arange(12), 2))).interactions
    )
    similarity = fit_item_knn(matrix, n_neighbours=3).similarity
    for item in range(12):
        expected = [other for other in range(12) if other != item][:3]
        assert similarity[:, [item]].tocoo().row.tolist() == expected
