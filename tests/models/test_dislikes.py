"""A dislike, a cell of score 0: with a weight it lowers the scores of items like it; as an empty cell, nothing."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.interactions import Interactions
from pipeline.errors import UsageError
from pipeline.models.registry import find
from pipeline.options import TrainOptions
from pipeline.ranking.scorer import Scorer
from pipeline.training.train import train

N_USERS, N_ITEMS = 40, 24
LIKES = np.arange(0, 6), np.arange(12, 18)  # of user 0: some items of each taste
DISLIKED, LIKE_IT, OTHERS = 6, np.arange(7, 12), np.arange(18, 24)


def tastes(disliked: bool, weight: float | None = None) -> Interactions:
    """Users like the first twelve items or the others; user 0 likes some of both."""
    rng = np.random.default_rng(4)
    cells = {(0, int(item)): 1.0 for items in LIKES for item in items}
    for user in range(1, N_USERS):
        for item in rng.choice(12, 9, replace=False):
            cells[user, 12 * (user % 2) + int(item)] = 1.0
    if disliked:
        cells[0, DISLIKED] = 0.0
    users, items = zip(*cells, strict=True)
    return Interactions.of(users, items, list(cells.values()), None)


def scores(disliked: bool, **options) -> np.ndarray:
    options = TrainOptions(holdout=0, n_components=2, **options)
    return Scorer(train(tastes(disliked), options).model).predict(0, np.arange(N_ITEMS))


MODELS = [
    {"algorithm": "als", "unobserved_weight": 0.1},
    {"algorithm": "als", "unobserved_weight": 1.0},
    {"algorithm": "nmf", "unobserved_weight": 0.1},
    {"algorithm": "nmf", "unobserved_weight": 1.0},
]


@pytest.mark.parametrize("options", MODELS, ids=lambda o: f"{o['algorithm']}-{o['unobserved_weight']}")
def test_a_dislike_lowers_the_items_like_it(options):
    pytest.importorskip("numba")
    before, after = scores(False, **options), scores(True, **options, dislike_weight=20.0)
    fall = before - after
    assert after[DISLIKED] < before[DISLIKED]
    assert (fall[LIKE_IT] > 0.05).all()
    assert (fall[OTHERS] < 0).all(), "the user's other taste counts more"
    # As much as an empty cell: seen, and nothing else.
    seen = scores(True, **options, dislike_weight=options["unobserved_weight"])
    np.testing.assert_allclose(seen, before, atol=0.02)


def test_a_user_who_is_folded_in_dislikes_too():
    pytest.importorskip("numba")
    options = TrainOptions(holdout=0, algorithm="als", n_components=2, unobserved_weight=0.1, dislike_weight=20.0)
    scorer = Scorer(train(tastes(False), options).model)
    likes = np.concatenate(LIKES)
    plain = scorer.fold_in(likes) @ scorer.model.item_factors
    factors = scorer.fold_in([*likes, DISLIKED], [*np.ones(likes.size), 0.0])
    fall = plain - factors @ scorer.model.item_factors
    assert (fall[LIKE_IT] > 0.05).all()
    assert (fall[OTHERS] < 0).all()


def test_a_dislike_counts_no_less_than_an_empty_cell():
    with pytest.raises(UsageError, match=r"--dislike-weight must be at least --unobserved-weight: .* 0\.5 and 1\)"):
        train(tastes(False), TrainOptions(dislike_weight=0.5, holdout=0))
    find("nmf").check_options(TrainOptions(unobserved_weight=0.5, dislike_weight=0.5))
    find("als").check_options(TrainOptions(algorithm="als", dislike_weight=0.5))
    with pytest.raises(UsageError, match="EASE has no --dislike-weight"):
        train(tastes(False), TrainOptions(algorithm="ease", dislike_weight=2.0, holdout=0))
