"""Ensemble: several models, whose standard scores are added up where that ranks better than the best of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError
from pipeline.models.algorithms.members import MadeOfMembers, Member, fit_member, interactions_or_cells, members_in
from pipeline.models.base import Fitted, OnIteration
from pipeline.models.footprint import Footprint, Plan, Size
from pipeline.options import TrainOptions

if TYPE_CHECKING:
    from pipeline.data.interactions import Interactions
    from pipeline.data.matrix import UserItems
    from pipeline.data.prepare import PreparedInteractions
    from pipeline.models.ensemble import Selection

__all__ = ["EnsembleAlgorithm"]

_MEMBERS = "ease,als,item-knn,recent"
_MOST_MEMBERS = 8
_SHARE = 0.2  # of the validation part, where nothing is held out
_SELECT = 1.5e-6  # seconds to select by, for each user and each item of the pool


class EnsembleAlgorithm(MadeOfMembers):
    """A weighted sum of the standard scores of other models, or the best single one of them."""

    name = "ensemble"
    display_name = "ensemble"
    kind = "ensemble"
    no_search = (
        "an ensemble is made of other models and has no options to search; tune those, and name their options: "
        "--members ease:regularization=300,als:n_components=128"
    )
    own_defaults = {"members": _MEMBERS}  # noqa: RUF012 (as in the base)
    learns_from_earlier = True

    # ---- options ----------------------------------------------------------------------------

    def check_options(self, options: TrainOptions) -> None:
        """Also raises UsageError for members that can't be."""
        super().check_options(options)
        self._members(options)

    def _members(self, options: TrainOptions) -> tuple[Member, ...]:
        """The members that ``--members`` names. Raises UsageError."""
        text = str(self.option(options, "members"))
        members = members_in(text, options, self._find, _MOST_MEMBERS)
        if len(members) < 2:
            raise UsageError(f"--members of an ensemble names 2 to {_MOST_MEMBERS} different models, got {text!r:.80}")
        return members

    def settled(self, options: TrainOptions, facts: Mapping[str, Any]) -> TrainOptions:
        """With the members and weights that the fit selected; as they are where it selected one alone."""
        chosen = [part.rsplit(" ", 1) for part in facts.get("ensemble_weights", "").split(", ")]
        if len(chosen) < 2:
            return options
        return replace(options, members=",".join(f"{word}:weight={weight}" for word, weight in chosen))

    def label(self, options: TrainOptions, facts: Mapping[str, Any] | None = None) -> str:
        """``ensemble of EASE and als``; ``ensemble: EASE alone``."""
        weights = (facts or {}).get("ensemble_weights")
        if not weights:
            return self.display_name
        names = [self._display(part.split(" ")[0]) for part in weights.split(", ")]
        return f"ensemble of {_listed(names)}" if len(names) > 1 else f"ensemble: {names[0]} alone"

    # ---- fit --------------------------------------------------------------------------------

    def fit(
        self,
        user_items: UserItems,
        options: TrainOptions,
        *,
        interactions: Interactions | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Fitted:
        """Fit the members on everything, with the weights that they are given; see `Algorithm.fit`.

        Where they are given none, members and weights are selected on a validation part first.
        """
        x = interactions_or_cells(user_items, interactions)
        members = self._able(options, x)
        if weights := _weights(members):
            facts = {"ensemble_shipped": "as named", "ensemble_weights": _written(weights)}
            fitted = self._fitted(user_items, x, members, weights, facts, on_iteration)
            sentence = f"an ensemble of {_listed(self._shares(weights))} is trained (--members gives the weights)"
            return replace(fitted, messages=(sentence, *fitted.messages))
        selection = self._selected(members, x, options, on_iteration)
        chosen = {member.word: n for member, n in zip(members, selection.counts, strict=True) if n}
        facts = self._facts(members, selection)
        fitted = self._fitted(user_items, x, members, chosen, facts, on_iteration)
        return replace(fitted, messages=(self._sentence(members, selection), *fitted.messages))

    def refit(
        self,
        earlier: Fitted,
        user_items: UserItems,
        options: TrainOptions,
        *,
        interactions: Interactions | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Fitted:
        """Fit the members that the earlier fit selected, with its weights; see `Algorithm.refit`."""
        x = interactions_or_cells(user_items, interactions)
        chosen = earlier.model.meta["chosen"]
        fitted = self._fitted(user_items, x, self._members(options), chosen, earlier.facts, on_iteration)
        return replace(fitted, messages=(*earlier.messages[:1], *fitted.messages))

    def _able(self, options: TrainOptions, x: Interactions) -> tuple[Member, ...]:
        """The members, without those of the default that need times where there are none."""
        members = self._members(options)
        if options.members is not None:
            for member in members:
                member.check_times(x)
        return tuple(member for member in members if x.at is not None or not member.goes_by_times)

    def _selected(
        self,
        members: Sequence[Member],
        x: PreparedInteractions,
        options: TrainOptions,
        on_iteration: OnIteration | None,
    ) -> Selection:
        """Fit the members on a part of the interactions, and select on the other."""
        from pipeline.models.ensemble import held_out_of, pools_of, select, validation_split

        split = validation_split(x, float(options.holdout) or _SHARE, options.split, options.random_state)
        models = [fit_member(member, split.train, on_iteration).model for member in members]
        pools = pools_of(models, held_out_of(split, options.random_state))
        lists = [i for i, member in enumerate(members) if member.algorithm.kind == "popularity"]
        return select(pools, options.random_state, lists if options.split == "time" else ())

    def _fitted(
        self,
        user_items: UserItems,
        x: PreparedInteractions,
        members: Sequence[Member],
        chosen: Mapping[str, float],
        facts: Mapping[str, Any],
        on_iteration: OnIteration | None,
    ) -> Fitted:
        from pipeline.models.ensemble_model import EnsembleModel

        fits = {member.word: fit_member(member, x, on_iteration) for member in members if member.word in chosen}
        total = sum(chosen.values())
        model = EnsembleModel(
            tuple(fit.model for fit in fits.values()),
            tuple(chosen[word] / total for word in fits),
            user_items.users,
            user_items.items,
            user_items.scores,
            {"model": self.name, "parameters": {"transform": "none"}, "chosen": dict(chosen)},
        )
        notes = tuple(f"{self._display(word)}: {note}" for word, fit in fits.items() for note in fit.messages)
        return Fitted(
            model,
            converged=all(fit.converged for fit in fits.values()),
            interrupted=any(fit.interrupted for fit in fits.values()),
            facts=facts,
            messages=notes,
        )

    def _facts(self, members: Sequence[Member], selection: Selection) -> dict[str, Any]:
        weights = {member.word: n for member, n in zip(members, selection.counts, strict=True) if n}
        return {
            "ensemble_shipped": "yes" if selection.better else "no",
            "ensemble_weights": _written(weights),
            "ensemble_best_single": members[selection.best].word,
            "ensemble_ndcg_single": round(selection.single, 6),
            "ensemble_ndcg_crossed": round(selection.ensemble, 6),
            "ensemble_gain": f"{selection.difference:+.5f} ({selection.low:+.5f} to {selection.high:+.5f})",
            "ensemble_validation_users": selection.n_users,
        }

    def _sentence(self, members: Sequence[Member], selection: Selection) -> str:
        """What was decided, and by which figures."""
        best = self._display(members[selection.best].word)
        if not selection.n_users:
            return f"{best} alone is trained: no user has a validation part to select an ensemble by"
        figures = (
            f"NDCG@10 of {selection.n_users:,} validation users: {best} {selection.single:.4f}, ensemble "
            f"{selection.ensemble:.4f} (cross-validated), difference {selection.difference:+.4f} "
            f"({selection.low:+.4f} to {selection.high:+.4f})"
        )
        if not selection.better:
            alone = f"{best} alone is trained: no ensemble is surely better"
            if selection.single < max(selection.means):
                alone += ", and by time no model is surely better than a list for everybody"
            return f"{alone} ({figures})"
        weights = {member.word: n for member, n in zip(members, selection.counts, strict=True) if n}
        return f"an ensemble of {_listed(self._shares(weights))} is trained ({figures})"

    def _shares(self, weights: Mapping[str, float]) -> list[str]:
        """``EASE 60%``."""
        total = sum(weights.values())
        return [f"{self._display(word)} {weight / total:.0%}" for word, weight in weights.items()]

    # ---- cost -------------------------------------------------------------------------------

    def plan(self, options: TrainOptions, shape: tuple[int, int], cores: int) -> Plan:
        """With the plans of the members."""
        members = self._members(options)
        plans = tuple(member.algorithm.plan(member.options, shape, cores) for member in members)
        return replace(super().plan(options, shape, cores), members=plans, selects=not _weights(members))

    def footprint(self, size: Size, plan: Plan) -> Footprint:
        """All members, fitted one after another on everything; before, where they are selected, on a part."""
        from pipeline.models.block_scores import TOP
        from pipeline.models.ensemble import MOST_USERS

        costs = [self._find(each.algorithm, "--members").footprint(size, each) for each in plan.members]
        n, pool = min(size.n_users, MOST_USERS), min(size.n_items, TOP * len(costs))
        models = sum(sum(cost.evaluate.values()) for cost in costs)
        blocks = min(128 << 20, 48 * size.n_users * size.n_items)
        largest = max((sum(cost.fit.values()) for cost in costs), default=0)
        validation = n * pool * (5 * len(costs) + 16) + 40 * size.n_cells
        seconds = sum(cost.fit_seconds for cost in costs)
        if plan.selects:
            seconds += (1 - _SHARE) * seconds + _SELECT * n * pool * len(costs)
        return Footprint(
            evaluate={"members": models, "blocks of scores": blocks},
            fit={
                "members": models, "largest fit": largest, "blocks of scores": blocks,
                "validation": validation if plan.selects else 0,
            },
            measure={"members": models},
            log={"members": sum(sum(cost.log.values()) for cost in costs)},
            fit_seconds=seconds,
            compiles=any(cost.compiles for cost in costs),
        )  # fmt: skip


def _weights(members: Sequence[Member]) -> dict[str, float]:
    """The weights that the members were given; {} where they were given none."""
    return {member.word: member.weight for member in members if member.weight is not None}


def _written(weights: Mapping[str, float]) -> str:
    """``ease 5, als 3``."""
    return ", ".join(f"{word} {weight:g}" for word, weight in weights.items())


def _listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
