"""NeuMF: a product of embeddings and layers over them, learned from interactions and drawn items (He et al. 2017).

The network is in `neural_network`, its steps in `solvers.neumf`. Here is what they learn from:

1. A factor model, `als` with as many factors as an embedding has numbers. Its row of a user, each factor divided by its
   root mean square, is the user's embedding. The items' embeddings start as its items (§3.4.1 of the paper starts from
   a factor model, too), and the layers count nothing at first: so the fit starts from the lists of the factor model.
   The users' embeddings stay, so that a new user is folded in as the factor model does it.
2. Pairs. Each interaction is a positive, which counts as much as its score compared with the mean score, and for each
   some items are drawn at random that the user has not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.matrix import UserItems
from pipeline.errors import DivergedError
from pipeline.models.als import fit_als
from pipeline.models.neural_model import NeuralModel
from pipeline.models.neural_network import Network, weight_shapes
from pipeline.models.objective import Objective
from pipeline.models.solvers.iterations import Iterations
from pipeline.models.solvers.neumf import Batch, Steps, require_jax

__all__ = ["PARTS", "Pairs", "Settings", "fit_neumf", "start_weights"]

PARTS = 100  # iterations that go over all interactions once
UNOBSERVED = 0.3  # w₀ of the factor model
_BATCHES = (256, 4096)  # pairs in a step: of little data, and of other
_DRAWS = 4  # of an item, until it is one that the user has not seen

Floats = NDArray[np.float32]


class Settings(NamedTuple):
    """Attributes
    ----------
    embedding : numbers in an embedding
    layers : units of each layer
    dropout : share of units that a step leaves out
    negatives : items drawn for each interaction
    regularization : of the factor model, times the mean score
    """

    embedding: int = 32
    layers: tuple[int, ...] = (64, 32, 16)
    dropout: float = 0.2
    negatives: int = 4
    learning_rate: float = 1e-3
    regularization: float = 0.01
    seed: int = 42
    n_threads: int | None = None


def fit_neumf(
    user_items: UserItems, settings: Settings, iterations: Iterations, transform: str = "none"
) -> NeuralModel:
    """The model of this matrix, whose scores `transform` has been applied to.

    An iteration takes steps over a hundredth of the interactions.

    Raises
    ------
    UsageError
        Where JAX is not installed, or for a learning rate with which the weights grow without end.
    InputError
        For scores that the factor model can't be fitted to.
    """
    require_jax()
    x = user_items.scores
    strength = settings.regularization * (float(x.data.mean(dtype=np.float64)) if x.nnz else 0.0)
    objective = Objective(unobserved_weight=UNOBSERVED, alpha_W=strength, alpha_H=strength)
    k = max(1, min(settings.embedding, min(x.shape) - 1))
    factors, _ = fit_als(user_items, k, objective, settings.seed, transform=transform, n_threads=settings.n_threads)
    rng = np.random.default_rng(settings.seed)
    weights = start_weights(factors.user_factors, factors.item_factors, settings, rng)
    network = _trained(Network(weights, settings.layers), factors.user_factors, Pairs(x, settings, rng), iterations)
    meta = {**factors.meta, "model": "neumf", "factor_model": "als"}
    return NeuralModel(
        factors.user_factors, factors.item_factors, network, user_items.users, user_items.items, x, meta=meta
    )


def _trained(network: Network, user_factors: Floats, pairs: Pairs, iterations: Iterations) -> Network:
    """The network after the iterations. Raises DivergedError where its weights grow without end."""
    settings, scale = pairs.settings, network.weights["user_scale"]
    embeddings = network.embeddings(user_factors)
    learned = {name: array for name, array in network.weights.items() if name != "user_scale"}
    steps = Steps(learned, settings.learning_rate, settings.dropout)
    with iterations.interruptible():
        while iterations.left:
            # The steps are only begun here: one is computed while the next batch is drawn.
            losses = [steps.take(batch) for batch in pairs.batches(embeddings)]
            loss = float(np.mean([float(loss) for loss in losses]))
            learned = steps.weights() if np.isfinite(loss) else {}
            if not all(np.isfinite(array).all() for array in learned.values()) or not learned:
                raise DivergedError(
                    f"The network's weights grow without end: --learning-rate {settings.learning_rate:g} is too large, "
                    f"try {settings.learning_rate / 10:g}"
                )
            iterations.add(loss)
    if not iterations.losses:
        raise KeyboardInterrupt  # there is nothing to keep
    return Network({"user_scale": scale, **learned}, network.layers)


def start_weights(W: Floats, H: Floats, settings: Settings, rng: np.random.Generator) -> dict[str, Floats]:
    """The weights at the start, from the factors W (n_users, k) and H (k, n_items); k at most the embedding's size."""
    k, n_items = H.shape
    e = settings.embedding
    shapes = weight_shapes(k, n_items, e, settings.layers)
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    size = _root_mean_squares(W)
    weights["user_scale"][:] = 1 / size
    items = H.T.astype(np.float64) * size
    # Embeddings of users have a mean square of 1: products, too, at this scale.
    weights["gmf_items"][:, :k] = items / (_root_mean_squares(items.reshape(-1, 1)) * np.sqrt(k))
    weights["mlp_items"][:, :k] = items / _root_mean_squares(items)
    for name, shape in shapes.items():
        if name.startswith("kernel_"):  # He et al. 2015, for layers with a max at 0
            weights[name][:] = rng.standard_normal(shape) * np.sqrt(2 / shape[0])
    weights["output"][:e] = 1
    weights["output_bias"][:] = -np.log(settings.negatives)
    return weights


def _root_mean_squares(array: NDArray[np.floating]) -> NDArray[np.float64]:
    """Of each column; 1 for a column of zeros."""
    size: NDArray[np.float64] = np.sqrt(np.mean(array.astype(np.float64) ** 2, axis=0))
    return np.where(size > 0, size, 1.0)


class Pairs:
    """Draws the pairs that a fit learns from.

    Parameters
    ----------
    x : csr (n_users, n_items) of scores, columns ascending in a row
    rng : draws everything that is random: their order, the items, and the units that are left out
    """

    def __init__(self, x: sparse.csr_matrix, settings: Settings, rng: np.random.Generator) -> None:
        self.settings, self._random = settings, rng
        self._n_items = x.shape[1]
        self._users = np.repeat(np.arange(x.shape[0], dtype=np.int64), np.diff(x.indptr))
        self._items = x.indices.astype(np.int32)
        self._seen = self._users * self._n_items + self._items  # ascending
        mean = float(x.data.mean(dtype=np.float64)) or 1.0
        self._counts = (x.data / mean).astype(np.float32)
        pairs = (1 + settings.negatives) * x.nnz / PARTS
        self.batch = _BATCHES[2 * pairs >= _BATCHES[1]]
        self._part = 0
        self._order = np.empty(0, np.int64)

    def batches(self, embeddings: Floats) -> Iterator[Batch]:
        """The next iteration's: of `batch` pairs each, filled up by pairs that count nothing.

        embeddings : of users, (n_users, e)
        """
        users, items, labels, counts = self.next()
        n, size = users.size, self.batch
        filled = n + -n % size
        users, items, labels = np.resize(users, filled), np.resize(items, filled), np.resize(labels, filled)
        counts = np.concatenate([counts, np.zeros(filled - n, np.float32)])
        for first in range(0, filled, size):
            part = slice(first, first + size)
            kept = tuple(self._kept(units) for units in self.settings.layers)
            yield Batch(embeddings[users[part]], items[part], labels[part], counts[part], kept)

    def next(self) -> tuple[NDArray[np.int64], NDArray[np.int32], Floats, Floats]:
        """The next iteration's pairs in random order: users, items, labels (1 or 0), and how much each counts.

        Each interaction is in one of `PARTS` iterations; of fewer than so many, in several.
        """
        number = self._part % PARTS
        if number == 0:
            self._order = self._random.permutation(self._items.size)
        first, last = (self._order.size * place // PARTS for place in (number, number + 1))
        chosen = self._order[first : max(last, first + 1)]
        self._part += 1
        n, drawn = chosen.size, self.settings.negatives
        users = np.tile(self._users[chosen], 1 + drawn)
        items = np.concatenate([self._items[chosen], self._unseen(users[n:])])
        labels = np.repeat(np.array([1, 0], np.float32), [n, n * drawn])
        counts = np.tile(self._counts[chosen], 1 + drawn)
        counts[n:][self._is_seen(users[n:], items[n:])] = 0
        order = self._random.permutation(users.size)
        return users[order], items[order], labels[order], counts[order]

    def _unseen(self, users: NDArray[np.int64]) -> NDArray[np.int32]:
        """An item for each, drawn anew a few times where the user has seen it."""
        items = self._random.integers(0, self._n_items, users.size, dtype=np.int32)
        for _ in range(_DRAWS - 1):
            again = np.flatnonzero(self._is_seen(users, items))
            items[again] = self._random.integers(0, self._n_items, again.size, dtype=np.int32)
        return items

    def _is_seen(self, users: NDArray[np.int64], items: NDArray[np.int32]) -> NDArray[np.bool_]:
        keys = users * self._n_items + items
        place = np.minimum(np.searchsorted(self._seen, keys), self._seen.size - 1)
        found: NDArray[np.bool_] = self._seen[place] == keys
        return found

    def _kept(self, units: int) -> NDArray[np.uint8]:
        """1 for a unit that stays in, (batch, units)."""
        least = round(256 * self.settings.dropout)
        drawn = np.frombuffer(self._random.bytes(self.batch * units), np.uint8)
        return (drawn >= least).view(np.uint8).reshape(self.batch, units)
