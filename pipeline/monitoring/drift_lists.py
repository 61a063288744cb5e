"""Drift of what is published: its scores, fallbacks and coverage, and how right the lists turned out to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.monitoring.drift import Measure
from pipeline.monitoring.drift_statistics import Sums, hit_interval, mean_interval, psi
from pipeline.options import DriftOptions, Names
from pipeline.publishing.published_sets import PublishedSet, sets
from pipeline.tracking.champion_reference import ChampionReference
from pipeline.warehouse import Warehouse, sql

__all__ = ["OF_LISTS", "OUTCOMES", "Outcomes", "Shown", "measure_lists", "outcomes", "shown_sets"]

_HOUR = 3_600_000
_DAY = 24 * _HOUR
OF_LISTS = ("psi_scores", "fallback_share", "item_coverage", "table_age_hours")
OUTCOMES = ("hit_rate", "popular_hit_rate", "ndcg", "popular_ndcg", "ndcg_over_popular", "user_coverage")


@dataclass(frozen=True)
class Shown:
    """A published set, and from when to when its lists were shown, milliseconds since 1970."""

    published: PublishedSet
    start_ms: int
    end_ms: int


@dataclass(frozen=True)
class Outcomes:
    """`n_users`: users with a list who did something; `n_sets`: sets whose lists were looked at."""

    measures: Sequence[Measure]
    n_users: int = 0
    n_sets: int = 0


def shown_sets(warehouse: Warehouse, names: Names, now_ms: int) -> list[Shown]:
    """The sets that are kept, the oldest first; the last is the published one. [] where nothing is published.

    A set that was rolled back is left out: the time that it was shown counts as that of the set before.
    """
    if warehouse.engine(names.table) is None:
        return []
    by_table = sets(warehouse, names)
    current = by_table.get(names.sets)
    if current is None:
        return []
    undone = {str(row["name"]) for row in warehouse.rows(sql.load("queries/rolled_back").text)}
    kept = [
        published
        for published in by_table.values()
        if published.at_ms <= current.at_ms and (published is current or published.kept_name not in undone)
    ]
    kept.sort(key=lambda published: (published.at_ms, published is current))
    starts = [published.at_ms for published in kept]
    return [
        Shown(published, start, min(end, now_ms))
        for published, start, end in zip(kept, starts, [*starts[1:], now_ms], strict=True)
    ]


def measure_lists(
    warehouse: Warehouse, names: Names, of: ChampionReference, shown: Sequence[Shown], now_ms: int
) -> list[Measure]:
    """Of the published set alone: scores against the set before, fallbacks, coverage, age."""
    if not shown:
        return [Measure.missing(name, f"{names.table} is not published yet: rankline score") for name in OF_LISTS]
    current = shown[-1].published
    rows = warehouse.rows(sql.load("monitoring/sources").text, {"table": current.table})
    counts = {str(row["source"]): int(row["n_rows"]) for row in rows}
    n_rows = sum(counts.values())
    (listed,) = warehouse.rows(sql.load("monitoring/listed").text, {"table": current.table})
    return [
        _scores(warehouse, of.model, shown),
        _fallback(counts, n_rows, of.model),
        Measure("item_coverage", min(1.0, int(listed["n_items"]) / max(1, len(of.items))), n=len(of.items)),
        Measure("table_age_hours", max(0, now_ms - _made_ms(warehouse, names, current)) / _HOUR),
    ]


def _made_ms(warehouse: Warehouse, names: Names, current: PublishedSet) -> int:
    """When the rows were made last: a job that makes the same ones again leaves the table as it is."""
    asked = {"sets": names.sets, "run_id": current.run_id}
    (row,) = warehouse.rows(sql.load("monitoring/confirmed").text, asked)
    return max(current.at_ms, int(row["at_ms"]))


def _fallback(counts: Mapping[str, int], n_rows: int, model: str) -> Measure:
    if model == "popular":
        return Measure.missing("fallback_share", "the champion itself is most popular")
    n = sum(rows for source, rows in counts.items() if source == "popular" or source.startswith("popular:"))
    return Measure("fallback_share", n / max(1, n_rows), n=n_rows)


def _scores(warehouse: Warehouse, model: str, shown: Sequence[Shown]) -> Measure:
    name = "psi_scores"
    if len(shown) < 2:
        return Measure.missing(name, "no set before the published one is left to compare it with")
    tables = {"table": shown[-1].published.table, "before": shown[-2].published.table, "source": model}
    buckets = warehouse.rows(sql.load("monitoring/scores").text, tables)
    reference, current = ([int(row[side]) for row in buckets] for side in ("reference", "current"))
    value = psi(reference, current)
    if value is None:
        return Measure.missing(name, f"the published set, or the one before, has no rows of {model}")
    return Measure(name, value, n=sum(current))


def outcomes(
    warehouse: Warehouse, interactions: sql.Sql, shown: Sequence[Shown], options: DriftOptions, now_ms: int
) -> Outcomes:
    """Hit rate and NDCG of the sets of the last days, against what users did while their lists were shown."""
    oldest = now_ms - int(options.outcome_days * _DAY)
    looked_at = _of_one_type(warehouse, [one for one in shown if one.end_ms > max(oldest, one.start_ms)])
    if not looked_at:
        return _none("no set was shown in that time")
    lists = sql.sets_together(len(looked_at))
    parameters: dict[str, Any] = {f"table{number}": one.published.table for number, one in enumerate(looked_at)}
    parameters |= {"starts": [one.start_ms for one in looked_at], "ends": [one.end_ms for one in looked_at]}
    parameters |= {"now_ms": now_ms, "k": options.outcome_k}
    statement = sql.over(sql.load("monitoring/outcomes"), {"interactions": interactions, "lists": lists})
    (row,) = warehouse.rows(statement.text, parameters)
    n_lists, n_users, n_active = int(row["n_lists"]), int(row["n_users"]), int(row["n_active"])
    if not n_active:
        return _none("nobody has done anything new since the lists were published", len(looked_at))
    coverage = Measure("user_coverage", n_lists / n_active, n=n_active)
    if not n_lists:
        why = f"none of the users who did something had a list ({n_active:,} times)"
        left = [Measure.missing(name, why) for name in OUTCOMES if name != "user_coverage"]
        return Outcomes([*left, coverage], 0, len(looked_at))
    sums = [
        Sums(n_users, n_lists, float(row["lists_squared"]), float(total), float(square), float(product))
        for total, square, product in zip(row["totals"], row["squares"], row["products"], strict=True)
    ]
    hit, ndcg, popular_hit, popular_ndcg, _, difference = sums
    measures = [
        Measure.of("hit_rate", hit_interval(hit), n_lists),
        Measure.of("popular_hit_rate", hit_interval(popular_hit), n_lists),
        Measure.of("ndcg", mean_interval(ndcg), n_lists),
        Measure.of("popular_ndcg", mean_interval(popular_ndcg), n_lists),
        Measure.of("ndcg_over_popular", mean_interval(difference, -1.0), n_lists),
        coverage,
    ]
    return Outcomes(measures, n_users, len(looked_at))


def _none(why: str, n_sets: int = 0) -> Outcomes:
    return Outcomes([Measure.missing(name, why) for name in OUTCOMES], 0, n_sets)


def _of_one_type(warehouse: Warehouse, shown: Sequence[Shown]) -> list[Shown]:
    """Those whose ids have the types of the newest: ids of another type are others."""
    if not shown:
        return []
    tables = [one.published.table for one in shown]
    rows = warehouse.rows(sql.load("monitoring/id_types").text, {"tables": tables})
    types = {str(row["name"]): (row["user_type"], row["item_type"]) for row in rows}
    return [one for one in shown if types.get(one.published.table) == types.get(tables[-1])]
