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
from pipeline.evaluation.gate_checks import UNKNOWN, ChampionOptions, Gate, GateCheck, shares
from pipeline.evaluation.metrics import SEGMENTS
from pipeline.evaluation.significance import Comparison, compare, compare_segments
from pipeline.evaluation.storage import StoredEvaluation

__all__ = ["NOT_WORSE", "beside_champion"]

SAME_SPLIT = "same split"
NOT_WORSE = "not worse than the champion"
NO_COLLAPSE = "no segment collapses"
NO_HARM = "newer data does no harm"
NO_FALL = "no sudden fall"

# A champion that learned longer ago says nothing of suddenness: by then drift tells of its age (--max-model-lag-hours).
SUDDEN_DAYS = 8.0


class _Pairs(NamedTuple):
    """The values of the users that both evaluations have, (n,) each. Margins are shares of the mean of `level`."""

    champion: NDArray[np.float64]
    candidate: NDArray[np.float64]
    level: NDArray[np.float64]
    segment: NDArray[np.int8]


def beside_champion(
    evaluation: StoredEvaluation,
    champion: StoredEvaluation | None,
    gate: Gate,
    options: ChampionOptions = UNKNOWN,
) -> list[GateCheck]:
    """Whether the two can be compared, and if so whether the version is worse than the champion, in all and by segment.

    On other data than the champion's, the champion is its options, fitted to the version's training side. Where these
    are not known, each is taken by what it has more than most popular.

    Raises UsageError for a metric that an evaluation does not have.
    """
    same_data = champion is not None and evaluation.data_digest == champion.data_digest
    same_split = champion is not None and evaluation.split_digest == champion.split_digest
    if options.on_its_holdout and not (same_data and same_split):
        return _on_its_holdout(evaluation, champion, gate, options)
    if champion is None:
        return [GateCheck(NOT_WORSE, False, "nothing to compare with")]
    split = _same_split(evaluation, champion, same_data)
    if not split.passed:
        return [split]
    rows_c, rows_j = common_users(champion, evaluation)
    a, b = champion.metric(gate.metric)[rows_c], evaluation.metric(gate.metric)[rows_j]
    level, least = a, 1
    if not same_data:
        least = gate.segment_users
        a, b = a - champion.popular(gate.metric)[rows_c], b - evaluation.popular(gate.metric)[rows_j]
    pairs = _pairs(a, b, level, champion.segment[rows_c])
    if (n := pairs.champion.size) < least:
        sentence = f"nothing to compare: only {n} users were evaluated for both {evaluation.label} and {champion.label}"
        return [split, GateCheck(NOT_WORSE, False, sentence)]
    comparison, scale = compare(pairs.champion, pairs.candidate), float(pairs.level.mean())
    worse = _not_worse(comparison, scale, gate) if same_data else _not_shown_worse(comparison, scale, gate)
    return [split, worse, _no_collapse(pairs, gate)]


def _pairs(
    a: NDArray[np.float64], b: NDArray[np.float64], level: NDArray[np.float64], segment: NDArray[np.int8]
) -> _Pairs:
    """Of the users who have both values."""
    both = ~(np.isnan(a) | np.isnan(b))
    return _Pairs(a[both], b[both], level[both], segment[both])


def _on_its_holdout(
    evaluation: StoredEvaluation, champion: StoredEvaluation | None, gate: Gate, options: ChampionOptions
) -> list[GateCheck]:
    """The champion's options beside the version, on the version's holdout."""
    split = _words(_kind(evaluation, same_data=True))
    data = _newer_data(evaluation, champion, gate, options)
    if options.same:
        sentence = "same options as the champion, newer data: fitted to the same data the two are one model"
        return [GateCheck(SAME_SPLIT, True, split), GateCheck(NOT_WORSE, True, sentence), *data]
    same = GateCheck(SAME_SPLIT, True, f"{split}: the champion's options were fitted to its training side, too")
    a, b = evaluation.of_champion(gate.metric), evaluation.metric(gate.metric)
    pairs = _pairs(a, b, a, evaluation.segment)
    if not pairs.champion.size:
        return [same, GateCheck(NOT_WORSE, False, "nothing to compare: no user has a value of both")]
    worse = _not_worse(compare(pairs.champion, pairs.candidate), float(pairs.level.mean()), gate, newer=True)
    return [same, worse, _no_collapse(pairs, gate), *data]


def _newer_data(
    evaluation: StoredEvaluation, champion: StoredEvaluation | None, gate: Gate, options: ChampionOptions
) -> list[GateCheck]:
    """Whether the champion's options do worse with the newer data than with what the champion knew.

    Where that was not measured, whether what a model has over most popular fell at once. [] where neither is known.
    """
    if not options.before:
        return [] if champion is None else _no_sudden_fall(evaluation, champion, gate, options)
    a = evaluation.of_champion_before(gate.metric)
    b = evaluation.metric(gate.metric) if options.same else evaluation.of_champion(gate.metric)
    pairs = _pairs(a, b, a, evaluation.segment)
    if pairs.champion.size < gate.segment_users:
        return []
    compared, scale = compare(pairs.champion, pairs.candidate), float(pairs.level.mean())
    value, low, high = compared.difference
    said = (
        f"{gate.metric} {compared.mean_b:.4f} beside {compared.mean_a:.4f} of a fit to what the champion knew, "
        f"on {compared.n_users:,} users, difference {_changes(value, low, high, scale)}"
    )
    if high < 0 and value < -gate.margin * scale:
        sentence = f"the newer data makes the model worse: {said}; margin {gate.margin:.3g}: is the data sound?"
        return [GateCheck(NO_HARM, False, sentence)]
    return [GateCheck(NO_HARM, True, said)]


def _no_sudden_fall(
    evaluation: StoredEvaluation, champion: StoredEvaluation, gate: Gate, options: ChampionOptions
) -> list[GateCheck]:
    """What it has more than most popular, beside what the champion had shortly before: [] where that says nothing.

    A market that drifts moves it a little a night; data that broke, and passed its gate, lets it fall at once.
    It is a weak test, for a version that no nightly job has measured the champion for.
    """
    days = options.days_newer
    if days is None or days > SUDDEN_DAYS or _kind(evaluation, False) != _kind(champion, False):
        return []
    rows_c, rows_j = common_users(champion, evaluation)
    level = champion.metric(gate.metric)[rows_c]
    a = level - champion.popular(gate.metric)[rows_c]
    b = evaluation.metric(gate.metric)[rows_j] - evaluation.popular(gate.metric)[rows_j]
    pairs = _pairs(a, b, level, champion.segment[rows_c])
    if pairs.champion.size < gate.segment_users:
        return []
    compared, scale = compare(pairs.champion, pairs.candidate), float(pairs.level.mean())
    value, low, high = compared.difference
    said = (
        f"what it has over most popular moved by {_changes(value, low, high, scale)} of the champion's {gate.metric} "
        f"in {days:.1f} days, on {compared.n_users:,} users"
    )
    if high < 0 and value < -gate.segment_margin * scale:
        return [
            GateCheck(NO_FALL, False, f"a sudden fall: {said}; more than {gate.segment_margin:.0%}: is the data sound?")
        ]
    return [GateCheck(NO_FALL, True, said)]


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
            "most popular, user by user (rankline nightly fits the champion's options to the new data)"
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


def _not_worse(compared: Comparison, scale: float, gate: Gate, *, newer: bool = False) -> GateCheck:
    """Non-inferiority: the low end of the difference's interval is no further below 0 than the margin.

    newer : the champion is its options, on newer data than it learned from; then what is unclear passes
    """
    value, low, high = compared.difference
    bound = -gate.margin * scale
    mean = f"{compared.mean_a:.4f}"
    of_champion = f"{mean} of the champion's options" if newer else f"the champion's {mean}"
    said = (
        f"{gate.metric} {compared.mean_b:.4f} beside {of_champion} "
        f"on {compared.n_users:,} users, difference {_changes(value, low, high, scale)}"
    )
    if low >= bound:
        return GateCheck(NOT_WORSE, True, f"{said}; the low end may fall to {_share(bound, scale)} (--margin)")
    if value <= bound:
        return GateCheck(NOT_WORSE, False, f"{_worse(high)}: {said}; margin {gate.margin:.3g}")
    if newer and compared.n_users >= gate.segment_users:
        return GateCheck(NOT_WORSE, True, f"not shown to be worse, and of newer data: {said}")
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
