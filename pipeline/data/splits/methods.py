"""The ways to part interactions: a random share, the latest, the last k, a point in time, whole users, whole items.

All give the same split for the same interactions and seed. Shares are rounded to the nearest whole number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.data import mapped
from pipeline.data.id_map import IdMap
from pipeline.data.mapped import counts_of, empty_beside, parts, release, translated
from pipeline.data.prepare import PreparedInteractions
from pipeline.data.splits.split import Split
from pipeline.errors import SplitError, UsageError

__all__ = [
    "SplitName",
    "holdout",
    "items_split",
    "last_split",
    "latest_split",
    "make_split",
    "random_split",
    "time_split",
    "users_split",
]

SplitName = Literal["random", "latest", "last", "time", "users", "items"]


def random_split(x: PreparedInteractions, share: float = 0.2, seed: int = 42) -> Split:
    """Each user's random share held out; every user keeps at least one interaction."""
    _check_share(share)
    test = _lots(x, _rounded(share), seed, by_time=False)
    return _sides(x, test, "random", {"share": share, "seed": seed})


def latest_split(x: PreparedInteractions, share: float = 0.2, seed: int = 42) -> Split:
    """Each user's latest share held out; every user keeps at least one interaction.

    Interactions of equal time are parted at random, by the seed. Raises SplitError without times.
    """
    _check_share(share)
    _need_times(x, "latest")
    test = _lots(x, _rounded(share), seed, by_time=True)
    return _sides(x, test, "latest", {"share": share, "seed": seed})


def last_split(x: PreparedInteractions, k: int = 1, seed: int = 42) -> Split:
    """Each user's last k held out (k = 1: leave-last-out); every user keeps at least one interaction.

    A user with n ≤ k interactions gives n − 1. Equal times and errors as for `latest_split`.
    """
    if k < 1:
        raise UsageError(f"At least 1 interaction a user must be held out, got {k}")
    _need_times(x, "last")
    test = _lots(x, lambda n: np.full_like(n, k), seed, by_time=True)
    return _sides(x, test, "last", {"k": k, "seed": seed})


def time_split(x: PreparedInteractions, share: float = 0.2, cutoff: str | np.datetime64 | None = None) -> Split:
    """Everything at or after a point in time held out; training is strictly before it.

    Users who begin after the cutoff have no training interaction: they are on the test side alone, and
    the evaluation says how many they are.

    Parameters
    ----------
    share : of all interactions, in (0, 1); interactions of equal time stay together, so more may be held out
    cutoff : a date or time (UTC) instead of a share

    Raises
    ------
    SplitError
        Without times, or where one side would be empty.
    """
    _need_times(x, "time")
    times = x.at
    if times is None or not times.size:
        raise SplitError("There are no interactions to part by time")
    if cutoff is None:
        _check_share(share)
        n_train = min(max(times.size - int(np.floor(share * times.size + 0.5)), 1), times.size - 1)
        moment = _nth(times, n_train)
    else:
        try:
            moment = np.datetime64(cutoff).astype("datetime64[ms]")
        except ValueError:
            raise UsageError(f"The cutoff must be a date or time such as 2024-03-31, got {cutoff!r}") from None
        if np.isnat(moment):
            raise UsageError(f"The cutoff must be a date or time such as 2024-03-31, got {cutoff!r}")
    test = times >= moment
    if test.all() or not test.any():
        side = "before" if test.all() else "at or after"
        raise SplitError(
            f"No interaction is {side} the cutoff {moment}: "
            f"they are from {times.min()} to {times.max()}; choose another"
        )
    return _sides(x, test, "time", {"cutoff": str(moment)}, moment)


def users_split(x: PreparedInteractions, share: float = 0.2, held_out: float = 0.2, seed: int = 42) -> Split:
    """Whole users held out by lot: nothing of theirs is trained on.

    The latest `held_out` share of their history (a random one without times), at least one interaction, is
    what they are evaluated on; the rest, at least one, is what they are folded in by. So only users with
    two or more interactions are drawn.

    Parameters
    ----------
    share : of all users, in (0, 1); at least one is drawn, and at least one stays

    Raises
    ------
    SplitError
        Where no user can be drawn or none would stay.
    """
    _check_share(share)
    _check_share(held_out)
    count = counts_of(x.users, len(x.user_ids))
    able, n_users = np.flatnonzero(count >= 2), int(np.count_nonzero(count))
    if not able.size or n_users < 2:
        raise SplitError("Whole users can't be held out: it needs two users, one of them with two interactions")
    n = min(max(int(np.floor(share * n_users + 0.5)), 1), able.size, n_users - 1)
    drawn = np.zeros(count.size, bool)
    drawn[np.random.default_rng(seed).permutation(able)[:n]] = True
    of_drawn = translated(x.users, drawn)
    test = of_drawn & _lots(x, lambda n: np.maximum(_rounded(held_out)(n), 1), seed, by_time=x.at is not None)
    # "judged" stays the name in the record: digests of older splits contain it.
    params = {"share": share, "judged": held_out, "seed": seed}
    return Split(x.take(~of_drawn), x.take(test), name="users", params=params, fold_in=x.take(of_drawn & ~test))


def items_split(x: PreparedInteractions, share: float = 0.2, seed: int = 42) -> Split:
    """Whole items held out by lot: nothing of theirs is trained on, and lists are made of them alone.

    Parameters
    ----------
    share : of all items, in (0, 1); at least one is drawn, and at least one stays

    Raises
    ------
    SplitError
        With fewer than two items.
    """
    _check_share(share)
    able = np.flatnonzero(counts_of(x.items, len(x.item_ids)))
    if able.size < 2:
        raise SplitError("Whole items can't be held out: it needs two items")
    n = min(max(int(np.floor(share * able.size + 0.5)), 1), able.size - 1)
    drawn = np.zeros(len(x.item_ids), bool)
    drawn[np.random.default_rng(seed).permutation(able)[:n]] = True
    test = translated(x.items, drawn)
    ranked = IdMap(x.item_ids.values[drawn])
    return Split(x.take(~test), x.take(test), name="items", params={"share": share, "seed": seed}, ranked=ranked)


def holdout(x: PreparedInteractions, share: float = 0.2, seed: int = 42) -> Split:
    """`latest_split`; where there are no times, `random_split`."""
    return random_split(x, share, seed) if x.at is None else latest_split(x, share, seed)


def make_split(
    name: SplitName,
    x: PreparedInteractions,
    *,
    share: float = 0.2,
    k: int = 1,
    cutoff: str | None = None,
    seed: int = 42,
) -> Split:
    """The split of that name: `k` is of ``last`` alone, `cutoff` of ``time``."""
    if name == "random":
        return random_split(x, share, seed)
    if name == "latest":
        return latest_split(x, share, seed)
    if name == "last":
        return last_split(x, k, seed)
    if name == "time":
        return time_split(x, share, cutoff)
    if name == "users":
        return users_split(x, share, seed=seed)
    if name == "items":
        return items_split(x, share, seed)
    raise UsageError(f"The split must be one of {get_args(SplitName)}, got {name!r}")


def _lots(
    x: PreparedInteractions, wanted: Callable[[NDArray[np.int64]], NDArray[np.int64]], seed: int, *, by_time: bool
) -> NDArray[np.bool_]:
    """Which interactions are held out, (n,): `wanted` of each user's n, but never all of them.

    The latest ones, or those that the seed's lots put last; the lot decides between equal times, too.
    """
    count = counts_of(x.users, len(x.user_ids))
    n_test = np.minimum(wanted(count), np.maximum(count - 1, 0))
    rng = np.random.default_rng(seed)
    end = np.cumsum(count)
    test = np.zeros(len(x), bool)
    start = 0
    while start < len(x):  # some users at a time, whose interactions lie together
        last = np.searchsorted(end, start + mapped.AT_ONCE, side="right")
        stop = max(int(end[last - 1]) if last else 0, int(end[x.users[start]]))
        users, lot = x.users[start:stop], rng.random(stop - start)
        order = _by_time(users, x.at[start:stop], lot) if by_time and x.at is not None else _by_lot(users, lot)
        # Position counted from the end of the user's stretch: 1 is the latest.
        from_end = end[users[order]] - np.arange(start, stop)
        test[start:stop][order] = from_end <= n_test[users[order]]
        start = stop
        release(x.users, *([] if x.at is None else [x.at]))
    return test


def _nth(times: NDArray[np.datetime64], n: int) -> np.datetime64:
    """The time that would be at position n if they were sorted."""
    copy = empty_beside(times, times.size)
    for part in parts(times.size):
        copy[part] = times[part]
        release(times)
    copy.partition(n)
    moment: np.datetime64 = copy[n]
    return moment


def _by_time(users: NDArray[np.int32], times: NDArray[np.datetime64], lot: NDArray[np.float64]) -> NDArray[np.intp]:
    """``np.lexsort((lot, at, users))``, many times as fast."""
    time = times.astype(np.int64)
    first, last = (int(time.min()), int(time.max())) if time.size else (0, 0)
    span = last - first + 1
    if span * (int(users.max(initial=0)) + 1) >= 2**63:
        return np.lexsort((lot, time, users))
    return _ordered(users * np.int64(span) + (time - first), (lot, time, users))


def _by_lot(users: NDArray[np.int32], lot: NDArray[np.float64]) -> NDArray[np.intp]:
    """``np.lexsort((lot, users))``, several times as fast; the sum may round up to the next user: a tie, too."""
    return _ordered(users + lot, (lot, users))


def _ordered(key: NDArray[Any], columns: tuple[NDArray[Any], ...]) -> NDArray[np.intp]:
    """``np.lexsort(columns)`` by one sort of `key`, which never falls in that order, and one of what ties in it."""
    order = np.argsort(key)
    ordered = key[order]
    same = ordered[1:] == ordered[:-1]
    edge = np.zeros(min(1, order.size), bool)
    tied = np.flatnonzero(np.append(same, edge) | np.append(edge, same))
    rows = order[tied]
    order[tied] = rows[np.lexsort(tuple(column[rows] for column in columns))]
    return order


def _rounded(share: float) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
    return lambda n: np.floor(share * n + 0.5).astype(np.int64)


def _sides(
    x: PreparedInteractions,
    test: NDArray[np.bool_],
    name: SplitName,
    params: dict[str, int | float | str],
    cutoff: np.datetime64 | None = None,
) -> Split:
    return Split(x.take(~test), x.take(test), cutoff, name, params)


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise UsageError(f"The held-out share must be between 0 and 1, got {share}")


def _need_times(x: PreparedInteractions, name: SplitName) -> None:
    if x.at is None:
        raise SplitError(f"The split {name!r} needs times, and these interactions have none: take 'random'")
