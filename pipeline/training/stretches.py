"""`earlier_stretches(inner, base)`: more stretches of time to choose a model on, where one has few users.

With a split by time the validation part is one stretch of time, and only people who are on both of its sides are
evaluated: 20 of the 416 of ml-latest-small, who rate in one burst. What ranks best there is chance, and the users of
one stretch share its chance, so that an interval over users is too narrow. So a choice also looks at stretches before
it (a rolling origin, Tashman 2000): each model is fitted on what is before a stretch, and measured on it. The values of
all stretches are one mean, and `over_stretches` is the interval of a difference with a stretch as the unit.

    ──────────fit──────────│validation part
    ────────fit───────│ earlier │
    ──────fit────│ earlier │
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from pipeline.data.id_map import distinct
from pipeline.data.splits import Split
from pipeline.errors import SplitError
from pipeline.evaluation.significance import Interval
from pipeline.options import TrainOptions
from pipeline.training.train import split_interactions

__all__ = ["earlier_stretches", "over_stretches"]

_FEW = 200  # evaluated users of the validation part; with so many it is taken alone
_STRETCHES = 6  # in all
_LENGTH = 1 / 2  # of the share of the validation part, so that the first stretch still has a history before it


def earlier_stretches(inner: Split, base: TrainOptions) -> tuple[Split, ...]:
    """The splits of the training side of `inner` at earlier moments, the latest first; none unless needed."""
    if base.split != "time" or _n_evaluated(inner) >= _FEW:
        return ()
    found: list[Split] = []
    options = replace(base, holdout=_LENGTH * float(base.holdout), split_cutoff=None)
    side = inner.train
    while len(found) < _STRETCHES - 1:
        try:
            split = split_interactions(side, options)
        except SplitError:
            break
        if not _n_evaluated(split) or len(split.train) < max(base.min_data, 1):
            break
        found.append(split)
        side = split.train
    return tuple(found)


def over_stretches(a: NDArray[np.float64], b: NDArray[np.float64], sizes: Sequence[int]) -> Interval:
    """Mean of b − a over the stretches, each counting once, with the 95 % interval of Student's t over them.

    a, b : (sum of `sizes`,), the users of one stretch after those of another; NaN for a user without a value
    """
    parts = np.split(b - a, np.cumsum(sizes)[:-1])
    means = np.array([np.nanmean(part) for part in parts if np.isfinite(part).any()])
    mean, error = float(means.mean()), float(means.std(ddof=1)) / means.size**0.5 if means.size > 1 else np.inf
    reach = float(stdtrit(max(means.size - 1, 1), 0.975)) * error
    return Interval(mean, mean - reach, mean + reach)


def _n_evaluated(split: Split) -> int:
    """Users who are on both sides."""
    held_out = split.test.user_ids.values[distinct(split.test.users)]
    return int(np.count_nonzero(split.train.user_ids.rows(held_out, missing="negative") >= 0))
