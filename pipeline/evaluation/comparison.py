"""Compare two evaluated runs: which users gain and which lose, and how much their lists overlap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.id_map import distinct
from pipeline.errors import InputError
from pipeline.evaluation.metrics import SEGMENTS
from pipeline.evaluation.significance import Comparison, compare, compare_segments, jaccard_at_k
from pipeline.evaluation.storage import StoredEvaluation

__all__ = ["Compared", "UserDifference", "common_users", "compare_runs", "require_same_split"]

# Metrics of which higher is better; higher novelty or popularity is neither better nor worse.
_BETTER = ("precision", "recall", "hit_rate", "ndcg", "map", "mrr")
_MOVERS = 5


class UserDifference(NamedTuple):
    """A user for whom the two runs differ most."""

    user_id: int | str
    n_train: int
    a: float
    b: float

    @property
    def difference(self) -> float:
        """b minus a."""
        return self.b - self.a


@dataclass(frozen=True)
class Compared:
    """Attributes
    ----------
    metric : the per-user metric that is compared
    a, b : labels of the two runs
    overall, segments : b against a; without segments that have no users
    overlap : "overall" and each segment → mean Jaccard of the two lists of a user
    n_same_list : users whose two lists hold the same items
    gained, lost : users who gain and who lose most, at most five each, the largest difference first
    n_left_out : users who are evaluated in one run only, or have no value in one
    verdict : the outcome in a sentence
    """

    metric: str
    a: str
    b: str
    overall: Comparison
    segments: Mapping[str, Comparison]
    overlap: Mapping[str, float]
    n_same_list: int
    gained: tuple[UserDifference, ...]
    lost: tuple[UserDifference, ...]
    n_left_out: int
    verdict: str


def require_same_split(a: StoredEvaluation, b: StoredEvaluation) -> None:
    """Raise InputError, with the reason, unless both were evaluated on the same held-out part of the same data."""
    if a.data_digest != b.data_digest:
        raise InputError(
            f"{a.label} and {b.label} can't be compared user by user: they were trained on different data "
            f"(data_digest {a.data_digest[:8]} and {b.data_digest[:8]}); train both on the same"
        )
    if a.split_digest != b.split_digest:
        raise InputError(
            f"{a.label} and {b.label} can't be compared user by user: they were evaluated on different splits "
            f"({_split(a)} and {_split(b)}, split_digest {a.split_digest[:8]} and {b.split_digest[:8]}); "
            "train both with the same split, seed and filters"
        )


def _split(evaluation: StoredEvaluation) -> str:
    params = ", ".join(f"{name} {value}" for name, value in evaluation.split_params.items())
    return f"{evaluation.split_name} ({params})" if params else evaluation.split_name


def common_users(a: StoredEvaluation, b: StoredEvaluation) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows in a and in b of the users whom both have, in the order of their ids, (n_common,) each."""
    if a.user_ids.dtype.kind != b.user_ids.dtype.kind:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    _, rows_a, rows_b = np.intersect1d(a.user_ids, b.user_ids, assume_unique=True, return_indices=True)
    return rows_a, rows_b


def compare_runs(a: StoredEvaluation, b: StoredEvaluation, metric: str = "ndcg_at_10", *, seed: int = 42) -> Compared:
    """b against a on the users whom both have.

    Raises
    ------
    InputError
        Where data or split differ, or no user has a value in both.
    UsageError
        For a metric that one of them does not have.
    """
    require_same_split(a, b)
    rows_a, rows_b = common_users(a, b)
    of_a, of_b, segment = a.metric(metric)[rows_a], b.metric(metric)[rows_b], a.segment[rows_a]
    overall = compare(of_a, of_b, seed=seed)
    jaccard = _overlap(a, rows_a, b, rows_b)
    overlap = {"overall": _mean(jaccard)}
    segments = compare_segments(of_a, of_b, segment, seed=seed)
    overlap |= {name: _mean(jaccard[segment == SEGMENTS.index(name)]) for name in segments}
    n_all = distinct(a.user_ids, b.user_ids).size
    difference = of_b - of_a
    movers = [
        UserDifference(a.user_ids[rows_a[i]].item(), int(a.n_train[rows_a[i]]), float(of_a[i]), float(of_b[i]))
        for i in _most(difference)
    ]
    return Compared(
        metric,
        a.label,
        b.label,
        overall,
        segments,
        {name: value for name, value in overlap.items() if not np.isnan(value)},
        int(np.count_nonzero(jaccard == 1)),
        tuple(user for user in movers if user.difference > 0)[:_MOVERS],
        tuple(user for user in reversed(movers) if user.difference < 0)[:_MOVERS],
        n_all - overall.n_users,
        _verdict(a.label, b.label, metric, overall),
    )


def _most(difference: NDArray[np.float64]) -> list[int]:
    """Positions of the largest and of the smallest differences, in descending order, without NaN."""
    order = np.argsort(-difference, kind="stable")  # NaN goes last
    order = order[: np.count_nonzero(~np.isnan(difference))]
    ends = order if order.size <= 2 * _MOVERS else np.concatenate([order[:_MOVERS], order[-_MOVERS:]])
    return [int(i) for i in ends]


def _mean(values: NDArray[np.float64]) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def _overlap(
    a: StoredEvaluation, rows_a: NDArray[np.intp], b: StoredEvaluation, rows_b: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Jaccard of the two lists of each user, (n_common,)."""
    both: NDArray[Any] = np.concatenate([a.items, b.items])
    codes = np.unique(both, return_inverse=True)[1].ravel()
    return jaccard_at_k(_lists(a, codes[: a.items.size])[rows_a], _lists(b, codes[a.items.size :])[rows_b])


def _lists(evaluation: StoredEvaluation, codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """(n, longest list) codes, -1 where a list is shorter."""
    lengths = np.diff(evaluation.ends, prepend=0)
    lists = np.full((len(evaluation), int(lengths.max(initial=0))), -1, np.intp)
    lists[np.arange(lists.shape[1]) < lengths[:, None]] = codes
    return lists


def _verdict(a: str, b: str, metric: str, comparison: Comparison) -> str:
    ranks = metric.startswith(_BETTER)
    above, below = ("better", "worse") if ranks else ("higher", "lower")
    change = f"{comparison.difference.value:+.4f} [{comparison.difference.low:+.4f}, {comparison.difference.high:+.4f}]"
    share = f" ({comparison.difference.value / comparison.mean_a:+.1%})" if comparison.mean_a else ""
    if comparison.difference.low == comparison.difference.high == 0:
        return f"{b} and {a} are the same: no user's {metric} differs"
    if comparison.difference.low > 0:
        return f"{b} is {above} than {a}: {metric} {change}{share}"
    if comparison.difference.high < 0:
        return f"{b} is {below} than {a}: {metric} {change}{share}"
    return f"No telling {b} and {a} apart: {metric} {change}{share}, and 0 is within the interval"
