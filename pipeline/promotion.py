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

from pipeline.comparison import common_users
from pipeline.errors import InputError, UsageError
from pipeline.judged import Judged
from pipeline.metrics import SEGMENTS
from pipeline.significance import Comparison, compare, compare_segments, lift_over_popular

__all__ = ["ARTIFACTS", "Candidate", "Check", "Decision", "Gate", "decide"]

ARTIFACTS = "artifacts verified"
JUDGED = "judged"
FITTED = "fitted to its end"
NOT_ROLLED_BACK = "not rolled back"
BETTER_THAN_POPULAR = "better than popular"
SAME_SPLIT = "same split"
NOT_WORSE = "not worse than the champion"
NO_COLLAPSE = "no segment collapses"

_UNJUDGED = "trained before runs were judged (or with --holdout 0)"


@dataclass(frozen=True)
class Gate:
    """What a version has to pass. Raises UsageError for a value that makes no sense.

    Attributes
    ----------
    metric : by which versions are judged, of each user
    margin : how much worse than the champion it may be, as a share of the champion's mean
    segment_margin : by how much of its mean a segment may fall
    segment_users : segments with fewer users are not looked at; nor is a champion with fewer in common
    """

    metric: str = "ndcg_at_10"
    margin: float = 0.05
    segment_margin: float = 0.2
    segment_users: int = 30

    def __post_init__(self) -> None:
        for name in ("margin", "segment_margin"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 0 and below 1, got {getattr(self, name)!r}")


class Check(NamedTuple):
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

    checks: tuple[Check, ...]

    @property
    def promote(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
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
    judged : its evaluation, None where its run has none
    fault : what is wrong with its artifacts, "" where they load and their checksums hold
    rolled_back : why and when it was rolled back from being champion, "" where it never was
    interrupted : which of its fits Ctrl-C cut short, "" for none
    """

    judged: Judged | None
    fault: str = ""
    rolled_back: str = ""
    interrupted: str = ""


def decide(candidate: Candidate, champion: Judged | None, gate: Gate, *, reigning: str = "") -> Decision:
    """Whether the candidate may take the champion's place.

    Parameters
    ----------
    champion : the evaluation of the version in use; None where there is none, or where it has none
    reigning : what to call the version in use, "" where there is none: then the candidate has to beat most
        popular, and nothing else
    """
    checks = [_whole(candidate.fault), _fitted(candidate.interrupted)]
    if candidate.rolled_back:
        checks.append(Check(NOT_ROLLED_BACK, False, candidate.rolled_back))
    judged = candidate.judged
    if judged is None:
        return Decision((*checks, Check(JUDGED, False, f"not judged: {_UNJUDGED}; train again")))
    checks.append(_better_than_popular(judged, gate))
    if champion is not None:
        checks += _beside(judged, champion, gate)
    elif reigning:
        sentence = f"nothing to compare with: {reigning}, the champion, was {_UNJUDGED}"
        checks.append(Check(NOT_WORSE, False, sentence))
    return Decision(tuple(checks))


def _whole(fault: str) -> Check:
    sentence = f"damaged artifacts: {fault}" if fault else "all four load, and their checksums hold"
    return Check(ARTIFACTS, not fault, sentence)


def _fitted(interrupted: str) -> Check:
    """What was kept of an interrupted fit is a try, whatever it was judged to be: nobody waited for the rest."""
    if not interrupted:
        return Check(FITTED, True, "Ctrl-C cut no fit of its training short")
    return Check(
        FITTED,
        False,
        f"cut short: Ctrl-C ended the {interrupted.replace(', ', ' and the ')} (--on-interrupt keep); "
        "train again, or --force --reason … to take it as it is",
    )


def _better_than_popular(judged: Judged, gate: Gate) -> Check:
    """Recomputed from each user's values: a tag may say anything."""
    try:
        found = lift_over_popular(judged.metric(gate.metric), judged.popular(gate.metric))
    except InputError as error:
        return Check(BETTER_THAN_POPULAR, False, f"nothing to judge by: {error}")
    c = found.comparison
    lift = f", lift {_shares(*found.lift)}" if found.lift is not None else ""
    word = {"yes": "", "no": "not better than popular: ", "unclear": "unclear whether better than popular: "}[
        found.better_than_popular
    ]
    sentence = f"{word}{gate.metric} {c.mean_b:.4f} beside {c.mean_a:.4f} of most popular on {c.n_users:,} users{lift}"
    return Check(BETTER_THAN_POPULAR, found.better_than_popular == "yes", sentence)


class _Pairs(NamedTuple):
    """Of the users both were judged by, (n,) each; margins are shares of the mean of `level`."""

    champion: NDArray[np.float64]
    candidate: NDArray[np.float64]
    level: NDArray[np.float64]
    segment: NDArray[np.int8]


def _beside(judged: Judged, champion: Judged, gate: Gate) -> list[Check]:
    same_data = judged.data_digest == champion.data_digest
    split = _same_split(judged, champion, same_data)
    if not split.passed:
        return [split]
    rows_c, rows_j = common_users(champion, judged)
    a, b = champion.metric(gate.metric)[rows_c], judged.metric(gate.metric)[rows_j]
    level = a
    if not same_data:
        a, b = a - champion.popular(gate.metric)[rows_c], b - judged.popular(gate.metric)[rows_j]
    both = ~(np.isnan(a) | np.isnan(b))
    if (n := int(np.count_nonzero(both))) < (1 if same_data else gate.segment_users):
        sentence = f"nothing to compare: only {n} users were judged for both {judged.label} and {champion.label}"
        return [split, Check(NOT_WORSE, False, sentence)]
    pairs = _Pairs(a[both], b[both], level[both], champion.segment[rows_c][both])
    found = compare(pairs.champion, pairs.candidate)
    scale = float(pairs.level.mean())
    worse = _not_worse(found, scale, gate) if same_data else _not_shown_worse(found, scale, gate)
    return [split, worse, _no_collapse(pairs, gate)]


def _same_split(judged: Judged, champion: Judged, same_data: bool) -> Check:
    mine, theirs = _kind(judged, same_data), _kind(champion, same_data)
    if mine != theirs:
        sentence = (
            f"another split: {judged.label} was judged by {_words(mine)}, the champion by {_words(theirs)}; "
            "train with the champion's"
        )
        return Check(SAME_SPLIT, False, sentence)
    if not same_data:
        sentence = (
            f"{_words(mine)}, of other data than the champion's: the two are compared by what each has more than "
            "most popular, user by user"
        )
        return Check(SAME_SPLIT, True, sentence)
    if judged.split_digest != champion.split_digest:
        sentence = (
            f"another split: of the same data other interactions are held out (split_digest {judged.split_digest[:8]}, "
            f"the champion's {champion.split_digest[:8]}); train with the champion's filters and --duplicates"
        )
        return Check(SAME_SPLIT, False, sentence)
    return Check(SAME_SPLIT, True, f"{_words(mine)}, the same held-out interactions as the champion")


def _kind(judged: Judged, same_data: bool) -> tuple[str, Mapping[str, Any]]:
    # A cut in time moves with the data: that is its purpose.
    moving = set() if same_data else {"cutoff"}
    return judged.split_name, {name: value for name, value in judged.split_params.items() if name not in moving}


def _words(kind: tuple[str, Mapping[str, Any]]) -> str:
    params = ", ".join(f"{name} {value}" for name, value in kind[1].items())
    return f"the split {kind[0]!r}" + (f" ({params})" if params else "")


def _not_worse(found: Comparison, scale: float, gate: Gate) -> Check:
    """Non-inferiority: the low end of the difference's interval is no further below 0 than the margin."""
    value, low, high = found.difference
    bound = -gate.margin * scale
    said = (
        f"{gate.metric} {found.mean_b:.4f} beside the champion's {found.mean_a:.4f} on {found.n_users:,} users, "
        f"difference {_changes(value, low, high, scale)}"
    )
    if low >= bound:
        return Check(NOT_WORSE, True, f"{said}; the low end may fall to {_share(bound, scale)} (--margin)")
    if value <= bound:
        return Check(NOT_WORSE, False, f"{_worse(high)}: {said}; margin {gate.margin:.3g}")
    # The interval shrinks with the square root of the users.
    needed = math.ceil(found.n_users * ((value - low) / (value - bound)) ** 2)
    holds = f", or from --margin {math.ceil(-low / scale * 1000) / 1000:g}" if -low < scale else ""
    return Check(
        NOT_WORSE,
        False,
        f"unclear whether worse than the champion: {said}; the low end is below the margin of {gate.margin:.3g}: "
        f"it would hold with some {needed:,} users{holds}",
    )


def _not_shown_worse(found: Comparison, scale: float, gate: Gate) -> Check:
    """On other data: refused where the loss is beyond the margin and the whole interval is below 0."""
    value, low, high = found.difference
    said = (
        f"{found.mean_b:+.4f} {gate.metric} over most popular beside the champion's {found.mean_a:+.4f} on its own "
        f"data, {found.n_users:,} users in common, difference {_changes(value, low, high, scale)}"
    )
    if high < 0 and value < -gate.margin * scale:
        return Check(NOT_WORSE, False, f"{_worse(high)}: {said}; margin {gate.margin:.3g}")
    unclear = low < -gate.margin * scale
    return Check(NOT_WORSE, True, f"{'not shown to be worse' if unclear else 'not worse'}: {said}")


def _worse(high: float) -> str:
    return "worse than the champion" if high < 0 else "probably worse than the champion"


def _no_collapse(pairs: _Pairs, gate: Gate) -> Check:
    fallen, looked = [], []
    for name, found in compare_segments(pairs.champion, pairs.candidate, pairs.segment).items():
        level = float(pairs.level[pairs.segment == SEGMENTS.index(name)].mean())
        if found.n_users < gate.segment_users:
            continue
        value, low, high = found.difference
        said = f"{name} {_changes(value, low, high, level)} on {found.n_users:,} users"
        looked.append(said)
        if high < 0 and value < -gate.segment_margin * level:
            fallen.append(said)
    if fallen:
        sentence = f"a segment collapses: {'; '.join(fallen)}; more than {gate.segment_margin:.0%} (--segment-margin)"
        return Check(NO_COLLAPSE, False, sentence)
    return Check(NO_COLLAPSE, True, "; ".join(looked) or f"none has {gate.segment_users} users to look at")


def _changes(value: float, low: float, high: float, scale: float) -> str:
    """A difference with its interval, as shares of `scale` where that is something."""
    if scale <= 0:
        return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"
    return _shares(value / scale, low / scale, high / scale)


def _shares(value: float, low: float, high: float) -> str:
    return f"{value:+.1%} [{low:+.1%}, {high:+.1%}]"


def _share(value: float, scale: float) -> str:
    return f"{value / scale:+.1%}" if scale > 0 else f"{value:+.4f}"
