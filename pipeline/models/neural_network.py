"""The network of NeuMF in numpy: how it scores pairs of a user and an item (He et al. 2017, §3.4).

    ŷ_ui = o·[p_u ∘ g_i ; φ_L(… φ_1([p_u ; q_i]))] + b        φ_l(x) = max(0, x·K_l + b_l)

p_u is the user's embedding, g_i and q_i are the item's two; ∘ multiplies component by component. The first layer is
linear before its max, so it is split: [p ; q]·K = p·K_p + q·K_q, where the items' halves are computed once.

Pairs go through the layers in tiles of one size, in float64, and a score is rounded once to float32: so it does not
depend on which pairs are scored together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtifactError

__all__ = ["Network", "weight_shapes"]

_TILE = 512  # pairs that go through the layers together
# Multiply-adds of a product of matrices up to which OpenBLAS takes one thread: more of them cost more than they save.
_ONE_THREAD = 1 << 18
_ROWS = 1 << 14  # items whose halves are computed together

Floats = NDArray[np.float32]


def weight_shapes(n_factors: int, n_items: int, embedding: int, layers: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Name of an array of weights → its shape.

    n_factors : of the factor model, at most `embedding`: a user's embedding is its row times ``user_scale``, and zeros
    """
    shapes: dict[str, tuple[int, ...]] = {
        "user_scale": (n_factors,),
        "gmf_items": (n_items, embedding),
        "mlp_items": (n_items, embedding),
    }
    width = 2 * embedding
    for number, units in enumerate(layers):
        shapes[f"kernel_{number}"] = (width, units)
        shapes[f"bias_{number}"] = (units,)
        width = units
    return {**shapes, "output": (embedding + width,), "output_bias": (1,)}


@dataclass(frozen=True, eq=False)
class Network:
    """Attributes
    ----------
    weights : name → float32 array, as `weight_shapes` has them; finite
    layers : units of each layer
    """

    weights: Mapping[str, Floats]
    layers: tuple[int, ...]

    def __post_init__(self) -> None:
        for name, array in self.weights.items():
            if array.dtype != np.float32:
                raise ArtifactError(f"The network's {name} must be float32, got {array.dtype}")
            if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
                raise ArtifactError(f"The network's {name} must be finite")
        expected = weight_shapes(self.n_factors, self.n_items, self.embedding, self.layers)
        shapes = {name: array.shape for name, array in self.weights.items()}
        if shapes != expected or self.n_factors > self.embedding:
            raise ArtifactError(f"The network's arrays do not fit one another: {shapes}")

    @property
    def n_factors(self) -> int:
        """Factors of the factor model."""
        return int(self.weights["user_scale"].shape[0])

    @property
    def n_items(self) -> int:
        """Items that it scores."""
        return int(self.weights["gmf_items"].shape[0])

    @property
    def embedding(self) -> int:
        """Numbers in an embedding."""
        return int(self.weights["gmf_items"].shape[1])

    def embeddings(self, factors: Floats) -> Floats:
        """The users' embeddings (n, e), from their rows in the factor model (n, k)."""
        out = np.zeros((factors.shape[0], self.embedding), np.float32)
        with np.errstate(over="ignore"):
            np.multiply(factors, self.weights["user_scale"], out=out[:, : self.n_factors])
        return out

    @cached_property
    def item_halves(self) -> Floats:
        """q·K_q + b of each item, (n_items, units of the first layer)."""
        kernel = self.weights["kernel_0"][self.embedding :].astype(np.float64)
        bias, items = self.weights["bias_0"].astype(np.float64), self.weights["mlp_items"]
        out = np.empty((self.n_items, self.layers[0]), np.float32)
        for first in range(0, self.n_items, _ROWS):
            part = slice(first, first + _ROWS)
            out[part] = items[part].astype(np.float64) @ kernel + bias
        return out

    def user_halves(self, embeddings: Floats) -> NDArray[np.float64]:
        """p·K_p of each user, (n, units of the first layer); added up in the order of the components."""
        kernel = self.weights["kernel_0"][: self.embedding].astype(np.float64)
        out = np.zeros((embeddings.shape[0], self.layers[0]))
        for t in range(self.embedding):
            out += embeddings[:, t, None].astype(np.float64) * kernel[t]
        return out

    def scores(self, factors: Floats, of: NDArray[np.intp], items: NDArray[np.intp]) -> Floats:
        """Score of each pair (of[i], items[i]), (n,).

        Parameters
        ----------
        factors : (m, k), rows of the factor model
        of : (n,) which of these rows
        items : (n,) rows of items
        """
        embeddings = self.embeddings(factors)
        user_halves, item_halves = self.user_halves(embeddings), self.item_halves
        gmf = embeddings.astype(np.float64) * self.weights["output"][: self.embedding]
        out = np.empty(of.size, np.float32)
        for first in range(0, of.size, _TILE):
            users, cols = of[first : first + _TILE], items[first : first + _TILE]
            n = users.size
            if n < _TILE:
                users, cols = np.resize(users, _TILE), np.resize(cols, _TILE)
            x = self._above(user_halves[users] + item_halves[cols])
            with np.errstate(over="ignore"):
                out[first : first + n] = (x + (gmf[users] * self.weights["gmf_items"][cols]).sum(axis=1))[:n]
        return out

    def _above(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """What a tile of sums of halves adds to its scores: the first max, the other layers, the output."""
        np.maximum(x, 0, out=x)
        for kernel, bias in self._upper:
            x = _product(x, kernel)
            x += bias
            np.maximum(x, 0, out=x)
        output = self.weights["output"][self.embedding :].astype(np.float64)
        total: NDArray[np.float64] = (x * output).sum(axis=1) + np.float64(self.weights["output_bias"][0])
        return total

    @cached_property
    def _upper(self) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        wide = {name: array.astype(np.float64) for name, array in self.weights.items() if not name.endswith("_items")}
        return [(wide[f"kernel_{number}"], wide[f"bias_{number}"]) for number in range(1, len(self.layers))]


def _product(x: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """x @ kernel for a tile, in pieces of rows that are small enough for one thread; their size is a power of two."""
    rows = _TILE
    while rows > 16 and rows * kernel.size > _ONE_THREAD:
        rows //= 2
    product: NDArray[np.float64] = (x.reshape(_TILE // rows, rows, -1) @ kernel).reshape(_TILE, -1)
    return product
