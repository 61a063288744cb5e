"""The slow, obvious twin of NeuMF's network: pair by pair, and gradients by differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["adam_step", "loss_of", "score"]


def score(weights: Mapping[str, NDArray[Any]], factors: Sequence[float], item: int, kept: Any = None) -> float:
    """ŷ of one user, given by the row of the factor model, and one item; `kept` scales the units of each layer."""
    e = weights["gmf_items"].shape[1]
    user = [0.0] * e
    for t, value in enumerate(factors):
        user[t] = float(value) * float(weights["user_scale"][t])
    total = float(weights["output_bias"][0])
    for t in range(e):
        total += float(weights["output"][t]) * user[t] * float(weights["gmf_items"][item, t])
    x = [*user, *map(float, weights["mlp_items"][item])]
    layer = 0
    while f"kernel_{layer}" in weights:
        kernel, bias = weights[f"kernel_{layer}"], weights[f"bias_{layer}"]
        sums = [float(bias[j]) + sum(x[i] * float(kernel[i, j]) for i in range(len(x))) for j in range(len(bias))]
        x = [max(0.0, value) * (1.0 if kept is None else float(kept[layer][j])) for j, value in enumerate(sums)]
        layer += 1
    return total + sum(float(weights["output"][e + j]) * value for j, value in enumerate(x))


def loss_of(
    weights: Mapping[str, NDArray[Any]], factors: Any, items: Any, labels: Any, counts: Any, kept: Any
) -> float:
    """Mean binary cross-entropy of the pairs; `kept` has what the units of each layer are multiplied by, by pair."""
    total = 0.0
    for n, (row, item, label, count) in enumerate(zip(factors, items, labels, counts, strict=True)):
        y = score(weights, row, int(item), [layer[n] for layer in kept])
        total += float(count) * (math.log1p(math.exp(y)) - float(label) * y)
    return total / float(np.sum(counts))


def adam_step(
    weights: Mapping[str, NDArray[Any]], state: dict[str, Any], t: int, rate: float, *pairs: Any
) -> dict[str, NDArray[np.float64]]:
    """The weights after the t-th step of Adam (t from 1); `state` keeps both moments."""
    after = {}
    for name, array in weights.items():
        if name == "user_scale":
            after[name] = array
            continue
        gradient = np.zeros(array.shape)
        for place in np.ndindex(array.shape):
            moved = {key: np.array(value, np.float64) for key, value in weights.items()}
            moved[name][place] += 1e-5
            up = loss_of(moved, *pairs)
            moved[name][place] -= 2e-5
            gradient[place] = (up - loss_of(moved, *pairs)) / 2e-5
        first, second = state.get(name, (np.zeros(array.shape), np.zeros(array.shape)))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        state[name] = (first, second)
        after[name] = array - rate * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
    return after
