"""Exposures for tests."""

from __future__ import annotations

from pipeline.interaction_log.exposures import Exposure


def shown(user: int | str, request: str = "r", arm: str = "a") -> Exposure:
    """A list of two items that a user was shown in the experiment x."""
    return Exposure("x", arm, request, str(user), "3", "nmf", '["1", "2"]', 200, 150, 1_700_000_000_000, "0f" * 8)
