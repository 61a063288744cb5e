"""The models that a choice of a model tries: those of the registry that fit into memory and into the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.errors import UsageError
from pipeline.models import registry
from pipeline.models.base import Algorithm
from pipeline.models.footprint import Plan, Size
from pipeline.models.search_space import Choice, Dimension, IntegerRange
from pipeline.options import TrainOptions
from pipeline.options.base import as_text
from pipeline.training.estimate import PROGRAM, estimate, has_halves, in_bytes, in_time, most_components, within

__all__ = ["LARGEST", "Candidate", "Candidates", "Room", "candidates_for", "ensemble_of"]

# Parts of the budget that one fit may take: of a candidate's smallest model, and of its largest in the search. The
# search fits each candidate many times.
_SMALLEST, LARGEST = 1 / 8, 1 / 20
_COMBINED = 1 / 4  # of an ensemble, which is fitted once
_ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Room:
    """What a search may use.

    Attributes
    ----------
    seconds : the time budget
    bytes : most memory of the process; None: unknown, and nothing is left out for its memory
    program : memory of the process besides the data
    cores : processors
    stored : whether the interactions lie in temporary files
    """

    seconds: float
    bytes: int | None = None
    program: int = PROGRAM
    cores: int = 1
    stored: bool = False


@dataclass(frozen=True)
class Candidate:
    """A model that is tried.

    Attributes
    ----------
    options : of a training of this model at its defaults, with what the user set
    space : the options that are searched; () for a model without any
    first : first points of its search, encoded, the defaults first
    """

    algorithm: Algorithm
    options: TrainOptions
    space: tuple[Dimension, ...]
    first: tuple[Mapping[str, Any], ...]

    def seconds(self, size: Size, cores: int) -> tuple[float, ...]:
        """Estimated seconds of a fit at each of the first points, on data of this size."""
        by_name = {dimension.name: dimension for dimension in self.space}
        shape = (size.n_users, size.n_items)
        fits = []
        for point in self.first:
            decoded: dict[str, Any] = {name: by_name[name].decode(raw) for name, raw in point.items()}
            options = replace(self.options, **decoded)
            fits.append(self.algorithm.footprint(size, self.algorithm.plan(options, shape, cores)).fit_seconds)
        return tuple(fits)


@dataclass(frozen=True)
class Candidates:
    """Attributes
    ----------
    able : the models that are tried, the fastest first
    left_out : name of each other model → why it is not tried
    size : of the data that the winner is trained on
    """

    able: tuple[Candidate, ...]
    left_out: Mapping[str, str]
    size: Size
    room: Room


def candidates_for(base: TrainOptions, size: Size, room: Room) -> Candidates:
    """The candidates on data of this size.

    The number of factors is searched up to what fits: a model of so many factors needs no more memory than there is,
    is fitted in a twentieth of the budget, and has fewer factors than users and items.

    An option that the user has set holds for the models that have it.
    """
    able: dict[str, tuple[float, Candidate]] = {}
    left_out: dict[str, str] = {}
    shape = (max(size.n_users, 2), max(size.n_items, 2))
    for algorithm in registry.algorithms():
        if algorithm.kind == _ENSEMBLE:  # tried at the end, of the models that did best
            continue
        options = algorithm.own_options(base)
        if why := _unable(algorithm, options, size):
            left_out[algorithm.name] = why
            continue
        space = _space(algorithm, options, shape, size)
        why = _too_large(algorithm, options, space, size, room)
        if why and algorithm.name != registry.POPULAR:  # there is always something to compare with
            left_out[algorithm.name] = why
            continue
        space = tuple(_up_to_what_fits(dimension, algorithm, options, size, room) for dimension in space)
        first = algorithm.first_points(space, options, shape) if space else [{}]
        candidate = Candidate(algorithm, options, space, tuple(first))
        able[algorithm.name] = (candidate.seconds(size, room.cores)[0], candidate)
    for name in [name for name, (_, candidate) in able.items() if candidate.algorithm.stands_for in able]:
        other = able[able[name][1].algorithm.stands_for]
        if other[0] <= LARGEST * room.seconds:
            left_out[name] = f"{other[1].algorithm.display_name}, which it approximates, is fitted in a short time"
            del able[name]
    fastest_first = tuple(candidate for _, candidate in sorted(able.values(), key=lambda entry: entry[0]))
    return Candidates(fastest_first, left_out, size, room)


def ensemble_of(members: Sequence[TrainOptions], base: TrainOptions, size: Size, room: Room) -> Candidate | str:
    """An ensemble of these models with these options, or of those that the user has named; why not, where it can't be.

    It has one point, whose option is `members`.
    """
    algorithm = registry.find(_ENSEMBLE)
    words = str(base.members) if base.members is not None else ",".join(map(_word, members))
    options = algorithm.own_options(replace(base, members=words))
    try:
        algorithm.check_options(options)
    except UsageError as error:
        return str(error)
    if why := _too_large(algorithm, options, (), size, room, _COMBINED):
        return why
    return Candidate(algorithm, options, (Choice("members", (words,)),), ({"members": words},))


def _word(options: TrainOptions) -> str:
    """The model as ``--members`` names it, with the options that are not its defaults."""
    algorithm = registry.find(options.algorithm)
    usual = algorithm.default_options()
    changed = [
        f"{name}={as_text(value)}"
        for name in sorted(algorithm.options)
        if (value := getattr(options, name)) != getattr(usual, name)
    ]
    return ":".join([algorithm.name, *changed])


def _unable(algorithm: Algorithm, options: TrainOptions, size: Size) -> str:
    """Why the model can't be tried on such data with such options; "" if it can."""
    if not algorithm.ranks:
        return "it estimates ratings, and a choice is made by how lists are ranked"
    if not algorithm.searched_by_auto:
        return f"it starts slowly, and ranked below EASE on ml-latest-small: --algorithm {algorithm.name} trains it"
    if algorithm.needs.times and not size.times:
        return "it goes by the times of interactions, and these have none"
    return algorithm.untunable(options)


def _space(algorithm: Algorithm, options: TrainOptions, shape: tuple[int, int], size: Size) -> tuple[Dimension, ...]:
    """The options that are searched; () where the model has none, or the user has set every one of them."""
    try:
        return algorithm.search_space(options, "auto", shape, times=size.times)
    except UsageError:
        return ()


def _too_large(
    algorithm: Algorithm,
    options: TrainOptions,
    space: tuple[Dimension, ...],
    size: Size,
    room: Room,
    share: float = _SMALLEST,
) -> str:
    """Why its smallest model does not fit into memory, or into this share of the time; "" if it does."""
    plan = _plan(algorithm, options, size, room)
    lowest = {dimension.name: dimension.low for dimension in space if isinstance(dimension, IntegerRange)}
    plan = replace(
        plan,
        n_components=min(plan.n_components, lowest.get("n_components", plan.n_components)),
        n_neighbours=min(plan.n_neighbours, lowest.get("n_neighbours", plan.n_neighbours)),
    )
    need = _peak(size, plan, room)
    if room.bytes is not None and need > room.bytes:
        return f"it needs some {in_bytes(need)} of memory, and {in_bytes(room.bytes)} are available"
    seconds = algorithm.footprint(size, plan).fit_seconds
    if seconds > share * room.seconds:
        part = "an eighth" if share == _SMALLEST else "a quarter"
        return f"one fit may take {in_time(seconds)}, over {part} of {in_time(room.seconds)} (--budget-minutes)"
    return ""


def _up_to_what_fits(
    dimension: Dimension, algorithm: Algorithm, options: TrainOptions, size: Size, room: Room
) -> Dimension:
    if not isinstance(dimension, IntegerRange) or dimension.name != "n_components":
        return dimension
    plan = _plan(algorithm, options, size, room)

    def fits(k: int) -> bool:
        of_k = replace(plan, n_components=k)
        memory = room.bytes is None or _peak(size, of_k, room) <= room.bytes
        return memory and algorithm.footprint(size, of_k).fit_seconds <= LARGEST * room.seconds

    sides = max(1, min(size.n_users, size.n_items) - 1)
    if (most := most_components(lambda k: int(not fits(k)), sides, 0)) < sides:
        # To a power of two: the space is the same when a little more or less memory is free.
        most = 1 << max(most.bit_length() - 1, 0)
    standing = algorithm.components(options, (max(size.n_users, 2), max(size.n_items, 2)))
    high = max(most, min(standing, dimension.high), 1)
    return IntegerRange(dimension.name, min(dimension.low, high), high)


def _plan(algorithm: Algorithm, options: TrainOptions, size: Size, room: Room) -> Plan:
    return replace(algorithm.plan(options, (size.n_users, size.n_items), room.cores), splits=2)


def _peak(size: Size, plan: Plan, room: Room) -> int:
    if room.stored:
        plan = replace(plan, stored=True, on_disk=has_halves(plan))
    else:
        plan = within(size, plan, room.program, room.bytes, may_store=False)
    return estimate(size, plan, room.program).peak
