"""Most popular and recently popular: one list for all users, and the baselines of every other model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.models.base import Algorithm, Fitted, Needs, OnIteration
from pipeline.models.footprint import Footprint, Plan, Size
from pipeline.models.search_space import FloatRange, SearchSpace
from pipeline.options import TrainOptions

if TYPE_CHECKING:
    from pipeline.data.interactions import Interactions
    from pipeline.data.matrix import UserItems

__all__ = ["PopularAlgorithm", "RecentAlgorithm"]

_HALF_LIFE_DAYS = 30.0


class PopularAlgorithm(Algorithm):
    """Items by their number of interactions."""

    name = "popular"
    display_name = "most popular"
    kind = "popularity"
    baseline = True

    def fit(
        self,
        user_items: UserItems,
        options: TrainOptions,
        *,
        interactions: Interactions | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Fitted:
        """Count the interactions of each item; see `Algorithm.fit`."""
        from pipeline.models.popularity import popular_model

        return Fitted(popular_model(user_items))

    def footprint(self, size: Size, plan: Plan) -> Footprint:
        """One number per item and one per user."""
        counts = {"counts": 8 * (size.n_items + size.n_users)}
        return Footprint(counts, counts, counts, counts, fit_seconds=2e-9 * size.n_cells)


class RecentAlgorithm(PopularAlgorithm):
    """Items by their recent interactions; without times, by all interactions."""

    name = "recent"
    display_name = "recently popular"
    options = frozenset({"half_life_days"})
    own_defaults = {"half_life_days": _HALF_LIFE_DAYS}  # noqa: RUF012 (as in the base)
    needs = Needs(times=True)
    space = SearchSpace(
        dimensions=(FloatRange("half_life_days", 1.0, 1000.0),),
        usual=frozenset({"half_life_days"}),
        need_times=frozenset({"half_life_days"}),
    )

    def fit(
        self,
        user_items: UserItems,
        options: TrainOptions,
        *,
        interactions: Interactions | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Fitted:
        """Count the interactions of each item, weighted by age; see `Algorithm.fit`."""
        from pipeline.models.popularity import popular_model, recent_model

        if interactions is None:
            return Fitted(popular_model(user_items))
        days = float(self.option(options, "half_life_days"))
        return Fitted(recent_model(user_items, interactions, half_life_days=days))
