"""What the page's script draws with uPlot: numbers in an attribute, and the same numbers as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from pipeline.serving.page.figures import metric

__all__ = ["Chart", "history_chart", "loss_chart"]

_MOST_POINTS = 2_000
_BASELINES = ("popular", "item-knn")


@dataclass(frozen=True)
class Chart:
    """Lines over one axis.

    Attributes
    ----------
    text : what it shows, for those who can't see it
    x_name, x : the axis
    lines : name → a value for each x, None where there is none; the first is the one that matters
    """

    text: str
    x_name: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[float | None]]

    @property
    def json(self) -> str:
        """For the script."""
        lines = [{"name": name, "values": list(values)} for name, values in self.lines.items()]
        return orjson.dumps({"x_name": self.x_name, "x": list(self.x), "lines": lines}).decode()

    @property
    def rows(self) -> list[tuple[float, list[float | None]]]:
        """For the table: x, and the values of all lines there."""
        return list(zip(self.x, map(list, zip(*self.lines.values(), strict=True)), strict=True))


def loss_chart(loss: Sequence[Sequence[float]]) -> Chart | None:
    """Loss by iteration; None before there are two."""
    if len(loss) < 2:
        return None
    step = -(-len(loss) // _MOST_POINTS)
    points = [*loss[:-1:step], loss[-1]]
    text = f"Loss over {len(loss)} iterations, from {points[0][1]:.5g} to {points[-1][1]:.5g}"
    return Chart(text, "iteration", [x for x, _ in points], {"loss": [y for _, y in points]})


def history_chart(models: Sequence[Mapping[str, Any]]) -> Chart | None:
    """NDCG@10 by version, beside the baselines that were measured with it; None for fewer than two versions."""
    known = [model for model in reversed(models) if metric(model["metrics"], "ndcg_at_10") is not None]
    if len(known) < 2:
        return None
    lines: dict[str, list[float | None]] = {"model": [metric(model["metrics"], "ndcg_at_10") for model in known]}
    for name in _BASELINES:
        values = [model["baselines"].get(name, {}).get("ndcg_at_10") for model in known]
        if any(value is not None for value in values):
            lines[name] = values
    text = f"NDCG@10 of {len(known)} versions beside {' and '.join(list(lines)[1:]) or 'nothing'}"
    return Chart(text, "version", [float(model["version"]) for model in known], lines)
