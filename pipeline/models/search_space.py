"""The search space of tuning: ranges of options, the options that are searched, and the first points.

Each model has its own `SearchSpace`.

The space is flat: every trial has a value for every searched option, so the sampler can learn how options interact. A
number is searched on a logarithmic scale. An interval beyond one end, half as long as the range, stands for the value
that the scale can't reach: no regularisation, no half-life, an unobserved weight of exactly 1. So one draw in three
is that value, since most models need only a few of these options.

A search begins with the defaults and a sweep: each option in turn takes other values, evenly spaced on its scale, and
keeps the best. The number of factors and their regularisation are swept together, since more factors help only with
more regularisation. The sampler chooses all later points. No point is chosen by hand, because it would suit one data
set only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from pipeline.errors import UsageError
from pipeline.options import TrainOptions

__all__ = ["Choice", "Dimension", "FloatRange", "IntegerRange", "SearchSpace", "select", "sweep"]

_NO_END: Any = object()


@dataclass(frozen=True)
class IntegerRange:
    """A whole number from low to high, on a log scale."""

    name: str
    low: int
    high: int

    @property
    def n_values(self) -> int:
        """How many values there are."""
        return self.high - self.low + 1

    @property
    def places(self) -> tuple[int, ...]:
        """The values a quarter, a half and three quarters of the way from low to high."""
        return tuple(dict.fromkeys(round(value) for value in _quarters(self.low, self.high)))

    def decode(self, raw: Any) -> int:
        """The option's value of a drawn point."""
        return int(raw)

    def encode(self, value: Any) -> int:
        """The point that stands for a value; the nearest point if it is outside the range."""
        return int(min(max(value, self.low), self.high))


@dataclass(frozen=True)
class FloatRange:
    """A number from low to high, on a log scale, rounded to four digits, so that the logged value can be typed.

    Attributes
    ----------
    below, above : the value that the interval under low, or over high, stands for
    """

    name: str
    low: float
    high: float
    below: Any = _NO_END
    above: Any = _NO_END
    n_values = math.inf

    @property
    def places(self) -> tuple[float, ...]:
        """The values a quarter, a half and three quarters of the way from low to high."""
        return tuple(self.decode(value) for value in _quarters(self.low, self.high))

    @property
    def ends(self) -> tuple[float, float]:
        """The interval that is drawn from: low to high with the intervals beyond them."""
        beyond = math.sqrt(self.high / self.low)
        low = self.low if self.below is _NO_END else self.low / beyond
        return low, self.high if self.above is _NO_END else self.high * beyond

    def decode(self, raw: Any) -> Any:
        """The option's value of a drawn point."""
        if self.below is not _NO_END and raw < self.low:
            return self.below
        if self.above is not _NO_END and raw > self.high:
            return self.above
        return float(f"{raw:.4g}")

    def encode(self, value: Any) -> float:
        """The point that stands for a value; the nearest point if it is outside the range."""
        low, high = self.ends
        if self.below is not _NO_END and value == self.below:
            return low
        if self.above is not _NO_END and value == self.above:
            return high
        return float(min(max(value, low), high))

    def __repr__(self) -> str:
        ends = ["" if end is _NO_END else repr(end) for end in (self.below, self.above)]
        return f"Number({self.name}, {self.low}, {self.high}, {ends[0]}, {ends[1]})"


@dataclass(frozen=True)
class Choice:
    """One of a few values without an order."""

    name: str
    values: tuple[Any, ...]

    @property
    def n_values(self) -> int:
        """How many values there are."""
        return len(self.values)

    @property
    def places(self) -> tuple[Any, ...]:
        """Each of them."""
        return self.values

    def decode(self, raw: Any) -> Any:
        """The drawn value itself."""
        return raw

    def encode(self, value: Any) -> Any:
        """The value; the first choice if it is none of them."""
        return value if value in self.values else self.values[0]


Dimension = IntegerRange | FloatRange | Choice


@dataclass(frozen=True)
class SearchSpace:
    """The options of one model that tuning searches, and the rules of its sweep.

    Attributes
    ----------
    dimensions : in the order of the sweep: options of the matrix, the model's size, regularisation
    usual : names that ``auto`` searches if they have an effect
    need_times : names that have no effect without times
    idle : names that have no effect alone: the sweep leaves them out
    together : name → name of the option that is swept together with it
    without_solver : solver → names that it does not support
    """

    dimensions: tuple[Dimension, ...] = ()
    usual: frozenset[str] = frozenset()
    need_times: frozenset[str] = frozenset()
    idle: frozenset[str] = frozenset()
    together: Mapping[str, str] = field(default_factory=dict)
    without_solver: Mapping[str, frozenset[str]] = field(default_factory=dict)


def select(
    space: SearchSpace, base: TrainOptions, search: str, shape: tuple[int, int], *, times: bool
) -> tuple[Dimension, ...]:
    """The options that are searched, in a fixed order.

    Parameters
    ----------
    search : names with commas between them; or ``auto``: the usual ones that have an effect and are at their
        defaults in `base` (another value was chosen by the user and is kept)
    shape : of the matrix: it bounds n_components and n_neighbours
    times : whether the interactions have times; without them there is no half-life

    Raises
    ------
    UsageError
        For a name that can't be searched, or if nothing is left to search.
    """
    standard = {option.name: option.default for option in fields(TrainOptions)}
    able = [dimension for dimension in space.dimensions if times or dimension.name not in space.need_times]
    missing = space.without_solver.get(base.solver, frozenset())
    if search == "auto":
        searched = [
            dimension
            for dimension in able
            if dimension.name in space.usual - missing and getattr(base, dimension.name) == standard[dimension.name]
        ]
    else:
        wanted = [name.strip().replace("-", "_") for name in search.split(",") if name.strip()]
        if unknown := sorted(set(wanted) - {dimension.name for dimension in able}):
            without = "" if times else " (these interactions have no times)"
            possible = ", ".join(dimension.name for dimension in able)
            raise UsageError(f"--search can't search {', '.join(unknown)}{without}; it can {possible}")
        if absent := sorted(missing & set(wanted)):
            raise UsageError(
                f"--search can't search {', '.join(absent)} with --solver {base.solver}, which fits all cells alike: "
                "take --solver fast, or search something else"
            )
        searched = [dimension for dimension in able if dimension.name in wanted]
    if not searched:
        raise UsageError("Nothing is left to search: every option has a value of its own; name some with --search")
    return tuple(_bounded(dimension, shape) for dimension in searched)


def _bounded(dimension: Dimension, shape: tuple[int, int]) -> Dimension:
    """Bound factors by the smaller side − 1, as `auto` does, and neighbours by the number of other items."""
    most = {"n_components": min(shape) - 1, "n_neighbours": shape[1] - 1}
    if not isinstance(dimension, IntegerRange) or dimension.name not in most:
        return dimension
    high = max(1, min(dimension.high, most[dimension.name]))
    return IntegerRange(dimension.name, min(dimension.low, high), high)


def sweep(space: SearchSpace, searched: Sequence[Dimension], standing: Mapping[str, Any]) -> list[dict[str, Any]]:
    """First points of a search, encoded: the current values, then one move per trial from the best so far."""
    by_name = {dimension.name: dimension for dimension in searched}
    moves: list[dict[str, Any]] = []
    for dimension in searched:
        if dimension.name in space.idle or (
            dimension.name in space.together.values() and not by_name.keys().isdisjoint(space.together)
        ):
            continue
        along = by_name.get(space.together.get(dimension.name, ""))
        for value in dimension.places:
            move = {dimension.name: dimension.encode(value)}
            if along is not None:
                moves += [{along.name: along.encode(place), **move} for place in along.places]
            elif value != standing[dimension.name]:
                moves.append(move)
    return [{dimension.name: dimension.encode(standing[dimension.name]) for dimension in searched}, *moves]


def _quarters(low: float, high: float) -> list[float]:
    return [low * (high / low) ** share for share in (0.25, 0.5, 0.75)]
