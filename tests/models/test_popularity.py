"""Most popular: counts of interactions, ranked by the scorer that ranks everything else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support import naive

from pipeline.data.id_map import IdMap
from pipeline.data.interactions import Interactions
from pipeline.data.matrix import UserItems, to_matrix
from pipeline.data.prepare import prepare_interactions
from pipeline.errors import InputError, UsageError
from pipeline.models.popularity import popular_model, recent_model
from pipeline.ranking.scorer import Scorer

pairs = st.sets(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=40)


def matrix_of(cells, scores=None):
    users, items = zip(*sorted(cells), strict=True)
    return to_matrix(prepare_interactions(Interactions.of(users, items, scores)).interactions)


@given(pairs, st.integers(1, 12), st.booleans())
def test_the_list_of_each_user_is_the_twins(cells, k, exclude_seen):
    model = popular_model(matrix_of(cells))
    top = Scorer(model, source="popular").recommend_rows(np.arange(len(model.users)), k, exclude_seen=exclude_seen)
    for row in range(len(model.users)):
        expected = naive.popular(model, k, naive.seen_rows(model, row) if exclude_seen else ())
        cells_read = [(item, score) for item, score in zip(top.items[row], top.scores[row], strict=True) if item >= 0]
        assert cells_read == expected


@given(pairs)
def test_it_ranks_as_the_scorer_ranks_for_unknown_users(cells):
    scorer = Scorer(popular_model(matrix_of(cells)))
    everyone = scorer.recommend_rows([0], 10, exclude_seen=False)
    anyone = scorer.popular_rows(1, 10)
    np.testing.assert_array_equal(everyone.items, anyone.items)
    np.testing.assert_array_equal(everyone.scores, anyone.scores)


def test_interactions_are_counted_and_scores_are_not():
    # "a" has the stars, "b" the people, "c" a score of zero, which is an interaction too.
    cells = [(1, "a"), (2, "b"), (3, "b"), (4, "b"), (5, "c"), (6, "c")]
    model = popular_model(matrix_of(cells, [5.0, 0.5, 0.5, 0.5, 0.0, 0.0]))
    assert model.item_scores.tolist() == [1.0, 3.0, 2.0]
    items, scores = Scorer(model, source="popular").recommend(1)
    assert (items.tolist(), scores.tolist()) == (["b", "c"], [3.0, 2.0])


def test_ties_go_by_item_id():
    items, _ = Scorer(popular_model(matrix_of([(u, i) for u in range(3) for i in range(9)]))).recommend(
        0, 9, exclude_seen=False
    )
    assert items.tolist() == list(range(9))


def test_it_has_the_matrix_s_ids_and_seen_items(checkerboard):
    model = popular_model(checkerboard.matrix)
    assert (model.users, model.items) == (checkerboard.matrix.users, checkerboard.matrix.items)
    assert model.seen is checkerboard.matrix.scores
    assert model.item_scores.dtype == np.float32


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (1, 1)])
def test_one_user_or_one_item(shape):
    model = popular_model(matrix_of([(u, i) for u in range(shape[0]) for i in range(shape[1])]))
    assert (model.item_scores == shape[0]).all()
    assert Scorer(model).recommend(0).items.size == 0  # all is seen


def test_an_item_that_nobody_has_is_last():
    scores = sparse.csr_matrix(np.float32([[0, 1, 0], [0, 1, 0]]))
    model = popular_model(UserItems(scores, IdMap([1, 2]), IdMap(["a", "b", "c"])))
    items, counts = Scorer(model).recommend(1, exclude_seen=False)
    assert (items.tolist(), counts.tolist()) == (["b", "a", "c"], [2.0, 0.0, 0.0])


# ---- lately ---------------------------------------------------------------------------------------


def timed(days):
    """Interactions of users 0, 1, … with (item, day) each, in order, and their matrix."""
    items, at = zip(*days, strict=True)
    x = prepare_interactions(
        Interactions.of(np.arange(len(days)), items, None, np.array(at, "datetime64[D]"))
    ).interactions
    return to_matrix(x), x


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 400)), min_size=1, max_size=30), st.sampled_from([1, 30.0]))
def test_each_interaction_counts_by_its_age(days, half_life):
    matrix, x = timed(days)
    model = recent_model(matrix, x, half_life_days=half_life)
    now = max(day for _, day in days)
    expected = {item: 0.0 for item, _ in days}
    for item, day in days:
        expected[item] += 0.5 ** ((now - day) / half_life)
    assert model.item_scores.tolist() == pytest.approx([expected[i] for i in sorted(expected)], rel=1e-6)


def test_without_times_recent_is_popular():
    matrix = matrix_of([(1, 1), (2, 1), (2, 2)])
    x = prepare_interactions(Interactions.of([1, 2, 2], [1, 1, 2])).interactions
    assert recent_model(matrix, x).item_scores.tolist() == popular_model(matrix).item_scores.tolist()


def test_a_half_life_of_nothing_is_refused():
    matrix, x = timed([(1, 1), (2, 2)])
    with pytest.raises(UsageError, match="longer than 0 days"):
        recent_model(matrix, x, half_life_days=0)
    with pytest.raises(InputError, match="with 1 items and a matrix with 2"):
        recent_model(matrix, x.take(np.array([0])).compact())
