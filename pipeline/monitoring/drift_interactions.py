"""Drift of what users do, against what the champion learned from. The warehouse counts; what is unknown is streamed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pipeline.data.id_map import IdMap, as_ids
from pipeline.data.sources.warehouse import MART, interactions_query
from pipeline.errors import InputError, MissingColumnsError
from pipeline.monitoring.drift import Measure
from pipeline.monitoring.drift_statistics import psi
from pipeline.options import DriftOptions
from pipeline.tracking.champion_reference import ChampionReference
from pipeline.warehouse import Warehouse, sql
from pipeline.warehouse.column_types import column_types, seen_ids, time_as

__all__ = ["OF_INTERACTIONS", "interactions_in", "measure_interactions"]

_HOUR = 3_600_000
OF_INTERACTIONS = ("psi_popularity", "unknown_users", "unknown_items", "data_age_hours", "model_lag_hours")
_SHARES = ("psi_popularity", "unknown_users", "unknown_items")
_NO_TIME = "it is not known up to when the champion learned: its run says no time"


def interactions_in(warehouse: Warehouse, options: DriftOptions, of: ChampionReference) -> sql.Sql:
    """Who turned to what for the first time, and when: one row per user and item, ids of the champion's types.

    Raises InputError where there is none, or its columns are none for it; the message says what to do.
    """
    if options.query is not None:
        query = sql.read_query(options.query)
        query = interactions_query(warehouse, query, options.user_column, options.item_column)
    elif of.source == "file":
        raise InputError("the champion was trained on a file, and the same ids may mean others here: --query says what")
    else:
        query = _own_events(warehouse)
    types = dict(column_types(warehouse, query))
    if "at" not in types:
        raise MissingColumnsError(
            ["at"], list(types), query.name, advice="Drift needs to know when: alias the time as at"
        )
    user, item = seen_ids(warehouse, query, of.users.kind, of.items.kind)
    return sql.first_times(query, user, item, time_as("at", types["at"]))


def _own_events(warehouse: Warehouse) -> sql.Sql:
    """The events themselves, which have the first time of a pair; of a mart of the user's own, its rows."""
    engine = warehouse.engine(MART)
    if engine is None and not warehouse.embedded:
        raise InputError(f"{MART} does not exist in {warehouse.address}: --query says what users did")
    if engine in (None, "View"):
        interactions_query(warehouse, None)  # makes what is missing in an embedded warehouse
        return sql.load("monitoring/events")
    return sql.load("queries/interactions")


def measure_interactions(
    warehouse: Warehouse,
    interactions: sql.Sql,
    of: ChampionReference,
    now_ms: int,
    earlier: Iterable[ChampionReference] = (),
    least: int = 1,
) -> tuple[list[Measure], ChampionReference]:
    """PSI of popularity, shares of unknown users and items, and how old the data is; and what it was compared with.

    That is the champion. One that was trained just now has learned all there is: then it is the latest of the
    `earlier` champions since which there are `least` new interactions, as it was in use while these came in.
    """
    learned_ms = of.learned_ms if of.learned_ms is not None else now_ms
    (newest,) = warehouse.rows(_over("newest", interactions), {"learned_ms": learned_ms, "now_ms": now_ms})
    if of.learned_ms is None or not newest["n"]:
        return _of_the_champion(interactions, of, newest, now_ms), of
    known, n_new = of, int(newest["n_new"])
    for other in earlier if n_new < least else ():
        if other.learned_ms is None or (other.users.kind, other.items.kind) != (of.users.kind, of.items.kind):
            continue
        since = {"learned_ms": other.learned_ms, "now_ms": now_ms}
        n_other = int(warehouse.rows(_over("newest", interactions), since)[0]["n_new"])
        if n_other > n_new:
            known, n_new = other, n_other
        if n_new >= least:
            break
    measures = _of_the_champion(interactions, of, newest, now_ms)
    if not n_new:
        return measures, of
    compared = _compared(warehouse, interactions, known, now_ms)
    return [*(measure for measure in measures if measure.name not in _SHARES), *compared], known


def _of_the_champion(
    interactions: sql.Sql, of: ChampionReference, newest: Mapping[str, Any], now_ms: int
) -> list[Measure]:
    """How old the data is, and why the rest can't be measured, should it be so."""
    if not newest["n"]:
        why = f"{interactions.name} has no interaction up to now"
        return [Measure.missing(name, why) for name in OF_INTERACTIONS]
    age = Measure("data_age_hours", (now_ms - newest["newest_ms"]) / _HOUR)
    if of.learned_ms is None:
        return [age, *(Measure.missing(name, _NO_TIME) for name in OF_INTERACTIONS if name != age.name)]
    lag = Measure("model_lag_hours", max(0, newest["newest_ms"] - of.learned_ms) / _HOUR)
    why = f"there is no interaction since {of.label} learned"
    return [age, lag, *(Measure.missing(name, why) for name in _SHARES)]


def _compared(warehouse: Warehouse, interactions: sql.Sql, of: ChampionReference, now_ms: int) -> list[Measure]:
    """New interactions against what a version learned from, whose `learned_ms` is known."""
    between = {"learned_ms": of.learned_ms, "now_ms": now_ms}
    buckets = warehouse.rows(_over("popularity", interactions), between)
    reference, current = ([int(row[side]) for row in buckets] for side in ("reference", "current"))
    value = psi(reference, current)
    popularity = (
        Measure.missing("psi_popularity", "no new interaction is with an item that was there before")
        if value is None
        else Measure("psi_popularity", value, n=sum(current))
    )
    return [popularity, *_unknown(warehouse, interactions, of, between)]


def _over(name: str, interactions: sql.Sql) -> str:
    return sql.over(sql.load(f"monitoring/{name}"), {"interactions": interactions}).text


def _unknown(
    warehouse: Warehouse, interactions: sql.Sql, of: ChampionReference, between: Mapping[str, Any]
) -> list[Measure]:
    """Shares of the new interactions, in blocks; a stream that breaks is read again from its beginning."""

    def once() -> tuple[int, int, int]:
        n = unknown_users = unknown_items = 0
        with warehouse.blocks(_over("new_interactions", interactions), between) as blocks:
            for block in blocks:
                n += block.num_rows
                unknown_users += _count_unknown(of.users, block.column("user_id"))
                unknown_items += _count_unknown(of.items, block.column("item_id"))
        return n, unknown_users, unknown_items

    n, users, items = warehouse.retry("counting who is unknown", once)
    return [Measure("unknown_users", users / n, n=n), Measure("unknown_items", items / n, n=n)] if n else []


def _count_unknown(known: IdMap, column: object) -> int:
    ids = as_ids(column.to_numpy())  # type: ignore[attr-defined]  # a column of Arrow
    return int(np.count_nonzero(known.rows(ids, missing="negative") < 0))
