"""Which table holds which published set: names of tables, and the sets that are there, known by their rows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pipeline.errors import QueryError
from pipeline.options.names import DEFAULT, Names
from pipeline.publishing.lock import CLAIMED
from pipeline.warehouse import Warehouse, sql

__all__ = [
    "PREVIOUS",
    "PUBLISHED",
    "PublishedSet",
    "digest",
    "head",
    "holds_its_own",
    "is_staged",
    "sets",
    "staged_name",
    "stamp",
]

# Of the default name; the functions here take the `Names` of a model, and look at the tables of that one alone.
PUBLISHED, PREVIOUS = DEFAULT.table, DEFAULT.previous


# What names that are given here end with; nobody's own: recommendations_published_mine is none of them.
_OURS = re.compile(r"_(?P<kind>published|staged)_(?P<stamp>\d{8}T\d{9})_[0-9A-Za-z]+")


@dataclass(frozen=True)
class PublishedSet:
    """Attributes
    ----------
    table : where it lies, in analytics
    at_ms : when it was generated, milliseconds since 1970: what it is known by
    run_id, model_version : lineage; of the first of its versions, where an experiment made it with two
    names : of the model whose set it is
    run_ids : of all its versions
    """

    table: str
    at_ms: int
    run_id: str
    model_version: str
    names: Names = DEFAULT
    run_ids: tuple[str, ...] = field(default=(), compare=False)

    @property
    def kept_name(self) -> str:
        """Its name among the older ones."""
        return f"{self.names.sets}_published_{stamp(self.at_ms)}_{_short(self.run_id)}"


def stamp(at_ms: int) -> str:
    """A time as part of a name, UTC: 20260131T235959123."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    return f"{at:%Y%m%dT%H%M%S}{at_ms % 1000:03d}"


def staged_name(at_ms: int, run_id: str, names: Names = DEFAULT) -> str:
    """The name of a table that is being filled."""
    return f"{names.sets}_staged_{stamp(at_ms)}_{_short(run_id)}"


def _short(run_id: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "", run_id)[:8] or "norun"


def head(warehouse: Warehouse, table: str, names: Names = DEFAULT) -> PublishedSet | None:
    """Which set the table (in analytics) holds; None where it has no rows. Raises QueryError where there is none."""
    rows = warehouse.rows(sql.load("queries/set_head").text, {"table": table})
    if not rows:
        return None
    run_ids = tuple(map(str, rows[0].pop("run_ids")))
    return PublishedSet(table, **rows[0], names=names, run_ids=run_ids)


def digest(warehouse: Warehouse, table: str) -> tuple[int, ...]:
    """(rows, two checksums): equal for equal rows, whenever they were generated."""
    return tuple(int(n) for n in warehouse.rows(sql.load("queries/set_digest").text, {"table": table})[0].values())


def sets(warehouse: Warehouse, names: Names = DEFAULT) -> dict[str, PublishedSet]:
    """Every set of the model that was published and is still there, by its table.

    A staged table, and one that was claimed for a move, holds one where it was exchanged with the published table
    and not yet put away: its rows are then of another time or run than its name.
    """
    by_table: dict[str, PublishedSet] = {}
    for row in warehouse.rows(sql.load("queries/published_sets").text, {"sets": names.sets}):
        name = str(row["name"])
        claimed = CLAIMED.fullmatch(name)
        ours = _OURS.fullmatch(name.removeprefix(names.sets)) or (claimed and claimed["sets"] == names.sets)
        if name not in (names.sets, names.previous_set) and not ours:
            continue
        try:
            published = head(warehouse, name, names)
        except QueryError:
            # Another job's staged table, dropped since the list was read.
            if warehouse.engine(f"analytics.{name}") is None:
                continue
            raise
        if published is not None and not holds_its_own(name, published, names):
            by_table[name] = published
    return by_table


def is_staged(name: str, names: Names = DEFAULT) -> bool:
    """Whether it is the name of a staged table of the model, or of one beside it."""
    ours = _OURS.fullmatch(re.sub(r"_(seen|users|items)$", "", name).removeprefix(names.sets))
    return ours is not None and ours["kind"] == "staged"


def holds_its_own(name: str, published: PublishedSet, names: Names = DEFAULT) -> bool:
    """Whether it is a staged table, also where it is claimed for a move, with the rows that it was made for.

    Two jobs may begin in the same millisecond; so the run counts, too. A set of two versions is named by one of them.
    """
    claimed = CLAIMED.fullmatch(name)
    purpose = claimed["purpose"] if claimed else name.removeprefix(names.sets)
    runs = published.run_ids or (published.run_id,)
    return any(f"{names.sets}{purpose}" == staged_name(published.at_ms, run, names) for run in runs)
