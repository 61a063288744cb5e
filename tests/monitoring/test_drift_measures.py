"""The warehouse's statements against loops, on made-up weeks; and what is said where something can't be measured."""

from __future__ import annotations

import numpy as np
import pytest
from support import naive_drift
from support.drift_weeks import DAY, START, lists_of, load, made_up, publish, reference
from support.naive_drift import sums_of

from pipeline.monitoring.drift_interactions import OF_INTERACTIONS, interactions_in, measure_interactions
from pipeline.monitoring.drift_lists import OF_LISTS, OUTCOMES, measure_lists, outcomes, shown_sets
from pipeline.monitoring.drift_statistics import hit_interval, mean_interval
from pipeline.options import DriftOptions
from pipeline.options.names import DEFAULT
from pipeline.warehouse import Warehouse, sql

pytest_plugins = ["support.warehouse_fixtures"]

OPTIONS = DriftOptions(outcome_days=30.0)


@pytest.mark.parametrize("seed", [1, 2])
def test_outcomes_are_those_of_loops(embedded: Warehouse, seed: int) -> None:
    rng, events = np.random.default_rng(seed), made_up(seed)
    load(embedded, events)
    now = START + 9 * DAY  # what is later does not count
    sets = [(START + day * DAY, lists_of(rng, range(1 + day, 24))) for day in (4, 6, 7)]
    for number, (at, lists) in enumerate(sets):
        publish(embedded, at, lists, f"run{number}")
    shown = shown_sets(embedded, DEFAULT, now)
    assert [one.start_ms for one in shown] == [at for at, _ in sets]
    interactions = interactions_in(embedded, OPTIONS, reference([1], [1]))
    found = outcomes(embedded, interactions, shown, OPTIONS, now)

    values, n_active = naive_drift.outcomes(events, sets, now, 10)
    by_name = {measure.name: measure for measure in found.measures}
    assert list(by_name) == list(OUTCOMES)
    assert found.n_users == len({user for user, _ in values})
    assert (by_name["user_coverage"].value, by_name["user_coverage"].n) == (
        pytest.approx(len(values) / n_active),
        n_active,
    )
    columns = {"hit_rate": 0, "ndcg": 1, "popular_hit_rate": 2, "popular_ndcg": 3}
    for name, column in columns.items():
        sums = sums_of([(user, row[column]) for user, row in values])
        wanted = hit_interval(sums) if "hit" in name else mean_interval(sums)
        measure = by_name[name]
        assert (measure.value, measure.low, measure.high) == pytest.approx(wanted, abs=1e-9)
        assert measure.n == len(values)
    difference = mean_interval(sums_of([(user, row[1] - row[3]) for user, row in values]), -1.0)
    measure = by_name["ndcg_over_popular"]
    assert (measure.value, measure.low, measure.high) == pytest.approx(difference, abs=1e-9)


def test_a_list_that_is_right_one_that_is_wrong_and_most_popular(embedded: Warehouse) -> None:
    """By hand: items 1, 2, 3 are popular in this order; user 7 has had 1, and then turns to 2 and 9."""
    before = [(user, item, START) for item, n in ((1, 5), (2, 4), (3, 3)) for user in range(100, 100 + n)]
    events = [
        *before,
        (7, 1, START),
        (8, 1, START),
        (7, 2, START + 2 * DAY),
        (7, 9, START + 2 * DAY),
        (8, 4, START + 2 * DAY),
    ]
    load(embedded, events)
    publish(embedded, START + DAY, {7: [9, 5], 8: [5, 6]}, "run")
    now = START + 3 * DAY
    options = DriftOptions(outcome_k=2)
    found = outcomes(
        embedded,
        interactions_in(embedded, options, reference([1], [1])),
        shown_sets(embedded, DEFAULT, now),
        options,
        now,
    )
    values = {measure.name: measure.value for measure in found.measures}
    ideal = 1 + 1 / np.log2(3)
    # Most popular for user 7 without item 1: 2, 3, of which 2 is right, in the first place.
    assert values == {
        "hit_rate": 0.5, "popular_hit_rate": 0.5, "ndcg": pytest.approx(1 / ideal / 2),
        "popular_ndcg": pytest.approx(1 / ideal / 2), "ndcg_over_popular": pytest.approx(0), "user_coverage": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize("seed", [4])
def test_popularity_and_unknown_shares_are_those_of_loops(warehouse: Warehouse, seed: int) -> None:
    events = made_up(seed)
    load(warehouse, events)
    learned, now = START + 6 * DAY, START + 9 * DAY
    known = reference(range(1, 20), range(1, 30), learned)
    interactions = interactions_in(warehouse, OPTIONS, known)
    measures = {m.name: m for m in measure_interactions(warehouse, interactions, known, now)[0]}
    assert set(measures) == set(OF_INTERACTIONS)

    halves = {
        (row["user_id"], row["item_id"]): row["half"]
        for row in warehouse.rows(
            sql.over(
                sql.Sql("SELECT user_id, item_id, cityHash64(user_id, item_id) % 2 AS half FROM interactions", ""),
                {"interactions": interactions},
            ).text
        )
    }
    buckets = naive_drift.popularity_buckets(events, halves, learned, now)
    reference_counts, current = zip(*(buckets[bucket] for bucket in sorted(buckets)), strict=True)
    assert measures["psi_popularity"].value == pytest.approx(naive_drift.psi(reference_counts, current))
    assert measures["psi_popularity"].n == sum(current)

    pairs = [event for event in naive_drift.first_times(events) if event[2] <= now]
    new = [event for event in pairs if event[2] > learned]
    assert measures["unknown_users"].value == pytest.approx(np.mean([user >= 20 for user, _, _ in new]))
    assert measures["unknown_items"].value == pytest.approx(np.mean([item >= 30 for _, item, _ in new]))
    newest = max(at for _, _, at in pairs)
    assert measures["data_age_hours"].value == pytest.approx((now - newest) / 3_600_000)
    assert measures["model_lag_hours"].value == pytest.approx((newest - learned) / 3_600_000)


def test_popularity_says_when_users_turn_to_the_tail_and_little_without_drift(embedded: Warehouse) -> None:
    rng = np.random.default_rng(11)

    def draw(n: int, power: float, since: int) -> list[naive_drift.Event]:
        weights = 1 / np.arange(1, 401) ** power
        items = rng.choice(400, n, p=weights / weights.sum())
        return [(int(u), int(i), since) for u, i in zip(rng.integers(0, 100_000, n), items, strict=True)]

    learned, now = START, START + DAY
    known = reference(range(2), range(400), learned)
    values = {}
    for name, power in (("same", 1.0), ("tail", 0.3)):
        embedded.command("DROP DATABASE IF EXISTS raw")
        load(embedded, [*draw(30_000, 1.0, START - 1), *draw(2_000, power, START + 1)])
        interactions = interactions_in(embedded, OPTIONS, known)
        values[name] = {m.name: m.value for m in measure_interactions(embedded, interactions, known, now)[0]}[
            "psi_popularity"
        ]
    assert values["same"] < 0.03
    assert values["tail"] > 0.25


def test_scores_fallbacks_coverage_and_age_of_the_published_set(embedded: Warehouse) -> None:
    known = reference(range(400), range(50))
    now = START + 3 * DAY
    shown = shown_sets(embedded, DEFAULT, now)
    assert shown == []
    assert {m.note for m in measure_lists(embedded, DEFAULT, known, shown, now)} == {
        "analytics.recommendations is not published yet: rankline score"
    }
    rng = np.random.default_rng(3)
    lists = {user: (1 + rng.permutation(40)[:10]).tolist() for user in range(400)}
    publish(embedded, START, lists, "run0")
    first = {m.name: m for m in measure_lists(embedded, DEFAULT, known, shown_sets(embedded, DEFAULT, now), now)}
    assert list(first) == list(OF_LISTS)
    assert first["psi_scores"].note == "no set before the published one is left to compare it with"
    assert (first["item_coverage"].value, first["fallback_share"].value) == (0.8, 0.0)
    assert first["table_age_hours"].value == 72

    publish(embedded, START + DAY, {user: items[::-1] for user, items in lists.items()}, "run1")
    same = {m.name: m.value for m in measure_lists(embedded, DEFAULT, known, shown_sets(embedded, DEFAULT, now), now)}
    assert same["psi_scores"] < 0.01
    assert same["table_age_hours"] == 48
    # The same rows again: nothing is published, and yet the job has run.
    publish(embedded, START + 2 * DAY, {user: items[::-1] for user, items in lists.items()}, "run1")
    again = {m.name: m.value for m in measure_lists(embedded, DEFAULT, known, shown_sets(embedded, DEFAULT, now), now)}
    assert again["table_age_hours"] == 24

    publish(embedded, START + int(2.5 * DAY), {user: items[:1] for user, items in lists.items()}, "run2")
    other = {m.name: m.value for m in measure_lists(embedded, DEFAULT, known, shown_sets(embedded, DEFAULT, now), now)}
    assert other["psi_scores"] > 0.25  # only first places are left: higher scores

    publish(embedded, START + int(2.75 * DAY), lists, "run3", source="popular")
    popular = {m.name: m for m in measure_lists(embedded, DEFAULT, known, shown_sets(embedded, DEFAULT, now), now)}
    assert popular["fallback_share"].value == 1.0
    assert popular["psi_scores"].note == "the published set, or the one before, has no rows of nmf"
