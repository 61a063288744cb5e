"""Filters of the templates: how numbers, times and ratings are written."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

__all__ = ["hours", "number", "percent", "signed", "stars", "when"]


def number(value: Any) -> str:
    """``1,234``, ``0.1487``, ``12.5``, ``0``; a dash for what is none."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return "–"
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}" if abs(value) >= 1 else f"{value:.4f}"


def hours(value: Any) -> str:
    """``26.5 h``, ``8 days``; a dash for what is none."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return "–"
    return (
        f"{value:.3g} h" if value < 96 else f"{value / 24:,.3g} days" if value < 24_000 else f"{value / 24:,.0f} days"
    )


def signed(value: float) -> str:
    """``+0.0312``, with a minus sign that is as wide as the plus."""
    return f"{value:+.4f}".replace("-", "−")


def percent(share: float | None) -> str:
    """``12%``, ``0.4%``."""
    if share is None:
        return "–"
    return f"{share:.1%}" if 0 < share < 0.0995 or 0.995 <= share < 1 else f"{share:.0%}"


def stars(rating: float) -> str:
    """``4.5``, ``3``."""
    return f"{rating:.4g}"


def when(value: Any) -> str:
    """A time in UTC, to the minute; of seconds or milliseconds since 1970, ISO 8601, or none."""
    if isinstance(value, str) and value:
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            return value
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    elif isinstance(value, int | float) and value > 0:
        at = datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
    elif isinstance(value, datetime):
        at = value.astimezone(UTC)
    else:
        return "–"
    return f"{at:%Y-%m-%d %H:%M} UTC"
