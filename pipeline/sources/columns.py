"""Which column is which: names the user gave, else the usual spellings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import InputError, MissingColumnsError, UsageError

__all__ = ["ROLES", "Columns", "find_columns"]

ROLES = ("user", "item", "rating", "timestamp")
_REQUIRED = {"user": "user_id", "item": "item_id"}

# By role: the names of our own contract, which win over any other spelling, and the others, in
# lower case. Names that often mean something else (date, created_at, value) are left out on purpose:
# they have to be named with an option.
_SPELLINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "user": (("user_id",), ("userid", "user", "uid", "customer_id", "customerid")),
    "item": (
        ("item_id",),
        ("itemid", "item", "movie_id", "movieid", "movie", "product_id", "productid", "product"),
    ),
    "rating": (("rating", "score"), ("interaction_score", "interactionscore", "ratings", "stars")),
    "timestamp": (
        ("timestamp", "at"),
        ("last_interaction_at", "lastinteractionat", "rated_at", "ratedat", "watched_at", "watchedat", "event_time"),
    ),
}


@dataclass(frozen=True)
class Columns:
    """Names of the columns as the user gave them; None: find the column by its usual spellings."""

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    timestamp: str | None = None

    def __post_init__(self) -> None:
        given = [name for role in ROLES if (name := getattr(self, role)) is not None]
        for name in given:
            if given.count(name) > 1:
                raise UsageError(f"Column {name!r} is named for two things at once: give each option its own column")


def find_columns(names: Sequence[str], columns: Columns, where: str = "") -> dict[str, int]:
    """Position of each role's column among `names`; rating and timestamp may be absent.

    A name given in `columns` must be there exactly. Otherwise the contract's own name is taken, then
    its other capitalisations, then the other known spellings; two that are equally good are an error.

    Raises
    ------
    MissingColumnsError : a required column, or one that was named, is not there
    InputError : two columns could be meant
    """
    missing: list[str] = []
    found: dict[str, int] = {}
    given = {name for role in ROLES if (name := getattr(columns, role)) is not None}
    for role in ROLES:
        name = getattr(columns, role)
        if name is not None:
            candidates = [i for i, other in enumerate(names) if other == name]
        else:
            candidates = _best(role, [(i, other) for i, other in enumerate(names) if other not in given])
        if len(candidates) > 1:
            both = [names[i] for i in candidates]
            place = f" in {where}" if where else ""
            raise InputError(
                f"More than one column could be the {role}{place}: {both}. "
                f"Say which with --{role}-column, or leave the others out."
            )
        if candidates:
            found[role] = candidates[0]
        elif name is not None or role in _REQUIRED:
            missing.append(name or _REQUIRED[role])
    if missing:
        raise MissingColumnsError(missing, list(names), where)
    return found


def _best(role: str, names: Sequence[tuple[int, str]]) -> list[int]:
    """Positions of the best spellings of a role."""
    own, others = _SPELLINGS[role]
    return (
        [i for i, name in names if name in own]
        or [i for i, name in names if name.lower() in own]
        or [i for i, name in names if name.lower() in others]
    )
