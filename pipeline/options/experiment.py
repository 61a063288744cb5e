"""Options of `rankline experiment`: what is compared, and how sure the answer is to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

from pipeline.options.base import AtLeast0, Options, option

__all__ = ["ExperimentOptions"]


@dataclass(frozen=True)
class ExperimentOptions(Options):
    """What is fixed when an experiment starts. Raises UsageError for an invalid value."""

    PANEL: ClassVar[str] = "What is fixed at the start"
    SECTION: ClassVar[str] = "experiment"

    outcome: Literal["conversion", "outcomes"] = option(
        "conversion", "What is compared: the share of users with an outcome, or outcomes a user."
    )
    min_effect: Annotated[float, Gt(0)] = option(
        0.01, "The smallest difference worth knowing of, in that unit: 0.01 is a percentage point of conversion."
    )
    alpha: Annotated[float, Gt(0), Lt(0.5)] = option(
        0.05, "The chance that arms that don't differ are said to, over all looks together."
    )
    power: Annotated[float, Gt(0), Lt(1)] = option(0.8, "The chance to see a difference of --min-effect.")
    min_days: AtLeast0 = option(7.0, "Days before which nothing is shipped.")
    outcome_from: Annotated[float, Ge(0)] | None = option(
        None, "Ratings below it are no outcomes. Default: every interaction is one."
    )
