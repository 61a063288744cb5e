"""Files that are broken, cut, damaged or far too long: one line says so, in bounded memory."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples

from pipeline.data.sources import json as json_rows
from pipeline.data.sources import json_text, lines
from pipeline.data.sources.files import read_file
from pipeline.errors import InputError

pytest_plugins = ["support.written_files"]

GOOD = b"user_id,item_id\n" + b"1,2\n" * 2000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"", "is empty"),
        ("x.csv", b"user_id,item_id\n", "has no rows"),
        ("x.csv", b"user_id,item_id", "has no rows"),
        ("x.csv", b"\nuser_id,item_id\n1,2\n", "line 1 is empty"),
        ("x.csv", b"user_id,item_id\r1,2\r", "ordinary line ends"),
        ("x.csv", b"user_id,item_id\n1,2\n\xe9,3\n", "line 3 is not UTF-8"),
        ("x.csv", "user_id,item_id\n1,2\n".encode("utf-16"), "line 1 is not UTF-8"),
        ("x.csv", b"user_id,item_id,title\n1,2\n1,2,\xe9,\n", "line 3 is not UTF-8"),
        ("x.csv.gz", b"user_id,item_id\n1,2\n", "is no gzip file"),
        ("x.csv.gz", gzip.compress(GOOD, mtime=0)[:-20], "broken gzip"),
        ("x.csv.gz", gzip.compress(GOOD, mtime=0)[:-8] + bytes(8), "broken gzip"),
        ("x.csv.gz", gzip.compress(GOOD, mtime=0)[:30] + b"\xff" * 30, "broken gzip"),
        ("x.csv.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("x.parquet", b"", "is empty"),
        ("x.parquet", b"PAR1 no", "no good parquet"),
        ("x.parquet", GOOD, "no good parquet"),
        ("x.json", b" \n", "is empty"),
        ("x.json", b"[]", "has no rows"),
        ("x.json", b"[\n{", "line 2 is not JSON"),
        ("x.json", b'[{"user_id": 1, "item_id": 1}', "line 1 is not JSON .the array has no end"),
        ("x.json", b'[{"user_id": 1, "item_id": 1},]', "line 1 is not JSON"),
        ("x.json", b'[{"user_id": 1, "item_id": 1}\n{"user_id": 1, "item_id": 1}]', "line 2 .* comma"),
        ("x.json", b'[{"user_id": 1, "item_id": 1}]\n\n7', "line 3 .* after the end"),
        ("x.json", b"[\n1]", "line 2 holds 1, and a row is an object"),
        ("x.json", b"7", "line 1 holds 7"),
        ("x.json", b"[" * 100_000, "line 1"),
        ("x.json", b'{"user_id": 1, "item_id": [' + b"[" * 100_000, "line 1"),
        ("x.json", b"user_id,item_id\n1,2\n", "line 1 is not JSON"),
        ("x.json", b'[{"user_id": "\xe9"}]', "line 1 is not UTF-8"),
        ("x.json", b'[{"user_id": ' + b"9" * 5000 + b', "item_id": 1}]', "line 1 is not JSON"),
        ("x.json", b'[{"user_id": 99999999999999999999, "item_id": 1}]', "pass such ids as strings"),
        ("x.json", b'[{"user_id": true, "item_id": 1}]', "'user_id' is no id"),
        ("x.json", b'[{"user_id": 1.5, "item_id": 1}]', "'user_id' is no id"),
        ("x.json", b'[{"user_id": "\\ud800", "item_id": 1}]', "not valid Unicode"),
        ("x.jsonl", b'{"user_id": 1, "item_id": 1}\n{"user_id": "a", "item_id": 1}', r"text in others \(line 2\)"),
        ("x.jsonl", b'{"user_id": 1, "item_id": 1}\n\n{"user_id": 1,', "line 3 is not JSON"),
        ("x.jsonl", b'{"user_id": 1, "item_id": 1}\n[]\n', "line 2 holds"),
        ("x.jsonl", b'{"user_id": 1, "item_id": 1}\n{"user_id": 1,\n"item_id": 1}\n', "line 2 is not JSON"),
        ("x.jsonl", b'{"user_id": 1, "item_id": 1}\n{"user_id": "\xe9", "item_id": 1}\n', "line 2 is not UTF-8"),
        ("x.jsonl.gz", gzip.compress(b'{"user_id": 1, "item_id": 1}\n' * 999, mtime=0)[:-20], "broken gzip"),
    ],
)
def test_a_broken_file_ends_in_one_line(write, name, content, message):
    path = write(content, name)
    with pytest.raises(InputError, match=message) as caught:
        read_file(path, on_bad_rows="drop")
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    assert len(text) < len(str(path)) + 300


def test_paths_that_are_no_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_file(tmp_path / "no.csv")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(InputError, match="is a folder without files of rows"):
        read_file(tmp_path / "d.csv")


def test_a_cut_parquet_file(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"user_id": range(50_000), "item_id": range(50_000)}), path)
    data = bytearray(path.read_bytes())
    data[1000:30_000] = bytes(29_000)
    path.write_bytes(data)
    with pytest.raises(InputError, match="no good parquet file"):
        read_file(path)


def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST", 1 << 20)
    monkeypatch.setattr(json_text, "LONGEST", 1 << 20)
    monkeypatch.setattr(lines, "BLOCK", 1 << 18)
    monkeypatch.setattr(json_rows, "BLOCK", 1 << 18)
    monkeypatch.setattr(json_text, "BLOCK", 1 << 18)
    read = []
    unzip = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, n: read.append(n) or unzip(self, n))
    for name, start, message in (
        ("x.csv", b"user_id,item_id,title\n1,2\n1,2,\xe9,\n", "line 3 is not UTF-8"),
        ("x.csv.gz", b"user_id,item_id\n1,", "longer than 1 MiB"),
        ("y.csv.gz", b'user_id,item_id\n1,"', "longer than 1 MiB"),
        ("x.jsonl.gz", b'{"user_id": 1, "item_id": 1}\n{"user_id": "', "longer than 1 MiB"),
        ("x.json.gz", b'[{"user_id": "', "is not JSON"),
    ):
        read.clear()
        path = tmp_path / name
        path.write_bytes(gzip.compress(start + b"0" * (16 << 20), 1, mtime=0))
        with pytest.raises(InputError, match=message):
            read_file(path)
        assert sum(read) < 4 << 20


SEEDS = {
    "x.csv": b'user_id,item_id,rating,timestamp\r\n1,a,2.5,10\r\n2,"b""c",3,20\r\n3,"d\ne",0,30\r\n',
    "x.json": b'[{"user_id": 1, "item_id": "a", "rating": 2}, {"user_id": 2, "item_id": "b", "rating": 1e1}]',
    "x.jsonl": b'{"user_id": 1, "item_id": "a", "at": "2020-01-01"}\n{"user_id": 2, "item_id": "b", "at": null}\n',
}


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(SEEDS)), st.data(), st.sampled_from([3, 1 << 20]), st.booleans())
def test_a_damaged_file_gives_rows_or_an_error_of_ours(tmp_path, name, data, block, zipped):
    content = bytearray(SEEDS[name])
    for _ in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 5)))
        content[start:end] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b'"', b"\n", b"\r", b",", b"{", b"[", b"]"])
        )
    path = tmp_path / name
    path.write_bytes(gzip.compress(bytes(content), mtime=0) if zipped else bytes(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK", block)
        patch.setattr(json_rows, "BLOCK", block)
        patch.setattr(json_text, "BLOCK", block)
        try:
            result = read_file(path, on_bad_rows="drop")
        except InputError as error:
            message = str(error)
        else:
            message = str(path)
            assert result.n_rows == len(result.interactions) + result.n_bad
            json.dumps(result.bad_rows, allow_nan=False)
    assert "\n" not in message
    assert str(path) in message
