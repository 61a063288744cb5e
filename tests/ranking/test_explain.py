"""Exact parts of NMF's scores by past item, similar items and users, and the other reasons."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from support.naive_neighbours import cosine_rows

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.models.item_knn import fit_item_knn
from pipeline.models.item_snapshot import ItemSnapshot, ItemTexts
from pipeline.models.popularity import popular_model
from pipeline.models.registry import find
from pipeline.options import TrainOptions
from pipeline.ranking.explain import explain
from pipeline.ranking.neighbours import similar_items, similar_users
from pipeline.ranking.reasons import genre_match, reasons_for


def rated(seed=3, n_users=40, n_items=25):
    rng = np.random.default_rng(seed)
    scores = sparse.random(n_users, n_items, 0.3, "csr", np.float32, random_state=rng)
    scores.data = rng.integers(1, 11, scores.nnz).astype(np.float32) / 2
    return UserItems(scores, IdMap(np.arange(n_users)), IdMap(np.arange(n_items)))


@pytest.fixture(scope="module")
def matrix():
    return rated()


@pytest.fixture(scope="module")
def nmf(matrix):
    return find("nmf").fit(matrix, TrainOptions(n_components=4)).model


def test_a_score_of_nmf_is_a_sum_over_past_items_and_over_factors(nmf, matrix):
    for user, item in ((0, 0), (7, 3), (39, 24)):
        why = explain(nmf, user, item, 100)
        own = matrix.scores[user]
        of_user = dict(zip(own.indices.tolist(), own.data.tolist(), strict=True))
        assert {part.row: part.score for part in why.past_items}.items() <= of_user.items()
        assert sum(part.contribution for part in why.past_items) == pytest.approx(why.score, abs=1e-5)
        assert sum(part.contribution for part in why.factors) == pytest.approx(why.score, abs=1e-6)
        assert (why.n_factors, why.n_past_items, why.level) == (4, len(why.past_items), 0)


def test_l1_has_a_level(matrix):
    model = find("nmf").fit(matrix, TrainOptions(n_components=3, alpha_W=0.02, l1_ratio=0.9)).model
    why = explain(model, 5, 2, 100)
    assert why.past_items
    assert why.level < -1e-4
    assert why.level + sum(part.contribution for part in why.past_items) == pytest.approx(why.score, abs=1e-5)


def test_factors_that_are_not_those_of_the_history_are_not_split(make_model, rng):
    model = make_model(rng, 14, 23, 3)
    model.seen.data = np.ones(model.seen.nnz, np.float32)
    why = explain(model, 0, 0)
    assert why.past_items == ()
    assert len(why.factors) == 3


def test_confidence_is_the_share_of_unseen_items_that_score_lower(nmf, matrix):
    scores = nmf.predict(np.full(25, 4), np.arange(25))
    unseen = np.setdiff1d(np.arange(25), matrix.scores[4].indices)
    for item in unseen.tolist():
        lower = sum(scores[other] < scores[item] for other in unseen.tolist())
        assert explain(nmf, 4, item).confidence == lower / (unseen.size - 1)
    assert explain(nmf, 4, int(matrix.scores[4].indices[0])).confidence is None


def test_neighbours_by_factors_and_by_interactions(nmf, matrix):
    for model, items, users in (
        (nmf, nmf.item_factors.T, nmf.user_factors),
        (popular_model(matrix), (matrix.scores != 0).T.toarray(), (matrix.scores != 0).toarray()),
        (fit_item_knn(matrix, 5, 1.0, "score"), (matrix.scores != 0).T.toarray(), (matrix.scores != 0).toarray()),
    ):
        for row in (0, 11, 24):
            for near, expected in (
                (similar_items(model, row, 6), cosine_rows(items, row, 6)),
                (similar_users(model, row, 6), cosine_rows(users, row, 6)),
            ):
                assert near.rows.tolist() == [other for other, _ in expected]
                assert near.similarities == pytest.approx([cosine for _, cosine in expected])


def test_a_user_without_items_and_an_item_without_users_have_no_neighbours():
    scores = sparse.csr_matrix(np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0]], np.float32))
    model = popular_model(UserItems(scores, IdMap(np.arange(3)), IdMap(np.arange(3))))
    assert similar_users(model, 1).rows.tolist() == []
    assert similar_items(model, 2).rows.tolist() == []
    assert similar_users(model, 0).rows.tolist() == [2]
    assert similar_items(model, 0).rows.tolist() == [1]


def test_reasons_name_the_users_own_items_and_other_users():
    # Users 0 to 3 like items 0 to 3; user 4 likes 4 and 5.
    scores = np.zeros((5, 6), np.float32)
    scores[:4, :4] = [[5, 4, 3, 0], [5, 4, 3, 2], [5, 4, 3, 4], [5, 4, 3, 0]]
    scores[4, 4:] = 5
    model = popular_model(UserItems(sparse.csr_matrix(scores), IdMap(np.arange(5)), IdMap(np.arange(6))))
    genres = {"0": ["Drama"], "1": ["Crime"], "3": ["Drama", "Crime"], "5": ["Comedy"]}
    snapshot = ItemSnapshot.of(model.items, model.seen, ItemTexts(genres=genres))
    reasons = reasons_for(model, 0, 3, snapshot)
    assert [item.row for item in reasons.similar_items] == [0, 1, 2]
    assert (reasons.other_users.count, reasons.other_users.among, reasons.other_users.average) == (2, 3, 3.0)
    # 5 of 12 for the drama and 4 of 12 for the crime film; item 2 has no genre.
    assert reasons.genre_match.shares == pytest.approx({"Crime": 4 / 12, "Drama": 5 / 12})
    assert reasons.genre_match.score == pytest.approx(9 / 12)
    assert genre_match(snapshot, np.array([0]), np.array([5.0]), 2) is None  # no genre
    assert genre_match(snapshot, np.zeros(0, int), np.zeros(0), 5).score == 0
    assert reasons_for(model, 0, 3).genre_match is None  # no snapshot
