"""The files of a published evaluation: with a header and without one, and ids of one kind in all of them."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.interactions import Interactions
from pipeline.data.sources.columns import Columns
from pipeline.data.sources.files import read_file
from pipeline.errors import BadRowsError, InputError, MissingColumnsError
from pipeline.evaluation.files import as_training_has_them
from pipeline.evaluation.sampled_negatives import Negatives


def rows_of(x):
    at = [None] * len(x) if x.at is None else x.at.astype(np.int64).tolist()
    return list(
        zip(x.user_ids.ids(x.users).tolist(), x.item_ids.ids(x.items).tolist(), x.scores.tolist(), at, strict=True)
    )


@pytest.fixture
def write(tmp_path):
    def write(content, name="ml.train.rating"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


LINES = "0\t32\t4\t978824351\n0\t34\t4.5\t978824343\n5\t32\t1\t978824330\n"
ROWS = [(0, 32, 4.0, 978824351000), (0, 34, 4.5, 978824343000), (5, 32, 1.0, 978824330000)]


@pytest.mark.parametrize("name", ["ml.train.rating", "test.tsv", "a.csv", "no-extension", "ml.rating.gz", "a.txt"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_without_a_header_every_line_is_a_row(write, name, mark):
    content = mark + LINES.encode()
    path = write(gzip.compress(content) if name.endswith(".gz") else content, name)
    assert rows_of(read_file(path).interactions) == ROWS
    # Names are of files that have them.
    assert rows_of(read_file(path, Columns(user="who", item="what")).interactions) == ROWS


def test_without_times_and_with_line_ends_of_another_system(write):
    rows_read = rows_of(read_file(write("a\tx1\t4\r\nb\tx2\t0\r\n")).interactions)
    assert rows_read == [("a", "x1", 4.0, None), ("b", "x2", 0.0, None)]


def test_a_header_is_one_whatever_the_extension(write):
    text = "who\twhat\trating\ttimestamp\n" + LINES
    columns = Columns(user="who", item="what")
    for name in ("a.tsv", "a.rating"):
        assert rows_of(read_file(write(text, name), columns).interactions) == ROWS
        assert rows_of(read_file(write("\ufeff" + text, name), columns).interactions) == ROWS
    assert rows_of(read_file(write("userId,movieId,rating\n1,2,3\n", "a.csv")).interactions) == [(1, 2, 3.0, None)]
    with pytest.raises(MissingColumnsError, match="found: \\['who', 'what', 'rating', 'timestamp'\\]"):
        read_file(write(text, "a.tsv"))


def test_a_bad_row_is_named_by_its_line(write):
    with pytest.raises(BadRowsError, match=r"1 of 4 rows can't be used: line 4 \(rating 'x' is not a number\)"):
        read_file(write(LINES + "7\t1\tx\t978824330\n"))
    # The extension says that the first line is a row, so it is a bad one.
    with pytest.raises(BadRowsError, match=r"1 of 4 rows can't be used: line 1 \(rating 'x' is not a number\)"):
        read_file(write("7\t1\tx\t978824330\n" + LINES))
    with pytest.raises(BadRowsError, match=r"line 2 \(3 fields instead of 4\)"):
        read_file(write("7\t1\t3\t978824330\n7\t2\t3\n"))
    read = read_file(write(LINES + "7\t1\tx\t978824330\n"), on_bad_rows="drop")
    assert (rows_of(read.interactions), read.n_bad, read.n_rows) == (ROWS, 1, 4)


def test_what_is_no_such_file(write, tmp_path):
    with pytest.raises(InputError, match=r"no such file. Correct --test\.$"):
        read_file(tmp_path / "none.rating", option="--test")
    with pytest.raises(InputError, match="is a folder without files of rows: --train takes a file"):
        read_file(tmp_path, format="csv", option="--train")
    with pytest.raises(InputError, match="is empty"):
        read_file(write(""))
    with pytest.raises(InputError, match="the extension does not say"):
        read_file(write("user_id item_id\n1 2\n", "a.txt"))
    with pytest.raises(MissingColumnsError):
        read_file(write("1,2,3\n4,5,6\n", "a.csv"))


def test_formats_with_names_are_read_as_ever(write):
    path = write('{"user": "a", "item": 3}\n', "a.jsonl")
    assert rows_of(read_file(path).interactions) == [("a", 3, 1.0, None)]
    with pytest.raises(InputError):
        read_file(write(LINES, "b.jsonl"))


@given(st.lists(st.tuples(st.integers(-20, 120), st.integers(0, 120)), min_size=1, max_size=30))
def test_integers_become_text_where_training_has_text(pairs):
    users, items = zip(*pairs, strict=True)
    train = Interactions.of(["007"], [5])
    converted = as_training_has_them(train, Interactions.of(users, items))
    assert rows_of(converted.test) == [(str(u), i, 1.0, None) for u, i in pairs]
    assert converted.train is train


ids = st.sampled_from(["007", "x", "+1", "1.5", str(2**63), "9" * 19, str(-(2**63)), "-0"]) | st.integers(-5, 5).map(
    str
)


@given(st.lists(ids, min_size=1, max_size=12), st.sampled_from([0, 2**63 - 1, -(2**63)]))
def test_text_becomes_integers_where_training_has_those(texts, extreme):
    """What is no integer gets one that nobody has, the same for the same text."""
    train = Interactions.of([3, extreme], [1, 2])
    negatives = Negatives(np.array(["3"]), np.array([1]), np.array([0, 1]), np.array([2]))
    converted = as_training_has_them(train, Interactions.of(texts, [9] * len(texts)), negatives)
    assert converted.train is train
    numbers = [row[0] for row in rows_of(converted.test)]
    for text, number in zip(texts, numbers, strict=True):
        if is_integer(text):
            assert number == int(text)
        else:
            assert number not in {3, extreme, *(int(t) for t in texts if is_integer(t))}
    assert len(set(numbers)) == len(set(texts))
    assert converted.negatives is not None
    assert converted.negatives.users.tolist() == [3]


def is_integer(text: str) -> bool:
    try:
        return str(int(text)) == text and -(2**63) <= int(text) < 2**63
    except ValueError:
        return False


def test_the_negatives_are_as_training_has_them():
    text = Interactions.of(["1", "2"], ["10", "9"])
    given_ones = Negatives(np.array([1]), np.array([10]), np.array([0, 1]), np.array([9]))
    read = as_training_has_them(text, text, given_ones)
    assert [x.tolist() for x in (read.negatives.users, read.negatives.items, read.negatives.negatives)] == [
        ["1"],
        ["10"],
        ["9"],
    ]
    numbers = Interactions.of([1, 2], [10, 9])
    strange = Negatives(np.array([1]), np.array(["10"]), np.array([0, 2]), np.array(["9", "x7"]))
    converted = as_training_has_them(numbers, numbers, strange)
    assert converted.train is numbers
    assert converted.test is not None
    assert (converted.negatives.items.tolist(), converted.negatives.negatives.tolist()) == ([10], [9, 0])
