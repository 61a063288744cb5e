"""The metrics of a version: tables with the baselines, the verdict, and the metrics of the fit."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.cli.output.model import Block, Table
from pipeline.evaluation.report.summary import side_by_side, verdict_in_words

__all__ = ["metric_blocks"]

_FIT = ("reconstruction_error", "observed_rmse", "sparsity", "n_iter")


def metric_blocks(metrics: Mapping[str, float], better_than_popular: str | None = None) -> list[Block]:
    """The most important metrics; MLflow has all of them."""
    blocks: list[Block] = []
    for scores in side_by_side(metrics):
        blocks.append(Table(scores.columns, scores.rows, left=("metric",)))
        if scores.note:
            blocks.append(scores.note)
    if verdict := verdict_in_words(metrics, better_than_popular):
        blocks.append(verdict)
    if fit := " · ".join(f"{name} {metrics[name]:.6g}" for name in _FIT if name in metrics):
        blocks.append(fit)
    return blocks
