"""The holdout: whose interactions, how many, which ones, and that nothing is lost or seen twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import naive_metrics

from pipeline.data.interactions import Interactions
from pipeline.data.prepare import prepare_interactions
from pipeline.data.splits import holdout
from pipeline.errors import UsageError

# Few times, so that equal ones are common; each pair once.
rows = st.dictionaries(
    st.tuples(st.integers(0, 4), st.integers(0, 11)),
    st.tuples(st.sampled_from([0.0, 0.5, 3.0, 5.0]), st.integers(-3, 3)),
    max_size=50,
)
shares = st.sampled_from([0.01, 0.1, 0.2, 0.25, 0.5, 0.75, 0.99])


def interactions(table, timed=True):
    users, items = [u for u, _ in table], [f"i{i}" for _, i in table]
    scores, at = [s for s, _ in table.values()], np.array([t for _, t in table.values()], "datetime64[ms]")
    return prepare_interactions(Interactions.of(users, items, scores, at if timed else None)).interactions


def one_user(n, at=None):
    return prepare_interactions(Interactions.of(np.ones(n, int), np.arange(n), np.arange(n), at)).interactions


def held_out(split):
    return set(naive_metrics.pairs(split.test))


@given(rows, shares, st.integers(0, 3), st.booleans())
def test_every_interaction_is_on_one_side_with_its_score(table, share, seed, timed):
    x = interactions(table, timed)
    split = holdout(x, share, seed)
    train, test = naive_metrics.pairs(split.train), naive_metrics.pairs(split.test)
    assert not set(train) & set(test)
    assert train | test == naive_metrics.pairs(x)
    if timed:
        assert naive_metrics.times(split.train) | naive_metrics.times(split.test) == naive_metrics.times(x)
    else:
        assert split.train.at is None
        assert split.test.at is None
    assert split.cutoff is None


@given(rows, shares, st.integers(0, 3), st.booleans())
def test_how_many_of_each_user(table, share, seed, timed):
    x = interactions(table, timed)
    split = holdout(x, share, seed)
    train, test = naive_metrics.by_user(naive_metrics.pairs(split.train)), naive_metrics.by_user(held_out(split))
    for user, items in naive_metrics.by_user(naive_metrics.pairs(x)).items():
        assert len(test.get(user, ())) == naive_metrics.n_held_out(len(items), share)
        assert user in train


@pytest.mark.parametrize(
    ("n", "share", "expected"),
    [
        (1, 0.2, 0),
        (1, 0.99, 0),
        (2, 0.2, 0),
        (2, 0.25, 1),
        (2, 0.99, 1),
        (3, 0.2, 1),
        (5, 0.2, 1),
        (7, 0.2, 1),
        (8, 0.2, 2),
        (10, 0.2, 2),
        (5, 0.5, 3),
        (12, 0.2, 2),
        (13, 0.2, 3),
        (10, 0.99, 9),
    ],
)
def test_the_share_is_rounded_and_one_stays(n, share, expected):
    split = holdout(one_user(n), share)
    assert (len(split.test), len(split.train)) == (expected, n - expected)


@given(rows, shares, st.integers(0, 3))
def test_no_held_out_interaction_is_older_than_one_that_stays(table, share, seed):
    split = holdout(interactions(table), share, seed)
    at = naive_metrics.times(split.train)
    newest = {}
    for (user, _), time in at.items():
        newest[user] = max(time, newest.get(user, time))
    for (user, _), time in naive_metrics.times(split.test).items():
        assert time >= newest[user]


def test_the_latest_by_time_whatever_the_score_and_the_id():
    at = np.array([5, 1, 4, 2, 3], "datetime64[ms]")
    assert held_out(holdout(one_user(5, at), 0.4)) == {(1, 0), (1, 2)}


def test_times_before_1970_are_times():
    at = np.array([-5, -1, -4, -2, -3], "datetime64[ms]")
    assert held_out(holdout(one_user(5, at), 0.4)) == {(1, 1), (1, 3)}


@pytest.mark.parametrize("at", [None, np.zeros(8, "datetime64[ms]")], ids=["no times", "equal times"])
def test_lots_are_drawn_by_seed(at):
    x = one_user(8, at)
    drawn = [frozenset(held_out(holdout(x, 0.25, seed))) for seed in range(60)]
    assert drawn == [frozenset(held_out(holdout(x, 0.25, seed))) for seed in range(60)]
    # Each of the 28 pairs is as likely, so no item is always or never held out.
    assert len(set(drawn)) > 15
    assert frozenset.union(*drawn) == {(1, item) for item in range(8)}
    assert not frozenset.intersection(*drawn)


def test_equal_times_are_parted_by_seed_and_later_ones_are_not():
    at = np.array([0, 1, 1, 1, 1, 2], "datetime64[ms]")
    drawn = [held_out(holdout(one_user(6, at), 0.5, seed)) for seed in range(40)]
    assert all((1, 5) in items and (1, 0) not in items for items in drawn)
    assert len(set(map(frozenset, drawn))) == 6  # 2 of the 4 of equal time


@given(rows, shares, st.integers(0, 3), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_the_source_decides_nothing(table, share, seed, timed, random):
    shuffled = list(table.items())
    random.shuffle(shuffled)
    first, other = (holdout(interactions(dict(t), timed), share, seed) for t in (table, shuffled))
    for side in ("train", "test"):
        a, b = getattr(first, side), getattr(other, side)
        assert a.users.tobytes() == b.users.tobytes()
        assert a.items.tobytes() == b.items.tobytes()
        assert a.scores.tobytes() == b.scores.tobytes()
        assert (a.user_ids, a.item_ids) == (b.user_ids, b.item_ids)


@given(rows, shares)
def test_training_knows_only_what_it_has_seen(table, share):
    x = interactions(table)
    split = holdout(x, share)
    assert set(split.train.item_ids.values.tolist()) == {item for _, item in naive_metrics.pairs(split.train)}
    assert split.train.user_ids == x.user_ids
    assert (split.test.user_ids, split.test.item_ids) == (x.user_ids, x.item_ids)


@pytest.mark.parametrize("share", [0, 0.0, 1, 1.0, -0.1, 1.5, float("nan")])
def test_a_share_outside_0_and_1_is_refused(share):
    with pytest.raises(UsageError, match="held-out share must be between 0 and 1, got "):
        holdout(one_user(5), share)


def test_nothing_in_nothing_out():
    split = holdout(prepare_interactions(Interactions.of([], [])).interactions)
    assert (len(split.train), len(split.test)) == (0, 0)
