"""`Evaluation`: what was found of each user, and its averages, overall and by segment."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics import BANDS, SEGMENTS, coverage, gini, popularity_lift
from pipeline.report import Report

__all__ = ["Averages", "Evaluation", "averages"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Attributes
    ----------
    ks : the lengths of lists that were measured, ascending
    user_ids : (n,) the judged users' ids, ascending
    n_train, n_relevant : (n,) their numbers of known and of held-out interactions
    segment : (n,) int8, position in `metrics.SEGMENTS`
    cuts : the segments' bounds: cold has n_train ≤ cuts[0], warm ≤ cuts[1]
    per_user : metric → (n,) float64; NaN where a user has no such value
    metrics : name → mean over the users who have a value (of coverage, gini, …: over all lists); finite
    by_segment : segment → the same over its users; a segment without users is not there
    messages : who and what was left out, in sentences
    split_digest : of the split it was measured on
    lists : (n, max k) item rows of `split.train.item_ids`, -1 where a list is shorter; if kept
    """

    ks: tuple[int, ...]
    user_ids: NDArray[Any]
    n_train: NDArray[np.int64]
    n_relevant: NDArray[np.int64]
    segment: NDArray[np.int8]
    cuts: tuple[int, int]
    per_user: Mapping[str, NDArray[np.float64]]
    metrics: Mapping[str, float]
    by_segment: Mapping[str, Mapping[str, float]]
    messages: tuple[str, ...]
    split_digest: str
    lists: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return int(self.user_ids.size)

    def columns(self) -> dict[str, NDArray[Any]]:
        """A table with a row a user, as it is written down: user_id, n_train, n_relevant, segment, the metrics."""
        return {
            "user_id": self.user_ids,
            "n_train": self.n_train,
            "n_relevant": self.n_relevant,
            "segment": np.array(SEGMENTS)[self.segment],
            **self.per_user,
        }

    def report(self, prefix: str = "holdout_", by_segment: Collection[str] = ()) -> Report:
        """The averages by their logged names: ``holdout_ndcg_at_10``; by segment ``holdout_cold_…``."""
        found = {prefix + name: value for name, value in self.metrics.items()}
        for segment, values in self.by_segment.items():
            found |= {f"{prefix}{segment}_{name}": values[name] for name in by_segment if name in values}
        return Report(found, self.messages)


class Averages(NamedTuple):
    """As `Evaluation.metrics` and `Evaluation.by_segment`."""

    overall: dict[str, float]
    by_segment: dict[str, dict[str, float]]


def averages(
    columns: Mapping[str, NDArray[np.float64]],
    lists: NDArray[np.int32],
    segment: NDArray[np.int8],
    bands: NDArray[np.int8],
    ks: Sequence[int],
) -> Averages:
    """Means of the per-user columns, and what is counted over all lists, of everybody and of each segment.

    `columns` has ``popularity_at_k`` for each k and ``consumed_popularity``; `bands` is (n_items,).
    """
    of = segment.astype(np.intp)
    mine = [np.flatnonzero(of == code) for code in range(len(SEGMENTS))]
    # Everybody, and then each segment.
    found: list[dict[str, float]] = [{"n_users": float(n)} if n else {} for n in (of.size, *map(len, mine))]
    for name, values in columns.items():
        there = ~np.isnan(values)
        some, whose = (values, of) if there.all() else (values[there], of[there])
        if not some.size:
            continue
        found[0][name] = float(some.mean())
        number, total = np.bincount(whose, minlength=len(mine)), np.bincount(whose, some, minlength=len(mine))
        for code in np.flatnonzero(number):
            found[code + 1][name] = float(total[code] / number[code])
    for k in ks:
        times = [np.bincount(lists[some, :k].ravel() + 1, minlength=bands.size + 1)[1:] for some in mine]
        chosen = columns[f"popularity_at_{k}"], columns["consumed_popularity"]
        found[0] |= _of_lists(np.sum(times, axis=0), bands, k, *chosen)
        for result, exposed, users in zip(found[1:], times, mine, strict=True):
            result |= _of_lists(exposed, bands, k, *(column[users] for column in chosen))
    return Averages(found[0], {name: part for name, part in zip(SEGMENTS, found[1:], strict=True) if part})


def _of_lists(
    times: NDArray[np.int64],
    bands: NDArray[np.int8],
    k: int,
    listed: NDArray[np.float64],
    consumed: NDArray[np.float64],
) -> dict[str, float]:
    """Of lists that hold each item so many times; nothing where they are all empty."""
    total = int(times.sum())
    if not total:
        return {}
    found = {f"coverage_at_{k}": coverage(times), f"gini_at_{k}": gini(times)}
    for band, label in enumerate(BANDS):
        found[f"share_at_{k}_{label}"] = float(times[bands == band].sum() / total)
    lift = popularity_lift(listed, consumed)
    return found if np.isnan(lift) else {**found, f"popularity_lift_at_{k}": lift}
