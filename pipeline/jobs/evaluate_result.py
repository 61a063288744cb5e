"""The result of `evaluate`: the metrics of each model, and of several folds or repeats their means and spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["EvaluateResult"]


@dataclass(frozen=True)
class EvaluateResult:
    """Attributes
    ----------
    protocol : ``full``, ``given negatives`` or ``sampled negatives``
    ks : lengths of lists, ascending
    metrics : model → metric → finite value, in the order of the arguments
    facts : n_users and n_held_out that were evaluated, digests of the data and of the split, the seed if one was used,
        and under ``fits`` the options, iterations, seconds and memory of each model's fit (`EvaluatedModel.fit`);
        of several folds or repeats the largest n_users and the sum of n_held_out, and under ``runs`` the facts of each
    spread : of several: model → metric → standard deviation over them; else {}
    runs : the results of the folds and repeats; () where there is one
    """

    protocol: str
    ks: tuple[int, ...]
    metrics: dict[str, dict[str, float]]
    facts: dict[str, Any]
    spread: dict[str, dict[str, float]] = field(default_factory=dict)
    runs: tuple[EvaluateResult, ...] = ()

    @classmethod
    def mean_of(cls, results: Sequence[EvaluateResult]) -> EvaluateResult:
        """The means of several results, and the standard deviation of each metric (with n − 1)."""
        first = results[0]
        metrics: dict[str, dict[str, float]] = {}
        spread: dict[str, dict[str, float]] = {}
        for model, values in first.metrics.items():
            # A metric that some fold could not measure has no mean over all of them.
            common = [name for name in values if all(name in result.metrics[model] for result in results)]
            of_runs = {name: np.array([result.metrics[model][name] for result in results]) for name in common}
            metrics[model] = {name: float(column.mean()) for name, column in of_runs.items()}
            spread[model] = {name: float(column.std(ddof=1)) for name, column in of_runs.items()}
        facts = {
            "n_users": max(result.facts["n_users"] for result in results),
            "n_held_out": sum(result.facts["n_held_out"] for result in results),
        }
        return cls(first.protocol, first.ks, metrics, facts, spread, tuple(results))

    def as_json(self) -> dict[str, Any]:
        """The result as JSON: metrics of the first model at the top level, of all models under ``models``."""
        first = next(iter(self.metrics))
        about = {"model": first, "protocol": self.protocol, "k": list(self.ks), **self.facts}
        result = {**about, **self.metrics[first], "models": self.metrics}
        if not self.runs:
            return result
        return result | {"spread": self.spread, "runs": [{**run.facts, "models": run.metrics} for run in self.runs]}
