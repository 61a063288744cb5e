"""Each way to split: who and what is on which side, by seed; and that a split which leaks can't be made."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import naive_metrics

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import PreparedInteractions, prepare_interactions
from pipeline.data.splits import (
    Split,
    holdout,
    last_split,
    latest_split,
    make_split,
    methods,
    random_split,
    time_split,
    users_split,
)
from pipeline.errors import LeakageError, SplitError, UsageError
from pipeline.evaluation.leakage import check_candidate, check_folded
from pipeline.models.popularity import popular_model
from pipeline.ranking.scorer import Scorer

# Few times, so that equal ones are common; each pair once.
tables = st.dictionaries(
    st.tuples(st.integers(0, 4), st.integers(0, 11)),
    st.tuples(st.sampled_from([0.0, 0.5, 3.0, 5.0]), st.integers(-3, 3)),
    max_size=50,
)
shares = st.sampled_from([0.01, 0.2, 0.25, 0.5, 0.75, 0.99])


def interactions(table, timed=True):
    users, items = [u for u, _ in table], [f"i{i}" for _, i in table]
    scores, at = [s for s, _ in table.values()], np.array([t for _, t in table.values()], "datetime64[ms]")
    return prepare_interactions(Interactions.of(users, items, scores, at if timed else None)).interactions


def pairs(x):
    return naive_metrics.pairs(x)


def sides(x, split):
    """The pairs of each side, and that together they are all there is."""
    known = {} if split.fold_in is None else pairs(split.fold_in)
    train, test = pairs(split.train), pairs(split.test)
    assert len(train) + len(test) + len(known) == len(x)
    assert train | test | known == pairs(x)
    return naive_metrics.by_user(train), naive_metrics.by_user(test), naive_metrics.by_user(known)


@given(tables, shares, st.integers(0, 3), st.booleans())
def test_random_holds_out_each_users_share_whatever_the_times(table, share, seed, timed):
    x = interactions(table, timed)
    split = random_split(x, share, seed)
    train, test, _ = sides(x, split)
    for user, items in naive_metrics.by_user(pairs(x)).items():
        assert len(test.get(user, ())) == naive_metrics.n_held_out(len(items), share)
        assert user in train
    assert pairs(split.test) == pairs(random_split(interactions(table, not timed), share, seed).test)


@given(st.integers(0, 10**6), st.integers(0, 60), st.sampled_from([1, 5, 10**12, 2**61]))
def test_the_orders_are_lexsorts(seed, n, span):
    """Ties, and times so far apart that user and time do not fit in one number."""
    rng = np.random.default_rng(seed)
    users, lot = rng.integers(0, 6, n).astype(np.int32), rng.random(n)
    at = rng.integers(-span, span, n).astype("datetime64[ms]")
    assert methods._by_time(users, at, lot).tolist() == np.lexsort((lot, at, users)).tolist()
    # Lots that are alike, and that a sum with the user rounds away.
    lot = rng.choice([0.0, 2.0**-53, 0.5, 1 - 2.0**-53], n)
    by_lot = methods._by_lot(users, lot)
    columns = np.lexsort((lot, users))
    assert (users[by_lot].tolist(), lot[by_lot].tolist()) == (users[columns].tolist(), lot[columns].tolist())


def test_random_is_no_latest():
    x = interactions({(1, i): (1.0, i) for i in range(8)})
    drawn = {frozenset(pairs(random_split(x, 0.25, seed).test)) for seed in range(60)}
    assert len(drawn) > 15
    assert {len(pair) for pair in drawn} == {2}


@given(tables, shares, st.integers(0, 3))
def test_the_holdout_is_latest_with_times_and_random_without(table, share, seed):
    assert holdout(interactions(table), share, seed).digest == latest_split(interactions(table), share, seed).digest
    x = interactions(table, timed=False)
    assert holdout(x, share, seed).digest == random_split(x, share, seed).digest


@given(tables, st.integers(1, 4), st.integers(0, 3))
def test_last_holds_out_each_users_last_k(table, k, seed):
    x = interactions(table)
    split = last_split(x, k, seed)
    train, test, _ = sides(x, split)
    at = naive_metrics.times(x)
    for user, items in naive_metrics.by_user(pairs(x)).items():
        held_out = test.get(user, set())
        assert len(held_out) == min(k, len(items) - 1)
        assert user in train
        if held_out:
            assert min(at[user, i] for i in held_out) >= max(at[user, i] for i in train[user])


@given(tables, shares)
def test_time_parts_all_at_one_moment(table, share):
    x = interactions(table)
    at = sorted(naive_metrics.times(x).values())
    if len(set(at)) < 2:
        with pytest.raises(SplitError):
            time_split(x, share)
        return
    n_train = min(max(len(at) - int(share * len(at) + 0.5), 1), len(at) - 1)
    if at[n_train] == at[0]:
        with pytest.raises(SplitError, match="before the cutoff"):
            time_split(x, share)
        return
    split = time_split(x, share)
    sides(x, split)
    assert int(split.cutoff.astype(np.int64)) == at[n_train]
    assert max(naive_metrics.times(split.train).values()) < at[n_train] <= min(naive_metrics.times(split.test).values())


def test_time_by_a_date():
    at = np.array(["2024-01-01", "2024-02-01", "2024-02-01T00:00:00.001", "2024-03-01"], "datetime64[ms]")
    x = prepare_interactions(Interactions.of([1, 2, 1, 3], [1, 2, 3, 4], None, at)).interactions
    split = time_split(x, cutoff="2024-02-01")
    assert set(pairs(split.train)) == {(1, 1)}
    assert split.params == {"cutoff": "2024-02-01T00:00:00.000"}
    assert split.digest == time_split(x, cutoff=np.datetime64("2024-02-01T00:00")).digest
    for cutoff, side in (("2023-01-01", "before"), ("2025-01-01", "at or after")):
        with pytest.raises(SplitError, match=f"No interaction is {side} the cutoff"):
            time_split(x, cutoff=cutoff)
    for bad in ("soon", "NaT"):
        with pytest.raises(UsageError, match="must be a date"):
            time_split(x, cutoff=bad)
    with pytest.raises(SplitError, match="no interactions"):
        time_split(interactions({}))


@given(tables, shares, shares, st.integers(0, 3), st.booleans())
def test_users_are_held_out_whole(table, share, held_out, seed, timed):
    x = interactions(table, timed)
    everyone = naive_metrics.by_user(pairs(x))
    able = [user for user, items in everyone.items() if len(items) >= 2]
    if not able or len(everyone) < 2:
        with pytest.raises(SplitError, match="Whole users can't be held out"):
            users_split(x, share, held_out, seed)
        return
    split = users_split(x, share, held_out, seed)
    train, test, known = sides(x, split)
    assert set(test) == set(known)
    assert not set(train) & set(test)
    assert set(test) <= set(able)
    assert len(test) == min(max(int(share * len(everyone) + 0.5), 1), len(able), len(everyone) - 1)
    for user, items in test.items():
        n = len(everyone[user])
        assert len(items) == max(1, naive_metrics.n_held_out(n, held_out))
        if timed:
            at = naive_metrics.times(x)
            assert min(at[user, i] for i in items) >= max(at[user, i] for i in known[user])
    assert set(split.train.user_ids.values.tolist()) == set(train)


def test_who_is_held_out_is_drawn_by_seed():
    x = interactions({(u, i): (1.0, 0) for u in range(5) for i in range(3)})
    drawn = [frozenset(naive_metrics.by_user(pairs(users_split(x, 0.4, seed=seed).test))) for seed in range(40)]
    assert drawn == [frozenset(naive_metrics.by_user(pairs(users_split(x, 0.4, seed=s).test))) for s in range(40)]
    assert len(set(drawn)) > 5
    assert frozenset.union(*drawn) == set(range(5))


@pytest.mark.parametrize("name", ["latest", "last", "time"])
def test_without_times_it_is_said(name):
    with pytest.raises(SplitError, match=f"'{name}' needs times"):
        make_split(name, interactions({(1, 1): (1.0, 0), (1, 2): (1.0, 1)}, timed=False))


def test_by_name():
    x = interactions({(u, i): (1.0, u + i) for u in range(5) for i in range(6)})
    made = {name: make_split(name, x, share=0.5, k=2, seed=3) for name in ("random", "latest", "last", "time", "users")}
    assert {name: split.name for name, split in made.items()} == {name: name for name in made}
    assert made["last"].digest == last_split(x, 2, 3).digest
    assert made["time"].digest == time_split(x, 0.5).digest
    assert made["users"].digest == users_split(x, 0.5, seed=3).digest
    assert make_split("time", x, cutoff="1970-01-01T00:00:00.004").params == {"cutoff": "1970-01-01T00:00:00.004"}
    assert len({split.digest for split in made.values()}) == 5
    with pytest.raises(UsageError, match="must be one of"):
        make_split("best", x)


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
@pytest.mark.parametrize("way", [random_split, latest_split, time_split, users_split])
def test_a_share_outside_0_and_1_is_refused(way, share):
    with pytest.raises(UsageError, match="held-out share must be between 0 and 1"):
        way(interactions({(u, i): (1.0, u + i) for u in range(3) for i in range(3)}), share)


def test_k_below_1_is_refused():
    with pytest.raises(UsageError, match="At least 1"):
        last_split(interactions({(1, 1): (1.0, 0)}), 0)


# ---- the digest -----------------------------------------------------------------------------------


@given(tables, st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_digest_is_of_the_pairs_and_not_of_their_order(table, seed, random):
    x = interactions(table)
    split = random_split(x, 0.5, seed)
    order = list(range(len(split.train)))
    random.shuffle(order)
    train = split.train
    columns = (column[order] for column in (train.users, train.items, train.scores))
    shuffled = Interactions(*columns, train.user_ids, train.item_ids, train.at[order])
    same = dataclasses.replace(split, train=prepare_interactions(shuffled).interactions, test=split.test.compact())
    assert same.digest == split.digest
    zeros = {pair: (0.0, at) for pair, (_, at) in table.items()}
    assert random_split(interactions(zeros), 0.5, seed).digest == split.digest
    if len(split.test):
        moved = Split(split.train, split.test.take(np.arange(len(split.test) - 1)), None, split.name, split.params)
        assert moved.digest != split.digest
        swapped = Split(split.test.compact(), split.train, None, split.name, split.params)
        assert swapped.digest != split.digest
    assert dataclasses.replace(split, params={}).digest != split.digest
    assert dataclasses.replace(split, name="other").digest != split.digest


def test_the_digest_tells_who_has_which_item():
    crossed = Split(of([(1, 1), (2, 2)]), of([(1, 2), (2, 1)])), Split(of([(1, 2), (2, 1)]), of([(1, 1), (2, 2)]))
    assert crossed[0].digest != crossed[1].digest


# ---- leaks ----------------------------------------------------------------------------------------


def of(table, at=None):
    return prepare_interactions(Interactions.of([u for u, _ in table], [i for _, i in table], None, at)).interactions


@given(tables, tables)
def test_a_pair_on_both_sides_is_a_leak(train, test):
    common = len(set(train) & set(test))
    if common:
        with pytest.raises(LeakageError, match=rf"^{common} interaction\(s\) are on the training side and on the test"):
            Split(interactions(train), interactions(test))
    else:
        Split(interactions(train), interactions(test))


def test_a_time_on_the_wrong_side_is_a_leak():
    at = lambda *t: np.array(t, "datetime64[ms]")  # noqa: E731
    cutoff = np.datetime64(10, "ms")
    Split(of([(1, 1)], at(9)), of([(1, 2)], at(10)), cutoff)
    with pytest.raises(LeakageError, match=r"1 training interaction\(s\) are at or after the cutoff"):
        Split(of([(1, 1), (1, 3)], at(9, 10)), of([(1, 2)], at(10)), cutoff)
    with pytest.raises(LeakageError, match=r"1 test interaction\(s\) are before the cutoff"):
        Split(of([(1, 1)], at(9)), of([(1, 2)], at(9)), cutoff)
    with pytest.raises(SplitError, match="the test side has no times"):
        Split(of([(1, 1)], at(9)), of([(1, 2)]), cutoff)


def test_a_held_out_user_in_training_is_a_leak():
    train, known, test = of([(1, 1)]), of([(2, 1)]), of([(2, 2)])
    Split(train, test, fold_in=known)
    with pytest.raises(LeakageError, match=r"1 held-out user\(s\) have training interactions"):
        Split(of([(1, 1), (2, 3)]), test, fold_in=known)
    with pytest.raises(LeakageError, match="on the fold-in side and on the test side"):
        Split(train, test, fold_in=of([(2, 2)]))
    with pytest.raises(SplitError, match="nothing to be folded in by"):
        Split(train, of([(2, 2), (3, 2)]), fold_in=known)


def test_sides_that_make_no_sense_are_refused():
    # A pair twice would be a cell twice: only what is known to hold none can be a side.
    twice = Interactions.of([1, 1], [2, 2])
    for sides, name in (((of([(1, 1)]), twice), "test"), ((twice, of([(1, 1)])), "train")):
        with pytest.raises(SplitError, match=f"made by prepare_interactions, and these are not: {name}$"):
            Split(*sides)
    with pytest.raises(SplitError, match=r"not: fold_in$"):
        Split(of([(1, 1)]), of([(2, 2)]), fold_in=Interactions.of([2], [3]))
    with pytest.raises(SplitError, match="different kinds"):
        Split(of([(1, 1)]), of([(1, "a")]))


def split_and_whole():
    x = interactions({(u, i): (1.0, (i - u) % 6) for u in range(5) for i in range(6) if (u + i) % 3})
    split = latest_split(x, 0.4)
    assert split.train.item_ids == x.item_ids
    return x, split


def test_a_candidate_of_the_training_side_passes():
    _, split = split_and_whole()
    model = popular_model(to_matrix(split.train))
    check_candidate(model, split)
    check_candidate(Scorer(model, "popular"), split)
    check_candidate(Scorer(model), split, np.bincount(split.train.items))
    # Of fewer users, from a filter: it knows less, which is no leak.
    fewer = split.train.take(split.train.users != 0).compact()
    check_candidate(popular_model(to_matrix(fewer)), split)


def test_a_candidate_that_has_seen_the_test_side_is_refused():
    x, split = split_and_whole()
    n = len(split.test)
    with pytest.raises(LeakageError, match=rf"{n} interaction\(s\) as seen .* {n} of them held out"):
        check_candidate(popular_model(to_matrix(x)), split)
    first = prepare_interactions(x.take(np.isin(np.arange(len(x)), [0]) | np.isin(x.users, [1]))).interactions.compact()
    with pytest.raises(LeakageError, match="of them held out"):
        check_candidate(Scorer(popular_model(to_matrix(first))), split)


def test_a_candidate_that_knows_a_user_or_an_item_of_the_test_side_is_refused():
    train, test = of([(1, 1), (1, 2)]), of([(2, 1), (1, 7)])
    with pytest.raises(LeakageError, match=r"knows 1 user\(s\)"):
        check_candidate(popular_model(to_matrix(of([(1, 1), (2, 2)]))), Split(train, test))
    with pytest.raises(LeakageError, match=r"knows 1 item\(s\).*\[7\]"):
        check_candidate(popular_model(to_matrix(of([(1, 1), (1, 7)]))), Split(train, test))


def test_popularity_of_both_sides_is_refused():
    x, split = split_and_whole()
    model = popular_model(to_matrix(split.train))
    whole = np.bincount(x.items)
    with pytest.raises(LeakageError, match="popularity of items was not counted on the training side"):
        check_candidate(Scorer(model), split, whole)
    cheat = dataclasses.replace(model, item_scores=whole.astype(np.float32))
    with pytest.raises(LeakageError, match="popularity"):
        check_candidate(Scorer(cheat, "popular"), split)
    check_candidate(Scorer(cheat, "mine"), split)  # any other model may score as it likes


def test_what_was_folded_in_is_checked():
    train, known, test = of([(1, 1), (1, 2), (5, 3)]), of([(2, 1)]), of([(2, 2), (2, 3)])
    split = Split(train, test, fold_in=known)
    folded = to_matrix(PreparedInteractions(known.users, known.items, known.scores, known.user_ids, train.item_ids))
    check_folded(popular_model(folded), split)
    with pytest.raises(LeakageError, match="not of the fold-in side, 1 of them held out"):
        check_folded(popular_model(to_matrix(of([(2, 1), (2, 2)]))), split)
    # The same rows, of other items: user 2 had item 7, which is row 0 of what was folded in.
    other = Split(of([(1, 1), (1, 2), (1, 7), (5, 3)]), test, fold_in=of([(2, 7)]))
    with pytest.raises(LeakageError, match="not of the fold-in side"):
        check_folded(popular_model(folded), other)
    with pytest.raises(LeakageError, match="knows 1 user"):
        check_folded(popular_model(to_matrix(of([(2, 1), (1, 1)]))), split)
