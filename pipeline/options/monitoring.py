"""Options of `rankline drift`: what is measured, its limits, and who is told where one is passed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le

from pipeline.errors import UsageError
from pipeline.options.base import AtLeast0, Options, Several, Share, YesNo, option

__all__ = ["DriftLimits", "DriftOptions", "NotifyOptions"]

_SCHEME = r"(?:(?:slack\+)?https?://|smtps?://|command:)"
_TARGET = re.compile(_SCHEME)
# RANKLINE_NOTIFY holds several targets with blanks between them; a command has blanks of its own.
_BETWEEN = re.compile(rf"\s+(?={_SCHEME})")


@dataclass(frozen=True)
class DriftOptions(Options):
    """What drift is measured on. Raises UsageError for an invalid value."""

    PANEL: ClassVar[str] = "What is measured"
    SECTION: ClassVar[str] = "drift"

    query: Path | None = option(
        None, "A .sql file with user_id, item_id and at: what users did. Default: the events in raw, or the mart."
    )
    user_column: str | None = option(None, "Column of user ids in --query. Default: user_id.", advanced=True)
    item_column: str | None = option(None, "Column of item ids in --query. Default: item_id.", advanced=True)
    outcome_days: Annotated[float, Gt(0), Le(3650)] = option(
        7.0, "Published sets of the last so many days are held against what users did afterwards."
    )
    outcome_k: Annotated[int, Ge(1), Le(1000)] = option(
        10, "Places of a list that count for its hit rate and NDCG.", advanced=True
    )


@dataclass(frozen=True)
class DriftLimits(Options):
    """Limits of what `rankline drift` measures, inclusive; None is no limit. Raises UsageError for an invalid value."""

    PANEL: ClassVar[str] = "Limits; none: no limit"
    SECTION: ClassVar[str] = "drift"

    max_psi: AtLeast0 | None = option(
        0.25, "Largest PSI of popularity: of what users do now, against what the champion learned from."
    )
    max_score_psi: AtLeast0 | None = option(
        0.25, "Largest PSI of the published scores, against those of the set before."
    )
    max_unknown_users: Share | None = option(
        0.5, "Largest share of new interactions that are of users whom the champion does not know."
    )
    max_unknown_items: Share | None = option(0.5, "The same for items.")
    max_fallback_share: Share | None = option(0.5, "Largest share of published rows that are merely popular.")
    min_item_coverage: Share | None = option(
        None, "Smallest share of the champion's items that are in a list.", advanced=True
    )
    min_user_coverage: Share | None = option(
        None, "Smallest share of the users who did something, that had a list then.", advanced=True
    )
    worse_than_popular: YesNo = option(
        "no",
        "Whether the lists may have a lower NDCG than most popular would have had.",
        details="It is past the limit where the whole 95 % interval of the difference is below 0.",
    )
    max_table_age_hours: AtLeast0 | None = option(36.0, "Largest age of the published table.")
    max_data_age_hours: AtLeast0 | None = option(None, "Largest age of the newest interaction.")
    max_model_lag_hours: AtLeast0 | None = option(
        192.0, "By how much the newest interaction may be newer than the newest that the champion learned from."
    )
    max_log_age_hours: AtLeast0 | None = option(
        26.0, "Largest age of the oldest interaction that waits in this host's log to be shipped."
    )
    least_interactions: Annotated[int, Ge(1)] = option(
        200, "New interactions below which shares and the PSI of popularity are not judged.", advanced=True
    )
    least_users: Annotated[int, Ge(2)] = option(
        30, "Users with a list who did something, below which outcomes are not judged.", advanced=True
    )


@dataclass(frozen=True)
class NotifyOptions(Options):
    """Who is told of alerts. A target may hold a password: it is no option of ``rankline.yaml``, and is never logged.

    Raises UsageError for an invalid value, without the value.
    """

    PANEL: ClassVar[str] = "Who is told"

    notify: Annotated[str, Several()] | None = option(
        None,
        "https://…, slack+https://…, smtp://host:port?from=…&to=…, or command:PROGRAM; may be repeated.",
        details="Better in RANKLINE_NOTIFY, since a list of processes shows options: several with blanks between them.",
    )
    notify_hours: Annotated[float, Gt(0), Le(8760)] = option(
        20.0, "An alert that lasts is sent again after so many hours.", advanced=True
    )

    def __post_init__(self) -> None:
        """Check the form of the targets; `pipeline.monitoring.notify_targets` reads them."""
        super().__post_init__()
        for text in self.targets:
            if not _TARGET.match(text):
                raise UsageError(
                    "notify must be https://…, slack+https://…, smtp://…, smtps://… or command:…, and is none of them"
                )

    @property
    def targets(self) -> tuple[str, ...]:
        """Each target, as it was given."""
        given = self.notify if isinstance(self.notify, tuple) else () if self.notify is None else (self.notify,)
        return tuple(target for text in given for target in _BETWEEN.split(text.strip()) if target)

    def __repr__(self) -> str:
        return f"NotifyOptions({len(self.targets)} target(s), notify_hours={self.notify_hours})"
