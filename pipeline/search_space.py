"""What tuning searches: each option's range, stated here alone.

The space is flat (every trial has a value for every searched option), which lets the sampler learn how
they go together. A number is searched on a logarithmic scale; a stretch of it beyond an end, half as long as the
range, stands for the value that such a scale can't reach: 0 regularisation, no half-life, an unobserved weight of
exactly 1. One draw in three is that value: most models want most of these left alone, and which, the data say.

A search begins with the defaults and a sweep: each option in turn is moved to other places of its range, evenly on its
scale, and stays where it was best; the number of factors and their regularisation together, since more factors pay
only where they are held back. What follows is the sampler's. No point is put in by hand: whoever chose one would have
some data in mind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from pipeline.errors import UsageError
from pipeline.spec import TrainSpec

__all__ = ["Choice", "Dimension", "Number", "Whole", "search_space", "sweep"]

_NO_END: Any = object()


@dataclass(frozen=True)
class Whole:
    """A whole number from low to high, on a log scale."""

    name: str
    low: int
    high: int

    @property
    def places(self) -> tuple[int, ...]:
        """A quarter, a half and three quarters of the way."""
        return tuple(dict.fromkeys(round(value) for value in _quarters(self.low, self.high)))

    def decode(self, raw: Any) -> int:
        """What was drawn as the option's value."""
        return int(raw)

    def encode(self, value: Any) -> int:
        """The point that stands for a value; the nearest where it is outside."""
        return int(min(max(value, self.low), self.high))


@dataclass(frozen=True)
class Number:
    """A number from low to high, on a log scale, to four digits: as it is logged, it can be typed.

    Attributes
    ----------
    below, above : the value that the stretch under low, or over high, stands for
    """

    name: str
    low: float
    high: float
    below: Any = _NO_END
    above: Any = _NO_END

    @property
    def places(self) -> tuple[float, ...]:
        """A quarter, a half and three quarters of the way from low to high."""
        return tuple(self.decode(value) for value in _quarters(self.low, self.high))

    @property
    def ends(self) -> tuple[float, float]:
        """What is drawn from: low and high with the stretches beyond them."""
        beyond = math.sqrt(self.high / self.low)
        low = self.low if self.below is _NO_END else self.low / beyond
        return low, self.high if self.above is _NO_END else self.high * beyond

    def decode(self, raw: Any) -> Any:
        """What was drawn as the option's value."""
        if self.below is not _NO_END and raw < self.low:
            return self.below
        if self.above is not _NO_END and raw > self.high:
            return self.above
        return float(f"{raw:.4g}")

    def encode(self, value: Any) -> float:
        """The point that stands for a value; the nearest where it is outside."""
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
    def places(self) -> tuple[Any, ...]:
        """Each of them."""
        return self.values

    def decode(self, raw: Any) -> Any:
        """What was drawn is the value."""
        return raw

    def encode(self, value: Any) -> Any:
        """The value; the first where it is none of them."""
        return value if value in self.values else self.values[0]


Dimension = Whole | Number | Choice

# In the order of the sweep: what the matrix holds, then how many factors, then what is asked of them. "auto"
# searches those marked True, where they mean something.
_SPACE: tuple[tuple[Dimension, bool], ...] = (
    (Number("half_life_days", 3.0, 3000.0, above=None), True),
    (Choice("transform", ("none", "log1p", "binary")), True),
    (Whole("n_components", 3, 200), True),
    (Number("alpha_W", 1e-4, 10.0, below=0.0), True),
    (Choice("reg_exponent", (1.0, 0.5, 0.0)), True),
    (Number("unobserved_weight", 1e-3, 1.0, above=1.0), True),
    # What is left moves lists little once those are right, and each more makes forty trials fewer.
    (Number("confidence", 1e-2, 100.0, below=0.0), False),
    (Number("alpha_H", 1e-4, 10.0, below=0.0), False),
    (Number("l1_ratio", 1e-2, 1.0, below=0.0), False),
    (Whole("max_iter", 10, 400), False),
)
_IDLE = {"reg_exponent", "l1_ratio"}  # which do nothing without regularisation: the sweep passes them over
_TOGETHER = {"alpha_W": "n_components"}  # swept with each place of the other
_WEIGHTED = {"unobserved_weight", "confidence", "reg_exponent"}  # which scikit-learn's solver has not


def search_space(base: TrainSpec, search: str, shape: tuple[int, int], *, times: bool) -> tuple[Dimension, ...]:
    """The options that are searched, in a fixed order.

    Parameters
    ----------
    search : names with commas between them; or ``auto``: those that stand at their defaults in `base`
        (another value was asked for, and stays) and mean something with it
    shape : of the matrix: it bounds n_components
    times : whether the interactions have times; without, nothing fades

    Raises
    ------
    UsageError
        For a name that can't be searched, or where nothing is left to search.
    """
    standard = {one.name: one.default for one in fields(TrainSpec)}
    able = [(one, usual) for one, usual in _SPACE if one.name in standard and (times or one.name != "half_life_days")]
    if search == "auto":
        left_out = _WEIGHTED if base.solver == "sklearn" else set()
        found = [
            one
            for one, usual in able
            if usual and one.name not in left_out and getattr(base, one.name) == standard[one.name]
        ]
    else:
        wanted = [name.strip().replace("-", "_") for name in search.split(",") if name.strip()]
        if unknown := sorted(set(wanted) - {one.name for one, _ in able}):
            without = "" if times else " (these interactions have no times)"
            raise UsageError(
                f"--search can't search {', '.join(unknown)}{without}; it can {', '.join(one.name for one, _ in able)}"
            )
        if base.solver == "sklearn" and (weighted := sorted(_WEIGHTED & set(wanted))):
            raise UsageError(
                f"--search can't search {', '.join(weighted)} with --solver sklearn, which fits all cells alike: "
                "take --solver fast, or search something else"
            )
        found = [one for one, _ in able if one.name in wanted]
    if not found:
        raise UsageError("Nothing is left to search: every option has a value of its own; name some with --search")
    return tuple(_bounded(one, shape) for one in found)


def _bounded(one: Dimension, shape: tuple[int, int]) -> Dimension:
    """n_components up to one less than the smaller side, as `auto` has it."""
    if not isinstance(one, Whole) or one.name != "n_components":
        return one
    high = max(1, min(one.high, min(shape) - 1))
    return Whole(one.name, min(one.low, high), high)


def sweep(space: Sequence[Dimension], base: TrainSpec, shape: tuple[int, int]) -> list[dict[str, Any]]:
    """What a search begins with, encoded: the defaults, then a move a trial from the best so far."""
    standing = {
        **{one.name: getattr(base, one.name) for one in space},
        "n_components": base.components_for(shape),
        "alpha_H": base.alpha_W if base.alpha_H == "same" else base.alpha_H,
    }
    by_name = {one.name: one for one in space}
    moves: list[dict[str, Any]] = []
    for one in space:
        if one.name in _IDLE or (one.name in _TOGETHER.values() and not by_name.keys().isdisjoint(_TOGETHER)):
            continue
        along = by_name.get(_TOGETHER.get(one.name, ""))
        for value in one.places:
            move = {one.name: one.encode(value)}
            if along is not None:
                moves += [{along.name: along.encode(place), **move} for place in along.places]
            elif value != standing[one.name]:
                moves.append(move)
    return [{one.name: one.encode(standing[one.name]) for one in space}, *moves]


def _quarters(low: float, high: float) -> list[float]:
    return [low * (high / low) ** share for share in (0.25, 0.5, 0.75)]
