"""Options of `rankline nightly` and `rankline retain`: when to train anew, and what stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt

from pipeline.options.base import AtLeast0, Options, Share, option

__all__ = ["NightlyOptions", "RetainOptions"]


@dataclass(frozen=True)
class NightlyOptions(Options):
    """When the nightly job trains, and when it folds new data into the champion. Raises UsageError."""

    PANEL: ClassVar[str] = "When to train"
    SECTION: ClassVar[str] = "nightly"

    refit_after: Share = option(
        0.05,
        "Train where a larger share of the interactions is new or changed since the champion's training; below it "
        "users and items are folded in. 0: always train.",
        details="The share is (new + changed + gone) / interactions of that training. A model that can't be folded "
        "into is trained whenever there is something new.",
    )
    refit_days: Annotated[float, Gt(0)] | None = option(
        7.0, "Train where the champion's training is older than so many days and something is new."
    )


@dataclass(frozen=True)
class RetainOptions(Options):
    """What stays when old versions are deleted. Raises UsageError for an invalid value."""

    PANEL: ClassVar[str] = "What stays"
    SECTION: ClassVar[str] = "retention"

    keep_versions: Annotated[int, Ge(1)] = option(5, "The newest versions.")
    keep_champions_days: AtLeast0 = option(90.0, "Versions that were champion within so many days.")
    keep_logs_days: AtLeast0 = option(
        30.0, "Logs of the service's jobs, and trainings that MLflow never took, for so many days."
    )
    keep_exposures_days: AtLeast0 = option(
        90.0, "What was logged of A/B tests that ended and of what followed, for so many days."
    )
