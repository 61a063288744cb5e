"""Which versions stay: everything that is needed, by a slow twin, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from pipeline.monitoring.retention import Needs, champions_since, plan_retention
from pipeline.tracking.champion_log import ChampionChange
from pipeline.tracking.version_deletion import VersionFacts

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def version(number: int, folded_from: str = "") -> VersionFacts:
    return VersionFacts(str(number), f"run{number}", 0, folded_from)


def change(days_ago: float, to: int, before: str = "") -> ChampionChange:
    return ChampionChange(NOW - timedelta(days=days_ago), str(to), before, "promoted")


def test_what_stays_and_why() -> None:
    versions = [version(n) for n in range(1, 13)]
    versions[8] = version(9, "2")
    needs = Needs(
        {"champion": "9", "experiment-new-b": "4"},
        [change(200, 1), change(100, 3, "1"), change(20, 9, "3")],
        "9",
        ["9", "3", "1"],
        {"run6": "analytics.recommendations_previous"},
    )
    plan = plan_retention(versions, needs, keep_versions=2, keep_champions_days=90, now=NOW)
    assert plan.kept == {
        "12": ("one of the newest 2",),
        "11": ("one of the newest 2",),
        "9": ("has the alias champion", "was champion within 90 days", "a rollback would go back to it"),
        "6": ("analytics.recommendations_previous was made from it",),
        "4": ("has the alias experiment-new-b",),
        "3": ("was champion within 90 days", "a rollback would go back to it"),
        "2": ("version 9 was folded into it",),
        "1": ("a rollback would go back to it",),
    }
    assert [old.version for old in plan.old] == ["5", "7", "8", "10"]


def test_a_champion_reigns_until_the_next_one() -> None:
    log = [change(300, 1), change(100, 2, "1"), change(10, 3, "2")]
    assert champions_since(log, NOW, 90) == ["2", "3"]
    assert champions_since(log, NOW, 5) == ["3"]
    assert champions_since(log, NOW, 1e9) == ["1", "2", "3"]
    assert champions_since([], NOW, 90) == []
    # One that was made champion by hand, before the log began.
    assert champions_since([change(50, 2, "7")], NOW, 90) == ["7", "2"]
    # A night of another year: the log is ahead of the clock.
    assert champions_since(log, NOW - timedelta(days=5000), 80) == ["2", "3"]


@given(st.data())
@settings(max_examples=examples(60))
def test_nothing_that_is_needed_goes(data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 12))
    bases = [data.draw(st.sampled_from(["", *map(str, range(1, i))])) for i in range(1, n + 1)]
    versions = [version(i, base) for i, base in enumerate(bases, 1)]
    some = st.lists(st.integers(1, 14).map(str), max_size=3)
    aliases = {f"alias{i}": number for i, number in enumerate(data.draw(some))}
    rollbacks, published = data.draw(some), data.draw(some)
    needs = Needs(aliases, [], "", rollbacks, {f"run{number}": "a table" for number in published})
    keep = data.draw(st.integers(1, 6))
    plan = plan_retention(versions, needs, keep_versions=keep, keep_champions_days=90, now=NOW)
    needed = {*aliases.values(), *rollbacks, *published, *[v.version for v in versions[max(0, n - keep) :]]}
    while True:  # what is folded needs what it was folded into
        wider = needed | {v.folded_from for v in versions if v.version in needed and v.folded_from}
        if wider == needed:
            break
        needed = wider
    there = {v.version for v in versions}
    assert set(plan.kept) == needed & there
    assert [old.version for old in plan.old] == [v.version for v in versions if v.version not in needed]
    assert all(plan.kept.values())
