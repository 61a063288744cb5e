"""What can't be measured says why; limits, and of how many something is judged; ids of text, sets of another type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.drift_weeks import DAY, START, load, publish, reference

from pipeline.errors import InputError
from pipeline.monitoring.drift import MEANINGS, Measure, judged
from pipeline.monitoring.drift_interactions import interactions_in, measure_interactions
from pipeline.monitoring.drift_lists import OUTCOMES, outcomes, shown_sets
from pipeline.options import DriftLimits, DriftOptions
from pipeline.options.names import DEFAULT, Names
from pipeline.tracking.champion_reference import ChampionReference
from pipeline.warehouse import Warehouse

pytest_plugins = ["support.warehouse_fixtures"]

OPTIONS = DriftOptions()
EVENTS = [(user, item, START + item) for user in range(5) for item in range(9)]
LISTS = {user: [9, 8, 7] for user in range(5)}


def test_without_times_of_the_champion_and_without_anything_new(embedded: Warehouse) -> None:
    load(embedded, EVENTS)
    now = START + DAY
    known = reference(range(5), range(9))
    interactions = interactions_in(embedded, OPTIONS, known)
    measures = {m.name: m for m in measure_interactions(embedded, interactions, known, now)[0]}
    assert measures["data_age_hours"].value == pytest.approx((DAY - 8) / 3_600_000)
    assert {m.note for name, m in measures.items() if name != "data_age_hours"} == {
        "it is not known up to when the champion learned: its run says no time"
    }
    known = reference(range(5), range(9), START + 8)
    measures = {m.name: m for m in measure_interactions(embedded, interactions, known, now)[0]}
    assert measures["model_lag_hours"].value == 0
    assert measures["unknown_users"].note == "there is no interaction since rankline/1 learned"
    (note,) = {m.note for m in measure_interactions(embedded, interactions, known, START - 1)[0]}
    assert "has no interaction up to now" in note


def test_a_champion_that_has_learned_all_is_compared_by_the_one_before(embedded: Warehouse) -> None:
    load(embedded, EVENTS)  # five at each of nine milliseconds
    now = START + DAY
    fresh = reference(range(5), range(9), START + 8)
    interactions = interactions_in(embedded, OPTIONS, fresh)
    texts = reference(["a"], ["b"], START)
    before, long_before = reference(range(4), range(9), START + 7), reference(range(2), range(3), START + 2)

    def compared(*earlier: ChampionReference, least: int) -> tuple[float | None, int | None, int | None]:
        measures, known = measure_interactions(embedded, interactions, fresh, now, earlier, least)
        found = {m.name: m for m in measures}
        assert found["model_lag_hours"].value == 0, "that is the champion's own"
        return found["unknown_users"].value, found["unknown_users"].n, known.learned_ms

    assert compared(texts, before, long_before, least=5) == (0.2, 5, START + 7)
    assert compared(before, long_before, least=6) == (0.6, 30, START + 2)
    assert compared(before, least=100) == (0.2, 5, START + 7)  # few, and yet something
    assert compared(least=5) == (None, None, START + 8)
    # Enough came in since the champion learned: it is the champion.
    _, known = measure_interactions(embedded, interactions, before, now, [long_before], 5)
    assert known is before


def test_outcomes_without_a_set_without_anybody_and_without_a_list(embedded: Warehouse) -> None:
    load(embedded, EVENTS)
    interactions = interactions_in(embedded, OPTIONS, reference([1], [1]))

    def notes(now: int, options: DriftOptions = OPTIONS) -> set[str]:
        found = outcomes(embedded, interactions, shown_sets(embedded, DEFAULT, now), options, now)
        assert [m.name for m in sorted(found.measures, key=lambda m: OUTCOMES.index(m.name))] == list(OUTCOMES)
        return {m.note for m in found.measures if m.value is None}

    assert notes(START + DAY) == {"no set was shown in that time"}
    publish(embedded, START + 60, LISTS, "run")
    assert notes(START + DAY) == {"nobody has done anything new since the lists were published"}
    assert notes(START + 30) == {"no set was shown in that time"}  # it is of a time to come
    load(embedded, [(99, 1, START + DAY)])
    assert notes(START + 2 * DAY) == {"none of the users who did something had a list (1 times)"}
    assert notes(START + 20 * DAY, DriftOptions(outcome_days=0.5)) != {"no set was shown in that time"}


def test_ids_of_text_and_a_query_of_ones_own(embedded: Warehouse, tmp_path: Path) -> None:
    load(embedded, EVENTS)
    embedded.command("CREATE DATABASE own")
    embedded.command("CREATE TABLE own.clicks (who String, what String, at DateTime) ORDER BY who")
    embedded.command(
        "INSERT INTO own.clicks VALUES ('ann', 'x', '2023-11-15 00:00:00'), ('bob', 'y', '2023-11-16 00:00:00')"
    )
    query = tmp_path / "clicks.sql"
    query.write_text("SELECT who, what, at FROM own.clicks")
    options = DriftOptions(query=query, user_column="who", item_column="what")
    known = reference(["ann"], ["x"], START - DAY)
    interactions = interactions_in(embedded, options, known)
    now = START + 10 * DAY
    measures = {m.name: m.value for m in measure_interactions(embedded, interactions, known, now)[0]}
    assert (measures["unknown_users"], measures["unknown_items"]) == (0.5, 0.5)
    publish(embedded, START, {"ann": ["x", "z"], "bob": ["z"]}, "run")
    found = {
        m.name: m.value
        for m in outcomes(
            embedded, interactions, shown_sets(embedded, DEFAULT, now), DriftOptions(outcome_days=30), now
        ).measures
    }
    assert found["hit_rate"] == 0.5
    # Ids that are numbers can't be those of a model whose ids are text the other way round.
    query.write_text("SELECT who AS user_id, what AS item_id, 'yesterday' AS at FROM own.clicks")
    with pytest.raises(InputError, match="a time is a Date"):
        interactions_in(embedded, DriftOptions(query=query), known)
    query.write_text("SELECT who AS user_id, what AS item_id FROM own.clicks")
    with pytest.raises(InputError, match=r"Missing required columns: \['at'\].*alias the time as at"):
        interactions_in(embedded, DriftOptions(query=query), known)


def test_a_model_of_a_file_says_that_the_warehouse_may_mean_others(embedded: Warehouse) -> None:
    load(embedded, EVENTS)
    with pytest.raises(InputError, match="trained on a file"):
        interactions_in(embedded, OPTIONS, reference([1], [1], source="file"))


def test_a_mart_of_ones_own_is_read_as_it_is(embedded: Warehouse) -> None:
    load(embedded, EVENTS)
    embedded.command("DROP VIEW analytics.mart_user_movie_matrix")
    embedded.command(
        "CREATE TABLE analytics.mart_user_movie_matrix ORDER BY user_id AS "
        "SELECT 1 AS user_id, 2 AS movie_id, toFloat32(1) AS interaction_score, "
        f"fromUnixTimestamp64Milli({START}, 'UTC') AS last_interaction_at"
    )
    known = reference([1], [2], START - 1)
    measures, _ = measure_interactions(embedded, interactions_in(embedded, OPTIONS, known), known, START + DAY)
    assert {m.name: m.n for m in measures}["unknown_users"] == 1


def test_which_sets_are_looked_at(embedded: Warehouse) -> None:
    """Those of this model, not of another name, not one that was rolled back, not one with ids of another type."""
    load(embedded, [*EVENTS, (1, 50, START + 9 * DAY)])
    publish(embedded, START, LISTS, "run0")
    publish(embedded, START, LISTS, "other", Names("shop"))
    publish(embedded, START + DAY, {str(user): items for user, items in LISTS.items()}, "run1")
    publish(embedded, START + 2 * DAY, LISTS, "run2")
    now = START + 10 * DAY
    shown = shown_sets(embedded, DEFAULT, now)
    assert [one.published.run_id for one in shown] == ["run0", "run1", "run2"]
    assert [(one.start_ms, one.end_ms) for one in shown] == [
        (START, START + DAY), (START + DAY, START + 2 * DAY), (START + 2 * DAY, now),
    ]  # fmt: skip
    interactions = interactions_in(embedded, OPTIONS, reference([1], [1]))
    found = outcomes(embedded, interactions, shown, DriftOptions(outcome_days=30), now)
    assert (found.n_sets, found.n_users) == (2, 5)
    undone = shown[1].published.kept_name
    embedded.command(
        "INSERT INTO analytics.publications (action, staged) VALUES ('rolled back', {name:String})", {"name": undone}
    )
    assert [one.published.run_id for one in shown_sets(embedded, DEFAULT, now)] == ["run0", "run2"]
    assert [one.published.run_id for one in shown_sets(embedded, Names("shop"), now)] == ["other"]


# ---- limits --------------------------------------------------------------------------------------


def judge(measure: Measure, n_users: int = 1000, **limits: Any) -> Measure:
    (row,) = judged([measure], DriftLimits(**limits), n_users)
    return row


@pytest.mark.parametrize(
    ("measure", "limits", "state"),
    [
        (Measure("psi_popularity", 0.25, n=200), {}, "ok"),
        (Measure("psi_popularity", 0.2501, n=200), {}, "past"),
        (Measure("psi_popularity", 9.0, n=199), {}, "not judged"),
        (Measure("psi_popularity", 9.0, n=999), {"max_psi": None}, "no limit"),
        (Measure("psi_popularity", 9.0, n=2), {"least_interactions": 1}, "past"),
        (Measure("psi_scores", 0.3, n=900), {"max_score_psi": 0.2}, "past"),
        (Measure("unknown_users", 0.6, n=900), {}, "past"),
        (Measure("unknown_items", 0.6, n=900), {"max_unknown_items": 0.6}, "ok"),
        (Measure("fallback_share", 0.6), {}, "past"),
        (Measure("item_coverage", 0.1), {}, "no limit"),
        (Measure("item_coverage", 0.1), {"min_item_coverage": 0.2}, "past"),
        (Measure("item_coverage", 0.2), {"min_item_coverage": 0.2}, "ok"),
        (Measure("user_coverage", 0.1), {"min_user_coverage": 0.5}, "past"),
        (Measure("table_age_hours", 36.1), {}, "past"),
        (Measure("log_age_hours", 30.0), {}, "past"),
        (Measure("model_lag_hours", 200.0), {}, "past"),
        (Measure("data_age_hours", 9e9), {}, "no limit"),
        (Measure("ndcg_over_popular", -0.02, -0.04, -0.001), {}, "past"),
        (Measure("ndcg_over_popular", -0.02, -0.04, 0.001), {}, "ok"),
        (Measure("ndcg_over_popular", -0.02, -0.04, -0.001), {"worse_than_popular": "yes"}, "no limit"),
        (Measure("hit_rate", 0.0, 0.0, 0.1), {}, "no limit"),
        (Measure.missing("psi_popularity", "no times"), {}, "not measured"),
    ],
)
def test_what_is_past_its_limit(measure: Measure, limits: dict[str, Any], state: str) -> None:
    row = judge(measure, **limits)
    assert row.state == state
    assert row.as_json["state"] == state


def test_few_users_are_not_judged_and_it_is_said() -> None:
    row = judge(Measure("ndcg_over_popular", -0.5, -0.6, -0.4, 29), 29)
    assert (row.past, row.state) == (False, "not judged")
    assert row.note == "29 users, and it is judged from 30 on"


def test_the_order_is_always_the_same_and_a_sentence_has_value_interval_and_limit() -> None:
    names = list(MEANINGS)
    rows = judged([Measure(name, 0.5, n=500) for name in reversed(names)], DriftLimits(), 500)
    assert [row.name for row in rows] == names
    row = judge(Measure("ndcg_over_popular", -0.02, -0.04, -0.01))
    assert row.sentence == (
        "NDCG, lists minus most popular: ndcg_over_popular is -0.02 (95 %: -0.04 to -0.01), limit: at least 0"
    )
