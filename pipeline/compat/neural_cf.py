"""`NeuralCF` of the design: `neumf`, a network that orders what a factor model proposes. It takes the extra neural."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import pandas as pd

from pipeline.compat.rated_model import HIGHEST, LEAST_RATINGS, LOWEST, RatedModel, ratings_of
from pipeline.models.neumf import PARTS
from pipeline.models.neural_model import NeuralModel
from pipeline.models.saved_model import SavedModel
from pipeline.options import TrainOptions

__all__ = ["History", "NetworkShape", "NeuralCF"]


@dataclass(frozen=True)
class NetworkShape:
    """What is trained: a product of two embeddings, and layers over both side by side."""

    embedding_dim: int
    hidden_layers: tuple[int, ...]

    def summary(self) -> str:
        """One line a layer: its name and the shape of its weights."""
        widths = (2 * self.embedding_dim, *self.hidden_layers)
        layers = [f"layer {n + 1}: {a} x {b}" for n, (a, b) in enumerate(pairwise(widths))]
        product, out = f"product: {self.embedding_dim}", f"output: {self.embedding_dim + widths[-1]} x 1"
        return "\n".join([product, *layers, out])


@dataclass(frozen=True)
class History:
    """`epoch` has the numbers of the epochs from 0; `history["loss"]` the mean loss of each."""

    epoch: list[int] = field(default_factory=list)
    history: dict[str, list[float]] = field(default_factory=dict)


class NeuralCF(RatedModel):
    """Ranks films by how likely the user is to choose them.

    Parameters
    ----------
    embedding_dim : numbers in an embedding
    hidden_layers : units of each layer

    Attributes
    ----------
    dropout, learning_rate : None: the defaults of `neumf`; may be set before a training
    """

    model_type: ClassVar[str] = "neural_cf"

    def __init__(self, embedding_dim: int = 32, hidden_layers: Sequence[int] = (64, 32)) -> None:
        super().__init__()
        self.embedding_dim, self.hidden_layers = embedding_dim, list(hidden_layers)
        self.dropout: float | None = None
        self.learning_rate: float | None = None

    def build_model(self) -> NetworkShape:
        """The network that `train` trains; there is no Keras. Raises UsageError for sizes out of range."""
        self.options()
        return NetworkShape(self.embedding_dim, tuple(self.hidden_layers))

    def options(self, epochs: int = 10, min_data: int = LEAST_RATINGS) -> TrainOptions:
        """Those of the training. Raises UsageError for values out of range."""
        given: dict[str, Any] = {} if self.dropout is None else {"dropout": self.dropout}
        return TrainOptions(
            algorithm="neumf",
            n_components=self.embedding_dim,
            layers="-".join(map(str, self.hidden_layers)),
            learning_rate=self.learning_rate,
            max_iter=epochs * PARTS,
            holdout=0.0,
            min_data=min_data,
            **given,
        )

    def train(self, ratings_df: pd.DataFrame, epochs: int = 10) -> History:
        """Train on the ratings; an epoch goes over all of them once. Errors as `MatrixFactorizationModel.fit`.

        UsageError where JAX is not installed, too.
        """
        return self.fit_with(ratings_df, self.options(epochs))

    def fit_with(self, ratings_df: pd.DataFrame, options: TrainOptions) -> History:
        """As `train`, with these options."""
        hyperparameters = self._facts_of(options, ("learning_rate", "dropout"))
        hyperparameters |= {"embedding_dim": self.embedding_dim, "hidden_layers": list(self.hidden_layers)}
        hyperparameters["epochs"] = options.max_iter // PARTS
        fitted = self._train(ratings_of(ratings_df), options, hyperparameters)
        losses = fitted.losses.reshape(-1, PARTS).mean(axis=1).tolist()
        return History(list(range(len(losses))), {"loss": losses})

    def _set(self, model: SavedModel) -> None:
        super()._set(model)
        if isinstance(model, NeuralModel):
            self.embedding_dim, self.hidden_layers = model.network.embedding, list(model.network.layers)

    def _as_rating(self, score: float) -> float:
        """The likelihood of a choice, 0 to 1, spread over the scale: it orders films, and estimates no rating."""
        return LOWEST + (HIGHEST - LOWEST) / (1 + math.exp(-min(max(score, -60.0), 60.0)))
