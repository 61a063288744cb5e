"""The output of `evaluate`: a table with a column for each model."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.cli.output.model import Output, Table
from pipeline.jobs.evaluate_result import EvaluateResult

__all__ = ["evaluation_output"]

_KINDS = ("precision", "recall", "hit_rate", "ndcg", "map", "mrr")
_LISTS = ("coverage", "gini", "novelty", "diversity", "popularity_lift")
_AMONG = {
    "full": "among all training items",
    "given negatives": "each among its given negatives",
    "sampled negatives": "each among its sampled negatives",
    "held-out items": "among the held-out items alone",
}


def evaluation_output(result: EvaluateResult) -> Output:
    """The numbers of interactions and users and the protocol, then one row for each metric."""
    facts = result.facts
    first = f"{facts['n_held_out']:,} held-out interactions of {facts['n_users']:,} users, {_AMONG[result.protocol]}"
    if result.runs:
        first = f"{len(result.runs)} evaluations, mean ± standard deviation: {first}"
    table = Table(["metric", *result.metrics], _rows(result), left=("metric",))
    return Output("evaluated", result.as_json(), [first, table])


def _rows(result: EvaluateResult) -> list[Sequence[str] | None]:
    rows: list[Sequence[str] | None] = []
    for k in result.ks:
        if rows:
            rows.append(None)
        for kind in (*_KINDS, *_LISTS):
            cells = [_cell(result, model, f"{kind}_at_{k}") for model in result.metrics]
            if any(cells):
                rows.append([f"{kind}_at_{k}", *cells])
    errors = [[name, *(_cell(result, model, name) for model in result.metrics)] for name in ("rmse", "mae")]
    if any(errors[0][1:]):
        rows += [None, *errors]
    return rows


def _cell(result: EvaluateResult, model: str, name: str) -> str:
    """``0.1234``, or of several evaluations ``0.1234 ± 0.0012``; "" for a metric that the model does not have."""
    if (value := result.metrics[model].get(name)) is None:
        return ""
    spread = result.spread.get(model, {}).get(name)
    return f"{value:.4f}" if spread is None else f"{value:.4f} ± {spread:.4f}"
