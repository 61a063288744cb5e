"""Facts of the interactions that were read, and how they differ from the champion's data."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.data.id_map import IdMap
from pipeline.data.interactions import Interactions
from pipeline.data.mapped import counts_of
from pipeline.data.prepare import repeated_pairs

__all__ = ["DataProfile", "IdChanges", "ReferenceData", "Source", "n_duplicates", "profile_of"]

_DAY = np.timedelta64(1, "D") / np.timedelta64(1, "ms")
_SORTED_AT_ONCE = 1 << 26  # rows, 8 bytes each
_EXAMPLES = 5


@dataclass(frozen=True)
class Source:
    """Origin of data: ``warehouse`` or ``file``, its address, and the digest of the query (None for a file).

    Two sources are the same if all three are equal.
    """

    kind: str
    address: str
    query_digest: str | None = None


@dataclass(frozen=True, eq=False)
class ReferenceData:
    """Facts of the champion's data.

    Attributes
    ----------
    label : the champion's name in messages
    users, items : ids that it was trained on
    n_interactions : pairs of a user and an item; None if unknown
    filtered : whether users with few or many interactions were left out; new users are then unknown
    score_mean : of its interactions, as read; None if unknown
    """

    label: str
    source: Source
    users: IdMap
    items: IdMap
    n_interactions: int | None = None
    filtered: bool = False
    score_mean: float | None = None


@dataclass(frozen=True)
class IdChanges:
    """Ids compared with the champion's.

    Attributes
    ----------
    before, lost, gained : ids of the champion, of these missing now, and new ids (None: unknown)
    lost_share : lost / before
    examples : some of the lost ids
    """

    before: int
    lost: int
    gained: int | None
    lost_share: float
    examples: tuple[int | str, ...] = ()


@dataclass(frozen=True)
class DataProfile:
    """Facts of the data; times in ISO 8601 (UTC), shares 0–1, None if there is nothing to measure.

    Attributes
    ----------
    n_rows, n_bad : rows of the source, and those of them that were left out
    n_interactions : good rows; n_duplicates of them repeat a user and item
    age_days : age of the newest interaction; negative if it is later than the clock
    users, items : compared with the champion's (`IdChanges`)
    score_change : factor, at least 1, between the mean score and the champion's; None where one is 0 or unknown
    n_before : the champion's pairs of user and item; `shrink` is the share missing now (negative: there are more)
    """

    n_rows: int
    n_bad: int
    bad_share: float
    n_interactions: int
    n_users: int
    n_items: int
    n_duplicates: int
    duplicate_share: float
    score_min: float | None
    score_max: float | None
    score_mean: float | None
    oldest: str | None
    newest: str | None
    age_days: float | None
    score_mean_before: float | None = None
    score_change: float | None = None
    users: IdChanges | None = None
    items: IdChanges | None = None
    n_before: int | None = None
    shrink: float | None = None


def profile_of(
    x: Interactions, *, n_rows: int, n_bad: int, now: np.datetime64, before: ReferenceData | None = None
) -> DataProfile:
    """The facts of `x`, compared with the champion's data if `before` is given.

    Parameters
    ----------
    n_rows, n_bad : rows of the source, and those of them that are not in `x`
    now : the clock, UTC
    """
    facts = _alone(x, n_rows, n_bad, now)
    return facts if before is None else _beside(facts, x, before)


def n_duplicates(x: Interactions, at_once: int = _SORTED_AT_ONCE) -> int:
    """How many interactions repeat a user and item, by sorting codes of `at_once` rows (or one user's) at a time."""
    if (repeated := repeated_pairs(x)) is not None:
        return repeated
    if len(x) <= at_once:
        return _repeats(x.users, x.items, len(x.item_ids))
    total = np.cumsum(counts_of(x.users, len(x.user_ids)))
    repeats, first = 0, 0
    while first < total.size:
        done = int(total[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(total, done + at_once, side="right")))
        rows = (x.users >= first) & (x.users < last)
        repeats += _repeats(x.users[rows], x.items[rows], len(x.item_ids))
        first = last
    return repeats


def _repeats(users: NDArray[np.int32], items: NDArray[np.int32], n_items: int) -> int:
    pairs = users.astype(np.int64)
    pairs *= n_items
    pairs += items
    pairs.sort()
    return int(np.count_nonzero(pairs[1:] == pairs[:-1]))


def _alone(x: Interactions, n_rows: int, n_bad: int, now: np.datetime64) -> DataProfile:
    n, repeated = len(x), n_duplicates(x)
    times = x.at is not None and n > 0
    oldest, newest = (x.at.min(), x.at.max()) if x.at is not None and n else (None, None)
    age = float((now.astype("datetime64[ms]") - newest).astype(np.int64) / _DAY) if newest is not None else None
    return DataProfile(
        n_rows=n_rows,
        n_bad=n_bad,
        bad_share=n_bad / n_rows if n_rows else 0.0,
        n_interactions=n,
        n_users=len(x.user_ids),
        n_items=len(x.item_ids),
        n_duplicates=repeated,
        duplicate_share=repeated / n if n else 0.0,
        score_min=float(x.scores.min()) if n else None,
        score_max=float(x.scores.max()) if n else None,
        score_mean=float(x.scores.mean(dtype=np.float64)) if n else None,
        oldest=str(oldest) if times else None,
        newest=str(newest) if times else None,
        age_days=age,
    )


def _factor(now: float | None, before: float | None) -> float | None:
    """How many times the one is the other, at least 1; None where that has no meaning."""
    if now is None or before is None or now * before <= 0:
        return None
    return max(now / before, before / now)


def _beside(facts: DataProfile, x: Interactions, before: ReferenceData) -> DataProfile:
    pairs = facts.n_interactions - facts.n_duplicates
    known = None if before.filtered else before.n_interactions
    return replace(
        facts,
        score_mean_before=before.score_mean,
        score_change=_factor(facts.score_mean, before.score_mean),
        # No examples of users: a lost user may have been forgotten, and must not be written down again.
        users=_moved(x.user_ids, before.users, before.filtered, examples=0),
        items=_moved(x.item_ids, before.items, before.filtered),
        n_before=known,
        shrink=1 - pairs / known if known else None,
    )


def _moved(now: IdMap, before: IdMap, filtered: bool, examples: int = _EXAMPLES) -> IdChanges:
    # Ids that have become text, or integers, are others.
    gone = np.ones(len(before), bool) if now.kind != before.kind else now.rows(before.values, missing="negative") < 0
    lost = int(np.count_nonzero(gone))
    gained = None if filtered else len(now) - (len(before) - lost)
    some = before.values[np.flatnonzero(gone)[:examples]].tolist()
    return IdChanges(len(before), lost, gained, lost / len(before) if len(before) else 0.0, tuple(some))
