"""What the raw columns hold, and what is refused before it is stored."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError, InvalidInteractionError
from pipeline.interaction_log import Columns, Interaction
from pipeline.interaction_log.columns import as_id


@pytest.mark.parametrize(
    ("kind", "value", "held"),
    [
        ("Int64", 7, 7),
        ("Int64", "7", 7),
        ("Int64", "-7", -7),
        ("Int64", 2**63 - 1, 2**63 - 1),
        ("UInt64", 2**63 - 1, 2**63 - 1),
        ("UInt8", 255, 255),
        ("LowCardinality(Nullable(String))", 7, "7"),
        ("String", "007", "007"),
        ("UUID", "00000000-0000-4000-8000-0000000000ff", "00000000-0000-4000-8000-0000000000ff"),
        ("FixedString(3)", "ö1", "ö1"),
    ],
)
def test_an_id_becomes_what_the_column_holds(kind: str, value: int | str, held: int | str) -> None:
    made = as_id("user", value, kind)
    assert (made, type(made)) == (held, type(held))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("Int64", 2**63), ("Int64", -(2**63) - 1), ("Int64", "007"), ("Int64", "7.0"), ("Int64", " 7"), ("Int64", "x"),
        ("Int64", True), ("Int64", 7.0), ("Int64", None), ("UInt32", -1), ("UInt32", 2**32), ("UInt64", 2**63),
        ("Int8", 128), ("String", ""), ("String", "x" * 257), ("String", "\ud800"), ("String", b"x"), ("String", 1.5),
        ("UUID", "7"), ("UUID", "00000000-0000-4000-8000-0000000000FF"), ("FixedString(3)", "ö"), ("Int64", "9" * 5000),
    ],
)  # fmt: skip
def test_an_id_that_the_column_cannot_hold_is_refused(kind: str, value: object) -> None:
    with pytest.raises(ValueError, match="user_id") as refused:
        as_id("user", value, kind)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.5, 1e39, 10**400, "4", True])
def test_a_rating_that_the_column_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(InvalidInteractionError, match="rating"):
        Columns().rows([Interaction(1, 2, value)])


@given(st.floats(0, 1e38))
def test_a_rating_is_rounded_as_float32_rounds_it(value: float) -> None:
    assert Columns().rows([Interaction(1, 2, value)])[0][2] == float(np.float32(value))


def test_a_rating_of_another_type() -> None:
    whole = Columns(rating="UInt8")
    assert whole.rows([Interaction(1, 2, 255)])[0][2] == 255
    for value in (256, 4.5):
        with pytest.raises(InvalidInteractionError, match="UInt8"):
            whole.rows([Interaction(1, 2, value)])
    assert Columns(rating="Float64").rows([Interaction(1, 2, 4.1)])[0][2] == 4.1


def test_a_time_is_utc_in_milliseconds() -> None:
    noon = datetime(2020, 1, 31, 12, 0, 0, 123_999)
    for at in (
        noon,
        noon.replace(tzinfo=UTC),
        (noon + timedelta(hours=2)).replace(tzinfo=timezone(timedelta(hours=2))),
    ):
        assert Columns().rows([Interaction(1, 2, None, at)])[0][3] == 1_580_472_000_123
    assert Columns().rows([Interaction(1, 2)])[0][3] is None
    for at in (datetime(1899, 12, 31), datetime(2300, 1, 1), "2020-01-31"):
        with pytest.raises(InvalidInteractionError, match="at must be a time"):
            Columns().rows([Interaction(1, 2, None, at)])


def test_the_message_names_the_position_in_a_batch() -> None:
    with pytest.raises(InvalidInteractionError, match="Interaction 1: item_id 'x' is text") as refused:
        Columns().rows([Interaction(1, 2), Interaction(1, "x")])
    assert refused.value.position == 1


@pytest.mark.parametrize("kind", ["Float64", "IPv4", "Date", "Int128"])
def test_a_column_of_another_type_is_named(kind: str) -> None:
    with pytest.raises(InputError, match=kind):
        Columns(user=kind)
    if kind != "Float64":
        with pytest.raises(InputError, match=kind):
            Columns(rating=kind)
    assert Columns.parse(Columns("String", "UUID", "UInt8").text) == Columns("String", "UUID", "UInt8")
