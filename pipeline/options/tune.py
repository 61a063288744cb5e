"""How to search for the options that rank best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt

from pipeline.options.base import Options, Rule, YesNo, option

__all__ = ["TuneMetric", "TuneOptions"]

TuneMetric = Literal["ndcg_at_10", "recall_at_10", "precision_at_10", "hit_rate_at_10", "map_at_10", "mrr_at_10"]


@dataclass(frozen=True)
class TuneOptions(Options):
    """How to search for the options that rank best. Raises UsageError for an invalid value."""

    PANEL: ClassVar[str] = "How to search"
    SECTION: ClassVar[str] = "tune"

    trials: Annotated[int, Ge(1)] = option(
        40,
        "Trials in all, with those of an earlier search that this one goes on with.",
        details="With --algorithm auto: of each model, at most.",
    )
    timeout: Annotated[float, Gt(0)] | None = option(
        None,
        "Seconds to search for, at most (one trial is always finished).",
        details="Then the best options so far are trained.",
    )
    metric: TuneMetric = option("ndcg_at_10", "What is made as high as possible.")
    search: Annotated[str, Rule(bool, "auto, or names of options", ".")] = option(
        "auto",
        "Options to search, with commas: n_components,alpha_W. auto: the usual ones; one that is given a value "
        "other than its default stays fixed.",
    )
    resume: YesNo = option(
        "yes", "Go on where an earlier search of the same data and options stopped; no: forget its trials."
    )
