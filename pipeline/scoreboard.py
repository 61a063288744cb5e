"""What `rankline evaluate` prints: a table for people, one JSON object for programs."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.jobs.evaluate import EvaluateResult

__all__ = ["show_scores"]

_LOG = logging.getLogger("rankline")
_KINDS = ("precision", "recall", "hit_rate", "ndcg", "map", "mrr")
_LISTS = ("coverage", "gini", "novelty", "diversity", "popularity_lift")


def show_scores(result: EvaluateResult, *, as_json: bool = False, as_log: bool = False) -> None:
    """To stdout; `as_log`: without `as_json`, as a line of the log instead."""
    if as_json:
        # A NaN would be no JSON: better a fault here than in whoever reads it.
        sys.stdout.write(json.dumps(result.as_json(), allow_nan=False, ensure_ascii=False) + "\n")
        return
    if as_log:
        _LOG.info("evaluated", extra={"metadata": result.as_json()})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("metric")
    for name in result.metrics:
        table.add_column(name, justify="right")
    for k in result.ks:
        for kind in (*_KINDS, *_LISTS):
            values = [metrics.get(f"{kind}_at_{k}") for metrics in result.metrics.values()]
            if any(value is not None for value in values):
                cells = ("" if value is None else f"{value:.4f}" for value in values)
                table.add_row(f"{kind}_at_{k}", *cells, end_section=kind == _LISTS[-1])
    terminal = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    among = {
        "full": "among all training items",
        "given negatives": "each among its given negatives",
        "sampled negatives": "each among its sampled negatives",
    }[result.protocol]
    facts = result.facts
    terminal.print(
        f"{facts['n_held_out']:,} held-out interactions of {facts['n_users']:,} users, {among}", soft_wrap=True
    )
    terminal.print(table)
