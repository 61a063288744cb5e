"""How a model fares against each of those it is compared with, in words."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.holdout import HoldoutEvaluation
from pipeline.evaluation.report.summary import lift_in_words
from pipeline.evaluation.significance import Lift, Verdict, lift_over_popular
from pipeline.evaluation.storage import StoredEvaluation
from pipeline.models import registry

__all__ = ["AgainstLine", "against", "against_champion", "against_item_knn", "headline"]

_METRIC = "ndcg_at_10"
_WORDS: dict[Verdict, str] = {"yes": "better", "no": "not better", "unclear": "no telling apart"}


class AgainstLine(NamedTuple):
    """The model against another: whether it is better, and a text such as ``better, +37 % [23, 52]``."""

    other: str
    better: Verdict | None
    words: str


def against(other: str, lift: Lift) -> AgainstLine:
    """A line of the lift over the other."""
    words = _WORDS[lift.better_than_popular]
    if lift.lift is not None:
        words += f", {lift_in_words(*lift.lift)}"
    return AgainstLine(other, lift.better_than_popular, words)


def headline(lift: Lift) -> str:
    """The verdict in one breath: ``37 % better than most popular``."""
    share = None if lift.lift is None else abs(100 * lift.lift.value)
    number = "" if share is None else f"{share:.{0 if share >= 10 else 1}f} % "
    if lift.better_than_popular == "yes":
        return f"{number}better than most popular" if number else "better than most popular, which finds nothing at all"
    if lift.better_than_popular == "unclear":
        return "no telling it and most popular apart"
    worse = lift.comparison.mean_b < lift.comparison.mean_a
    return f"{number}worse than most popular" if worse and number else "no better than most popular"


def against_item_knn(evaluation: HoldoutEvaluation, model: str) -> AgainstLine | None:
    """The model against item-kNN; None where that was not evaluated, or is the model."""
    key = registry.NEIGHBOURS.key
    if key == model or key not in evaluation.evaluations or not len(evaluation.evaluations[model]):
        return None
    of_model, of_neighbours = (evaluation.evaluations[name].per_user[_METRIC] for name in (model, key))
    return against(registry.NEIGHBOURS.display_name, lift_over_popular(of_model, of_neighbours))


def against_champion(
    evaluation: HoldoutEvaluation, model: str, data_digest: str, champion: StoredEvaluation
) -> AgainstLine:
    """The model against the champion, user by user, where both were held out the same interactions."""
    of_model = evaluation.evaluations[model]
    label = f"{champion.label}, the champion"
    if (champion.data_digest, champion.split_digest) != (data_digest, evaluation.split.digest):
        return AgainstLine(label, None, "evaluated on other data or another split: rankline compare says which")
    rows: tuple[NDArray[np.intp], NDArray[np.intp]] = np.intersect1d(
        of_model.user_ids, champion.user_ids, assume_unique=True, return_indices=True
    )[1:]
    return against(label, lift_over_popular(of_model.per_user[_METRIC][rows[0]], champion.metric(_METRIC)[rows[1]]))
