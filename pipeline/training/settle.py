"""`settle(scores, …)`: which candidate of a choice is trained, where the highest mean alone does not say.

What is costly or new has to be **surely better** than what is simple: the whole interval of the difference is above 0.

- An **ensemble** than the best single model. It costs all of its members.
- With a split by time, from the simplest on: the better of the **lists for everybody** (most or recently popular) at
  their defaults, such a list with options found, any **model of tastes**. There the validation part is one stretch of
  time with its own users, often few, and what wins by little there loses later.

Where there are several stretches of time (`pipeline.training.stretches`) a difference has to be sure over these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.evaluation.significance import Interval, compare
from pipeline.training.choice import CandidateScore
from pipeline.training.stretches import over_stretches

__all__ = ["Settled", "settle"]


class Settled(NamedTuple):
    """Attributes
    ----------
    scores : the winner first
    reason : why the winner has not the highest mean; "" if it has
    left_out : name of a model that is not in `scores` → why
    """

    scores: tuple[CandidateScore, ...]
    reason: str
    left_out: Mapping[str, str]


def settle(
    scores: Sequence[CandidateScore],
    ensemble: CandidateScore | None,
    *,
    by_time: bool,
    plain: Sequence[CandidateScore] = (),
) -> Settled:
    """Order the candidates.

    Parameters
    ----------
    scores : of single models, the best first
    ensemble : of the same users; None where none was tried
    by_time : whether the split is by time
    plain : of the lists for everybody at their defaults; by default those in `scores`
    """
    order, left_out = list(scores), {}
    if ensemble is not None:
        if (difference := _difference(order[0], ensemble)).low > 0:
            order.insert(0, ensemble)
        else:
            name = order[0].algorithm.display_name
            left_out[ensemble.algorithm.name] = f"{_figures(ensemble, difference)} is not surely above {name}'s"
    lists = [score for score in order if score.algorithm.kind == "popularity"]
    if not by_time or not lists:
        return Settled(tuple(order), "", left_out)
    winner = max(plain or lists, key=lambda score: score.interval.value)
    reasons: list[str] = []
    for better, kind in ((lists[0], "other list"), (order[0], "model")):
        if better is winner or (kind == "model" and better.algorithm.kind == "popularity"):
            continue
        if (difference := _difference(winner, better)).low > 0:
            winner, reasons = better, []
        else:
            of = f"of {better.algorithm.display_name}" + (" with other options" if kind != "model" else "")
            reasons.append(f"by time no {kind} is surely better; {of}, {_figures(better, difference)} is not")
    others = [score for score in order if score.algorithm.name != winner.algorithm.name]
    return Settled((winner, *others), "; ".join(reasons), left_out)


def _difference(a: CandidateScore, b: CandidateScore) -> Interval:
    """Mean of b − a, by user, or by stretch of time where there are several."""
    if len(a.sizes) > 1:
        return over_stretches(a.values, b.values, a.sizes)
    return compare(a.values, b.values).difference


def _figures(score: CandidateScore, difference: Interval) -> str:
    """``0.1234 (difference +0.0012, -0.0034 … +0.0058)``."""
    value, low, high = difference
    return f"{score.interval.value:.4f} (difference {value:+.4f}, {low:+.4f} … {high:+.4f})"
