"""Files as people have them: separators, headers, quotes, columns, folders, and the shapes of public files."""

from __future__ import annotations

import csv
import gzip
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.built_rows import rows_of
from support.examples import examples

from pipeline.data.sources import lines
from pipeline.data.sources.columns import Columns, choose_columns
from pipeline.data.sources.csv_quotes import RecordForm, swallowed_lines
from pipeline.data.sources.files import FileForm, read_file
from pipeline.data.sources.row_counts import count_files
from pipeline.errors import BadRowsError, InputError, MissingColumnsError

pytest_plugins = ["support.written_files"]


# ---- separators and headers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "form", "expected"),
    [
        ("user_id|item_id|rating\n1|10|4\n", "x.csv", {}, [(1, 10, 4.0, None)]),
        ("sep=;\nuser_id;item_id;rating\n1;10;4\n", "x.csv", {}, [(1, 10, 4.0, None)]),
        ('"sep=|"\r\nuser_id|item_id\r\n1|10\r\n', "x.csv", {}, [(1, 10, 1.0, None)]),
        ("user_id\titem_id\trating\ttitle, year\n1\t10\t4\ta\n", "x.tsv", {}, [(1, 10, 4.0, None)]),
        ("user_id\titem_id\trating\ttitle, year, and, more\n1\t10\t4\ta\n", "x.csv", {}, [(1, 10, 4.0, None)]),
        ("user_id;item_id;a,b,c,d,e\n1;10;4\n", "x.csv", {}, [(1, 10, 1.0, None)]),
        ("user_id::item_id::rating\n1::10::4\n", "x.csv", {}, [(1, 10, 4.0, None)]),
        ("user_id~item_id\n1~10\n", "x.csv", {"separator": "~"}, [(1, 10, 1.0, None)]),
        ("user_id item_id\n1 10\n", "x.csv", {"separator": "space"}, [(1, 10, 1.0, None)]),
        ("user_id, item_id, rating\n1, 10, 4\n 1 ,\t20 , 5 \n", "x.csv", {}, [(1, 10, 4.0, None), (1, 20, 5.0, None)]),
        ('user_id, item_id\n"a", "x ""y"""\n', "x.csv", {}, [("a", 'x "y"', 1.0, None)]),
        (
            "a,10,4\nb,20,5\n",
            "x.csv",
            {"header": "user_id,item_id,rating"},
            [("a", 10, 4.0, None), ("b", 20, 5.0, None)],
        ),
        ("a,10,4\n", "x.csv", {"header": "off"}, [("a", 10, 4.0, None)]),
        ("1::1193::5::978300760\n", "x.csv", {}, [(1, 1193, 5.0, 978300760000)]),
        ("196,242,3,881250949\n", "x.csv", {}, [(196, 242, 3.0, 881250949000)]),
        ("196\t242\t3\t881250949\n", "u.data", {}, [(196, 242, 3.0, 881250949000)]),
    ],
)
def test_separators_and_headers(write, text, name, form, expected):
    assert rows_of(read_file(write(text, name), form=FileForm(**form))) == expected


def test_columns_by_number_where_there_is_no_header(write):
    path = write("7,x,1,10\n8,x,2,20\n")
    result = read_file(path, Columns(user="3", item="1"), form=FileForm(header="off"))
    assert rows_of(result) == [(1, 7, 1.0, None), (2, 8, 1.0, None)]
    path = write("1,0,2\n0,1,3\n")  # rows that are the names of columns
    assert len(read_file(path, Columns(user="1", item="2"), form=FileForm(header="off")).interactions) == 2


def test_a_first_line_that_is_a_row_is_asked_about(write):
    with pytest.raises(MissingColumnsError, match=r"Is line 1 a row\? --header user_id,item_id,"):
        read_file(write("a,10,x\nb,20,y\n"))
    with pytest.raises(MissingColumnsError, match=r"comma, semicolon, tab, \| and ::; --separator"):
        read_file(write("user_id~item_id\n1~2\n"))
    with pytest.raises(InputError, match="has 3 fields, and --header names 2 columns"):
        read_file(write("1,2,3\n"), form=FileForm(header="user_id,item_id"))
    result = read_file(write("196\t242\t3\t881250949\n", "u.data"))
    assert result.notes == (
        f"{write('', 'no').parent / 'u.data'}: the first line is a row: its columns are taken for user_id, item_id, "
        "rating, timestamp (--header names others)",
    )


def test_quotes_are_text_where_tabs_separate(write):
    path = write('user_id\titem_id\ttitle\n1\t10\t"weird\n2\t20\t5" pipe\n3\t30\t"\n', "x.tsv")
    assert [row[:2] for row in rows_of(read_file(path))] == [(1, 10), (2, 20), (3, 30)]
    path = write('"user_id"\t"item_id"\n"a"\t"x\ty"\n', "x.tsv")  # as R writes them
    assert [row[:2] for row in rows_of(read_file(path))] == [("a", "x\ty")]


# ---- joined files, quotes without a pair ----------------------------------------------------------


def test_marks_and_headers_of_joined_files(write):
    text = "user_id,item_id\n1,10\n\ufeffuser_id,item_id\n\ufeff3,10\n"
    result = read_file(write("\ufeff" + text), on_bad_rows="drop")
    assert rows_of(result) == [(1, 10, 1.0, None), (3, 10, 1.0, None)]
    assert [(row["line"], row["reason"]) for row in result.bad_rows] == [(3, "it repeats the header")]
    with pytest.raises(BadRowsError, match=r"1 of 3 rows can't be used: line 3 \(it repeats the header\)"):
        read_file(write(text))
    rated = "user_id,item_id,rating\n1,10,2\n1,11\nuser_id,item_id,rating\n2,10,3\n"
    result = read_file(write(rated), on_bad_rows="drop")
    assert [row["line"] for row in result.bad_rows] == [3, 4]
    assert [row[:3] for row in rows_of(result)] == [(1, 10, 2.0), (2, 10, 3.0)]


UNBALANCED = 'user_id,item_id,title,rating\nu1,m1,"weird one,3\nu2,m2,plain,5\nu3,m3,other" band,9\nu4,m4,z,1\n'


@pytest.mark.parametrize(
    ("text", "lines_named"),
    [
        (UNBALANCED, (2, 4)),
        (UNBALANCED.replace('" band', '"'), (2, 4)),
        (UNBALANCED.replace("u3,m3,other", "u3,m3,x,1\nu5,m5,other"), (2, 5)),
        (UNBALANCED.replace('" band', ""), (2, 5)),  # it never ends
        ('user_id,item_id,rating,title\n1,1,4,"a\n2,2,5,b"\n', (2, 3)),
    ],
)
@pytest.mark.parametrize("how", ["error", "drop"])
def test_a_quoted_field_that_holds_records_is_named(write, text, lines_named, how):
    first, last = lines_named
    with pytest.raises(InputError, match=f"line {first}: a quoted field goes on to line {last}, over lines that are"):
        read_file(write(text), on_bad_rows=how)


def test_a_quoted_field_of_several_lines_is_no_fault(write):
    text = 'user_id,item_id,review,rating\n1,10,"so, so\n\nand 3, 4, 5 more\nlines, of, it, too",4\n2,10,"5"" disc",3\n'
    assert [row[:3] for row in rows_of(read_file(write(text)))] == [(1, 10, 4.0), (2, 10, 3.0)]
    assert len(read_file(write('user_id,item_id,title\n1,2,"Hello\nto, you, all"\n')).interactions) == 1


words = st.text(st.sampled_from('ab1, "\n'), max_size=6)


@settings(max_examples=examples(300))
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), words), min_size=1, max_size=5))
def test_what_a_csv_writer_quotes_is_read_or_refused_as_records(rows):
    """A well-formed file is refused only where a line of a field would be a record itself."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    swallowed = swallowed_lines(text.getvalue().encode(), RecordForm(b",", 3, (0, 1), ()))
    if swallowed is None:
        return
    line, is_record = 0, []
    for row in rows:
        written = io.StringIO()
        csv.writer(written, lineterminator="\n").writerow(row)
        n = written.getvalue().count("\n")
        is_record.append(
            (line, line + n - 1, [part for part in written.getvalue().split("\n") if part.count(",") == 2])
        )
        line += n
    assert any(first <= swallowed[0] <= last and parts for first, last, parts in is_record)


@pytest.mark.parametrize("drop", ["error", "drop"])
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('user_id,item_id\n"a\\"b",10\n', 2),
        ('user_id,item_id,title\nu,10,x\nv,20,"say \\"hi\\""\nw,30,y\n', 3),
    ],
)
def test_a_quote_behind_a_backslash_is_refused(write, text, line, drop):
    """The parser would read the id a\\"b as a\\b"."""
    with pytest.raises(InputError, match=rf'line {line}: \\" stands in a quoted field, .*: write "" in place of it'):
        read_file(write(text), on_bad_rows=drop)


def test_a_backslash_before_the_closing_quote_is_text(write):
    assert sorted(rows_of(read_file(write('user_id,item_id\n"C:\\",10\n5\\" x,20\n')))) == [
        ('5\\" x', 20, 1.0, None),
        ("C:\\", 10, 1.0, None),
    ]


# ---- which columns ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "columns", "sentence"),
    [
        (
            ["user_id", "item_id", "stars2", "note"],
            Columns(),
            "user `user_id`, item `item_id`, no score column, each row counts 1, no time column; "
            "not used: `stars2`, `note`",
        ),
        (["User-ID", "item id", "Plays"], Columns(), "user `User-ID`, item `item id`, score `Plays`, no time column"),
        (
            ["user", "item", "rating", "count", "at"],
            Columns(timestamp="off"),
            "user `user`, item `item`, score `rating`, no time column (off); not used: `count`, `at`",
        ),
        (
            ["user", "item", "weight", "date"],
            Columns(of_query=True),
            "user `user`, item `item`, no score column, each row counts 1, no time column; not used: `weight`, `date`",
        ),
        (
            ["user", "item", "weight", "event_type"],
            Columns(rating="off"),
            "user `user`, item `item`, no score column (off), each row counts 1, no time column; not used: `weight`, "
            "`event_type` (--event-weights makes scores of `event_type`)",
        ),
    ],
)
def test_which_columns_are_read_is_said(names, columns, sentence):
    assert choose_columns(names, columns).sentence == sentence


def test_two_columns_that_could_be_the_score_are_refused():
    with pytest.raises(InputError, match=r"\['plays', 'weight'\]. Say which with --rating-column"):
        choose_columns(["user", "item", "plays", "weight"], Columns())
    sentence = choose_columns([*"abcdefghijklmnop", "user", "item"], Columns()).sentence
    assert sentence.endswith("`k`, `l` and 4 more")


def test_every_format_says_its_columns(write):
    table = pa.table({"user": [1], "item": [2], "plays": [3], "note": ["x"]})
    parquet = write("", "x.parquet")
    pq.write_table(table, parquet)
    objects = '{"user": 1, "item": 2, "plays": 3, "note": "x"}'
    said = set()
    for path in (
        parquet,
        write("user,item,plays,note\n1,2,3,x\n"),
        write(objects, "x.jsonl"),
        write(f"[{objects}]", "x.json"),
    ):
        result = read_file(path)
        assert rows_of(result) == [(1, 2, 3.0, None)]
        said.add(result.columns.sentence)
    assert said == {"user `user`, item `item`, score `plays`, no time column; not used: `note`"}


# ---- several files ---------------------------------------------------------------------------------


def test_several_files_are_one_source(write):
    a = write("user_id,item_id,rating\n1,10,1\n1,11,x\n", "a.csv")
    b = write("rating;item_id;user_id\n2;10;3\n4;;3\n", "b.csv")
    result = read_file([a, b], on_bad_rows="drop")
    assert [row[:3] for row in rows_of(result)] == [(1, 10, 1.0), (3, 10, 2.0)]
    assert [(row["file"], row["line"]) for row in result.bad_rows] == [(str(a), 3), (str(b), 3)]
    with pytest.raises(BadRowsError, match=r"2 of 4 rows can't be used: \S+a.csv line 3 \(.*, \S+b.csv line 3 \("):
        read_file([a, b])
    with pytest.raises(InputError, match="is given twice"):
        read_file([a, b, a])
    with pytest.raises(InputError, match="Columns change on the way"):
        read_file([a, write("user_id,item_id\n1,2\n", "c.csv")])


def test_ids_of_several_files_are_of_one_kind(write):
    a, b = write("user_id,item_id\n1,10\n", "a.csv"), write("user_id,item_id\nx,10\n", "b.csv")
    assert [row[0] for row in rows_of(read_file([a, b]))] == ["1", "x"]
    integers, text = write("", "i.parquet"), write("", "t.parquet")
    pq.write_table(pa.table({"user_id": [2], "item_id": [10]}), integers)
    pq.write_table(pa.table({"user_id": ["2"], "item_id": [10]}), text)
    assert [row[0] for row in rows_of(read_file([a, integers]))] == [1, 2]
    assert [row[0] for row in rows_of(read_file([text, a]))] == ["2", "1"]
    for pair in ([b, integers], [integers, text]):
        with pytest.raises(InputError, match="'user_id' holds integers in some rows and text in others"):
            read_file(pair)


def test_a_folder_of_part_files(write, tmp_path):
    folder = tmp_path / "ratings.parquet"
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    (folder / ".part-00000.crc").write_bytes(b"crc")
    for n in range(3):
        part = pa.table({"user_id": [n], "item_id": [10], "rating": [1.0]})
        pq.write_table(part, folder / f"part-{n:05}.snappy.parquet")
    (folder / "part-00003.snappy.parquet").touch()
    assert [row[0] for row in rows_of(read_file(folder))] == [0, 1, 2]
    assert count_files([folder], Columns(), None).n_rows == 3
    write("user_id,item_id\n7,10\n", "days/a.csv")
    write(gzip.compress(b"user_id,item_id\n8,10\n"), "days/b.csv.gz")
    assert [row[0] for row in rows_of(read_file(tmp_path / "days"))] == [7, 8]
    (folder / "day=1").mkdir()
    with pytest.raises(InputError, match=r"is a folder that holds folders \(day=1, …\)"):
        read_file(folder)


# ---- the shapes of public files --------------------------------------------------------------------

LASTFM = (
    "00000c289a1829a808ac09c00daf10bc3c4e223b\t3bd73256-3905-4f3a-97e2-8b341527f805\tbetty blowtorch\t2137\n"
    '00000c289a1829a808ac09c00daf10bc3c4e223b\tf2fb0ff0-5679-42ec-a55c-15109ce6e320\tdie "Ärzte\t1099\n'
)
BOOKS = '"User-ID";"ISBN";"Book-Rating"\r\n"276725";"034545104X";"0"\r\n"276726";"0155061224";"5"\r\n'
STEAM = '151603712,"The Elder Scrolls V Skyrim",purchase,1.0,0\n151603712,"Fallout 4, the game",play,87.0,0\n'
ANIME = '"user_id","anime_id","rating"\n1,20,-1\n1,24,-1\n2,20,10\n'


@pytest.mark.parametrize(
    ("content", "name", "columns", "form", "expected"),
    [
        (
            LASTFM.encode(), "plays.tsv", Columns(), FileForm(header="user_id,item_id,artist,plays"),
            [("00000c28", "3bd73256", 2137.0), ("00000c28", "f2fb0ff0", 1099.0)],
        ),
        (
            BOOKS.replace("034545104X", "03454510é").encode("latin-1"), "BX.csv",
            Columns(item="ISBN", rating="Book-Rating"), FileForm(encoding="latin-1"),
            [(276725, "03454510", 0.0), (276726, "01550612", 5.0)],
        ),
        (
            STEAM.encode(), "steam.csv", Columns(event_weights={"purchase": 1.0, "play": 2.0}),
            FileForm(header="user_id,item_id,event,hours,nothing"),
            [(151603712, "The Elde", 1.0), (151603712, "Fallout ", 2.0)],
        ),
        (
            ANIME.encode(), "rating.csv", Columns(item="anime_id", on_negative="zero"), FileForm(),
            [(1, 20, 0.0), (1, 24, 0.0), (2, 20, 10.0)],
        ),
        (
            b"1::1193::5::978300760\n1::661::3::978302109\n", "ratings.csv", Columns(), FileForm(),
            [(1, 1193, 5.0), (1, 661, 3.0)],
        ),
        (
            b"196\t242\t3\t881250949\n186\t302\t3\t891717742\n", "u.data", Columns(), FileForm(),
            [(196, 242, 3.0), (186, 302, 3.0)],
        ),
        (
            b"timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n"
            b"1433224214164,257597,transaction,355908,12345\n", "events.csv",
            Columns(user="visitorid", event_weights={"view": 1.0, "addtocart": 3.0, "transaction": 5.0}), FileForm(),
            [(257597, 355908, 1.0), (257597, 355908, 5.0)],
        ),
        (
            b"event_time,event_type,product_id,user_id\n2019-10-01 00:00:00 UTC,view,44600062,541312140\n",
            "2019-Oct.csv", Columns(), FileForm(), [(541312140, 44600062, 1.0)],
        ),
    ],
)  # fmt: skip
def test_the_shapes_of_public_files(write, content, name, columns, form, expected):
    def short(value):
        return value[:8] if isinstance(value, str) else value

    rows_read = rows_of(read_file(write(content, name), columns, form=form))
    assert [(short(user), short(item), score) for user, item, score, _ in rows_read] == expected


# ---- against a slow twin ---------------------------------------------------------------------------

cells = st.text(st.sampled_from("ab1. é"), max_size=4)
separators = st.sampled_from([",", ";", "\t", "|", "::", "~", "§"])


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(cells, cells, st.integers(0, 9)), min_size=1, max_size=8),
    separators, st.sampled_from(["utf-8", "latin-1", "utf-16"]), st.sampled_from([5, 1 << 23]), st.booleans(),
)  # fmt: skip
def test_any_separator_encoding_and_header_give_the_rows(tmp_path, rows, separator, encoding, block, header):
    names = ["user_id", "item_id", "rating"]
    text = "".join(separator.join(map(str, row)) + "\n" for row in [*([names] if header else []), *rows])
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode(encoding))
    form = FileForm(separator, "auto" if header else "user_id,item_id,rating", encoding)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK", block)
        result = read_file(path, form=form, on_bad_rows="drop")
    kept = [(user.strip(" "), item.strip(" "), float(score)) for user, item, score in rows]
    kept = [row for row in kept if row[0] and row[1]]
    expected = list(zip(*(as_ids([row[c] for row in kept]) for c in (0, 1)), [row[2] for row in kept], strict=True))
    assert [row[:3] for row in rows_of(result)] == expected
    assert result.n_bad == len(rows) - len(kept)


def as_ids(texts: list[str]) -> list:
    whole = [text.split(".")[0] if text.split(".", 1)[-1].strip("0") == "" and "." in text else text for text in texts]
    whole = [w if t[-1:] != "." else t for w, t in zip(whole, texts, strict=True)]
    return [int(text) for text in whole] if all(is_canonical(text) for text in whole) else texts


def is_canonical(text: str) -> bool:
    return text.isascii() and text.isdigit() and str(int(text)) == text
