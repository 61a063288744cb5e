"""Values and identifiers are bound, never formatted into a statement; what is typed stays a value."""

from __future__ import annotations

import ast
import uuid
from collections.abc import Iterator

import pytest
from support.processes import ROOT

from pipeline.data.id_map import IdMap
from pipeline.data.sources.warehouse import history, init, titles
from pipeline.errors import InputError, QueryError
from pipeline.publishing import published_tables
from pipeline.warehouse import Warehouse, sql

pytest_plugins = ["support.warehouse_fixtures"]

# Methods whose first argument is a statement.
RUNS = {"command", "rows", "query", "table", "blocks", "ddl", "run", "query_arrow", "query_arrow_stream", "raw_query"}
# Statements that are put together, by file and function, with the reason.
PUT_TOGETHER = {
    ("pipeline/warehouse/sql.py", "count_of"): "wraps the user's own statement, which is theirs to write",
    ("pipeline/warehouse/sql.py", "few_of"): "wraps a check of ours; its limit is an int",
    (
        "pipeline/warehouse/sql.py",
        "ordered_seen",
    ): "wraps the user's own statement; names and casts are constants",
    ("pipeline/warehouse/sql.py", "insert_seen"): "as ordered_seen; the table is bound",
    ("pipeline/warehouse/client.py", "blocks_by_file"): "wraps the user's own statement; the path is bound",
    ("pipeline/warehouse/sql.py", "first_of"): "wraps the user's own statement",
    ("pipeline/warehouse/sql.py", "described"): "wraps the user's own statement",
    ("pipeline/warehouse/sql.py", "selected"): "wraps the user's own statement; its columns' names are quoted",
    ("pipeline/warehouse/sql.py", "size_of"): "wraps the user's own statement",
    (
        "pipeline/publishing/erasure.py",
        "clear_disk",
    ): "a constant; the names in it are bound",
    ("pipeline/warehouse/sql.py", "over"): "wraps the user's own statements and ours; the names are constants",
    ("pipeline/warehouse/sql.py", "first_times"): "wraps the user's own statement; names and casts are constants",
    ("pipeline/warehouse/sql.py", "sets_together"): "a constant for each of n tables, whose names are bound",
    ("pipeline/warehouse/table_files.py", "_write"): "columns of a table that is there; their names were checked",
    ("pipeline/warehouse/table_files.py", "make_table"): "names that were checked; types are bound",
    ("pipeline/warehouse/table_files.py", "make_like"): "names that were checked: AS takes no parameter",
    ("pipeline/data/sources/sample.py", "is_empty"): "a constant table name",
    ("pipeline/data/sources/sample.py", "_there"): "names from a table of constants",
}


def put_together(node: ast.AST) -> bool:
    """Whether an expression is text that was made from parts."""
    return any(
        (isinstance(entry, ast.JoinedStr) and any(isinstance(part, ast.FormattedValue) for part in entry.values))
        or (isinstance(entry, ast.BinOp) and isinstance(entry.op, ast.Mod | ast.Add) and _has_text(entry))
        or (
            isinstance(entry, ast.Call)
            and isinstance(entry.func, ast.Attribute)
            and entry.func.attr in ("format", "format_map", "join", "replace", "substitute")
        )
        for entry in ast.walk(node)
    )


def _has_text(node: ast.AST) -> bool:
    return any(isinstance(entry, ast.Constant) and isinstance(entry.value, str) for entry in ast.walk(node))


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def faults(source: str, where: str) -> set[tuple[str, str, str]]:
    """(file, function, expression) of statements that are put together where they are run, or become a `Sql`."""
    lines = set()
    for function in functions(ast.parse(source)):
        made = {
            target.id: node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name not in RUNS | {"Sql"}:
                continue
            statement = node.args[0]
            # A file's name is not a statement: load(f"checks/{name}").
            loads = [
                one for one in ast.walk(statement) if isinstance(one, ast.Call) and "load" in ast.unparse(one.func)
            ]
            for one in loads:
                one.args = []
            value = made.get(statement.id) if isinstance(statement, ast.Name) else statement
            if value is not None and put_together(value):
                lines.add((where, function.name, ast.unparse(value)[:90]))
    return lines


def test_no_statement_is_put_together() -> None:
    lines = set()
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        lines |= faults(path.read_text(), str(path.relative_to(ROOT)))
    assert {(where, function) for where, function, _ in lines} - set(PUT_TOGETHER) == set(), lines
    assert {(where, function) for where, function, _ in lines} == set(PUT_TOGETHER), (
        "an exception that is none any more"
    )


@pytest.mark.parametrize(
    "line",
    [
        'w.rows(f"SELECT {x}")',
        'w.command("SELECT %s" % x)',
        'w.command("SELECT {}".format(x))',
        'w.command("SELECT " + x)',
        'w.table(f"SELECT * FROM {t}", {})',
        'text = f"SELECT {x}"\n    w.blocks(text)',
        'return Sql(f"SELECT {x}", "x")',
        'w.ddl(", ".join(names))',
        'w.ddl(text.replace("a", x))',
    ],
)
def test_what_the_walk_finds(line) -> None:
    assert faults(f"def f(w, x, t):\n    {line}\n", "x.py")


def test_every_parameter_of_the_files_is_typed() -> None:
    """A `{name}` without a type would be a place for formatting."""
    import re

    for path in (ROOT / "sql").rglob("*.sql"):
        for matches in re.findall(r"\{[^}]*\}", sql.load(str(path.relative_to(ROOT / "sql").with_suffix(""))).text):
            assert re.fullmatch(r"\{\w+:[A-Z]\w*(\([\w(), ]*\))?\}", matches), (path, matches)


HOSTILE = (
    "'; DROP DATABASE raw; --",
    "' OR 1 = 1 --",
    "1) OR (1 = 1",
    "{user:Identifier}",
    "{user:String}",
    "\\",
    "\\'",
    "\\' OR 1=1 -- ",
    "a\tb\nc",
    "`; DROP TABLE raw.users",
    "%s %(user)s",
    "\u02bc\uff07",
    "🎬",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_ids_stay_values(warehouse: Warehouse, text: str) -> None:
    init(warehouse)
    warehouse.command("INSERT INTO raw.movies VALUES (1, 'one', '')")
    warehouse.command("INSERT INTO raw.ratings VALUES (1, 1, 5, 0)")
    assert titles(warehouse, [text, 1]) == {"1": "one"}
    assert history(warehouse, text) == []
    assert len(history(warehouse, "1")) == 1
    assert warehouse.rows("SELECT {x:String} AS x", {"x": text}) == [{"x": text}]
    assert warehouse.engine("raw.ratings") is not None
    # Where ids are integers, only integers come as far as the warehouse.
    ids = IdMap([1, 2])
    with pytest.raises(InputError):
        ids.rows([ids.parse(text)])


@pytest.mark.parametrize("text", [t for t in HOSTILE if "\t" not in t])
def test_names_of_tables_stay_names(warehouse: Warehouse, text: str) -> None:
    init(warehouse)
    name = f"odd {text} {uuid.uuid4().hex[:4]}"
    with pytest.raises(QueryError):
        published_tables.head(warehouse, name)
    assert name not in published_tables.sets(warehouse)
    assert warehouse.rows("SELECT count() AS n FROM system.databases WHERE name = 'raw'") == [{"n": 1}]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1 AS user_id, 2 AS item_id, 3 AS score; DROP DATABASE raw",
        "SELECT 1 AS user_id, 2 AS item_id, 3 AS score) UNION ALL (SELECT 1, 2, 3); DROP DATABASE raw --",
        "SELECT 1 /* ; */ AS user_id;; DROP DATABASE raw",
    ],
)
def test_a_query_is_one_statement(tmp_path, text: str) -> None:
    path = tmp_path / "my.sql"
    path.write_text(text)
    with pytest.raises(InputError, match="more than one statement"):
        sql.read_query(path)


def test_a_query_that_closes_the_brackets_around_it_is_refused(warehouse: Warehouse, tmp_path) -> None:
    init(warehouse)
    path = tmp_path / "my.sql"
    path.write_text("SELECT 1 AS user_id, 2 AS item_id, 3 AS score) -- ")
    with pytest.raises(QueryError):
        warehouse.rows(sql.count_of(sql.read_query(path)).text)
    path.write_text("DROP DATABASE raw")
    with pytest.raises(QueryError):
        warehouse.rows(sql.count_of(sql.read_query(path)).text)
    assert warehouse.rows("SELECT count() AS n FROM system.databases WHERE name = 'raw'") == [{"n": 1}]
