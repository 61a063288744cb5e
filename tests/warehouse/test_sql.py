"""SQL files by name, a user's own query, and the ways a query is wrapped, run on the real engine."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.warehouse import sql
from pipeline.warehouse.column_types import seen_ids

pytest_plugins = ["support.warehouse_fixtures"]

FOLDER = Path(sql.__file__).resolve().parents[2] / "sql"


@pytest.fixture
def query(tmp_path):
    """A query file with the given text, read."""

    def write(text: str | bytes) -> sql.Sql:
        path = tmp_path / "mine.sql"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return sql.read_query(path)

    return write


ROWS = "SELECT number AS user_id, number AS item_id, 1 AS score FROM numbers(3)"
# Each of these is ROWS, as people write it down.
FORMS = {
    "plain": ROWS,
    "semicolon": ROWS + ";",
    "semicolons": ROWS + " ; ;\n;",
    "blank lines": f"\n\n  {ROWS}\n\n;\n",
    "header": f"-- purpose: mine\n-- grain: a user\n{ROWS}\n",
    "block header": f"/* mine;\n   two lines */\n-- and one\n{ROWS}",
    "comment last": f"{ROWS} -- that is all",
    "comment last, no newline, after a semicolon": f"{ROWS}; -- that is all;",
    "comment lines last": f"{ROWS};\n-- that\n-- is all\n",
    "block comment last": f"{ROWS}; /* that is all */",
    "comment inside": ROWS.replace(" FROM", " -- here; and\n /* there; */ FROM"),
    "comment marks in text": ROWS.replace("1 AS score", "length('--') - 1 + length('/*') - 2 AS score"),
    "format": f"{ROWS} FORMAT TSV",
    "format and semicolon": f"{ROWS}\nformat JSONEachRow;\n",
    "format and comment": f"{ROWS}\nFORMAT Arrow -- for the client\n",
    "format before settings": f"{ROWS}\nFORMAT CSV SETTINGS max_threads = 1",
    "format, a comment, settings": f"{ROWS} FORMAT CSV -- for me\nSETTINGS max_threads = 1;",
    "hash comments": f"# taste; of users\n#! and more;\n{ROWS} # that's all;\n",
    "hash comment inside": ROWS.replace(" FROM", " # here; and\n FROM"),
    "format in text and in a name": f"SELECT *, 'x FORMAT CSV' AS `b FORMAT` FROM ({ROWS}) SETTINGS max_threads = 1",
    "order by format, then settings": f"SELECT *, 1 AS format FROM ({ROWS}) ORDER BY format SETTINGS max_threads = 1",
    "heredoc": ROWS.replace("1 AS score", "length($x$it's; -- {{y}}$x$) - 13 AS score"),
    "template marks in text": ROWS.replace("1 AS score", "length('{{ x }}') - 6 AS score /* {% if %} */"),
    "with": f"WITH base AS ({ROWS}) SELECT * FROM base",
    "limit": f"{ROWS} LIMIT 3",
    "settings": f"{ROWS} SETTINGS max_threads = 1",
    "settings and format": f"{ROWS} SETTINGS max_threads = 1 FORMAT TSV;",
    "union": "SELECT 0 AS user_id, 0 AS item_id, 1 AS score UNION ALL SELECT number + 1, number + 1, 1 FROM numbers(2)",
    "order": f"{ROWS} ORDER BY user_id",
    "byte order mark": b"\xef\xbb\xbf" + ROWS.encode(),
    "windows": f"-- mine\r\n{ROWS};\r\n".encode(),
    "text with semicolons and quotes": ROWS.replace("1 AS score", r"length(';\'; --') - length('it''s;') AS score"),
    "quoted names": ROWS.replace("1 AS score", '1 AS score, 2 AS `a;--`, 3 AS "b;/*"'),
    "order by format": f"SELECT *, 1 AS format FROM ({ROWS}) ORDER BY format desc",
    "division and minus": ROWS.replace("1 AS score", "4 / 2 - 1 AS score"),
    "a column called format": ROWS.replace("1 AS score", "1 AS score, 2 AS format"),
    "braces and percent": ROWS.replace("1 AS score", "length('{x:String} %(x)s %s') - 18 AS score"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_users_query_in_every_form(warehouse, query, form):
    read = query(FORMS[form])
    assert list(warehouse.rows(sql.count_of(read).text)[0].values()) == [3]
    with warehouse.blocks(read.text) as blocks:
        rows = [row for block in blocks for row in block.to_pylist()]
    assert sorted((row["user_id"], row["item_id"], row["score"]) for row in rows) == [(0, 0, 1), (1, 1, 1), (2, 2, 1)]
    with warehouse.blocks(sql.ordered_seen(read, *seen_ids(warehouse, read, "int", "int")).text) as blocks:
        assert [tuple(row.values()) for block in blocks for row in block.to_pylist()] == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.parametrize("text", ["", " \n\t", "-- nothing", "-- nothing\n\n/* at all */\n", ";", ";;\n-- x", "\ufeff"])
def test_a_query_file_without_a_statement(query, text):
    with pytest.raises(InputError, match=r"mine\.sql holds no statement"):
        query(text)


def test_a_query_file_that_is_missing_or_no_text(tmp_path):
    for path, reason in (
        (tmp_path / "none.sql", "No such file"),
        (tmp_path, "directory"),
    ):
        with pytest.raises(InputError, match=reason) as error:
            sql.read_query(path)
        assert str(path) in str(error.value)
        assert "--query" in str(error.value)
        assert error.value.exit_status == 3
    path = tmp_path / "latin.sql"
    path.write_bytes("SELECT 'é'".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.sql .*not UTF-8"):
        sql.read_query(path)


def test_the_digest_is_of_the_statement(query):
    assert query(ROWS).digest == query(f"-- hello\n{ROWS};\n").digest
    assert query(ROWS).digest != query(ROWS.replace("3", "4")).digest
    assert len(query(ROWS).digest) == 64


def test_every_file_holds_one_statement_with_a_header():
    files = sorted(FOLDER.rglob("*.sql"))
    assert files
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert text.startswith("-- Purpose: "), path
        assert not sql.load(str(path.relative_to(FOLDER).with_suffix(""))).text.startswith("--"), path


def test_two_statements(query):
    for text in (f"{ROWS}; {ROWS}", f"SET max_threads = 1;\n-- then\n{ROWS};"):
        with pytest.raises(InputError, match="more than one statement"):
            query(text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT user_id, item_id FROM {{ ref('ratings') }}",
        "{{ config(materialized='table') }}\nSELECT 1 AS user_id, 2 AS item_id",
        "SELECT 1 AS user_id, 2 AS item_id {% if is_incremental() %} WHERE 1 {% endif %}",
        "{# mine #} SELECT 1 AS user_id, 2 AS item_id",
    ],
)
def test_a_template_is_no_query_yet(query, text):
    with pytest.raises(InputError, match=r"mine\.sql is a template of dbt or Jinja .*dbt compile"):
        query(text)


PARTS = ("SELECT 1", "; ", "'", '"', "`", "\\", "--", "# ", "#!", "/*", "*/", "$$", "$a$", "\n", " ", "FORMAT CSV ")


@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join))
def test_a_query_that_was_read_reads_as_itself(text):
    """Whatever is quoted, commented or left open; and nothing around it is left."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.sql"
        path.write_text(text)
        try:
            read = sql.read_query(path)
        except InputError:
            return
        assert read.text == read.text.strip()
        assert read.text in text or "FORMAT" in text
        path.write_text(read.text)
        if "FORMAT" not in text:
            assert sql.read_query(path).text == read.text


def test_ddl_in_order():
    names = [statement.name for statement in sql.load_all("ddl")]
    assert names == sorted(names)
    assert names[:2] == ["sql/ddl/01_raw.sql", "sql/ddl/02_analytics.sql"]
    # What a job fills under a name of its own is not made beforehand.
    assert "sql/ddl/staged_recommendations.sql" not in names
    assert not any("recommendations" in statement.text for statement in sql.load_all("ddl"))


# ---- the distinct pairs that are seen -------------------------------------------------------------


def _pairs(warehouse, text: str, users: str, items: str) -> list[tuple[object, object]]:
    query = sql.Sql(text, "x")
    with warehouse.blocks(sql.ordered_seen(query, *seen_ids(warehouse, query, users, items)).text) as blocks:
        return [tuple(row.values()) for block in blocks for row in block.to_pylist()]


def test_seen_is_distinct_and_ordered(warehouse):
    text = (
        "SELECT tupleElement(t, 1) AS user_id, tupleElement(t, 2) AS item_id, 1 AS score "
        "FROM (SELECT arrayJoin([(10, 1), (9, 2), (10, 1), (-3, 5), (9, 1)]) AS t)"
    )
    assert _pairs(warehouse, text, "int", "int") == [(-3, 5), (9, 1), (9, 2), (10, 1)]
    # As text, by its bytes: the order of a model whose ids are text.
    assert _pairs(warehouse, text, "str", "str") == [("-3", "5"), ("10", "1"), ("9", "1"), ("9", "2")]
    assert _pairs(warehouse, text, "str", "int") == [("-3", 5), ("10", 1), ("9", 1), ("9", 2)]


def test_seen_of_uuids_is_in_the_order_of_text(warehouse):
    """ClickHouse sorts UUIDs by their second half."""
    a, b = "00000000-0000-0000-ffff-000000000000", "ffffffff-0000-0000-0000-000000000000"
    text = f"SELECT toUUID(arrayJoin(['{b}', '{a}'])) AS user_id, user_id AS item_id"
    assert _pairs(warehouse, text, "str", "str") == [(a, a), (b, b)]


def test_seen_without_nulls_and_what_is_no_integer(warehouse):
    text = "SELECT CAST(arrayJoin([1, NULL, 2]) AS Nullable(Int64)) AS user_id, 7 AS item_id"
    assert _pairs(warehouse, text, "int", "int") == [(1, 7), (2, 7)]
    text = "SELECT arrayJoin(['1', 'x', '2', '', '3.5', '99999999999999999999']) AS user_id, 7 AS item_id"
    assert _pairs(warehouse, text, "int", "int") == [(1, 7), (2, 7)]
    text = "SELECT toLowCardinality(arrayJoin(['b', 'a'])) AS user_id, toUInt64(18446744073709551615) AS item_id"
    assert _pairs(warehouse, text, "str", "int") == []
    assert _pairs(warehouse, text, "str", "str") == [("a", "18446744073709551615"), ("b", "18446744073709551615")]


def test_seen_of_columns_that_are_called_like_the_result(warehouse):
    text = "SELECT 1 AS u, 2 AS i, 3 AS user_id, 4 AS item_id"
    assert _pairs(warehouse, text, "int", "int") == [(3, 4)]
