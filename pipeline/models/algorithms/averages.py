"""Averages of ratings as models of `rankline evaluate`: what a model of ratings has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.models.base import Algorithm, Fitted, Needs, OnIteration
from pipeline.models.footprint import Footprint, Plan, Size
from pipeline.options import TrainOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.data.interactions import Interactions
    from pipeline.data.matrix import UserItems

__all__ = ["BiasesAlgorithm", "GlobalMeanAlgorithm", "ItemMeanAlgorithm", "UserMeanAlgorithm"]

Parts = tuple["float | NDArray[np.float64]", "float | NDArray[np.float64]"]


class _AverageAlgorithm(Algorithm):
    """A prediction that is a user's part plus an item's: two factors, [user's part, 1] · [1, item's part]."""

    kind = "factors"
    needs = Needs(ratings=True)
    reconstructs = True

    def parts(self, x: Interactions) -> Parts:
        """The users' part and the items', a number or (n,)."""
        raise NotImplementedError

    def fit(
        self,
        user_items: UserItems,
        options: TrainOptions,
        *,
        interactions: Interactions | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Fitted:
        """Average the scores; see `Algorithm.fit`."""
        import numpy as np

        from pipeline.data.interactions import Interactions as Rows
        from pipeline.models.factor_model import FactorModel

        x = user_items.scores
        of_cells = np.repeat(np.arange(x.shape[0], dtype=np.int32), np.diff(x.indptr))
        scores = x.data.astype(np.float32)
        rows = Rows(of_cells, x.indices.astype(np.int32), scores, user_items.users, user_items.items)
        of_users, of_items = self.parts(rows)
        w, h = np.ones((x.shape[0], 2), np.float32), np.ones((2, x.shape[1]), np.float32)
        w[:, 0], h[1] = of_users, of_items
        return Fitted(FactorModel(w, h, user_items.users, user_items.items, x, {"model": self.name}))

    def footprint(self, size: Size, plan: Plan) -> Footprint:
        """Two numbers a user and an item, and the scores by cell."""
        both = {"averages": 16 * (size.n_users + size.n_items)}
        return Footprint(both, {**both, "cells": 20 * size.n_cells}, both, both, fit_seconds=2e-8 * size.n_cells)


class GlobalMeanAlgorithm(_AverageAlgorithm):
    """The mean of all scores."""

    name = "global-mean"
    display_name = "mean of all"

    def parts(self, x: Interactions) -> Parts:
        """The mean, as the items' part."""
        from pipeline.models.averages import global_average

        return 0.0, global_average(x)


class UserMeanAlgorithm(_AverageAlgorithm):
    """The mean of the user's scores."""

    name = "user-mean"
    display_name = "user's mean"

    def parts(self, x: Interactions) -> Parts:
        """The users' means."""
        from pipeline.models.averages import user_averages

        return user_averages(x), 0.0


class ItemMeanAlgorithm(_AverageAlgorithm):
    """The mean of the item's scores."""

    name = "item-mean"
    display_name = "item's mean"

    def parts(self, x: Interactions) -> Parts:
        """The items' means."""
        from pipeline.models.averages import item_averages

        return 0.0, item_averages(x)


class BiasesAlgorithm(_AverageAlgorithm):
    """The mean of all scores, and damped biases of the user and of the item."""

    name = "biases"
    display_name = "biases"

    def parts(self, x: Interactions) -> Parts:
        """The users' biases; the items' with the mean."""
        from pipeline.models.averages import damped_biases

        biases = damped_biases(x)
        return biases.users, biases.mean + biases.items
