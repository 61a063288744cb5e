"""Finds the columns of each role: by the names that the user gave, else by the usual spellings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.errors import InputError, MissingColumnsError, UsageError

__all__ = [
    "OFF",
    "ROLES",
    "SCORE_IN_FILES",
    "ChosenColumns",
    "Columns",
    "choose_columns",
    "find_columns",
    "item_column",
]

ROLES = ("user", "item", "rating", "timestamp", "event")
OFF = "off"
_REQUIRED = {"user": "user_id", "item": "item_id"}

# By role: the names of our own contract, which win over any other spelling, and the others, in
# lower case. Names that often mean something else (date, created_at, value) are left out on purpose:
# they must be named with an option.
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
    "event": (("event",), ("event_type", "eventtype", "event_name", "behavior", "behaviour", "action")),
}
# How often, or how strongly: the score of a file that has none of the spellings above. A query has its own names.
SCORE_IN_FILES = (
    "weight", "plays", "playcount", "play_count", "listens", "listen_count", "listencount", "count", "counts",
    "n_plays", "frequency", "quantity",
)  # fmt: skip
_WORDS = {"user": "user", "item": "item", "rating": "score", "timestamp": "time", "event": "event"}
_SHOWN = 12
_LONGEST = 60  # characters of a name in a sentence


@dataclass(frozen=True)
class Columns:
    """Names of the columns as the user gave them, and how their values are read.

    Attributes
    ----------
    user, item, rating, timestamp, event : None: find the column by its usual spellings; ``off`` (not for user and
        item): there is none
    of_query : the columns are those of a query, where the score is looked for by the spellings of the contract alone
    time_format : how times are written: a pattern such as ``%d.%m.%Y``, or a unit such as ``days``
    on_negative : what is done with scores below 0; None: as with every bad row
    event_weights : score of each kind of event, instead of a column of scores
    """

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    timestamp: str | None = None
    event: str | None = None
    of_query: bool = False
    time_format: str | None = None
    on_negative: str | None = None
    event_weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        given = [name for role in ROLES if (name := getattr(self, role)) not in (None, OFF)]
        for name in given:
            if given.count(name) > 1:
                raise UsageError(f"Column {name!r} is named for two things at once: give each option its own column")

    def named(self, role: str) -> str | None:
        """The name that was given for a role."""
        name: str | None = getattr(self, role)
        return None if name == OFF else name

    def looks_for(self, role: str) -> bool:
        """Whether there may be a column of the role."""
        if role in _REQUIRED:
            return True
        if role in ("rating", "event") and (self.event_weights is not None) != (role == "event"):
            return False
        return bool(getattr(self, role) != OFF)

    def without_names(self) -> Columns:
        """The same for a file whose columns have the contract's names."""
        rating, timestamp, event = (
            OFF if getattr(self, role) == OFF else None for role in ("rating", "timestamp", "event")
        )
        return replace(self, user=None, item=None, rating=rating, timestamp=timestamp, event=event)


@dataclass(frozen=True)
class ChosenColumns:
    """Which column has which role.

    Attributes
    ----------
    positions, names : by role
    unused : names of the other columns
    off : roles that were switched off
    unweighed : an unused column that seems to hold kinds of events, where nothing else gives a score
    """

    positions: Mapping[str, int]
    names: Mapping[str, str]
    unused: tuple[str, ...]
    off: tuple[str, ...] = ()
    unweighed: str = ""

    @property
    def sentence(self) -> str:
        """Which columns are used for what, and which are not used."""
        parts = [f"{_WORDS[role]} {_quoted(name)}" for role, name in self.names.items()]
        if not {"rating", "event"} & self.names.keys():
            parts.append(f"no score column{' (off)' * ('rating' in self.off)}, each row counts 1")
        if "timestamp" not in self.names:
            parts.append(f"no time column{' (off)' * ('timestamp' in self.off)}")
        sentence = ", ".join(parts)
        if not self.unused:
            return sentence
        more = f" and {len(self.unused) - _SHOWN} more" if len(self.unused) > _SHOWN else ""
        weigh = f" (--event-weights makes scores of {_quoted(self.unweighed)})" if self.unweighed else ""
        return f"{sentence}; not used: {', '.join(map(_quoted, self.unused[:_SHOWN]))}{more}{weigh}"


def _quoted(name: str) -> str:
    return f"`{name if len(name) <= _LONGEST else name[:_LONGEST] + '…'}`"


def choose_columns(names: Sequence[str], columns: Columns, where: str = "") -> ChosenColumns:
    """The column of each role, and what is left. Raises as `find_columns`."""
    positions = find_columns(names, columns, where)
    used = set(positions.values())
    scored = columns.of_query or "rating" in positions or "event" in positions
    events = [] if scored else _best("event", [(i, name) for i, name in enumerate(names) if i not in used])
    return ChosenColumns(
        positions,
        {role: names[i] for role, i in positions.items()},
        tuple(name for i, name in enumerate(names) if i not in used),
        tuple(role for role in ROLES if getattr(columns, role) == OFF),
        names[events[0]] if len(events) == 1 else "",
    )


def find_columns(names: Sequence[str], columns: Columns, where: str = "") -> dict[str, int]:
    """Position of each role's column among `names`; rating and timestamp may be absent.

    A name given in `columns` must match exactly. Otherwise our contract's name is taken first, then the
    same name in other capitals, then the other known spellings. Two equally good matches are an error.

    Raises
    ------
    MissingColumnsError : a required or named column is missing
    InputError : two columns could be meant
    """
    missing: list[str] = []
    positions: dict[str, int] = {}
    given = {name for role in ROLES if (name := columns.named(role)) is not None}
    for role in filter(columns.looks_for, ROLES):
        name = columns.named(role)
        if name is not None:
            candidates = [i for i, other in enumerate(names) if other == name]
        else:
            free = [(i, other) for i, other in enumerate(names) if other not in given]
            candidates = _best(role, free)
            if role == "rating" and not candidates and not columns.of_query:
                candidates = [i for i, other in free if _plain(other) in _SCORE_IN_FILES]
        if len(candidates) > 1:
            both = [names[i] for i in candidates]
            place = f" in {where}" if where else ""
            way = f"Say which with --{role}-column, or leave the others out."
            if len(set(both)) < len(both):  # no option can tell them apart
                way = "Give each column a name of its own."
            raise InputError(f"More than one column could be the {role}{place}: {both}. {way}")
        if candidates:
            positions[role] = candidates[0]
        elif name is not None or role in _REQUIRED or role == "event":
            missing.append(name or _REQUIRED.get(role, role))
    if missing:
        raise MissingColumnsError(missing, list(names), where)
    return positions


def item_column(names: Sequence[str], named: str | None = None, where: str = "") -> int:
    """Position of the column of item ids in a file of items, which has no users. Raises as `find_columns`."""
    found = [i for i, name in enumerate(names) if name == named] if named else _best("item", list(enumerate(names)))
    if not found:
        raise MissingColumnsError([named or "item_id"], list(names), where)
    if len(found) > 1:
        raise InputError(f"More than one column could be the item in {where}: {[names[i] for i in found]}")
    return found[0]


def _best(role: str, names: Sequence[tuple[int, str]]) -> list[int]:
    """Positions of the best spellings of a role."""
    contract_names, others = _SPELLINGS[role]
    plain = {_plain(name) for name in (*contract_names, *others)}
    return (
        [i for i, name in names if name in contract_names]
        or [i for i, name in names if name.lower() in contract_names]
        or [i for i, name in names if name.lower() in others]
        or [i for i, name in names if _plain(name) in plain]
    )


def _plain(name: str) -> str:
    """The name in lower case, without blanks and marks between its words: ``User-ID`` is ``userid``."""
    return re.sub(r"[\s_-]", "", name.lower())


_SCORE_IN_FILES = frozenset(map(_plain, SCORE_IN_FILES))
