"""Values as people have them in files: ids, times, scores below 0, events."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.built_rows import read, rows_of
from support.examples import examples

from pipeline.data.sources.columns import Columns
from pipeline.data.sources.files import read_file
from pipeline.errors import BadRowsError, InputError, MissingColumnsError

EVENTS = Columns(event_weights={"view": 1.0, "cart": 3.0, "purchase": 5.0})

pytest_plugins = ["support.written_files"]


# ---- ids -------------------------------------------------------------------------------------------


def test_floats_are_integers_where_all_are(write):
    assert [row[:2] for row in rows_of(read_file(write("user_id,item_id\n1,10\n1.0,20\n2,20.00\n")))] == [
        (1, 10),
        (1, 20),
        (2, 20),
    ]
    assert [row[0] for row in rows_of(read_file(write("user_id,item_id\n1,10\n1.0,20\nx,20\n")))] == ["1", "1.0", "x"]


@pytest.mark.parametrize("word", ["NULL", "nan", r"\N", "None", "NA", "inf", "null", "N/A", "NaN", "-inf", "<NA>"])
def test_words_for_a_missing_id_are_missing(write, word):
    path = write(f"user_id,item_id\n1,10\n{word},20\n2, {word} \n")
    result = read_file(path, on_bad_rows="drop")
    assert rows_of(result) == [(1, 10, 1.0, None)]
    assert [row["line"] for row in result.bad_rows] == [3, 4]
    assert result.bad_rows[0]["reason"].startswith("user_id is missing (")
    parquet = write("", "x.parquet")
    pq.write_table(pa.table({"user_id": ["a", word], "item_id": ["x", "y"]}), parquet)
    assert [row[0] for row in rows_of(read_file(parquet, on_bad_rows="drop"))] == ["a"]


def test_16_bytes_are_a_uuid_only_where_the_file_says_so(tmp_path):
    raw = pa.array([b"user-00000000001", b"user-00000000002"], pa.binary(16))
    table = pa.table({"user_id": raw, "item_id": pa.ExtensionArray.from_storage(pa.uuid(), raw)})
    pq.write_table(table, tmp_path / "x.parquet")
    assert [row[:2] for row in rows_of(read_file(tmp_path / "x.parquet"))] == [
        ("user-00000000001", "75736572-2d30-3030-3030-303030303031"),
        ("user-00000000002", "75736572-2d30-3030-3030-303030303032"),
    ]


# ---- times -----------------------------------------------------------------------------------------


def times(column, **given) -> list[int]:
    n = len(column)
    table = pa.table({"user_id": [1] * n, "item_id": [1] * n, "at": column})
    return [row[3] for row in rows_of(read(table, columns=Columns(**given)))]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "2020-01-01 00:00:00 UTC",
            "2020-01-01 00:00:00+0000",
            "2020-01-01 02:00:00 +0200",
            "2020-01-01T00:00:00 GMT",
        ),
        *("2019-12-31 19:00:00.000 -05:00", "2020-01-01 00:00:00UTC"),
    ],
)
def test_zones_as_people_write_them(text):
    assert times(pa.array([text])) == [1_577_836_800_000]
    assert times(pa.array([text, "2020-01-01", "1577836800"])) == [1_577_836_800_000] * 3


@pytest.mark.parametrize(
    ("number", "form"),
    [
        *((20200105, "%Y%m%d"), (2020, "%Y"), (202001, "%Y%m"), (20200105123000, "%Y%m%d%H%M%S")),
        *((202001051230, "%Y%m%d%H%M"), (18266, "days")),
    ],
)
def test_numbers_that_are_no_count_of_seconds_are_refused_with_the_way_out(number, form):
    for column in ([number, number, 0], [str(number)], [float(number)]):
        with pytest.raises(InputError, match=f"such as {number}, .*--time-format {form}, or (milli)?seconds"):
            times(pa.array(column))
    unit, factor = ("seconds", 1000) if number < 10**11 else ("milliseconds", 1)
    assert times(pa.array([number, 10**12 // factor])) == [number * factor, 10**12]
    assert times(pa.array([number]), time_format=unit) == [number * factor]
    year_begins = 1_577_836_800_000
    moment = times(pa.array([number]), time_format=form)[0]
    assert year_begins <= moment < year_begins + 6 * 86_400_000
    assert times(pa.array([str(number)]), time_format=form) == [moment]


@settings(max_examples=examples(100))
@given(
    st.lists(st.datetimes(dt.datetime(1000, 1, 1), dt.datetime(9999, 12, 31)) | st.just("soon"), max_size=6),
    st.sampled_from(
        ["%Y-%m-%d", "%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M:%S %p", "%b %d, %Y", "%Y%m%d", "%d/%m/%Y %H:%M:%S.%f"]
    ),
)
def test_a_pattern_reads_what_python_reads(moments, pattern):
    texts = [moment if isinstance(moment, str) else f"{moment:{pattern}}" for moment in moments]
    texts = [text if text == "soon" else text.zfill(len(text)) for text in texts]
    n = len(texts)
    table = pa.table({"user_id": range(n), "item_id": range(n), "at": pa.array(texts, pa.string())})
    result = read(table, columns=Columns(time_format=pattern), on_bad_rows="drop")
    expected = []
    for text in texts:
        try:
            moment = dt.datetime.strptime(text, pattern)
        except ValueError:
            continue
        expected.append(int((moment - dt.datetime(1970, 1, 1)) // dt.timedelta(milliseconds=1)))
    assert [row[3] for row in rows_of(result)] == expected
    assert result.n_bad == n - len(expected)


def test_seconds_among_milliseconds_are_read_as_such_and_said():
    table = {"user_id": [1] * 4, "item_id": range(4), "at": [1593878903000, 1593878904000, 1593878905, 1593878906000]}
    result = read(table)
    assert [row[3] for row in rows_of(result)] == [1593878903000 + 1000 * n for n in range(4)]
    (note,) = result.notes
    assert "`at` mixes units of time, such as seconds and milliseconds: 1 of 4 numbers" in note
    among = read({"user_id": [1] * 3, "item_id": range(3), "at": [1593878903, 1593878904000, 1593878905]})
    assert [row[3] for row in rows_of(among)] == [1593878903000, 1593878904000, 1593878905000]
    assert among.notes
    assert read({"user_id": [1], "item_id": [1], "at": [1593878903]}).notes == ()


def test_times_of_96_bits_keep_their_years(tmp_path):
    moments = [dt.datetime(1000, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59), dt.datetime(2020, 1, 1, 0, 0, 0, 5000)]
    table = pa.table({"user_id": [1, 2, 3], "item_id": [1, 1, 1], "at": pa.array(moments, pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "x.parquet", use_deprecated_int96_timestamps=True)
    times_read = read_file(tmp_path / "x.parquet").interactions.at
    assert times_read.tolist() == moments


# ---- scores and events -----------------------------------------------------------------------------


def test_scores_below_0_by_choice(write):
    path = write("user_id,item_id,rating\n1,20,-1\n1,24,8\n2,20,10\n,20,-1\n")
    with pytest.raises(BadRowsError, match=r"2 of 4 rows .* line 2 \(rating '?-1.*--on-negative zero"):
        read_file(path)
    good = [(1, 24, 8.0, None), (2, 20, 10.0, None)]
    cases = {
        ("drop", None): (good, 2),
        ("drop", "drop"): (good, 2),
        ("drop", "zero"): ([(1, 20, 0.0, None), *good], 1),
    }
    for (bad, negative), (rows, n_bad) in cases.items():
        result = read_file(path, Columns(on_negative=negative), on_bad_rows=bad)
        assert (rows_of(result), result.n_bad, result.n_rows) == (rows, n_bad, 4)
    with pytest.raises(BadRowsError, match=r"1 of 4 rows .* line 2 .*--on-negative drop leaves them out"):
        read_file(path, Columns(on_negative="error"), on_bad_rows="drop")
    with pytest.raises(BadRowsError, match=r"1 of 4 rows can't be used: line 5 \(user_id is empty\)"):
        read_file(path, Columns(on_negative="drop"))
    with pytest.raises(BadRowsError, match=r"1 of 4 rows can't be used: line 5 \(user_id is empty\)"):
        read_file(path, Columns(on_negative="zero"))


def test_events_have_weights(write):
    text = "timestamp,visitorid,event,itemid\n1433221332117,7,view,1\n1433221332118,7,cart,2\n1433221332119,8,buy,2\n"
    columns = Columns(user="visitorid", event_weights=EVENTS.event_weights)
    result = read_file(write(text), columns, on_bad_rows="drop")
    assert [row[:3] for row in rows_of(result)] == [(7, 1, 1.0), (7, 2, 3.0)]
    assert result.bad_rows[0]["reason"] == "event 'buy' has no weight in --event-weights"
    assert result.bad_rows[0]["event"] == "buy"
    assert result.columns.sentence.startswith("user `visitorid`, item `itemid`, time `timestamp`, event `event`")
    named = read_file(write("user,item,what\n1,1, purchase \n"), Columns(event="what", event_weights={"purchase": 5.0}))
    assert rows_of(named) == [(1, 1, 5.0, None)]
    objects = write('{"user": 1, "item": 1, "event": "cart"}\n{"user": 1, "item": 2, "event": "view"}\n', "x.jsonl")
    assert [row[2] for row in rows_of(read_file(objects, EVENTS))] == [3.0, 1.0]
    with pytest.raises(MissingColumnsError, match=r"\['event'\]"):
        read_file(write("user,item\n1,1\n"), EVENTS)


def test_days_of_a_spreadsheet_are_refused_without_an_advice_that_makes_them_2090(write):
    head = "user_id,item_id,timestamp\n"
    for rows in ("1,2,43831\n1,3,43832\n", "1,2,43831\n1,3,43832.5\n"):
        with pytest.raises(InputError, match=r"days of a spreadsheet.*Write them as dates") as error:
            read_file(write(head + rows))
        assert "--time-format days" not in str(error.value)
    with pytest.raises(InputError, match="--time-format days"):
        read_file(write(head + "1,2,18262\n1,3,18263.5\n"))


def test_each_file_is_asked_whether_its_numbers_are_days(write):
    head = "user_id,item_id,timestamp\n"
    files = [write(head + "1,2,1577836800\n", "a.csv"), write(head + "1,3,20200101\n", "b.csv")]
    for order in (files, files[::-1]):
        with pytest.raises(InputError, match=r"b\.csv: .*--time-format %Y%m%d"):
            read_file(order)


@pytest.mark.parametrize("text", ["20200101.0", "20200101", "20200101.00"])
def test_the_advised_format_reads_numbers_with_a_point_and_zeros(write, text):
    path = write(f"user_id,item_id,timestamp\n1,2,{text}\n")
    with pytest.raises(InputError, match="--time-format %Y%m%d"):
        read_file(path)
    assert rows_of(read_file(path, Columns(time_format="%Y%m%d"))) == [(1, 2, 1.0, 1577836800000)]


def test_the_advised_format_reads_decimals(tmp_path):
    times = pa.array(["20200101"]).cast(pa.decimal128(20, 3))
    pq.write_table(pa.table({"user_id": [1], "item_id": [2], "timestamp": times}), tmp_path / "x.parquet")
    read = read_file(tmp_path / "x.parquet", Columns(time_format="%Y%m%d"))
    assert rows_of(read) == [(1, 2, 1.0, 1577836800000)]


@pytest.mark.parametrize("text", ["1_000", "\u0663"])
def test_a_number_of_python_alone_is_no_number(write, text):
    with pytest.raises(BadRowsError, match="is not a number"):
        read_file(write(f"user_id,item_id,rating\n1,2,{text}\n"))


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (pa.array([1.5, 2.0]), r"the id 1\.5:"),
        (pa.array(["9" * 20]).cast(pa.decimal128(38, 0)), "past 64 signed bits"),
    ],
)
def test_ids_that_are_no_integers_are_shown_as_they_are(tmp_path, ids, words):
    pq.write_table(pa.table({"user_id": ids, "item_id": ids}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=words):
        read_file(tmp_path / "x.parquet")


def test_a_missing_column_of_events_names_its_own_option(write):
    with pytest.raises(MissingColumnsError, match="Name it with --event-column"):
        read_file(write("user_id,item_id\n1,2\n"), EVENTS)


def test_ids_are_text_wherever_in_the_column_the_first_word_is(write):
    rows = [f"{i},{i}\n" for i in range(300)]
    for position in (0, 99, 100, 299):
        ids = [*rows[:position], "x,7\n", *rows[position:]]
        interactions_read = read_file(write("user_id,item_id\n" + "".join(ids))).interactions
        assert interactions_read.user_ids.kind == "str"
        assert interactions_read.item_ids.kind == "int"
        assert len(interactions_read.user_ids) == 301
