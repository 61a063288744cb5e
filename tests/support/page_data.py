"""What the agent would have written for the page: versions, comparisons, a training."""

from __future__ import annotations

from typing import Any

from pipeline.serving.live_folder import LiveFolder, write_json

HOSTILE = "<img src=x onerror=alert(1)>"


def model(version: int, ndcg: float, *, champion: bool = False, decision: str = "none") -> dict[str, Any]:
    """A version as ``snapshots/models.json`` has it."""
    return {
        "version": str(version),
        "label": f"rankline/{version}",
        "run_id": str(version) * 32,
        "algorithm": "nmf",
        "created_at": f"2026-03-0{version}T04:05:06.000+00:00",
        "champion": champion,
        "gate": {"decision": decision, "reason": f"ndcg_at_10 {ndcg} {HOSTILE}" if decision != "none" else ""},
        "metrics": {"ndcg_at_10": ndcg, "holdout/hit_rate_at_10": 2 * ndcg, "recall_at_10": ndcg / 2, "loss": 907.43},
        "baselines": {"popular": {"ndcg_at_10": 0.08, "hit_rate_at_10": 0.2}, "item-knn": {"ndcg_at_10": 0.1}},
    }


def write_models(folder: LiveFolder) -> None:
    """Four versions, of which the second is the champion."""
    models = [
        model(4, 0.13),
        model(3, 0.05, decision="refused"),
        model(2, 0.12, champion=True, decision="promoted"),
        model(1, 0.11, decision="promoted"),
    ]
    value = {"models": models, "good": ["2", "1"], "former": "1", "algorithms": ["nmf", "als", "auto"]}
    folder.models_snapshot.parent.mkdir(exist_ok=True)
    write_json(folder.models_snapshot, value)
    difference = {"ndcg_at_10": {"a": 0.12, "b": 0.13, "difference": 0.01, "low": 0.002, "high": 0.018}}
    write_json(folder.comparison("2" * 32, "4" * 32), {"difference": difference, "reason": ""})


def write_training(folder: LiveFolder, job_id: str, n: int = 12) -> None:
    """A training that has come so far."""
    loss = [[i, 1000.0 / (i + 1)] for i in range(n)]
    lines = [f"iteration {n}", f"a line {HOSTILE}"]
    write_json(folder.training_snapshot, {"job_id": job_id, "stage": "fit", "loss": loss, "lines": lines})
