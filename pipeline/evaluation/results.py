"""`Evaluation`: the metrics of each user, and their averages, overall and by segment."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.metric_names import holdout_name
from pipeline.evaluation.metrics import BANDS, SEGMENTS, coverage, gini, popularity_lift

__all__ = ["Averages", "Evaluation", "Report", "averages"]


@dataclass(frozen=True)
class Report:
    """Attributes
    ----------
    metrics : name as logged → value, finite
    messages : a sentence for each metric that was left out, and further warnings
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    messages: tuple[str, ...] = ()

    def __or__(self, other: Report) -> Report:
        return Report({**self.metrics, **other.metrics}, self.messages + other.messages)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Attributes
    ----------
    ks : the lengths of lists that were measured, ascending
    user_ids : (n,) the evaluated users' ids, ascending
    n_train, n_relevant : (n,) their numbers of known and of held-out interactions
    segment : (n,) int8, position in `metrics.SEGMENTS`
    cuts : the segments' bounds: cold has n_train ≤ cuts[0], warm ≤ cuts[1]
    per_user : metric → (n,) float64; NaN where a user has no such value
    metrics : name → mean over the users who have a value (of coverage, gini, …: over all lists); finite
    by_segment : segment → the same over its users; without segments that have no users
    messages : sentences about the users and interactions that were left out
    split_digest : of the split that the users were evaluated on
    lists : (n, max k) item rows of `split.items`, -1 where a list is shorter; if kept
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
        """The table that is written, with a row a user: user_id, n_train, n_relevant, segment, the metrics."""
        return {
            "user_id": self.user_ids,
            "n_train": self.n_train,
            "n_relevant": self.n_relevant,
            "segment": np.array(SEGMENTS)[self.segment],
            **self.per_user,
        }

    def report(self, part: str = "holdout", by_segment: Collection[str] = ()) -> Report:
        """The averages by their logged names (see `holdout_name`), those of `by_segment` for each segment too."""
        metrics = {holdout_name(name, part=part): value for name, value in self.metrics.items()}
        for segment, values in self.by_segment.items():
            metrics |= {
                holdout_name(name, part=part, segment=segment): values[name] for name in by_segment if name in values
            }
        return Report(metrics, self.messages)


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
    """Means of the per-user columns, and metrics counted over all lists, for all users and for each segment.

    `columns` has ``popularity_at_k`` for each k and ``consumed_popularity``; `bands` is (n_items,).
    """
    codes = segment.astype(np.intp)
    users_of = [np.flatnonzero(codes == code) for code in range(len(SEGMENTS))]
    n_segments = len(users_of)
    overall, *by_segment = [{"n_users": float(n)} if n else {} for n in (codes.size, *map(len, users_of))]
    for name, column in columns.items():
        has_value = ~np.isnan(column)
        values, segments = (column, codes) if has_value.all() else (column[has_value], codes[has_value])
        if not values.size:
            continue
        overall[name] = float(values.mean())
        number = np.bincount(segments, minlength=n_segments)
        total = np.bincount(segments, values, minlength=n_segments)
        for code in np.flatnonzero(number):
            by_segment[code][name] = float(total[code] / number[code])
    for k in ks:
        times = [np.bincount(lists[users, :k].ravel() + 1, minlength=bands.size + 1)[1:] for users in users_of]
        popularity = columns[f"popularity_at_{k}"], columns["consumed_popularity"]
        overall |= _of_lists(np.sum(times, axis=0), bands, k, *popularity)
        for metrics, exposed, users in zip(by_segment, times, users_of, strict=True):
            metrics |= _of_lists(exposed, bands, k, *(column[users] for column in popularity))
    return Averages(overall, {name: metrics for name, metrics in zip(SEGMENTS, by_segment, strict=True) if metrics})


def _of_lists(
    times: NDArray[np.int64],
    bands: NDArray[np.int8],
    k: int,
    listed: NDArray[np.float64],
    consumed: NDArray[np.float64],
) -> dict[str, float]:
    """Coverage, Gini index, band shares and popularity lift of lists that hold item i times[i] times.

    {} where all lists are empty.
    """
    total = int(times.sum())
    if not total:
        return {}
    metrics = {f"coverage_at_{k}": coverage(times), f"gini_at_{k}": gini(times)}
    for band, label in enumerate(BANDS):
        metrics[f"share_at_{k}_{label}"] = float(times[bands == band].sum() / total)
    lift = popularity_lift(listed, consumed)
    return metrics if np.isnan(lift) else {**metrics, f"popularity_lift_at_{k}": lift}
