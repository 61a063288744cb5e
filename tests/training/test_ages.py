"""Weights of validation users by the age of what is held out of them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.interactions import Interactions
from pipeline.data.prepare import PreparedInteractions, prepare_interactions
from pipeline.data.splits import Split
from pipeline.options import TrainOptions
from pipeline.training.ages import user_weights
from pipeline.training.search import fitted_on, parts_of, values_of

DAY = 86_400_000
BASE = TrainOptions(min_data=1)


def rows(days: dict[int, list[int]], items: int = 0) -> PreparedInteractions:
    """A user's interactions on these days, each with another item; ids of users and items are given."""
    users = [user for user, of in days.items() for _ in of]
    item = [items + n for of in days.values() for n in range(len(of))]
    at = (np.array([day for of in days.values() for day in of]) * DAY).astype("datetime64[ms]")
    return prepare_interactions(Interactions.of(users, item, np.ones(len(users)), at), min_data=0).interactions


def split(ages: list[int], name: str = "latest", **params: int) -> Split:
    """One held-out interaction a user, so many days before the newest of training (day 100)."""
    train = rows({user: [0, 100] for user in range(len(ages))})
    return Split(train, rows({user: [100 - age] for user, age in enumerate(ages)}, 10), name=name)  # type: ignore[arg-type]


def test_users_count_as_often_as_their_age_is_in_the_held_out_part():
    inner, outer = split([50] * 60 + [1] * 20), split([50] * 20 + [1] * 20)
    weights = user_weights(inner, outer)
    assert weights is not None
    assert weights.mean() == pytest.approx(1)
    assert weights[:60] == pytest.approx(0.5 / 0.75)
    assert weights[60:] == pytest.approx(0.5 / 0.25)


def test_ages_that_are_the_same_change_nothing():
    both = split(list(range(80)))
    assert user_weights(both, both) == pytest.approx(np.ones(80), abs=0.3)
    assert user_weights(split([7] * 80), split([7] * 80)) == pytest.approx(np.ones(80))


def test_a_rare_age_does_not_decide_alone():
    weights = user_weights(split([50] * 399 + [1]), split([50] * 20 + [1] * 380))
    assert weights is not None
    assert weights.max() / weights.min() <= 10 / (0.05 * 400 / 399) * 1.001


@pytest.mark.parametrize("name", ["time", "random", "users", "given"])
def test_other_splits_have_none(name):
    both = split([7] * 80, name)
    assert user_weights(both, both) is None


def test_few_users_and_no_times_have_none():
    few = split([7] * 30)
    assert user_weights(few, few) is None
    x = rows({user: list(range(8)) for user in range(80)})
    bare = Interactions(x.users, x.items, x.scores, x.user_ids, x.item_ids)
    parts = parts_of(bare, BASE)
    assert user_weights(parts.inner, parts.outer) is None


def test_they_stand_in_the_order_of_the_values():
    rng = np.random.default_rng(4)
    x = rows({user: rng.integers(0, 300, int(rng.integers(2, 9))).tolist() for user in rng.permutation(200).tolist()})
    parts = parts_of(x, BASE)
    weights = user_weights(parts.inner, parts.outer)
    fitted = fitted_on(parts.inner, TrainOptions(algorithm="popular", min_data=1))
    assert weights is not None
    assert weights.shape == values_of(fitted.ranker, parts.inner, "ndcg_at_10", fitted.fold_in).shape
