"""Encodings, packed files, pipes, and what is no such file at all."""

from __future__ import annotations

import gzip
import os
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.built_rows import rows_of

from pipeline.data.sources import lines
from pipeline.data.sources.columns import Columns
from pipeline.data.sources.files import FileForm, read_file
from pipeline.data.sources.row_counts import count_files
from pipeline.errors import InputError, UsageError

pytest_plugins = ["support.written_files"]


# ---- encodings, packed files, pipes ----------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "UTF-8"])
@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.jsonl"])
def test_encodings(write, monkeypatch, encoding, name):
    monkeypatch.setattr(lines, "BLOCK", 7)
    text = "user_id;item_id;title;rating\né;10;Amélie;4\nü;10;Ŝ;3\n".replace("Ŝ", "ß")
    if "json" in name:
        text = '{"user_id": "é", "item_id": 10, "rating": 4}\n{"user_id": "ü", "item_id": 10, "rating": 3}\n'
    content = text.encode(encoding)
    path = write(gzip.compress(content) if name.endswith("gz") else content, name)
    result = read_file(path, form=FileForm(encoding=encoding))
    assert rows_of(result) == [("é", 10, 4.0, None), ("ü", 10, 3.0, None)]


def test_another_encoding_is_named_by_its_line(write):
    path = write("user_id;item_id;title\n1;10;Amélie\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"line 2 is not UTF-8 text: .*--encoding latin-1"):
        read_file(path)
    with pytest.raises(InputError, match=r"near line 2 it is not ascii text"):
        read_file(path, form=FileForm(encoding="ascii"))
    assert len(read_file(path, form=FileForm(encoding="latin-1")).interactions) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.parquet.gz", gzip.compress(b"PAR1"), "x.parquet.gz is gzip: unpack it"),
        ("x.parquet", gzip.compress(b"PAR1"), "is gzip: unpack it"),
        ("x.csv.zip", b"PK\x03\x04...", "is a zip archive: unpack it first"),
        ("x.csv", b"BZh91AY&SY", "is bzip2: unpack it first"),
        ("x.csv.xz", b"\xfd7zXZ\x00", "is xz: unpack it first"),
        ("x.jsonl.zst", b"\x28\xb5\x2f\xfd..", "is zstd: unpack it first"),
    ],
)
def test_packed_files_are_called_what_they_are(write, name, content, message):
    with pytest.raises(InputError, match=message):
        read_file(write(content, name))


@pytest.mark.parametrize("content", [b"user_id,item_id\n1,10\n2,10\n", gzip.compress(b"user_id,item_id\n1,10\n2,10\n")])
def test_a_pipe_is_read(tmp_path, content):
    path = tmp_path / "p.csv"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(content,))
    writer.start()
    assert count_files([path], Columns(), None) is None, "what is read from a pipe is gone"
    assert len(read_file(path).interactions) == 2
    writer.join()
    os.mkfifo(tmp_path / "p.parquet")
    with pytest.raises(InputError, match="is a pipe, and Parquet is read from its end"):
        read_file(tmp_path / "p.parquet")


def test_options_of_csv_files_alone(write):
    path = write("", "x.parquet")
    pq.write_table(pa.table({"user_id": [1], "item_id": [1]}), path)
    for form in ({"separator": "|"}, {"header": "off"}, {"encoding": "latin-1"}):
        with pytest.raises(UsageError, match=f"--{next(iter(form))}: of CSV files, and this is parquet"):
            read_file(path, form=FileForm(**form))


# ---- what else such files may be ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (gzip.compress(gzip.compress(b"user_id,item_id\n1,2\n")), "x.csv.gz", "gzip inside gzip"),
        (gzip.compress(b"PK\x03\x04"), "x.csv.gz", "is a zip archive"),
        (b"PAR1\0\0", "x.csv", "--format parquet"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "x.csv", "an Excel workbook: save it as CSV"),
        (b"SQLite format 3\0", "x.csv", "an SQLite database"),
        ("user_id,item_id\n1,2\n".encode("utf-16-le"), "x.csv", "--encoding utf-16-le"),
        ("user_id,item_id\n1,2\n".encode("utf-16-be"), "x.csv", "or utf-16-be"),
        ("user_id,item_id,user_id\n1,2,3\n", "x.csv", r"'user_id'\]. Give each column a name of its own"),
    ],
)
def test_what_a_file_is_instead(write, content, name, words):
    with pytest.raises(InputError, match=words):
        read_file(write(content, name))


def test_the_encoding_that_the_message_names_reads_the_file(write):
    path = write("user_id,item_id\n1,2\n".encode("utf-16-le"))
    assert rows_of(read_file(path, form=FileForm(encoding="utf-16-le"))) == [(1, 2, 1.0, None)]


def test_a_mark_before_the_mark_is_no_part_of_the_header(write):
    assert rows_of(read_file(write("\ufeff\ufeffuser_id,item_id\n1,2\n"))) == [(1, 2, 1.0, None)]


def test_a_packed_part_of_nothing_is_passed_over(write):
    path = write("user_id,item_id\n1,2\n", "parts/b.csv")
    write(gzip.compress(b""), "parts/a.csv.gz")
    assert rows_of(read_file(path.parent)) == [(1, 2, 1.0, None)]


@pytest.mark.parametrize("name", ["nosuch", "nosuch.csv", "x.csv/nosuch", "nosuch.xyz"])
def test_a_file_that_is_not_there_is_said_to_be_missing_whatever_its_extension(write, name):
    path = write("user_id,item_id\n1,2\n").parent / name
    with pytest.raises(InputError, match=r"no such file. Correct --input\."):
        read_file(path)
