"""Limits of the data gate, checked before a fit, and of the promotion gate, checked before a version is champion."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Lt

from pipeline.options.base import AtLeast0, Options, Share, option

__all__ = ["DataLimits", "PromotionLimits"]

_Count = Annotated[int, Gt(0)]


@dataclass(frozen=True)
class DataLimits(Options):
    """Limits of the data gate, inclusive; None is no limit. Each is a setting, ``RANKLINE_LIMIT_<FIELD>``."""

    SECTION: ClassVar[str] = "data_gate"

    min_interactions: _Count | None = option(None, "Fewest interactions.")
    min_users: _Count | None = option(None, "Fewest users.")
    min_items: _Count | None = option(None, "Fewest items.")
    min_score: float | None = option(None, "Lowest score.")
    max_score: float | None = option(None, "Highest score.")
    max_bad_share: Share | None = option(None, "Largest share of rows that are bad.")
    max_duplicate_share: Share | None = option(None, "Largest share of rows that repeat a user and an item.")
    max_age_days: AtLeast0 | None = option(None, "Oldest that the newest interaction may be, in days.")
    max_future_days: AtLeast0 | None = option(None, "How far past the clock the newest interaction may be, in days.")
    earliest: date | None = option(None, "No interaction is before this day (UTC).")
    max_users_lost: Share | None = option(None, "Largest share of the champion's users that may be gone.")
    max_items_lost: Share | None = option(None, "Largest share of the champion's items that may be gone.")
    max_shrink: Share | None = option(None, "By what share of the champion's interactions there may be fewer.")
    max_score_change: Annotated[float, Ge(1)] | None = option(
        None, "By what factor the mean score may differ from the champion's."
    )


@dataclass(frozen=True)
class PromotionLimits(Options):
    """Limits on a version compared with the champion. Raises UsageError for an invalid value."""

    PANEL: ClassVar[str] = "What it must keep to"
    SECTION: ClassVar[str] = "promotion"

    metric: str = option("ndcg_at_10", "By which metric of each user, e.g. recall_at_10.")
    margin: Annotated[float, Ge(0), Lt(1)] = option(
        0.05, "How much worse than the champion it may be, as a share of the champion's mean."
    )
    segment_margin: Annotated[float, Ge(0), Lt(1)] = option(0.2, "By what share of its mean a segment may fall.")
