"""Models that others are made of, as ``--members`` names them, and their fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from pipeline.errors import InputError, UsageError
from pipeline.models.base import Algorithm, Fitted, OnIteration
from pipeline.models.named_options import named_values, with_values
from pipeline.models.search_space import Dimension
from pipeline.options import TrainOptions

if TYPE_CHECKING:
    from pipeline.data.interactions import Interactions
    from pipeline.data.matrix import UserItems
    from pipeline.data.prepare import PreparedInteractions

__all__ = ["Find", "MadeOfMembers", "Member", "display", "fit_member", "interactions_or_cells", "members_in"]

Find = Callable[[str, str], Algorithm]
_MOST_WEIGHT = 1e6


class MadeOfMembers(Algorithm):
    """A model that is made of others, and is not searched itself.

    Parameters
    ----------
    find : the model of a name, as `pipeline.models.registry.find`

    Attributes
    ----------
    no_search : why it is not searched, and what to search instead
    """

    options = frozenset({"members"})
    instead = ("als", "item-knn")
    no_search: ClassVar[str]

    def __init__(self, find: Find) -> None:
        self._find = find

    def search_space(
        self, options: TrainOptions, search: str, shape: tuple[int, int], *, times: bool
    ) -> tuple[Dimension, ...]:
        """Raises UsageError: its members are searched, each by itself."""
        raise UsageError(self.no_search)

    def untunable(self, options: TrainOptions) -> str:
        """Why it is not searched."""
        return self.no_search

    def _display(self, word: str) -> str:
        """What people read of a member."""
        return display(word, self._find)


@dataclass(frozen=True)
class Member:
    """A model as it was named, ``ease:regularization=300``, and the weight that ``weight=2`` behind it gives."""

    word: str
    algorithm: Algorithm
    options: TrainOptions
    weight: float | None = None

    @property
    def goes_by_times(self) -> bool:
        """Whether it can't be fitted to interactions without times."""
        return self.algorithm.needs.times or self.options.half_life_days is not None

    def check_times(self, x: Interactions) -> None:
        """Raise InputError where it needs times and the interactions have none."""
        if x.at is None and self.goes_by_times:
            raise InputError(
                f"--members {self.word} goes by the times of interactions, and these have none "
                "(--timestamp-column names their column)"
            )


def members_in(text: str, options: TrainOptions, find: Find, most: int) -> tuple[Member, ...]:
    """The models that the text names, each once, in order; `options` are of what they are made into.

    Raises UsageError for a name or an option that there is not, for too many, for one that has members itself, and for
    weights that some have and others have not, or that one has twice.
    """
    words = dict.fromkeys(word.strip() for word in text.replace("+", ",").split(",") if word.strip())
    if len(words) > most:
        raise UsageError(f"--members names at most {most} models, got {len(words)}")
    members = {member.word: member for member in (_member(word, options, find) for word in words)}
    weighted = sum(member.weight is not None for member in members.values())
    if weighted and (weighted < len(members) or len(members) < len(words)):
        raise UsageError("--members: give each model one weight, as in ease:weight=2,als:weight=1, or none of them")
    return tuple(members.values())


def _member(word: str, options: TrainOptions, find: Find) -> Member:
    name, *given = [part.strip() for part in word.split(":")]
    algorithm = find(name, "--members")
    if "members" in algorithm.options:
        raise UsageError(f"--members {word}: a model that is made of others can't be a member itself")
    where = f"--members {word}"
    base = algorithm.default_options(
        random_state=options.random_state, threads=options.threads, on_interrupt=options.on_interrupt
    )
    weight = _weight([part for part in given if _is_weight(part)], where)
    given = [part for part in given if not _is_weight(part)]
    member = with_values(base, named_values(algorithm, given, where), where)
    algorithm.check_options(member)
    if member.cold_items is not None:
        raise UsageError(f"{where}: members rank known items alone: leave out cold_items")
    return Member(":".join([algorithm.name, *given]), algorithm, member, weight)


def _is_weight(text: str) -> bool:
    """Whether the text is ``weight=…``, written as freely as the options of models may be (`named_values`)."""
    name, equals, _ = text.partition("=")
    return bool(equals) and name.strip().lstrip("-").lower() == "weight"


def _weight(given: Sequence[str], where: str) -> float | None:
    """The weight that the texts give, at most one; None where there is none. Raises UsageError."""
    if not given:
        return None
    try:
        weight = float(given[-1].partition("=")[2])
    except ValueError:
        weight = 0.0
    if not 1 / _MOST_WEIGHT <= weight <= _MOST_WEIGHT or len(given) > 1:
        raise UsageError(f"{where}: weight must be one number between {1 / _MOST_WEIGHT:g} and {_MOST_WEIGHT:g}")
    return weight


def display(word: str, find: Find) -> str:
    """``EASE:regularization=300`` of ``ease:regularization=300``."""
    name, *given = word.split(":")
    return ":".join([find(name, "--members").display_name, *given])


def fit_member(member: Member, x: PreparedInteractions, on_iteration: OnIteration | None) -> Fitted:
    """Fit a member to its own matrix of the interactions."""
    from pipeline.data.matrix import to_matrix

    options = member.options
    # For `recent` a half-life is the weight of an interaction, and not of the matrix.
    half_life = options.half_life_days if "transform" in member.algorithm.options else None
    matrix = to_matrix(x, options.transform, half_life_days=half_life)
    fitted = member.algorithm.fit(matrix, options, interactions=x, on_iteration=on_iteration)
    meta = {**fitted.model.meta, "model": member.algorithm.name, "label": member.word, "parameters": asdict(options)}
    return replace(fitted, model=replace(fitted.model, meta=meta))


def interactions_or_cells(user_items: UserItems, interactions: Interactions | None) -> PreparedInteractions:
    """The interactions of the matrix; those of its cells, without times, where none are given."""
    from pipeline.data.prepare import PreparedInteractions
    from pipeline.models.ensemble import interactions_of

    return interactions if isinstance(interactions, PreparedInteractions) else interactions_of(user_items)
