"""A table that was written to a file and read back holds the same rows, of whatever type."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import BackupError
from pipeline.warehouse import Warehouse, table_files
from pipeline.warehouse.table_files import TableFile, digest_of, fill, make_table, read_table, user_ids

pytest_plugins = ["support.warehouse_fixtures"]

ROWS = """
CREATE TABLE own.all ENGINE = MergeTree ORDER BY (user_id, at) AS SELECT
    toInt64(number % 7) - 3 AS user_id, toUInt64(18446744073709551615 - number) AS big, toInt8(number % 100) AS small,
    toFloat32(number / 3) AS rating, if(number % 5 = 0, NULL, toFloat64(number / 7)) AS maybe,
    toString(number) || '\\\'é' AS text, CAST(toString(number % 3), 'LowCardinality(String)') AS few,
    CAST(if(number % 2 = 0, NULL, 'x'), 'LowCardinality(Nullable(String))') AS few_or_none,
    toUUID('00000000-0000-0000-0000-00000000000' || toString(number % 9)) AS id, toFixedString('abc', 3) AS fixed,
    CAST(number % 2 + 1, 'Enum8(\\'a\\' = 1, \\'b b\\' = 2)') AS kind, toDate('2020-01-01') + number AS day,
    toDateTime('2020-01-01 00:00:00', 'UTC') + number AS second,
    toDateTime64('2020-01-01', 3, 'UTC') + number / 8 AS at,
    toIPv4('127.0.0.1') AS address, toDecimal64(number / 3, 4) AS price, number % 2 = 0 AS flag
FROM numbers(1000)
"""


@pytest.fixture
def source(warehouse: Warehouse) -> Warehouse:
    warehouse.command("CREATE DATABASE IF NOT EXISTS own")
    warehouse.command(ROWS)
    return warehouse


def test_every_type_comes_back(source: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "_ROWS_A_READ", 300)
    monkeypatch.setattr(table_files, "_ROWS_A_BLOCK", 150)
    table = read_table(source, "own", "all", tmp_path / "all.parquet", "all.parquet")
    assert TableFile.of(table.facts) == table
    assert (table.n_rows, [column.name for column in table.columns if column.key]) == (1000, ["user_id", "at"])
    make_table(source, table, "own", "again")
    fill(source, table, tmp_path / "all.parquet", "own", "again")
    assert digest_of(source, "own", "again") == digest_of(source, "own", "all") == (1000, table.checksum)
    types = "SELECT name, type FROM system.columns WHERE database = 'own' AND table = {t:String} ORDER BY position"
    assert source.rows(types, {"t": "again"}) == source.rows(types, {"t": "all"})
    order = "SELECT sorting_key AS k FROM system.tables WHERE database = 'own' AND name = 'again'"
    assert source.rows(order) == [{"k": "user_id, at"}]
    assert user_ids(table, tmp_path / "all.parquet") == set(range(-3, 4))
    source.command("ALTER TABLE own.again DELETE WHERE small = 5", mutations_sync=2)
    assert digest_of(source, "own", "again") != digest_of(source, "own", "all")


def test_an_empty_table_is_a_table(source: Warehouse, tmp_path: Path) -> None:
    source.command("CREATE TABLE own.none (a Int64, b Nullable(String)) ENGINE = MergeTree ORDER BY a")
    table = read_table(source, "own", "none", tmp_path / "none.parquet", "none.parquet")
    make_table(source, table, "own", "again")
    fill(source, table, tmp_path / "none.parquet", "own", "again")
    assert digest_of(source, "own", "again") == (0, table.checksum)
    assert user_ids(table, tmp_path / "none.parquet") == set()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"name": "x; DROP"}, "with names that no table has"),
        ({"columns": [{"name": "a` b", "type": "Int64", "key": 1}]}, "with names that no table has"),
        ({"columns": [{"name": "a"}]}, "in no way that can be read"),
        ({"columns": []}, "with names"),
    ],
)
def test_a_manifest_brings_no_statement_along(change: dict[str, object], why: str) -> None:
    facts = {"database": "own", "name": "t", "file": "t.parquet", "n_rows": 1, "checksum": "1"}
    with pytest.raises(BackupError, match=why):
        TableFile.of(facts | {"columns": [{"name": "a", "type": "Int64", "key": 1}]} | change)
