"""Files → Interactions: the formats agree, and bad rows are named by their place."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples

from pipeline.data.sources import json as json_rows
from pipeline.data.sources import json_text, lines
from pipeline.data.sources.builder import Columns
from pipeline.data.sources.files import read_file
from pipeline.data.sources.id_column import _NO_IDS
from pipeline.errors import BadRowsError, InputError, MissingColumnsError, UsageError

pytest_plugins = ["support.written_files"]

HEADER = "user_id,item_id,rating,timestamp\n"


def rows_of(result) -> list[tuple]:
    x = result.interactions
    at = [None] * len(x) if x.at is None else x.at.astype(np.int64).tolist()
    return list(
        zip(x.user_ids.ids(x.users).tolist(), x.item_ids.ids(x.items).tolist(), x.scores.tolist(), at, strict=True)
    )


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few lines, so that every case crosses some."""

    def use(size):
        monkeypatch.setattr(lines, "BLOCK", size)
        monkeypatch.setattr(json_rows, "BLOCK", size)
        monkeypatch.setattr(json_text, "BLOCK", size)

    return use


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1, max_size=8).filter(
    lambda word: word == word.strip(" \t\ufeff") and word not in _NO_IDS.to_pylist()
)
whole = st.integers(-(2**63), 2**63 - 1)
rows_strategy = st.tuples(st.sampled_from([words, whole]), st.sampled_from([words, whole])).flatmap(
    lambda ids: st.lists(
        st.tuples(*ids, st.integers(0, 40).map(lambda n: n / 8), st.integers(1, 2 * 10**9)), min_size=1, max_size=12
    )
)


def as_csv(rows, quoting=csv.QUOTE_MINIMAL) -> str:
    text = io.StringIO()
    writer = csv.writer(text, quoting=quoting)
    writer.writerow(["user_id", "item_id", "rating", "timestamp"])
    writer.writerows(rows)
    return text.getvalue()


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows_strategy, st.sampled_from([7, 64, 1 << 23]), st.booleans())
def test_every_format_gives_the_same(tmp_path, rows, block, quoted):
    names = ["user_id", "item_id", "rating", "timestamp"]
    objects = [dict(zip(names, row, strict=True)) for row in rows]
    contents = {
        "a.csv": as_csv(rows, csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL),
        "a.json": json.dumps(objects),
        "b.json": json.dumps(objects, indent=1, ensure_ascii=False),
        "c.json": "\n".join(json.dumps(o, indent=2) for o in objects),
        "a.jsonl": "\n".join(json.dumps(o) for o in objects),
        "b.ndjson": "".join(json.dumps(o, ensure_ascii=False) + "\r\n\n" for o in objects),
    }
    paths = []
    for name, text in contents.items():
        paths += [tmp_path / name, tmp_path / f"{name}.gz"]
        paths[-2].write_bytes(text.encode())
        paths[-1].write_bytes(gzip.compress(text.encode(), 1, mtime=0))
    paths.append(tmp_path / "a.parquet")
    pq.write_table(pa.Table.from_pylist(objects), paths[-1])
    expected = [(u, i, r, t * 1000) for u, i, r, t in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK", block)
        patch.setattr(json_rows, "BLOCK", block)
        patch.setattr(json_text, "BLOCK", block)
        for path in paths:
            if "csv" in path.name:
                # Text in a CSV is an integer where all of its column are: the other formats know.
                users, items = (csv_ids([str(row[c]) for row in rows]) for c in (0, 1))
                wanted = [(u, i, *e[2:]) for u, i, e in zip(users, items, expected, strict=True)]
            else:
                wanted = expected
            assert rows_of(read_file(path)) == wanted, path.name


def csv_ids(texts: list[str]) -> list:
    """What a CSV's column of ids means, one cell after the other."""
    texts = [text.strip(" \t\r\ufeff") for text in texts]
    whole = [re.sub(r"\.0+$", "", text) for text in texts]
    return [int(text) for text in whole] if all(t.isascii() and is_integer(t) for t in whole) else texts


def is_integer(text: str) -> bool:
    try:
        return str(int(text)) == text and -(2**63) <= int(text) < 2**63
    except ValueError:
        return False


cells = st.sampled_from(
    ["1", "2", "007", "", "abc", "4.5", "nan", "-1", '"q,\nq"', '"a""b"', "1577836800", "2020-01-01"]
)


@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(cells, min_size=3, max_size=5) | st.just([]), min_size=1, max_size=12),
    st.sampled_from([5, 40, 1 << 23]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_bad_lines_are_named_by_their_true_number(tmp_path, table, block, end):
    text = HEADER.strip() + end + "".join(",".join(row) + end for row in table)
    path = tmp_path / "x.csv"
    path.write_text(text, newline="")
    good, bad, line = [], [], 2
    for row in table:
        fields = next(csv.reader([",".join(row)]), []) if row else []
        fields = next(csv.reader(io.StringIO(",".join(row), newline="")), []) if row else fields
        if row:
            user, item, rating, at = fields if len(fields) == 4 else [""] * 4
            fits = (
                user not in ("", "nan") and item not in ("", "nan") and rating in ("1", "2", "007", "4.5", "1577836800")
            )
            (good if fits and at in TIMES else bad).append((line, user, item))
        line += 1 + ",".join(row).count("\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK", block)
        if not good and not bad:
            with pytest.raises(InputError, match="has no rows"):
                read_file(path, on_bad_rows="drop")
            return
        result = read_file(path, on_bad_rows="drop")
    assert [row["line"] for row in result.bad_rows] == [number for number, *_ in bad]
    assert (result.n_rows, result.n_bad) == (len(good) + len(bad), len(bad))
    assert [(str(u), str(i)) for u, i, *_ in rows_of(result)] == [(u, i) for _, u, i in good]


TIMES = ("1", "2", "007", "4.5", "-1", "1577836800", "2020-01-01")


def test_reasons_in_a_csv(write):
    path = write(HEADER + "1,1,4.5,10\n1,,4,10\n1,2,abc,10\n1,3\n\n1,4,,x\n1,5,3,soon\n")
    result = read_file(path, on_bad_rows="drop")
    assert [(row["line"], row["reason"]) for row in result.bad_rows] == [
        (3, "item_id is empty"),
        (4, "rating 'abc' is not a number"),
        (5, "2 fields instead of 4"),
        (7, "rating is missing"),
        (8, "timestamp 'soon' is not a time"),
    ]
    assert rows_of(result) == [(1, 1, 4.5, 10_000)]
    with pytest.raises(BadRowsError, match=r"^\S+x\.csv: 5 of 6 rows can't be used: line 3 \(item_id is empty\), line"):
        read_file(path)


@pytest.mark.parametrize("late", ["007", "x", "1.5", "9" * 30])
def test_ids_are_not_inferred_from_the_first_block(write, small_blocks, late):
    small_blocks(64)
    ids = [str(n) for n in range(500)] + [late]
    path = write("user_id,item_id\n" + "".join(f"{i},1\n" for i in ids))
    assert [row[0] for row in rows_of(read_file(path))] == ids


def test_times_may_turn_into_text_on_the_way(write, small_blocks):
    small_blocks(64)
    rows = [f"{n},1,1,{t}" for n, t in enumerate(["1577836800"] * 40 + ["2020-01-01T00:00:00Z"] * 40 + ["1577836800"])]
    result = read_file(write(HEADER + "\n".join(rows)))
    assert {row[3] for row in rows_of(result)} == {1_577_836_800_000}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("userId;movieId;rating\n1;2;3.5\n", "x.csv"),
        ("userId\tmovieId\trating\n1\t2\t3.5\n", "x.tsv"),
        ("\ufeffuserId, movieId ,rating\n1,2,3.5\n", "x.csv"),
        ('"title","rating","movieId","userId","title"\r\n"a ""b"", c\nd","3.5","2","1",x\r\n', "X.CSV"),
        ("\ufeff" + '{"movieId": 2, "userId": 1, "rating": 3.5, "tags": [{"a": 1}]}', "x.jsonl"),
        ("\ufeff" + '\n [ {"movieId": 2.0, "userId": 1, "rating": "3.5"}\n]\n', "x.json"),
    ],
)
def test_dialects(write, text, name):
    assert rows_of(read_file(write(text, name))) == [(1, 2, 3.5, None)]


def test_named_columns_and_format(write):
    path = write("who,what,user_id\n1,2,9\n", "x.dat")
    assert rows_of(read_file(path, Columns(user="who", item="what"), format="csv")) == [(1, 2, 1.0, None)]
    with pytest.raises(InputError, match=r"known: \.csv, .*--format csv\|parquet\|json"):
        read_file(path)
    with pytest.raises(UsageError, match="got 'xml'"):
        read_file(path, format="xml")
    with pytest.raises(MissingColumnsError, match=r"^Missing required columns: \['user_id', 'item_id'\] in \S+x\.csv"):
        read_file(write("a,b\n1,2\n"))


def test_progress_tells_the_rows_so_far(write, small_blocks):
    small_blocks(32)
    path = write("user_id,item_id\n" + "1,2\n" * 50)
    seen = []
    read_file(path, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 50
    assert len(seen) > 3


def test_rows_of_a_parquet_file_have_numbers(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"title": ["a"] * 3, "user": [1, None, 3], "item": ["x", "y", ""]}), path)
    result = read_file(path, on_bad_rows="drop")
    assert [(row["row"], row["reason"]) for row in result.bad_rows] == [(2, "user is missing"), (3, "item is empty")]
    assert rows_of(result) == [(1, "x", 1.0, None)]


def test_bad_cells_in_json(write, small_blocks):
    objects = [{"user_id": n, "item_id": "a", "rating": 1} for n in range(40)]
    objects[7]["rating"] = "bad"
    objects[20]["rating"] = float("nan")
    objects[21] = {"user_id": 21, "item_id": "a"}
    objects[30]["rating"] = {"stars": 5}
    objects[31]["user_id"] = None
    objects[32]["rating"] = 2.5
    expected = [
        (8, "rating 'bad' is not a number"),
        (21, "rating nan is not finite"),
        (22, "rating is missing"),
        (31, """rating '{"stars": 5}' is not a number"""),
        (32, "user_id is missing"),
    ]
    for size in (30, 200, 1 << 20):
        small_blocks(size)
        for text in ("\n".join(map(json.dumps, objects)), "[" + ",\n".join(map(json.dumps, objects)) + "]"):
            result = read_file(write(text, "x.json"), on_bad_rows="drop")
            assert [(r["line"], r["reason"].replace("'nan'", "nan")) for r in result.bad_rows] == expected
            assert len(result.interactions) == 35


def test_ids_that_are_null_at_first_may_be_text(write, small_blocks):
    small_blocks(32)
    objects = [{"user_id": None, "item_id": 1}] * 5 + [{"user_id": "a", "item_id": 1}]
    for text in ("\n".join(map(json.dumps, objects)), json.dumps(objects)):
        result = read_file(write(text, "x.json"), on_bad_rows="drop")
        assert (rows_of(result), result.n_bad) == ([("a", 1, 1.0, None)], 5)


def test_a_key_may_be_missing_but_not_turn_up_late(write, small_blocks):
    small_blocks(32)
    early = '{"user_id": 1, "item_id": 1}\n' * 5
    with pytest.raises(InputError, match="the key 'rating' turns up only after line 6"):
        read_file(write(early + '{"user_id": 1, "item_id": 1, "rating": 2}\n', "x.jsonl"))
    assert len(read_file(write(early + '{"user_id": 1, "item_id": 1, "note": 2}\n', "x.jsonl")).interactions) == 6


def test_a_bad_cell_alone_is_told_as_it_stands(write):
    for cell, reason in (("abc", "'abc' is not a number"), ("NA", "'NA' is not a number"), ("", "is missing")):
        with pytest.raises(BadRowsError, match=f"line 2 .rating {reason}"):
            read_file(write(f"user_id,item_id,rating\n1,2,{cell}\n"))


def test_a_stray_quote_does_not_swallow_the_file(write, small_blocks, monkeypatch):
    small_blocks(64)
    monkeypatch.setattr(lines, "LONGEST", 256)
    rows = "".join(f"{n},{n % 7},1,10\n" for n in range(200))
    result = read_file(write(HEADER + rows + '5" pipe,1,1,10\n' + rows), on_bad_rows="drop")
    assert (len(result.interactions), result.n_bad) == (401, 0)


quoted_lines = st.lists(st.sampled_from(["a", '"', "\n", "\r", ","]), max_size=40).map("".join)


@settings(max_examples=examples(200))
@given(quoted_lines, st.integers(1, 9))
def test_blocks_of_lines_lose_nothing(text, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK", block)
        for quotes in (False, True):
            got = list(lines.blocks_of_lines(io.BytesIO(text.encode()), "x", quotes))
            assert b"".join(part for _, part in got) == text.encode()
            starts = itertools.accumulate((part.count(b"\n") for _, part in got), initial=1)
            assert [line for line, _ in got] == list(starts)[: len(got)]
            for _, part in got[:-1]:
                assert part.endswith(b"\n")
                assert not quotes or part.count(b'"') % 2 == 0
