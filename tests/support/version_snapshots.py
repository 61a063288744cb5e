"""Snapshots of versions, as the agent writes them."""

from __future__ import annotations

from typing import Any

from pipeline.serving.live_folder import write_json
from support.served import Workers


def version(number: str, *, champion: bool = False, ndcg: float = 0.1) -> dict[str, Any]:
    return {
        "version": number,
        "label": f"rankline/{number}",
        "run_id": number * 32,
        "algorithm": "nmf",
        "created_at": f"2026-11-0{number}T00:00:00.000+00:00",
        "champion": champion,
        "gate": {"decision": "promoted" if champion else "none", "reason": ""},
        "metrics": {"ndcg_at_10": ndcg},
        "baselines": {"popular": {"ndcg_at_10": 0.05}},
    }


def put_snapshot(workers: Workers, *models: dict[str, Any], former: str = "", good: tuple[str, ...] = ()) -> None:
    value = {
        "models": list(models),
        "former": former,
        "good": list(good),
        "algorithms": ["nmf", "als", "auto"],
        "at": 1,
    }
    write_json(workers.folder.models_snapshot, value)
