"""What a measurement of drift leaves for the service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

HOSTILE = "<img src=x onerror=alert(1)>"


def drift_value(*, past: bool = True, hours_ago: float = 2.0) -> dict[str, Any]:
    """As the tag of the champion's run has it."""
    at = datetime.now(UTC) - timedelta(hours=hours_ago)
    psi = {"name": "psi_popularity", "state": "past" if past else "ok", "value": 0.31 if past else 0.03, "n": 4102}
    return {
        "champion": "rankline/2",
        "run_id": "2" * 32,
        "at": at.isoformat(timespec="seconds"),
        "exceeded": ["psi_popularity"] if past else [],
        "measures": [
            {**psi, "limit": 0.25, "bound": "at most"},
            {"name": "psi_scores", "state": "not measured", "note": f"no set before {HOSTILE}"},
            {"name": "hit_rate", "state": "no limit", "value": 0.241, "low": 0.22, "high": 0.263, "n": 1611},
            {"name": "table_age_hours", "state": "ok", "value": 20.5, "limit": 36.0, "bound": "at most"},
            {"name": "model_lag_hours", "state": "ok", "value": 150.0, "limit": 192.0, "bound": "at most"},
            {"name": "of_a_later_version", "state": "ok", "value": 1.0},
        ],
        "n_users": 900,
        "n_sets": 5,
    }
