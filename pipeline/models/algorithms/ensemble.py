"""Ensemble: several models, whose standard scores are added up where that ranks better than the best of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.errors import InputError, UsageError
from pipeline.models.base import Algorithm, Fitted, OnIteration
from pipeline.models.footprint import Footprint, Plan, Size
from pipeline.models.named_options import named_values, with_values
from pipeline.models.search_space import Dimension
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
_NO_SEARCH = (
    "an ensemble is made of other models and has no options to search; tune those, and name their options: "
    "--members ease:regularization=300,als:n_components=128"
)
_SELECT = 1.5e-6  # seconds to select by, for each user and each item of the pool


@dataclass(frozen=True)
class _Member:
    """A member as it was named: ``ease:regularization=300``."""

    word: str
    algorithm: Algorithm
    options: TrainOptions


class EnsembleAlgorithm(Algorithm):
    """A weighted sum of the standard scores of other models, or the best single one of them.

    Parameters
    ----------
    find : the model of a name, as `pipeline.models.registry.find`
    """

    name = "ensemble"
    display_name = "ensemble"
    kind = "ensemble"
    options = frozenset({"members"})
    own_defaults = {"members": _MEMBERS}  # noqa: RUF012 (as in the base)
    instead = ("als", "item-knn")

    def __init__(self, find: Callable[[str, str], Algorithm]) -> None:
        self._find = find

    # ---- options ----------------------------------------------------------------------------

    def check_options(self, options: TrainOptions) -> None:
        """Also raises UsageError for members that can't be."""
        super().check_options(options)
        self._members(options)

    def _members(self, options: TrainOptions) -> tuple[_Member, ...]:
        """The members that ``--members`` names, each once, in order. Raises UsageError."""
        text = str(self.option(options, "members"))
        words = dict.fromkeys(word.strip() for word in text.replace("+", ",").split(",") if word.strip())
        members = tuple(self._member(word, options) for word in words)
        if not 2 <= len(members) <= _MOST_MEMBERS:
            raise UsageError(f"--members names 2 to {_MOST_MEMBERS} different models, got {text!r:.80}")
        return members

    def _member(self, word: str, options: TrainOptions) -> _Member:
        name, *given = [part.strip() for part in word.split(":")]
        algorithm = self._find(name, "--members")
        if algorithm.name == self.name:
            raise UsageError("--members: an ensemble can't be a member of an ensemble")
        where = f"--members {word}"
        base = algorithm.default_options(
            random_state=options.random_state, threads=options.threads, on_interrupt=options.on_interrupt
        )
        member = with_values(base, named_values(algorithm, given, where), where)
        algorithm.check_options(member)
        if member.cold_items is not None:
            raise UsageError(f"{where}: an ensemble ranks known items: leave out cold_items")
        return _Member(":".join([algorithm.name, *given]), algorithm, member)

    def search_space(
        self, options: TrainOptions, search: str, shape: tuple[int, int], *, times: bool
    ) -> tuple[Dimension, ...]:
        """Raises UsageError: its members are searched, each by itself."""
        raise UsageError(_NO_SEARCH)

    def untunable(self, options: TrainOptions) -> str:
        """Why it is not searched."""
        return _NO_SEARCH

    def label(self, options: TrainOptions, facts: Mapping[str, Any] | None = None) -> str:
        """``ensemble of EASE and als``; ``ensemble: EASE alone``."""
        weights = (facts or {}).get("ensemble_weights")
        if not weights:
            return self.display_name
        names = [self._display(part.split(" ")[0]) for part in weights.split(", ")]
        return f"ensemble of {_listed(names)}" if len(names) > 1 else f"ensemble: {names[0]} alone"

    def _display(self, word: str) -> str:
        name, *given = word.split(":")
        return ":".join([self._find(name, "--members").display_name, *given])

    # ---- fit --------------------------------------------------------------------------------

    def fit(
        self,
        user_items: UserItems,
        options: TrainOptions,
        *,
        interactions: Interactions | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Fitted:
        """Select members and weights on a validation part, then fit the members on everything; see `Algorithm.fit`."""
        x = _interactions(user_items, interactions)
        members = self._able(options, x)
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
        x = _interactions(user_items, interactions)
        chosen = earlier.model.meta["chosen"]
        fitted = self._fitted(user_items, x, self._members(options), chosen, earlier.facts, on_iteration)
        return replace(fitted, messages=(*earlier.messages[:1], *fitted.messages))

    def _able(self, options: TrainOptions, x: Interactions) -> tuple[_Member, ...]:
        """The members, without those of the default that need times where there are none."""
        members = self._members(options)
        if x.at is not None:
            return members
        named = options.members is not None
        for member in members:
            if named and (member.algorithm.needs.times or member.options.half_life_days is not None):
                raise InputError(
                    f"--members {member.word} goes by the times of interactions, and these have none "
                    "(--timestamp-column names their column)"
                )
        return tuple(member for member in members if not member.algorithm.needs.times)

    def _selected(
        self,
        members: Sequence[_Member],
        x: PreparedInteractions,
        options: TrainOptions,
        on_iteration: OnIteration | None,
    ) -> Selection:
        """Fit the members on a part of the interactions, and select on the other."""
        from pipeline.models.ensemble import pools_of, select, validation_split

        split = validation_split(x, float(options.holdout) or _SHARE, options.split, options.random_state)
        models = [_fit(member, split.train, on_iteration).model for member in members]
        pools = pools_of(models, split, options.random_state)
        return select(pools, options.random_state)

    def _fitted(
        self,
        user_items: UserItems,
        x: PreparedInteractions,
        members: Sequence[_Member],
        chosen: Mapping[str, int],
        facts: Mapping[str, Any],
        on_iteration: OnIteration | None,
    ) -> Fitted:
        from pipeline.models.ensemble_model import EnsembleModel

        fits = {member.word: _fit(member, x, on_iteration) for member in members if member.word in chosen}
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

    def _facts(self, members: Sequence[_Member], selection: Selection) -> dict[str, Any]:
        weights = [f"{member.word} {n}" for member, n in zip(members, selection.counts, strict=True) if n]
        return {
            "ensemble_shipped": "yes" if selection.better else "no",
            "ensemble_weights": ", ".join(weights),
            "ensemble_best_single": members[selection.best].word,
            "ensemble_ndcg_single": round(selection.single, 6),
            "ensemble_ndcg_crossed": round(selection.ensemble, 6),
            "ensemble_gain": f"{selection.difference:+.5f} ({selection.low:+.5f} to {selection.high:+.5f})",
            "ensemble_validation_users": selection.n_users,
        }

    def _sentence(self, members: Sequence[_Member], selection: Selection) -> str:
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
            return f"{best} alone is trained: no ensemble is surely better ({figures})"
        total = sum(selection.counts)
        shares = [
            f"{self._display(member.word)} {count / total:.0%}"
            for member, count in zip(members, selection.counts, strict=True)
            if count
        ]
        return f"an ensemble of {_listed(shares)} is trained ({figures})"

    # ---- cost -------------------------------------------------------------------------------

    def plan(self, options: TrainOptions, shape: tuple[int, int], cores: int) -> Plan:
        """With the plans of the members."""
        members = tuple(member.algorithm.plan(member.options, shape, cores) for member in self._members(options))
        return replace(super().plan(options, shape, cores), members=members)

    def footprint(self, size: Size, plan: Plan) -> Footprint:
        """All members, fitted one after another on the validation's training side and on everything."""
        from pipeline.models.block_scores import TOP
        from pipeline.models.ensemble import MOST_USERS

        costs = [self._find(each.algorithm, "--members").footprint(size, each) for each in plan.members]
        n, pool = min(size.n_users, MOST_USERS), min(size.n_items, TOP * len(costs))
        models = sum(sum(cost.evaluate.values()) for cost in costs)
        blocks = min(128 << 20, 48 * size.n_users * size.n_items)
        largest = max((sum(cost.fit.values()) for cost in costs), default=0)
        return Footprint(
            evaluate={"members": models, "blocks of scores": blocks},
            fit={
                "members": models, "largest fit": largest, "blocks of scores": blocks,
                "validation": n * pool * (5 * len(costs) + 16) + 40 * size.n_cells,
            },
            measure={"members": models},
            log={"members": sum(sum(cost.log.values()) for cost in costs)},
            fit_seconds=(2 - _SHARE) * sum(cost.fit_seconds for cost in costs) + _SELECT * n * pool * len(costs),
            compiles=any(cost.compiles for cost in costs),
        )  # fmt: skip


def _fit(member: _Member, x: PreparedInteractions, on_iteration: OnIteration | None) -> Fitted:
    """Fit a member to its own matrix of the interactions. Errors name the member."""
    from pipeline.data.matrix import to_matrix

    options = member.options
    fitted = member.algorithm.fit(
        to_matrix(x, options.transform, half_life_days=_half_life(member)), options,
        interactions=x, on_iteration=on_iteration,
    )  # fmt: skip
    meta = {**fitted.model.meta, "model": member.algorithm.name, "label": member.word, "parameters": asdict(options)}
    return replace(fitted, model=replace(fitted.model, meta=meta))


def _interactions(user_items: UserItems, interactions: Interactions | None) -> PreparedInteractions:
    """The interactions of the matrix; those of its cells, without times, where none are given."""
    from pipeline.data.prepare import PreparedInteractions
    from pipeline.models.ensemble import interactions_of

    return interactions if isinstance(interactions, PreparedInteractions) else interactions_of(user_items)


def _half_life(member: _Member) -> float | None:
    """Of the scores in the matrix; for `recent` it is the weight of an interaction, and not of the matrix."""
    return member.options.half_life_days if "transform" in member.algorithm.options else None


def _listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
