"""The rules about items in the warehouse, `analytics.rules`: read as a snapshot, and pushed from a file."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data.id_map import IdMap
from pipeline.errors import InputError
from pipeline.options.names import DEFAULT, Names
from pipeline.publishing.lock import publish_lock
from pipeline.ranking.rules import Rule, Rules
from pipeline.warehouse import Warehouse, sql

__all__ = ["MOVIES", "RULES", "HiddenRows", "hidden_rows", "known_items", "push_rules", "read_rules"]

RULES = "analytics.rules"
MOVIES = "raw.movies"
_REPLACEMENT = "rules_replacement"


def read_rules(warehouse: Warehouse, names: Names = DEFAULT) -> Rules:
    """The rules for a model now; none if the table does not exist.

    Raises InputError if one can't be read: a rule that is misspelt must not pass for one that hides nothing.
    """
    if warehouse.engine(RULES) is None:
        return Rules()
    rows = warehouse.rows(sql.load("queries/rules").text, {"model": names.name})
    rules = tuple(sorted((_rule(row) for row in rows), key=_order))
    if faulty := [rule for rule in rules if rule.fault]:
        shown = "; ".join(f"{_shown(rule)}: {rule.fault}" for rule in faulty[:3])
        raise InputError(
            f"{RULES} in {warehouse.address} has {len(faulty)} rule(s) that can't be read ({shown}); correct them, or "
            "replace all: rankline rules push FILE.csv --replace"
        )
    return Rules(rules, _genres(warehouse, {rule.genre.lower() for rule in rules if rule.genre}))


def _rule(row: Mapping[str, Any]) -> Rule:
    """The rule of a row; a table that an older version of Rankline made has no quota and no label."""
    action, item, genre, reason, label = (
        str(row.get(name) or "") for name in ("action", "item_id", "genre", "reason", "label")
    )
    return Rule(action, item, genre, row["from_ms"], row["until_ms"], reason, row.get("quota"), label)


def _order(rule: Rule) -> tuple[Any, ...]:
    times = [(time is None, time or 0) for time in (rule.valid_from, rule.valid_until)]
    return rule.action, rule.item_id, rule.genre, *times, rule.reason, rule.label, rule.quota or 0


def _shown(rule: Rule) -> str:
    return f"item {rule.item_id!r}" if rule.item_id else f"genre {rule.genre!r}"


def _genres(warehouse: Warehouse, names: set[str]) -> dict[str, tuple[str, ...]]:
    """The items of these genres (in lower case), as text."""
    if not names:
        return {}
    if warehouse.engine(MOVIES) is None:
        raise InputError(f"{RULES} has rules by genre, and the genres are in {MOVIES}, which {warehouse.address} lacks")
    items: dict[str, list[str]] = {name: [] for name in sorted(names)}
    for row in warehouse.table(sql.load("queries/genres").text).to_pylist():
        if (name := str(row["genre"]).lower()) in items:
            items[name].append(str(row["item_id"]))
    return {name: tuple(dict.fromkeys(ids)) for name, ids in items.items()}


def known_items(warehouse: Warehouse) -> IdMap | None:
    """The ids in `raw.movies`; None if it has none."""
    if warehouse.engine(MOVIES) is None:
        return None
    column = warehouse.table("SELECT DISTINCT movie_id FROM raw.movies").column(0)
    ids: NDArray[Any] = np.array(column.to_pylist())
    return IdMap.of(ids) if ids.size else None


@dataclass(frozen=True)
class HiddenRows:
    """Rows of a published set that rules hide: how many, and their items as text, those in most lists first."""

    n_rows: int = 0
    items: tuple[str, ...] = ()

    def __str__(self) -> str:
        more = " …" if len(self.items) > 3 else ""
        return f"{self.n_rows:,} rows of {len(self.items):,} item(s) ({', '.join(self.items[:3])}{more})"


def hidden_rows(warehouse: Warehouse, table: str, rules: Rules, at: int) -> HiddenRows:
    """The rows of a set, in a table of analytics, whose items no list may hold at that time (ms since 1970).

    Raises InputError for rules that can't be about these items.
    """
    if not rules.rules:
        return HiddenRows()
    listed = warehouse.table(sql.load("queries/listed_items").text, {"table": table})
    ids: NDArray[Any] = np.array(listed.column("item_id").to_pylist())
    items = IdMap.of(ids)
    hidden = rules.hidden(items, at)
    if hidden is None:
        return HiddenRows()
    of = hidden[items.rows(ids)]
    return HiddenRows(int(listed.column("n_rows").to_numpy()[of].sum()), tuple(map(str, ids[of].tolist())))


def push_rules(
    warehouse: Warehouse,
    rules: Sequence[tuple[str, Rule]],
    replace: bool = False,
    say: Callable[[str], None] = lambda _: None,
    expiry: float | None = None,
) -> None:
    """Add rules to the table, or put them in the place of all that are there, in one step.

    rules : the model's name ("" for all) and the rule, for each
    """
    for name in ("ddl/02_analytics", "ddl/rules"):
        warehouse.ddl(sql.load(name).text, {"table": "rules"})
    if not warehouse.rows(sql.load("queries/rules_label_column").text):
        warehouse.command(sql.load("ddl/rules_promotions").text)
    rows = _table(rules)
    if not replace:
        if rules:
            warehouse.insert(RULES, rows, token=uuid.uuid4().hex)
        return
    with publish_lock(warehouse, "replacing rules", say, expiry=expiry):
        table = {"table": _REPLACEMENT}
        drop = "DROP TABLE IF EXISTS analytics.{table:Identifier}"
        warehouse.command(drop, table)
        warehouse.ddl(sql.load("ddl/rules").text, table)
        if rules:
            warehouse.insert(f"analytics.{_REPLACEMENT}", rows, token=uuid.uuid4().hex)
        warehouse.command("EXCHANGE TABLES analytics.rules AND analytics.{table:Identifier}", table)
        warehouse.command(drop, table)


def _table(rules: Sequence[tuple[str, Rule]]) -> pa.Table:
    texts = {
        "model": [model for model, _ in rules],
        "action": [rule.action for _, rule in rules],
        "item_id": [rule.item_id for _, rule in rules],
        "genre": [rule.genre for _, rule in rules],
        "reason": [rule.reason for _, rule in rules],
        "label": [rule.label for _, rule in rules],
    }
    times = {
        "valid_from": [rule.valid_from for _, rule in rules],
        "valid_until": [rule.valid_until for _, rule in rules],
    }
    return pa.table(
        {"quota": pa.array([rule.quota for _, rule in rules], pa.uint16())}
        | {name: pa.array(values, pa.string()) for name, values in texts.items()}
        | {name: pa.array(values, pa.timestamp("ms", "UTC")) for name, values in times.items()}
    )
