"""Interactions read straight into blocks: the ids and the matrix are those that are read into memory, to the bit."""

from __future__ import annotations

import re
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from support.examples import examples

from pipeline.data.blocks import BlockFolder
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import prepare_interactions
from pipeline.data.sources import blocks_builder
from pipeline.data.sources.blocks_builder import BlocksBuilder
from pipeline.data.sources.builder import InteractionsBuilder
from pipeline.data.sources.columns import Columns
from pipeline.data.sources.into_blocks import ids_of, read_into_blocks
from pipeline.data.sources.warehouse import read_warehouse
from pipeline.errors import ArtifactError, BadRowsError, InputError
from pipeline.warehouse import sql

pytest_plugins = ["support.warehouse_fixtures"]

ids = st.one_of(
    st.just(lambda n: n),
    st.just(lambda n: n * 12_345_678_901 - 5),  # too far apart for a table
    st.just(lambda n: f"user-{n:03d}" if n % 2 else f"ü{n}"),
)
times = st.one_of(
    st.none(),
    st.just(lambda n: pa.array(n * 1000, pa.timestamp("ms"))),
    st.just(lambda n: pa.array(1_600_000_000 + n)),
    st.just(lambda n: pa.array([f"2024-05-{day:02d}" for day in 1 + n % 28])),
)


def tables(n, seed, user, item, moment, scores):
    rng = np.random.default_rng(seed)
    users, items = rng.integers(0, 12, n), rng.integers(0, 9, n)
    columns = {"user_id": pa.array([user(int(u)) for u in users]), "item_id": pa.array([item(int(i)) for i in items])}
    columns["score"] = pa.array((rng.integers(0, 11, n) / 2 if scores == "stars" else rng.random(n)).astype(np.float32))
    if moment is not None:
        columns["at"] = moment(rng.integers(0, 50, n))
    table = pa.table(columns)
    cuts = [0, *sorted(rng.integers(0, n + 1, 3).tolist()), n]
    return [table.slice(a, b - a) for a, b in pairwise(cuts)]


def same(found: BlockFolder, expected) -> None:
    users, items = ids_of(found)
    assert users == expected.users
    assert items == expected.items
    for side, matrix in (("rows", expected.scores), ("columns", expected.scores.T.tocsr())):
        arrays = [found.read(block, check=True) for block in found.side(side)]
        data, indices = (np.concatenate(part) for part in zip(*((a.scores(), a.indices) for a in arrays), strict=True))
        read = sparse.csr_matrix((data, indices, found.indptr(side)), shape=matrix.shape)
        for name in ("indptr", "indices", "data"):
            assert np.array_equal(getattr(read, name), getattr(matrix, name))


@given(
    st.integers(1, 300), st.integers(0, 999), ids, ids, times, st.sampled_from(["stars", "any"]),
    st.sampled_from(["last", "sum", "max", "mean"]),
)  # fmt: skip
@settings(max_examples=examples(25))
def test_the_matrix_is_that_of_memory(tmp_path_factory, n, seed, user, item, moment, scores, duplicates):
    blocks = tables(n, seed, user, item, moment, scores)
    folder = tmp_path_factory.mktemp("blocks")
    columns = Columns(rating="score", timestamp="at" if moment else None)
    builder = BlocksBuilder(columns, "error", "a test", folder)
    plain = InteractionsBuilder(columns)
    kept = blocks_builder._BLOCK
    blocks_builder._BLOCK = 40  # several blocks of few cells
    try:
        for block in blocks:
            for each in (builder, plain):
                each.add(block)
                each._flush()  # as after a million rows
        found = builder.write(folder, duplicates)
    finally:
        blocks_builder._BLOCK = kept
    same(found, to_matrix(prepare_interactions(plain.finish().interactions, duplicates).interactions))
    assert BlockFolder.open(folder) == found
    assert found.facts["rows_read"] == n
    assert not [path for path in folder.iterdir() if path.suffix not in (".npy", ".json")]


def test_times_out_of_range_and_bad_rows_are_refused(tmp_path: Path):
    builder = BlocksBuilder(Columns(rating="score", timestamp="at"), "error", "a test", tmp_path)
    builder.add(pa.table({"user_id": [1, 2], "item_id": [3, 4], "score": [1.0, 2.0], "at": [1.7e9, 9e16]}))
    with pytest.raises(BadRowsError, match="outside the years 1 to 9999"):
        builder.write(tmp_path, "last")
    builder = BlocksBuilder(Columns(), "error", "a test", tmp_path)
    builder.add(pa.table({"user_id": [1, None], "item_id": [3, 4]}))
    with pytest.raises(BadRowsError):
        builder.write(tmp_path, "last")
    builder = BlocksBuilder(Columns(), "drop", "a test", tmp_path)
    builder.add(pa.table({"user_id": [1, None], "item_id": [3, 4]}))
    (tmp_path / "made").mkdir()
    assert builder.write(tmp_path / "made", "last").facts["rows_left_out"] == 1


def test_the_example_of_the_page(embedded_dsn, embedded, tmp_path: Path, monkeypatch):
    embedded.command("CREATE DATABASE analytics")
    embedded.command(
        "CREATE VIEW analytics.mart_user_movie_matrix AS "
        "SELECT number % 90 AS user_id, sipHash64(number) % 80 AS item_id, "
        "toFloat32(1 + number % 5) AS score FROM numbers(2000)"
    )
    page = (Path(__file__).parents[3] / "docs" / "scale.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    made = {}
    exec(example.replace("chdb:///data/warehouse", embedded_dsn), made)
    assert made["W"].shape == (90, 64)
    assert made["estimator"].components_.shape == (64, 80)
    assert (len(made["users"]), len(made["items"])) == (90, 80)


def test_from_the_warehouse(embedded, tmp_path: Path):
    rows = 5000
    embedded.command("CREATE DATABASE own")
    embedded.command(
        "CREATE TABLE own.log ENGINE = MergeTree ORDER BY tuple() AS SELECT sipHash64(number, 1) % 70 AS user_id, "
        "concat('i', toString(sipHash64(number, 2) % 50)) AS item_id, toFloat32(1 + number % 5) AS score, "
        f"toDateTime64('2024-01-01 00:00:00', 3, 'UTC') + number % 97 AS at FROM numbers({rows})"
    )
    query = sql.Sql("SELECT * FROM own.log", "log")
    seen = []
    found = read_into_blocks(
        embedded, query, tmp_path / "blocks", Columns(of_query=True), progress=lambda *n: seen.append(n)
    )
    read = read_warehouse(embedded, query, Columns(of_query=True)).interactions
    assert read.at.min() == np.datetime64(datetime(2024, 1, 1), "ms")
    same(found, to_matrix(prepare_interactions(read).interactions))
    assert seen[-1] == (rows, rows)
    assert found.facts["rows_read"] == rows
    with pytest.raises(InputError, match="is not empty: name a new folder"):
        read_into_blocks(embedded, query, tmp_path / "blocks", Columns(of_query=True))
    with pytest.raises(InputError, match="gives no rows"):
        read_into_blocks(embedded, sql.Sql("SELECT * FROM own.log WHERE 0", "none"), tmp_path / "none")
    # A read that was stopped before its manifest begins anew; nothing else is touched.
    (tmp_path / "blocks" / "manifest.json").unlink()
    (tmp_path / "blocks" / "answer-x").mkdir()
    assert read_into_blocks(embedded, query, tmp_path / "blocks", Columns(of_query=True)) == found
    assert not (tmp_path / "blocks" / "answer-x").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    with pytest.raises(InputError, match="is not empty"):
        read_into_blocks(embedded, query, tmp_path / "other", Columns(of_query=True))
    (tmp_path / "blocks" / "users.npy").unlink()
    with pytest.raises(ArtifactError, match=r"users\.npy can't be read"):
        ids_of(found)
