"""A version beside the champion, on the users that both were evaluated on: the promotion gate's last conditions.

The rules, and why they are so, stand in docs/promotion.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.comparison import common_users
from pipeline.evaluation.gate_checks import Gate, GateCheck, shares
from pipeline.evaluation.metrics import SEGMENTS
from pipeline.evaluation.significance import Comparison, compare, compare_segments
from pipeline.evaluation.storage import StoredEvaluation

__all__ = ["NOT_WORSE", "beside_champion"]

SAME_SPLIT = "same split"
NOT_WORSE = "not worse than the champion"
NO_COLLAPSE = "no segment collapses"


class _Pairs(NamedTuple):
    """The values of the users that both evaluations have, (n,) each. Margins are shares of the mean of `level`."""

    champion: NDArray[np.float64]
    candidate: NDArray[np.float64]
    level: NDArray[np.float64]
    segment: NDArray[np.int8]


def beside_champion(evaluation: StoredEvaluation, champion: StoredEvaluation, gate: Gate) -> list[GateCheck]:
    """Whether the two can be compared, and if so whether the version is worse than the champion, in all and by segment.

    On other data than the champion's, each is taken by what it has more than most popular.
    """
    same_data = evaluation.data_digest == champion.data_digest
    split = _same_split(evaluation, champion, same_data)
    if not split.passed:
        return [split]
    rows_c, rows_j = common_users(champion, evaluation)
    a, b = champion.metric(gate.metric)[rows_c], evaluation.metric(gate.metric)[rows_j]
    level = a
    if not same_data:
        a, b = a - champion.popular(gate.metric)[rows_c], b - evaluation.popular(gate.metric)[rows_j]
    both = ~(np.isnan(a) | np.isnan(b))
    if (n := int(np.count_nonzero(both))) < (1 if same_data else gate.segment_users):
        sentence = f"nothing to compare: only {n} users were evaluated for both {evaluation.label} and {champion.label}"
        return [split, GateCheck(NOT_WORSE, False, sentence)]
    pairs = _Pairs(a[both], b[both], level[both], champion.segment[rows_c][both])
    comparison = compare(pairs.champion, pairs.candidate)
    scale = float(pairs.level.mean())
    worse = _not_worse(comparison, scale, gate) if same_data else _not_shown_worse(comparison, scale, gate)
    return [split, worse, _no_collapse(pairs, gate)]


def _same_split(evaluation: StoredEvaluation, champion: StoredEvaluation, same_data: bool) -> GateCheck:
    own, of_champion = _kind(evaluation, same_data), _kind(champion, same_data)
    if own != of_champion:
        sentence = (
            f"another split: {evaluation.label} was evaluated on {_words(own)}, the champion by {_words(of_champion)}; "
            "train with the champion's"
        )
        return GateCheck(SAME_SPLIT, False, sentence)
    if not same_data:
        sentence = (
            f"{_words(own)}, of other data than the champion's: the two are compared by what each has more than "
            "most popular, user by user"
        )
        return GateCheck(SAME_SPLIT, True, sentence)
    if evaluation.split_digest != champion.split_digest:
        sentence = (
            "another split: of the same data other interactions are held out "
            f"(split_digest {evaluation.split_digest[:8]}, the champion's {champion.split_digest[:8]}); "
            "train with the champion's filters and --duplicates"
        )
        return GateCheck(SAME_SPLIT, False, sentence)
    return GateCheck(SAME_SPLIT, True, f"{_words(own)}, the same held-out interactions as the champion")


def _kind(evaluation: StoredEvaluation, same_data: bool) -> tuple[str, Mapping[str, Any]]:
    # With other data, the time of a cutoff may differ.
    moving = set() if same_data else {"cutoff"}
    return evaluation.split_name, {name: value for name, value in evaluation.split_params.items() if name not in moving}


def _words(kind: tuple[str, Mapping[str, Any]]) -> str:
    params = ", ".join(f"{name} {value}" for name, value in kind[1].items())
    return f"the split {kind[0]!r}" + (f" ({params})" if params else "")


def _not_worse(compared: Comparison, scale: float, gate: Gate) -> GateCheck:
    """Non-inferiority: the low end of the difference's interval is no further below 0 than the margin."""
    value, low, high = compared.difference
    bound = -gate.margin * scale
    said = (
        f"{gate.metric} {compared.mean_b:.4f} beside the champion's {compared.mean_a:.4f} "
        f"on {compared.n_users:,} users, difference {_changes(value, low, high, scale)}"
    )
    if low >= bound:
        return GateCheck(NOT_WORSE, True, f"{said}; the low end may fall to {_share(bound, scale)} (--margin)")
    if value <= bound:
        return GateCheck(NOT_WORSE, False, f"{_worse(high)}: {said}; margin {gate.margin:.3g}")
    # The width of the interval falls with the square root of the number of users.
    needed = math.ceil(compared.n_users * ((value - low) / (value - bound)) ** 2)
    holds = f", or from --margin {math.ceil(-low / scale * 1000) / 1000:g}" if -low < scale else ""
    return GateCheck(
        NOT_WORSE,
        False,
        f"unclear whether worse than the champion: {said}; the low end is below the margin of {gate.margin:.3g}: "
        f"it would hold with some {needed:,} users{holds}",
    )


def _not_shown_worse(compared: Comparison, scale: float, gate: Gate) -> GateCheck:
    """On other data: it fails if the loss is beyond the margin and the whole interval is below 0."""
    value, low, high = compared.difference
    said = (
        f"{compared.mean_b:+.4f} {gate.metric} over most popular beside the champion's {compared.mean_a:+.4f} "
        f"on its own data, {compared.n_users:,} users in common, difference {_changes(value, low, high, scale)}"
    )
    if high < 0 and value < -gate.margin * scale:
        return GateCheck(NOT_WORSE, False, f"{_worse(high)}: {said}; margin {gate.margin:.3g}")
    unclear = low < -gate.margin * scale
    return GateCheck(NOT_WORSE, True, f"{'not shown to be worse' if unclear else 'not worse'}: {said}")


def _worse(high: float) -> str:
    return "worse than the champion" if high < 0 else "probably worse than the champion"


def _no_collapse(pairs: _Pairs, gate: Gate) -> GateCheck:
    fallen, looked = [], []
    for name, compared in compare_segments(pairs.champion, pairs.candidate, pairs.segment).items():
        level = float(pairs.level[pairs.segment == SEGMENTS.index(name)].mean())
        if compared.n_users < gate.segment_users:
            continue
        value, low, high = compared.difference
        said = f"{name} {_changes(value, low, high, level)} on {compared.n_users:,} users"
        looked.append(said)
        if high < 0 and value < -gate.segment_margin * level:
            fallen.append(said)
    if fallen:
        sentence = f"a segment collapses: {'; '.join(fallen)}; more than {gate.segment_margin:.0%} (--segment-margin)"
        return GateCheck(NO_COLLAPSE, False, sentence)
    return GateCheck(NO_COLLAPSE, True, "; ".join(looked) or f"none has {gate.segment_users} users to look at")


def _changes(value: float, low: float, high: float, scale: float) -> str:
    """A difference with its interval, as shares of `scale` where that is something."""
    if scale <= 0:
        return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"
    return shares(value / scale, low / scale, high / scale)


def _share(value: float, scale: float) -> str:
    return f"{value / scale:+.1%}" if scale > 0 else f"{value:+.4f}"
