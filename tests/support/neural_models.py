"""Neural models with random weights, made without JAX."""

from __future__ import annotations

import numpy as np

from pipeline.data.matrix import UserItems
from pipeline.models.fold_in import FoldIn
from pipeline.models.neural_model import NeuralModel
from pipeline.models.neural_network import Network, weight_shapes

__all__ = ["neural_model", "random_network"]


def random_network(
    rng: np.random.Generator,
    n_factors: int = 3,
    n_items: int = 9,
    embedding: int = 4,
    layers: tuple[int, ...] = (5, 3),
) -> Network:
    """A network over so many items."""
    shapes = weight_shapes(n_factors, n_items, embedding, layers)
    return Network({name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}, layers)


def neural_model(rng: np.random.Generator, x: UserItems, candidates: int = 4) -> NeuralModel:
    """A random network over random items' factors; the users' factors are those of their histories."""
    h, meta = rng.normal(size=(3, len(x.items))).astype(np.float32), {"fold_in": "linear"}
    w = FoldIn(h, meta).solve(x.scores.indptr, x.scores.indices, x.scores.data)
    return NeuralModel(w, h, random_network(rng, n_items=len(x.items)), x.users, x.items, x.scores, candidates, meta)
