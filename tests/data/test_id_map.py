"""`IdMap`: ids in, rows out, and back, for integers and for any text."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.id_map import MAX_ID_LENGTH, IdMap, as_ids
from pipeline.errors import InputError, RowRangeError

INT64 = np.iinfo(np.int64)
integers = st.integers(INT64.min, INT64.max)
# numpy drops NULs at the end of text, and lone surrogates are no UTF-8: neither can be an id.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
id_lists = st.one_of(st.lists(integers, max_size=30), st.lists(texts, max_size=30))


def array(ids):
    """As numpy ids, of the right kind even when empty."""
    return np.array(ids, dtype=str if ids and isinstance(ids[0], str) else np.int64)


# ---- as_ids -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", ">i8", "uint8", "uint32", "uint64"])
def test_any_integer_type_becomes_int64(dtype):
    ids = as_ids(np.array([3, 1, 2], dtype))
    assert ids.dtype == np.int64
    assert ids.tolist() == [3, 1, 2]


def test_text_stays_text():
    assert as_ids(["b", "a", "17"]).tolist() == ["b", "a", "17"]
    assert as_ids(np.array(["b", "a"], ">U5")).tolist() == ["b", "a"]


@pytest.mark.parametrize(
    "values",
    [
        np.array(["a", None], object),
        np.array(["a", np.nan], object),
        np.array([1, pd.NA], object),
        np.array([1, True], object),
        np.array([1.0], object),
        pd.Series([1, None]),
        pd.Series(["a", None]),
        pd.Series([1, None], dtype="Int64"),
        [1.0, 2.0],
        [np.nan],
        [True, False],
        [1, True],
        [b"a", b"b"],
        np.array(["2020-01-01"], "datetime64[D]"),
        [1, None],
        [1 + 0j],
    ],
)
def test_ids_that_would_have_to_be_guessed_at_are_refused(values):
    with pytest.raises(InputError, match="Ids must be integers or strings"):
        as_ids(values)


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        (np.array([1, 2], object), [1, 2]),
        (np.array(["a", "b"], object), ["a", "b"]),
        (np.array([np.int32(1), 2], object), [1, 2]),
        ([np.str_("a"), "b"], ["a", "b"]),
        ([np.int64(1), np.uint8(2)], [1, 2]),
        (pd.Series(["a", "b"]), ["a", "b"]),
        (pd.Series(["a", "b"], dtype="category"), ["a", "b"]),
        (pd.Series([1, 2]), [1, 2]),
        (pd.Series([1, 2], dtype="Int64"), [1, 2]),
        (pd.Index(["a", "b"]), ["a", "b"]),
    ],
)
def test_ids_in_other_holders(values, ids):
    assert as_ids(values).tolist() == ids
    assert as_ids(values).dtype.kind == ("U" if isinstance(ids[0], str) else "i")


def test_a_missing_id_is_named_by_its_place():
    with pytest.raises(InputError, match="the one at position 2 is missing"):
        as_ids(pd.Series(["a", "b", None, "c"]))
    with pytest.raises(InputError, match="the one at position 1 is missing"):
        as_ids(pd.Series([1, None]))


def test_a_list_of_both_kinds_is_refused():
    with pytest.raises(InputError):
        as_ids([1, "a"])


@pytest.mark.parametrize("values", [5, "abc", [[1, 2], [3, 4]]])
def test_ids_are_one_dimensional(values):
    with pytest.raises(InputError, match="one-dimensional"):
        as_ids(values)


def test_huge_integers():
    assert as_ids(np.array([INT64.max], np.uint64)).tolist() == [INT64.max]
    assert as_ids(np.array([INT64.min, INT64.max])).tolist() == [INT64.min, INT64.max]
    with pytest.raises(InputError, match="64 signed bits"):
        as_ids(np.array([INT64.max + 1], np.uint64))
    with pytest.raises(InputError):
        as_ids([2**70])


def test_no_ids_are_no_objection():
    for empty in ([], np.array([], object), np.array([], float), np.array([], np.int32)):
        assert as_ids(empty).dtype == np.int64


# ---- making a map -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [[2, 1], [1, 1], ["b", "a"], ["a", "a"], [1, 3, 2], [-1, -2], ["é", "z"]])
def test_unsorted_or_repeated_ids_are_refused(ids):
    with pytest.raises(InputError, match="unique and in ascending order"):
        IdMap(ids)


@given(id_lists)
def test_of_sorts_and_keeps_each_once(ids):
    expected = sorted(set(ids))
    assert IdMap.of(array(ids)).values.tolist() == expected
    assert len(IdMap.of(array(ids))) == len(expected)


def test_order_of_text_is_the_order_of_code_points():
    ids = ["", "10", "9", "Z", "a", "e\u0301", "z", "é", "ﬀ", "\U0001f3ac", "\U0001f3ac\U0001f3ac"]
    assert ids == sorted(ids)
    assert IdMap(ids).values.tolist() == ids
    assert IdMap.of(ids[::-1]).values.tolist() == ids
    # UTF-16 order would put the emoji before U+FB00.
    assert IdMap.of(["\U0001f3ac", "\ufb00"]).values.tolist() == ["\ufb00", "\U0001f3ac"]
    # Composed and decomposed é look the same and are two ids.
    assert IdMap(ids).rows(["e\u0301", "é"]).tolist() == [5, 7]


def test_length_limit():
    assert len(IdMap(["x" * MAX_ID_LENGTH])) == 1
    with pytest.raises(InputError, match=f"at most {MAX_ID_LENGTH} characters"):
        IdMap(["x" * (MAX_ID_LENGTH + 1)])
    # Characters, not bytes.
    assert len(IdMap(["\U0001f3ac" * MAX_ID_LENGTH])) == 1


def test_values_can_not_be_changed_from_outside():
    ids = np.array([1, 2, 3])
    made = IdMap(ids)
    ids[0] = 0
    assert ids.flags.writeable
    assert made.values.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        made.values[0] = 7


# ---- look-ups -------------------------------------------------------------------------------------


@given(id_lists)
def test_rows_and_ids_are_inverse(ids):
    made = IdMap.of(array(ids))
    rows = np.arange(len(made))
    assert made.rows(made.values).dtype == np.int32
    assert made.rows(made.values).tolist() == rows.tolist()
    assert made.ids(rows).tolist() == made.values.tolist()
    if ids:
        assert made.ids(made.rows(array(ids))).tolist() == ids


@given(st.one_of(*(st.tuples(st.lists(ids, max_size=30), st.lists(ids, max_size=30)) for ids in (integers, texts))))
def test_a_missing_id_is_minus_one(lists):
    known, wanted = lists
    made = IdMap.of(array(known))
    row_of = {v: row for row, v in enumerate(sorted(set(known)))}
    assert made.rows(array(wanted), missing="negative").tolist() == [row_of.get(v, -1) for v in wanted]


def test_a_missing_id_is_named():
    with pytest.raises(InputError, match=r"^2 unknown id\(s\): 5, 7$"):
        IdMap([1, 2]).rows([5, 1, 7])
    with pytest.raises(InputError, match=r"^7 unknown id\(s\): 'c', 'd', 'e', 'f', 'g'$"):
        IdMap(["a"]).rows(list("cdefghi"))


def test_ids_of_the_other_kind():
    assert IdMap([-8, 1, 2]).rows(["2", "-8", "7", "0"], missing="negative").tolist() == [2, 0, -1, -1]
    assert IdMap(["1", "2", "u"]).rows([2, 7], missing="negative").tolist() == [1, -1]
    assert IdMap(["007", "1"]).rows([7], missing="negative").tolist() == [-1]
    assert IdMap([]).rows([1], missing="negative").tolist() == [-1]
    assert IdMap([]).rows(["a"], missing="negative").tolist() == [-1]
    assert IdMap([1]).rows([], missing="error").tolist() == []
    # A long list is converted whole, and one id that can't be is refused.
    many = np.arange(1000)
    assert IdMap(many).rows(many.astype(str)).tolist() == many.tolist()


@pytest.mark.parametrize("text", ["abc", "007", "+1", "-0", "1.0", " 1", "1_0", "", "٣", "9" * 19, "9" * 40])
def test_text_that_is_no_integer_for_certain(text):
    with pytest.raises(InputError, match=r"is text, and these ids are integers, such as 1"):
        IdMap([1, 2]).rows(["1", text], missing="negative")


def test_a_longer_id_is_not_its_beginning():
    made = IdMap(["ab", "abc"])
    assert made.rows(["abcd", "abc", "ab", "a", ""], missing="negative").tolist() == [-1, 1, 0, -1, -1]


def test_a_long_unknown_id_does_not_decide_how_much_memory_all_take():
    made = IdMap([f"user-{n:05d}" for n in range(1000)])
    tracemalloc.start()
    try:
        rows = made.rows(["x" * 20_000, "user-00017"], missing="negative")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows.tolist() == [-1, 17]
    assert peak < 2**20


@pytest.mark.parametrize("rows", [[-1], [3], [0, 1, 3], np.array([2**40])])
def test_rows_out_of_range(rows):
    with pytest.raises(RowRangeError, match=r"range \[0, 3\)"):
        IdMap([1, 2, 3]).ids(rows)


def test_ids_of_no_rows():
    assert IdMap([1, 2, 3]).ids([]).tolist() == []


# ---- digest and equality --------------------------------------------------------------------------


@given(id_lists, id_lists)
def test_equal_when_the_ids_are(a, b):
    first, other = IdMap.of(array(a)), IdMap.of(array(b))
    same = sorted(set(a)) == sorted(set(b))
    assert (first == other) == same
    assert (first.digest == other.digest) == same
    assert not same or hash(first) == hash(other)


def test_digest_knows_kind_borders_and_order_of_bytes():
    digests = {
        IdMap(ids).digest for ids in ([1, 2], ["1", "2"], ["12"], [12], ["1", "2", "3"], ["1", "23"], ["12", "3"])
    }
    assert len(digests) == 7
    assert IdMap([1]) != [1]
    assert IdMap(np.array([1, 2], ">i8")).digest == IdMap([1, 2]).digest


def test_digest_does_not_depend_on_the_width_of_the_array():
    assert IdMap(np.array(["a", "b"], "U1")).digest == IdMap(np.array(["a", "b"], "U200")).digest


def test_digest_of_more_ids_than_one_block_holds():
    n = 65536 + 3
    first = IdMap(np.arange(n))
    changed = np.arange(n)
    changed[-1] += 1
    assert first.digest != IdMap(changed).digest
    assert first.digest != IdMap(np.arange(65536)).digest


def test_digest_stays_the_same_from_version_to_version():
    """It is in metadata and in tags: a change of its definition is a change of format."""
    assert IdMap([1, 2, 3]).digest == "33f8b81e88bfbc77645d1b6c47124931abd6f8a54fe3a51739c91cb274fd3ec3"
    assert IdMap(["a", "é", "\U0001f3ac"]).digest == "3e5f61da4d1c28cddd28a6137c2b000946025dc276a0d6618ac963f4bcd81b07"


@pytest.mark.slow
def test_digest_is_the_same_in_another_process():
    code = "from pipeline.data.id_map import IdMap; print(IdMap(['a', 'b']).digest)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == IdMap(["a", "b"]).digest


def test_text_that_is_no_utf8_is_refused():
    with pytest.raises(InputError):
        _ = IdMap(["\ud800"]).digest


def test_repr_is_short():
    assert repr(IdMap([1, 2])) == "IdMap(2 ids, int)"
    assert repr(IdMap(["a"])) == "IdMap(1 ids, str)"


# ---- typed ids ------------------------------------------------------------------------------------


def test_parse():
    assert IdMap([1, 17]).parse("17") == 17
    assert IdMap([1, 17]).parse(17) == 17
    assert IdMap([1, 17]).parse("x") == "x"
    assert IdMap([1, 17]).parse(-(2**63)) == -(2**63)
    assert [IdMap([1, 17]).parse(past) for past in (2**63, "-9223372036854775809")] == [str(2**63), str(-(2**63) - 1)]
    assert IdMap(["1", "17"]).parse("17") == "17"
    assert IdMap(["1", "17"]).parse(17) == "17"


@pytest.mark.parametrize("text", ["x", "9" * 30])
def test_a_typed_id_that_is_no_integer_of_64_bits_is_refused_where_ids_are_integers(text):
    ids = IdMap([1, 17])
    with pytest.raises(InputError):
        ids.rows([ids.parse(text)])
