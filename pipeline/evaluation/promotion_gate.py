"""The gate: may this version become the champion? Plain values in, a decision with its reasons out.

The rules, and why they are so, stand in docs/promotion.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.evaluation.comparison import common_users
from pipeline.evaluation.metrics import SEGMENTS
from pipeline.evaluation.significance import Comparison, compare, compare_segments, lift_over_popular
from pipeline.evaluation.storage import StoredEvaluation
from pipeline.options import PromotionLimits

__all__ = ["ARTIFACTS", "Candidate", "Decision", "Gate", "GateCheck", "decide"]

ARTIFACTS = "artifacts verified"
EVALUATED = "evaluated"
FITTED = "fitted to its end"
PERSONAL = "a list of their own for every user"
NOT_ROLLED_BACK = "not rolled back"
BETTER_THAN_POPULAR = "better than popular"
SAME_SPLIT = "same split"
NOT_WORSE = "not worse than the champion"
NO_COLLAPSE = "no segment collapses"

_NOT_EVALUATED = "trained before runs were evaluated (or with --holdout 0)"


@dataclass(frozen=True)
class Gate(PromotionLimits):
    """What a version has to pass. Raises UsageError for a value that makes no sense.

    segment_users : segments with fewer users are not looked at; nor is a champion with fewer in common
    """

    segment_users: int = 30


class GateCheck(NamedTuple):
    """One condition: whether it holds, and why; the sentence of one that does not hold says what is wrong by itself."""

    name: str
    passed: bool
    sentence: str

    @property
    def summary(self) -> str:
        """In a line, whichever way it went."""
        return f"{self.name}: {self.sentence}" if self.passed else self.sentence


@dataclass(frozen=True)
class Decision:
    """What the gate found, in the order it looked."""

    checks: tuple[GateCheck, ...]

    @property
    def promote(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[GateCheck, ...]:
        """Those that do not hold."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def reasons(self) -> tuple[str, ...]:
        """A line a check, with how it went."""
        return tuple(f"{'ok' if check.passed else 'NO'} · {check.summary}" for check in self.checks)


@dataclass(frozen=True, eq=False)
class Candidate:
    """Attributes
    ----------
    evaluation : the evaluation of its run, if any
    fault : the fault of its artifacts, "" if they load and their checksums match
    rolled_back : when and why it was rolled back as champion, "" if it never was
    interrupted : its fits that Ctrl-C ended, "" for none
    impersonal : the model's name if it gives everybody the same list, else ""
    """

    evaluation: StoredEvaluation | None
    fault: str = ""
    rolled_back: str = ""
    interrupted: str = ""
    impersonal: str = ""


def decide(
    candidate: Candidate, champion: StoredEvaluation | None, gate: Gate, *, reigning: str = "", lost: str = ""
) -> Decision:
    """Whether the candidate may take the champion's place.

    Parameters
    ----------
    champion : the evaluation of the champion, if any
    reigning : the champion's name, "" if there is none; then the candidate only has to beat most popular
    lost : why the champion's evaluation is not there, "" where it never had one
    """
    checks = [_whole(candidate.fault), _fitted(candidate.interrupted)]
    if candidate.impersonal:
        sentence = (
            f"{candidate.impersonal} gives everybody the same list: it becomes champion by --force --reason … alone"
        )
        checks.append(GateCheck(PERSONAL, False, sentence))
    if candidate.rolled_back:
        checks.append(GateCheck(NOT_ROLLED_BACK, False, candidate.rolled_back))
    evaluation = candidate.evaluation
    if evaluation is None:
        return Decision((*checks, GateCheck(EVALUATED, False, f"not evaluated: {_NOT_EVALUATED}; train again")))
    checks.append(_better_than_popular(evaluation, gate))
    if champion is not None:
        checks += _beside(evaluation, champion, gate)
    elif reigning:
        why = (
            f"{lost}; --force --reason … takes its place" if lost else f"{reigning}, the champion, was {_NOT_EVALUATED}"
        )
        sentence = f"nothing to compare with: {why}"
        checks.append(GateCheck(NOT_WORSE, False, sentence))
    return Decision(tuple(checks))


def _whole(fault: str) -> GateCheck:
    sentence = f"damaged artifacts: {fault}" if fault else "all files load, and their checksums match"
    return GateCheck(ARTIFACTS, not fault, sentence)


def _fitted(interrupted: str) -> GateCheck:
    """A fit that Ctrl-C ended is a trial, however it ranks: it is not what the options ask for."""
    if not interrupted:
        return GateCheck(FITTED, True, "Ctrl-C cut no fit of its training short")
    return GateCheck(
        FITTED,
        False,
        f"cut short: Ctrl-C ended the {interrupted.replace(', ', ' and the ')} (--on-interrupt keep); "
        "train again, or --force --reason … to take it as it is",
    )


def _better_than_popular(evaluation: StoredEvaluation, gate: Gate) -> GateCheck:
    """The lift, computed again from each user's values, since anybody can edit a tag."""
    if evaluation.split_name == "items":
        why = "its lists were of held-out items alone, which most popular can't rank: train with another --split"
        return GateCheck(BETTER_THAN_POPULAR, False, f"not measured: {why}")
    try:
        lift_over = lift_over_popular(evaluation.metric(gate.metric), evaluation.popular(gate.metric))
    except InputError as error:
        return GateCheck(BETTER_THAN_POPULAR, False, f"nothing to compare by: {error}")
    c = lift_over.comparison
    lift = f", lift {_shares(*lift_over.lift)}" if lift_over.lift is not None else ""
    word = {"yes": "", "no": "not better than popular: ", "unclear": "unclear whether better than popular: "}[
        lift_over.better_than_popular
    ]
    sentence = f"{word}{gate.metric} {c.mean_b:.4f} beside {c.mean_a:.4f} of most popular on {c.n_users:,} users{lift}"
    return GateCheck(BETTER_THAN_POPULAR, lift_over.better_than_popular == "yes", sentence)


class _Pairs(NamedTuple):
    """The values of the users that both evaluations have, (n,) each. Margins are shares of the mean of `level`."""

    champion: NDArray[np.float64]
    candidate: NDArray[np.float64]
    level: NDArray[np.float64]
    segment: NDArray[np.int8]


def _beside(evaluation: StoredEvaluation, champion: StoredEvaluation, gate: Gate) -> list[GateCheck]:
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
    return _shares(value / scale, low / scale, high / scale)


def _shares(value: float, low: float, high: float) -> str:
    return f"{value:+.1%} [{low:+.1%}, {high:+.1%}]"


def _share(value: float, scale: float) -> str:
    return f"{value / scale:+.1%}" if scale > 0 else f"{value:+.4f}"
