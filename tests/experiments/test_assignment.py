"""Who is in which arm: stable, even, independent of other experiments, and the same in Python and in the warehouse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.naive_experiments import naive_arm

from pipeline.errors import InputError, UsageError
from pipeline.experiments.assignment import BUCKETS, arms_of, bucket, buckets, split_of
from pipeline.experiments.definition import Experiment, check_name
from pipeline.warehouse import Warehouse, sql

pytest_plugins = ["support.warehouse_fixtures"]

IDS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(min_size=1, max_size=20).filter(lambda t: t.isprintable()))


@given(st.text("0123456789abcdef", min_size=1, max_size=32), st.lists(IDS, max_size=8), st.integers(1, BUCKETS - 1))
def test_every_way_to_ask_gives_the_twins_arm(salt: str, ids: list[int | str], first: int) -> None:
    split = (first, BUCKETS - first)
    expected = [naive_arm(salt, user, split) for user in ids]
    experiment = Experiment("x", ("1", "2"), split, salt, 0)
    assert [experiment.arm(user) for user in ids] == expected
    assert arms_of(salt, ids, split).tolist() == expected
    assert buckets(salt, ids).tolist() == [bucket(salt, user) for user in ids]


def test_an_id_is_in_one_arm_whether_it_is_a_number_or_text() -> None:
    assert bucket("s", 912) == bucket("s", "912")
    assert bucket("s", 912) == 3870, "it never changes: users would change arms"


def test_arms_are_as_large_as_the_split_and_independent_of_another_salt() -> None:
    ids = np.arange(20_000)
    one, other = arms_of("one", ids, (9000, 1000)), arms_of("other", ids, (5000, 5000))
    assert one.mean() == pytest.approx(0.1, abs=0.01)
    assert other[one == 1].mean() == pytest.approx(0.5, abs=0.05)


def test_the_warehouse_has_the_same_buckets(embedded: Warehouse) -> None:
    """Integers, text, and UUIDs, as columns of ClickHouse hold them."""
    text = sql.load("queries/experiment_buckets").text
    for type_, values in (
        ("Int64", [0, 1, -7, 912, 2**63 - 1, -(2**63), *range(500)]),
        ("String", ["a", "é", "日本", "user:1", "with space", "007", *(f"u{n}" for n in range(500))]),
        ("UUID", ["6f1c2b6e-3f5a-4c6e-9a51-7f0b8d3c2a10", "00000000-0000-0000-0000-000000000001"]),
    ):
        array = "[" + ", ".join(f"'{value}'" for value in values) + "]"
        users = f"SELECT arrayJoin(CAST({array}, 'Array({type_})')) AS user_id"
        rows = embedded.rows(text.replace("{users:Identifier}", f"({users})"), {"salt": "5a17"})
        found = {row["user_id"]: row["bucket"] for row in rows}
        assert found == {str(value): bucket("5a17", value) for value in values}


@pytest.mark.parametrize("text", ["50", "50,50,0", "60,60", "100,0", "-1,101", "a,b", "50,nan", "", "33.333,66.667"])
def test_a_split_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--split"):
        split_of(text, 2)


def test_a_split() -> None:
    assert split_of("50,50", 2) == (5000, 5000)
    assert split_of("99.5, 0.5", 2) == (9950, 50)


def test_a_definition_comes_back_and_a_damaged_one_is_refused() -> None:
    experiment = Experiment("new_als", ("3", "7"), (5000, 5000), "ab", 5, "outcomes", relevant_from=3.5)
    assert Experiment.parse(experiment.text) == experiment
    for damaged in ("", "[]", "{}", experiment.text.replace("5000, 5000", "5000, 4000"),
                    experiment.text.replace('"format": 1', '"format": 2'), experiment.text.replace("new_als", "New"),
                    experiment.text.replace('"salt"', '"pepper"')):  # fmt: skip
        with pytest.raises(InputError, match="can't be read"):
            Experiment.parse(damaged)
    with pytest.raises(UsageError, match="lower-case"):
        check_name("Big-Test")
