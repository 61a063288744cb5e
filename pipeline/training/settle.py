"""`settle(scores, …)`: which candidate of a choice is trained, where the highest mean alone does not say.

Two models have to be surely better, by the whole interval of the users' paired differences:

- An **ensemble** than the best single model. It costs all of its members.
- With a split by time, **any model of tastes** than the best list for everybody (most or recently popular). There the
  validation part is one stretch of time with its own users, often few, and what wins by little there loses later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.evaluation.significance import Comparison, compare
from pipeline.training.choice import CandidateScore

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


def settle(scores: Sequence[CandidateScore], ensemble: CandidateScore | None, *, by_time: bool) -> Settled:
    """Order the candidates.

    Parameters
    ----------
    scores : of single models, the best first
    ensemble : of the same users; None where none was tried
    by_time : whether the split is by time
    """
    order, left_out = list(scores), {}
    if ensemble is not None:
        difference = compare(order[0].values, ensemble.values)
        if difference.b_is_better == "yes":
            order.insert(0, ensemble)
        else:
            name = order[0].algorithm.display_name
            left_out[ensemble.algorithm.name] = f"{_figures(difference)} is not surely above {name}'s"
    best = order[0]
    if not by_time or best.algorithm.kind == "popularity":
        return Settled(tuple(order), "", left_out)
    plain = next((s for s in order if s.algorithm.kind == "popularity" and s.share == best.share), None)
    if plain is None or (difference := compare(plain.values, best.values)).b_is_better == "yes":
        return Settled(tuple(order), "", left_out)
    reason = f"by time no model is surely better; of {best.algorithm.display_name}, {_figures(difference)} is not"
    return Settled((plain, *(score for score in order if score is not plain)), reason, left_out)


def _figures(found: Comparison) -> str:
    """``0.1234 (difference +0.0012, -0.0034 … +0.0058)``."""
    difference = found.difference
    return f"{found.mean_b:.4f} (difference {difference.value:+.4f}, {difference.low:+.4f} … {difference.high:+.4f})"
