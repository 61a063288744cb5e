"""`finder_for(model)`: the object that finds the lists of a saved model, by the model's kind."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from pipeline.errors import UsageError
from pipeline.models.ensemble_model import EnsembleModel
from pipeline.models.factor_model import FactorModel
from pipeline.models.item_item_model import ItemItemModel
from pipeline.models.neural_model import NeuralModel
from pipeline.models.popularity_model import PopularityModel
from pipeline.models.rerank_model import RerankModel
from pipeline.models.saved_model import SavedModel
from pipeline.ranking.candidates import CandidateFinder
from pipeline.ranking.dense import DenseFinder
from pipeline.ranking.popularity import PopularityFinder
from pipeline.ranking.topk import Finder
from pipeline.ranking.topk_numpy import ListRequest, TopK

__all__ = ["FactorFinder", "ListFinder", "finder_for"]


class ListFinder(Protocol):
    """Finds the k best items of a model's own users; may be used from several threads at once."""

    def find(self, request: ListRequest) -> TopK:
        """The k best items of each user row, by score, ties by item row."""

    def prepare(self) -> None:
        """Do the work of the first call now."""


class FactorFinder:
    """Lists by factors: `topk.Finder` over the model's own users, or over other rows of factors."""

    def __init__(self, model: FactorModel, compiled: bool | None = None) -> None:
        self._model = model
        self.of_factors = Finder(model.item_factors, model.user_factors, compiled)
        # Factors that regularisation took away: all items tie, no bound rules one out, and a search meets such models.
        n_items = model.item_factors.shape[1]
        self._all_tie = None if model.item_factors.any() else PopularityFinder(np.zeros(n_items, np.float32))

    def find(self, request: ListRequest) -> TopK:
        """As `ListFinder.find`."""
        finder = self._all_tie
        return self.of_factors.find(self._model.user_factors, request) if finder is None else finder.find(request)

    def prepare(self) -> None:
        """Load the kernels and arrange the items."""
        self.of_factors.prepare()


def finder_for(model: SavedModel, compiled: bool | None = None) -> ListFinder:
    """The finder for the model's kind; `compiled` as in `Scorer`."""
    if isinstance(model, FactorModel):
        return FactorFinder(model, compiled)
    if isinstance(model, EnsembleModel | RerankModel):
        return DenseFinder(model) if model.alone is None else finder_for(model.alone, compiled)
    if isinstance(model, ItemItemModel):
        return DenseFinder(model)
    if isinstance(model, PopularityModel):
        return PopularityFinder(model.item_scores)
    if isinstance(model, NeuralModel):
        return CandidateFinder(model)
    raise UsageError(f"No lists can be found by a model of kind {model.kind!r}")
