"""Two stages: a model proposes 200 items a user, and boosted trees order them by what the model does not know."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from pipeline.errors import UsageError
from pipeline.models.algorithms.members import (
    Find,
    MadeOfMembers,
    Member,
    fit_member,
    interactions_or_cells,
    members_in,
)
from pipeline.models.base import Fitted, Needs, OnIteration
from pipeline.models.footprint import Footprint, Plan, Size
from pipeline.options import TrainOptions

if TYPE_CHECKING:
    from pipeline.data.interactions import Interactions
    from pipeline.data.matrix import UserItems
    from pipeline.data.prepare import PreparedInteractions
    from pipeline.models.item_snapshot import ItemTexts
    from pipeline.models.rerank.learn import Decision
    from pipeline.models.rerank.trees import Trees

__all__ = ["RerankAlgorithm"]

_SHARE = 0.2  # of the validation part, where nothing is held out
_LEARN = 6e-5  # seconds to learn and cross-validate by, for each candidate


class RerankAlgorithm(MadeOfMembers):
    """A first model, and a second stage where it is surely better."""

    name = "rerank"
    display_name = "two-stage"
    kind = "rerank"
    no_search = (
        "the second stage has no options to search; tune the first model, and name its options: "
        "--members ease:regularization=300"
    )
    own_defaults = {"members": "ease"}  # noqa: RUF012 (as in the base)
    learns_from_earlier = True
    needs = Needs(genres=True)

    def __init__(self, find: Find) -> None:
        super().__init__(find)
        self._texts: ItemTexts | None = None

    def told(self, texts: ItemTexts | None) -> Self:
        """The same, which learns from the genres of these texts."""
        algorithm = copy.copy(self)
        algorithm._texts = texts
        return algorithm

    # ---- options ----------------------------------------------------------------------------

    def check_options(self, options: TrainOptions) -> None:
        """Also raises UsageError for a first model that can't be, and where LightGBM is missing."""
        super().check_options(options)
        self._base(options)

    def _base(self, options: TrainOptions) -> Member:
        text = str(self.option(options, "members"))
        members = members_in(text, options, self._find, 8)
        if len(members) != 1 or members[0].weight is not None:
            raise UsageError(f"--members of a two-stage model names its first model alone, got {text!r:.80}")
        return members[0]

    def label(self, options: TrainOptions, facts: Mapping[str, Any] | None = None) -> str:
        """``two-stage on EASE``; ``two-stage: EASE alone``."""
        base = self._display(self._base(options).word)
        shipped = (facts or {}).get("rerank_shipped")
        return f"{self.display_name}: {base} alone" if shipped == "no" else f"{self.display_name} on {base}"

    # ---- fit --------------------------------------------------------------------------------

    def fit(
        self,
        user_items: UserItems,
        options: TrainOptions,
        *,
        interactions: Interactions | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Fitted:
        """Learn the second stage on a validation part, then fit the first model on everything; see `Algorithm.fit`."""
        from pipeline.models.ensemble import held_out_of, validation_split
        from pipeline.models.rerank.features import item_facts
        from pipeline.models.rerank.learn import check_lightgbm, decide, examples_of

        check_lightgbm()
        x = interactions_or_cells(user_items, interactions)
        base = self._base(options)
        base.check_times(x)
        split = validation_split(x, float(options.holdout) or _SHARE, options.split, options.random_state)
        first = fit_member(base, split.train, on_iteration).model
        facts = item_facts(split.train, split.train.item_ids, self._texts)
        decision = decide(examples_of(first, facts, held_out_of(split, options.random_state)), options.random_state)
        told = self._facts(decision)
        fitted = self._fitted(user_items, x, base, decision.trees, told, on_iteration)
        return replace(fitted, messages=(self._sentence(base, decision), *fitted.messages))

    def refit(
        self,
        earlier: Fitted,
        user_items: UserItems,
        options: TrainOptions,
        *,
        interactions: Interactions | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Fitted:
        """Fit the first model; the trees are those of the earlier fit; see `Algorithm.refit`."""
        x = interactions_or_cells(user_items, interactions)
        fitted = self._fitted(user_items, x, self._base(options), earlier.model.trees, earlier.facts, on_iteration)
        return replace(fitted, messages=(*earlier.messages[:1], *fitted.messages))

    def _fitted(
        self,
        user_items: UserItems,
        x: PreparedInteractions,
        base: Member,
        trees: Trees,
        facts: Mapping[str, Any],
        on_iteration: OnIteration | None,
    ) -> Fitted:
        from pipeline.models.rerank.features import item_facts
        from pipeline.models.rerank_model import RerankModel

        first = fit_member(base, x, on_iteration)
        meta = {"model": self.name, "parameters": {"transform": "none"}}
        known = item_facts(x, user_items.items, self._texts)
        users, items, seen = user_items.users, user_items.items, user_items.scores
        model = RerankModel(first.model, trees, known, users, items, seen, meta)
        notes = tuple(f"{self._display(base.word)}: {note}" for note in first.messages)
        return Fitted(
            model, converged=first.converged, interrupted=first.interrupted, facts=dict(facts), messages=notes
        )

    def _facts(self, decision: Decision) -> dict[str, Any]:
        return {
            "rerank_shipped": "yes" if decision.better else "no",
            "rerank_ndcg_base": round(decision.base, 6),
            "rerank_ndcg_crossed": round(decision.reranked, 6),
            "rerank_gain": f"{decision.difference:+.5f} ({decision.low:+.5f} to {decision.high:+.5f})",
            "rerank_validation_users": decision.n_users,
            "rerank_genres": "yes" if self._texts is not None and self._texts.genres else "no",
        }

    def _sentence(self, base: Member, decision: Decision) -> str:
        """What was decided, and by which figures."""
        name = self._display(base.word)
        figures = (
            f"NDCG@10 of {decision.n_users:,} validation users: {name} {decision.base:.4f}, in a new order "
            f"{decision.reranked:.4f} (cross-validated), difference {decision.difference:+.4f} "
            f"({decision.low:+.4f} to {decision.high:+.4f})"
        )
        if decision.better:
            return f"a second stage on {name} is trained ({figures})"
        return f"{name} alone is trained: no second stage is surely better ({figures})"

    # ---- cost -------------------------------------------------------------------------------

    def plan(self, options: TrainOptions, shape: tuple[int, int], cores: int) -> Plan:
        """With the plan of the first model."""
        base = self._base(options)
        return replace(super().plan(options, shape, cores), members=(base.algorithm.plan(base.options, shape, cores),))

    def footprint(self, size: Size, plan: Plan) -> Footprint:
        """The first model, fitted twice, and the examples, from which the trees are learned six times."""
        from pipeline.models.block_scores import TOP
        from pipeline.models.ensemble import MOST_USERS
        from pipeline.models.rerank.features import NAMES

        (first,) = plan.members
        cost = self._find(first.algorithm, "--members").footprint(size, first)
        candidates = min(size.n_users, MOST_USERS) * min(size.n_items, TOP)
        blocks = min(64 << 20, 24 * size.n_users * size.n_items) + 40 * size.n_items
        examples = 3 * 8 * len(NAMES) * candidates
        return Footprint(
            evaluate={**cost.evaluate, "blocks of scores": blocks},
            fit={**cost.fit, "blocks of scores": blocks, "examples": examples + 40 * size.n_cells},
            measure={**cost.measure, "facts of items": 40 * size.n_items},
            log={**cost.log, "facts of items": 40 * size.n_items},
            fit_seconds=(2 - _SHARE) * cost.fit_seconds + _LEARN * candidates,
            compiles=cost.compiles,
        )
