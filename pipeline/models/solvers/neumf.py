"""Steps of gradient descent for the network of `pipeline.models.neural_network`, by JAX and Optax.

No other module imports these two, and nothing that scores needs them. A step minimises the mean binary cross-entropy of
a batch by Adam (Kingma & Ba 2015), over the items' embeddings and all layers:

    ℓ = log(1 + e^ŷ) − y·ŷ        y = 1 for an interaction, 0 for an item that was drawn without one

Batches have one size, and the tables of items are padded to a power of two, so that steps are compiled once for many
matrices. All random numbers come from numpy: a step is a function of its arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError

__all__ = ["Batch", "Steps", "require_jax"]

Floats = NDArray[np.float32]

_ROWS = 256  # rows of a padded table, at least


class Batch(NamedTuple):
    """Pairs of users and items, (n,) each.

    users : (n, e) float32, the users' embeddings
    items : int32 rows of items
    labels : float32, 1 or 0
    weights : float32, how much a pair counts; 0 for none
    kept : for each layer (n, width) uint8: 1 for a unit that dropout leaves in
    """

    users: Floats
    items: NDArray[np.int32]
    labels: Floats
    weights: Floats
    kept: tuple[NDArray[np.uint8], ...]


class Steps:
    """The state of a fit.

    Parameters
    ----------
    weights : name → array, as `Network.weights` has them; not altered
    learning_rate : of Adam
    dropout : share of the units that `Batch.kept` leaves out
    """

    def __init__(self, weights: Mapping[str, Floats], learning_rate: float, dropout: float) -> None:
        self._n_items = weights["gmf_items"].shape[0]
        self._dropout = dropout
        self._weights: Any = {name: _padded(name, array) for name, array in weights.items()}
        self._optimizer, self._step = _compiled(len([name for name in weights if name.startswith("kernel_")]))
        self._state = self._optimizer.init(self._weights)
        self._rate = np.float32(learning_rate)

    def take(self, batch: Batch) -> Any:
        """One step; returns the batch's mean loss before it, as a number that may still be computed."""
        scale = np.float32(1 / (1 - self._dropout))
        self._weights, self._state, loss = self._step(self._weights, self._state, batch, self._rate, scale)
        return loss

    def weights(self) -> dict[str, Floats]:
        """The weights after the last step, by name."""
        arrays = {name: np.array(array, np.float32) for name, array in self._weights.items()}
        return {name: array[: self._n_items] if name.endswith("_items") else array for name, array in arrays.items()}


def require_jax() -> None:
    """Raise UsageError where JAX or Optax is not installed."""
    missing = [name for name in ("jax", "optax") if find_spec(name) is None]
    if missing:
        raise UsageError(f"Training neumf needs {' and '.join(missing)}: pip install 'rankline[neural]'")


def _padded(name: str, array: Floats) -> Floats:
    """Tables of items with rows of zeros at the end, which no batch names."""
    if not name.endswith("_items"):
        return array
    rows = max(_ROWS, 1 << (array.shape[0] - 1).bit_length())
    return np.concatenate([array, np.zeros((rows - array.shape[0], array.shape[1]), np.float32)])


@cache
def _compiled(n_layers: int) -> tuple[Any, Any]:
    """The optimizer, and the compiled step of a network with so many layers."""
    import jax
    import jax.numpy as jnp
    import optax

    optimizer = optax.scale_by_adam()

    def loss_of(weights: Any, batch: Batch, scale: Any) -> Any:
        x = jnp.concatenate([batch.users, weights["mlp_items"][batch.items]], -1)
        for layer in range(n_layers):
            x = jax.nn.relu(x @ weights[f"kernel_{layer}"] + weights[f"bias_{layer}"])
            x = x * (batch.kept[layer] * scale)
        product = batch.users * weights["gmf_items"][batch.items]
        logits = jnp.concatenate([product, x], -1) @ weights["output"] + weights["output_bias"][0]
        losses = optax.sigmoid_binary_cross_entropy(logits, batch.labels)
        return (batch.weights * losses).sum() / jnp.maximum(batch.weights.sum(), 1e-9)

    def step(weights: Any, state: Any, batch: Batch, rate: Any, scale: Any) -> Any:
        loss, gradient = jax.value_and_grad(loss_of)(weights, batch, scale)
        update, state = optimizer.update(gradient, state, weights)
        weights = jax.tree.map(lambda old, move: old - rate * move, weights, update)
        return weights, state, loss

    return optimizer, jax.jit(step)
