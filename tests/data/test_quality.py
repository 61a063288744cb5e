"""The data gate: facts of what was read, and what of them is past a limit or a usual level."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields, replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.id_map import IdMap
from pipeline.data.interactions import Interactions
from pipeline.data.profile import ReferenceData, Source, n_duplicates, profile_of
from pipeline.data.quality import USUAL, DataLimits, examine
from pipeline.errors import DataGateError, UsageError

NOW = np.datetime64("2024-03-10T00:00:00", "ms")
HERE = Source("warehouse", "clickhouse://db:8123", "q1")


def data(users=range(20), items=range(20), scores=None, at="2024-03-09T12:00:00") -> Interactions:
    users, items = list(users), list(items)
    times = None if at is None else np.full(len(users), np.datetime64(at, "ms"))
    return Interactions.of(users, items, scores, times)


def champion(users=range(20), items=range(20), **changes) -> ReferenceData:
    made = ReferenceData(
        "rankline/3, the champion", HERE, IdMap.of(list(users)), IdMap.of(list(items)), len(list(users)), score_mean=1.0
    )
    return replace(made, **changes)


def look(x=None, limits=None, *, n_bad=0, before=None, source=HERE, **more):
    x = data() if x is None else x
    return examine(
        x, limits or DataLimits(), n_rows=len(x) + n_bad, n_bad=n_bad, now=NOW, source=source, before=before, **more
    )


def test_what_is_usual_passes():
    outcome = look(before=champion())
    assert outcome.verdict == "passed"
    assert (outcome.words, outcome.findings, outcome.notes) == ("", (), ())
    outcome.check()


def test_facts():
    x = Interactions.of(
        [7, 7, 8, 8, 9], [1, 1, 1, 2, 3], [0.5, 1, 2, 3, 5], np.array([5, 6, 7, 8, 9], "datetime64[D]").astype("M8[ms]")
    )
    now = np.datetime64("1970-01-11T12", "ms")
    facts = profile_of(x, n_rows=8, n_bad=3, now=now, before=champion([7, 10, 11, 9], [1, 2], n_interactions=8))
    assert (facts.n_rows, facts.n_bad, facts.bad_share) == (8, 3, 0.375)
    assert (facts.n_interactions, facts.n_users, facts.n_items) == (5, 3, 3)
    assert (facts.n_duplicates, facts.duplicate_share) == (1, 0.2)
    assert (facts.score_min, facts.score_max) == (0.5, 5.0)
    assert (facts.oldest, facts.newest, facts.age_days) == ("1970-01-06T00:00:00.000", "1970-01-10T00:00:00.000", 1.5)
    assert (facts.users.before, facts.users.lost, facts.users.gained, facts.users.lost_share) == (4, 2, 1, 0.5)
    assert facts.users.examples == ()
    assert (facts.items.lost, facts.items.gained) == (0, 1)
    assert (facts.n_before, facts.shrink) == (8, 0.5)  # four pairs now


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), max_size=40), st.integers(1, 50), st.booleans())
def test_duplicates_are_counted_in_any_order_and_in_parts(pairs, at_once, in_order):
    pairs = sorted(pairs) if in_order else pairs
    x = Interactions.of([u for u, _ in pairs], [i for _, i in pairs])
    assert n_duplicates(x, at_once) == sum(n - 1 for n in Counter(pairs).values())


OLD = "2024-01-01T00:00:00"
# Field, data past 3 what is usual (None: nothing is), data past the limit, the limit that it just keeps to.
CASES = {
    "min_interactions": (None, data(range(5), range(5)), 5),
    "min_users": (data([1] * 20), data([1] * 20), 1),
    "min_items": (data(range(20), [1] * 20), data(range(20), [1] * 20), 1),
    "min_score": (None, data(scores=np.full(20, 2.0)), 2.0),
    "max_score": (None, data(scores=np.full(20, 5.0)), 5.0),
    "max_duplicate_share": (data([*range(20)] * 3, [*range(20)] * 3), data([*range(20)] * 2, [*range(20)] * 2), 0.5),
    "max_age_days": (data(at=OLD), data(at=OLD), 69.0),
    "max_future_days": (data(at="2024-03-12T00:00:00"), data(at="2024-03-12T00:00:00"), 2.0),
    "earliest": (data(at="1970-01-20T00:00:00"), data(at=OLD), date(2024, 1, 1)),
    "max_users_lost": (data(range(15), range(20 - 5)), data(range(15), range(15)), 0.25),
    "max_items_lost": (data(range(15), range(15)), data(range(15), range(15)), 0.25),
    "max_shrink": (data(range(15), range(15)), data(range(15), range(15)), 0.25),
    "max_score_change": (data(scores=np.full(20, 10.0)), data(scores=np.full(20, 0.5)), 2.0),
}


def a_little(bound, name):
    """The next stricter limit."""
    if isinstance(bound, date):
        return date.fromordinal(bound.toordinal() + 1)
    step = 1 if isinstance(bound, int) else 0.01
    return bound + step if name.startswith("min_") else bound - step


def test_there_is_a_case_for_each_limit():
    assert {field.name for field in fields(DataLimits)} == {*CASES, "max_bad_share"}


@pytest.mark.parametrize("name", CASES)
def test_a_limit_stops_and_a_usual_level_warns(name):
    unusual, past, keeps = CASES[name]
    before = champion()
    passed = look(past, DataLimits(**{name: keeps}), before=before)
    assert name not in {finding.limit for finding in passed.findings}
    outcome = look(past, DataLimits(**{name: a_little(keeps, name)}), before=before)
    assert outcome.verdict == "stopped"
    (breach,) = [finding for finding in outcome.findings if finding.breach]
    assert (breach.limit, breach.setting) == (name, f"RANKLINE_LIMIT_{name.upper()}")
    assert outcome.words.startswith(breach.sentence)
    with pytest.raises(DataGateError, match=breach.setting) as error:
        outcome.check()
    assert "\n" not in str(error.value)
    assert error.value.exit_status == 3
    if unusual is None:
        assert getattr(USUAL, name) is None
    else:
        warned = look(unusual, before=before)
        assert warned.verdict == "warned"
        assert name in {finding.limit for finding in warned.findings}
        assert breach.setting in warned.words
        warned.check()


def test_a_mean_score_of_0_or_unknown_is_not_compared():
    for before, now in ((0.0, 1.0), (1.0, 0.0), (None, 9.0)):
        outcome = look(
            data(scores=np.full(20, now)), DataLimits(max_score_change=1.0), before=champion(score_mean=before)
        )
        assert outcome.facts.score_change is None
    ten = look(data(scores=np.full(20, 10.0)), before=champion())
    assert "the mean score is 10, and the champion's is 1: a factor of 10 (usual: at most 2.0;" in ten.words


def test_bad_rows():
    assert look(n_bad=1).verdict == "warned"
    assert "4.76 % of the rows are bad (1 of 21)" in look(n_bad=1).words
    assert look(n_bad=1, limits=DataLimits(max_bad_share=0.05)).verdict == "passed"
    assert look(n_bad=1, limits=DataLimits(max_bad_share=0.0)).verdict == "stopped"


def test_old_data_is_usual_where_it_is_public_unless_a_limit_is_set():
    x = data(at=OLD)
    assert look(x, old_is_usual=True).verdict == "passed"
    assert look(x, DataLimits(max_age_days=30), old_is_usual=True).verdict == "stopped"


def test_another_source_is_told_and_not_held_against_the_data():
    limits = DataLimits(max_users_lost=0.0, max_items_lost=0.0, max_shrink=0.0)
    x, before = data(range(100, 120)), champion(n_interactions=1000)
    assert look(x, limits, before=before).verdict == "stopped"
    for source in (
        Source("file", "a.csv"),
        replace(HERE, query_digest="q2"),
        replace(HERE, address="clickhouse://x:1"),
    ):
        outcome = look(x, limits, before=before, source=source)
        assert outcome.verdict == "passed"
        assert "another source than that of rankline/3" in outcome.notes[0]
        assert outcome.facts.users is None
    outcome = look(x, limits)
    assert outcome.verdict == "passed"
    assert "no champion yet" in outcome.notes[0]


def test_ids_of_text_and_ids_that_became_text():
    before = champion(["a", "b", "long-id"], ["x"])
    facts = look(data(["a", "b", "c"], ["x", "x", "y"]), before=before).facts
    assert (facts.users.lost, facts.users.gained, facts.users.examples) == (1, 1, ())
    turned = look(data([str(n) for n in range(20)]), before=champion())
    assert turned.facts.users.lost_share == 1
    assert "100 % of the champion's users are gone (20 of 20)" in turned.words


def test_a_champion_that_left_users_out_does_not_tell_who_is_new():
    outcome = look(before=champion(range(10), filtered=True), limits=DataLimits(max_shrink=0.0))
    assert outcome.verdict == "passed"
    assert (outcome.facts.users.lost, outcome.facts.users.gained, outcome.facts.shrink) == (0, None, None)
    assert "left users out" in outcome.notes[0]


def test_without_times_a_limit_on_them_is_said_not_to_be_checked():
    outcome = look(data(at=None), DataLimits(max_age_days=1))
    assert outcome.verdict == "warned"
    assert "RANKLINE_LIMIT_MAX_AGE_DAYS can't be checked" in outcome.words
    assert look(data(at=None)).verdict == "passed"


def test_nothing_at_all_and_everything_as_json():
    x = Interactions.of([], [])
    outcome = examine(x, DataLimits(min_users=1), n_rows=0, n_bad=0, now=NOW, source=HERE)
    assert outcome.verdict == "stopped"
    stored = json.loads(json.dumps(outcome.as_json(), allow_nan=False))
    assert stored["facts"]["n_users"] == 0
    assert stored["limits"]["min_users"] == 1
    assert stored["usual"]["earliest"] == "1980-01-01"
    assert stored["findings"][0]["setting"] == "RANKLINE_LIMIT_MIN_USERS"
    look(data(["a"] * 9, range(9)), before=champion(["b"], [1])).as_json()


def test_the_settings_are_the_limits(monkeypatch):
    from pipeline.cli.options import settings_here

    assert settings_here().data_limits == DataLimits()
    monkeypatch.setenv("RANKLINE_LIMIT_MAX_USERS_LOST", "0.3")
    monkeypatch.setenv("RANKLINE_LIMIT_EARLIEST", "2020-01-31")
    monkeypatch.setenv("RANKLINE_LIMIT_MIN_USERS", "")
    assert settings_here().data_limits == DataLimits(max_users_lost=0.3, earliest=date(2020, 1, 31))
    wrong = {"MAX_USERS_LOST": "1.5", "MAX_AGE_DAYS": "nan", "MIN_USERS": "0", "EARLIEST": "2020", "MAX_SCORE": "x"}
    for name, value in wrong.items():
        with monkeypatch.context() as patched:
            patched.setenv(f"RANKLINE_LIMIT_{name}", value)
            with pytest.raises(UsageError, match=f"RANKLINE_LIMIT_{name}: "):
                settings_here()
    monkeypatch.setenv("RANKLINE_LIMIT_MAX_USER_LOST", "0.1")
    with pytest.raises(UsageError, match="RANKLINE_LIMIT_MAX_USER_LOST is no limit"):
        _ = settings_here().data_limits
