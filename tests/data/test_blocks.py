"""Blocks on disk: what is written is read to the bit, and damage is named."""

from __future__ import annotations

import gc
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse
from support.examples import examples

from pipeline.data import block_builder, block_reader
from pipeline.data.block_builder import CellSorter, rows_of, rows_of_side, write_matrix, write_transposed
from pipeline.data.block_files import read_header, write_array
from pipeline.data.block_reader import STEP, Buffers, SideReader
from pipeline.data.blocks import (
    BlockFolder,
    equal_work,
    finished_block,
    square_of,
    write_block,
    write_manifest,
)
from pipeline.data.stored_values import decoded, encoded
from pipeline.errors import ArtifactError, UsageError

floats = st.floats(width=32, allow_nan=True, allow_infinity=True)
kinds = {
    "stars": st.integers(0, 10).map(lambda n: n / 2),
    "counts": st.integers(0, 255).map(float),
    "levels": st.sampled_from([0.1, 0.7, 1e30, -0.0, 0.0]),
    "halves": st.integers(0, 2047).map(lambda n: n / 8),
    "any": floats,
}
scores = st.sampled_from(sorted(kinds)).flatmap(
    lambda kind: hnp.arrays(np.float32, st.integers(0, 700), elements=kinds[kind].map(np.float32))
)


def matrix(m: int, n: int, seed: int, density: float = 0.3, values: int = 10) -> sparse.csr_matrix:
    rng = np.random.default_rng(seed)
    X = sparse.random(m, n, density, "csr", np.float32, rng=rng)
    X.data = (rng.integers(1, values + 1, X.nnz) / 2).astype(np.float32)
    return X


def cut(n: int, pieces: int) -> np.ndarray:
    return np.unique(np.linspace(0, n, pieces + 1).astype(np.int64))


def same(a: sparse.csr_matrix, b: sparse.csr_matrix) -> bool:
    return a.shape == b.shape and all(
        np.array_equal(x, y) for x, y in ((a.indptr, b.indptr), (a.indices, b.indices), (a.data, b.data))
    )


def whole(found: BlockFolder, side: str) -> sparse.csr_matrix:
    """The side as one matrix, from the mapped arrays."""
    arrays = [found.read(block, check=True) for block in found.side(side)]
    data, indices = (np.concatenate(parts) for parts in zip(*((a.scores(), a.indices) for a in arrays), strict=True))
    m, n = found.shape if side == "rows" else found.shape[::-1]
    return sparse.csr_matrix((data, indices, found.indptr(side)), shape=(m, n))


@given(scores)
@settings(max_examples=examples(50))
def test_no_score_changes_by_a_bit(values):
    stored, levels = encoded(values)
    assert np.array_equal(decoded(stored, levels).view(np.uint32), values.view(np.uint32))
    into = np.empty_like(values)
    assert decoded(stored, levels, into) is into
    assert np.array_equal(into.view(np.uint32), values.view(np.uint32))
    if np.unique(values.view(np.uint32)).size <= 256:
        assert stored.dtype == np.uint8


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.arange(256) / 2, np.uint8),
        (np.arange(256), np.uint8),
        (np.log1p(np.arange(200)), np.uint8),
        (np.arange(257), np.float16),
        (np.arange(2050), np.float32),
        (np.arange(300) / 3, np.float32),
    ],
)
def test_the_smallest_exact_type_is_taken(values, kind):
    assert encoded(values.astype(np.float32))[0].dtype == kind


@pytest.mark.parametrize(("m", "n"), [(1, 1), (7, 300), (400, 9), (90, 70)])
def test_both_sides_are_read_as_they_were_written(tmp_path: Path, monkeypatch, m, n):
    monkeypatch.setattr(block_builder, "CHUNK", 50)  # many chunks
    X = matrix(m, n, m + n)
    written = write_matrix(tmp_path, X, cut(m, 5), cut(n, 3), facts={"source": "a test"})
    found = BlockFolder.open(tmp_path)
    assert found == written
    assert (found.shape, found.cells, found.facts) == (X.shape, X.nnz, {"source": "a test"})
    found.verify()
    assert same(whole(found, "rows"), X)
    assert same(whole(found, "columns"), X.T.tocsr())
    assert sum(block.square for block in found.rows) == square_of(X.data)[0] == float((X.data.astype(float) ** 2).sum())
    assert all(a.flags.writeable for block in found.rows for a in found.read(block) if a.size)


@given(st.integers(1, 700), st.integers(1, 40), st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=examples(25))
def test_ranges_of_rows_are_those_of_the_matrix(tmp_path_factory, m, n, seed, data):
    X = matrix(m, n, seed, density=0.2, values=data.draw(st.sampled_from([10, 600, 5000])))
    folder = tmp_path_factory.mktemp("blocks")
    cuts = np.unique([0, m, *data.draw(st.lists(st.integers(0, m), max_size=4))]).astype(np.int64)
    found = write_matrix(folder, X, cuts, cut(n, 2))
    first = data.draw(st.integers(0, m))
    last = data.draw(st.integers(first, m))
    with SideReader(found, "rows") as reader:
        indptr, indices, values = reader.read(first, last, Buffers())
        part = X[first:last]
        assert same(sparse.csr_matrix((values, indices, indptr), shape=(last - first, n)), part)
        most = data.draw(st.integers(1, 2000))
        windows = list(reader.windows(first, last, most))
    assert [a for a, _ in windows] + [last] * bool(windows) == [first] * bool(windows) + [b for _, b in windows]
    for a, b in windows:
        assert (b - a) % STEP == 0 or b == last
        assert X.indptr[b] - X.indptr[a] <= most or b - a <= STEP
    parts = [
        sparse.csr_matrix((r.scores.copy(), r.indices.copy(), r.indptr.copy()), (len(r.indptr) - 1, n))
        for _, r in rows_of_side(found, "rows")
    ]
    assert same(sparse.vstack(parts, "csr"), X)


def test_cells_in_any_order_come_back_by_row_in_the_order_they_came():
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(0, 50, 500).astype(np.int32), rng.integers(0, 9, 500).astype(np.int32)
    values, times = rng.random(500).astype(np.float32), rng.integers(0, 10**12, 500)
    with CellSorter(cut(50, 4), times=True) as sorter:
        for part in np.array_split(np.arange(500), 7):
            sorter.add(rows[part], columns[part], values[part], times[part])
        got = [sorter.rows(number) for number in range(4)]
    order = np.argsort(rows, kind="stable")
    for sorted_part, whole_column in zip(list(zip(*got, strict=True))[1:], (columns, values, times), strict=True):
        assert np.array_equal(np.concatenate(sorted_part), whole_column[order])
    assert np.array_equal(np.concatenate([np.diff(part.indptr) for part in got]), np.bincount(rows, minlength=50))


def test_the_same_cells_give_the_same_bytes_and_a_second_run_goes_on(tmp_path: Path):
    X = matrix(60, 30, 1)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_matrix(tmp_path / name, X, cut(60, 3), cut(30, 2))
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    found = BlockFolder.open(tmp_path / "a")
    assert [finished_block(tmp_path / "a", "rows", block.number) for block in found.rows] == list(found.rows)
    assert finished_block(tmp_path / "a", "rows", 99) is None
    with (tmp_path / "a" / found.rows[1].name("indices")).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    assert finished_block(tmp_path / "a", "rows", 1) is None
    with pytest.raises(ArtifactError, match=r"rows-00001\.indices\.npy is damaged"):
        found.verify()
    with pytest.raises(ArtifactError, match="damaged"):
        found.read(found.rows[1], check=True)


def test_without_a_manifest_it_is_not_finished(tmp_path: Path):
    X = matrix(20, 10, 2)
    write_block(tmp_path, "rows", 0, 0, X.indptr[:11], X.indices[: X.indptr[10]], X.data[: X.indptr[10]])
    with pytest.raises(ArtifactError, match=r"has no manifest.json: its blocks are not finished"):
        BlockFolder.open(tmp_path)
    first = finished_block(tmp_path, "rows", 0)
    assert first is not None
    with pytest.raises(ArtifactError, match="The blocks of rows do not cover 20 rows"):
        write_manifest(tmp_path, X.shape, [first])
    tail = slice(X.indptr[10], X.indptr[20])
    second = write_block(tmp_path, "rows", 1, 10, X.indptr[10:] - X.indptr[10], X.indices[tail], X.data[tail])
    found = write_manifest(tmp_path, X.shape, [second, first])
    assert same(whole(found, "rows"), X)
    with pytest.raises(UsageError, match="has no blocks of columns"):
        found.side("columns")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: value.update(format=2), "of another format"),
        (lambda value: value.pop("cells"), "is damaged"),
        (lambda value: value["rows"].pop(), "do not cover"),
        (lambda value: value["rows"][0].update(first=-1), "no block"),
        (lambda value: value["rows"][0]["files"].pop("values"), "no block"),
    ],
)
def test_a_changed_manifest_is_named(tmp_path: Path, change, said):
    write_matrix(tmp_path, matrix(30, 20, 3), cut(30, 2), cut(20, 2))
    value = json.loads((tmp_path / "manifest.json").read_text())
    change(value)
    (tmp_path / "manifest.json").write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match=said):
        BlockFolder.open(tmp_path)


def test_files_that_are_missing_short_or_of_another_kind(tmp_path: Path):
    found = write_matrix(tmp_path, matrix(30, 20, 4), cut(30, 2), cut(20, 2))
    path = tmp_path / found.rows[0].name("values")
    content = path.read_bytes()
    with SideReader(found, "rows") as reader:
        path.write_bytes(content[:-3])
        with pytest.raises(ArtifactError, match="cut short"):
            reader.read(0, 30, Buffers())
    with pytest.raises(ArtifactError, match=r"values.npy has [\d,]+ bytes, and"):
        BlockFolder.open(tmp_path)
    path.write_bytes(b"x" * len(content))
    with pytest.raises(ArtifactError, match="can't be read"):
        BlockFolder.open(tmp_path).read(found.rows[0])
    path.unlink()
    with pytest.raises(ArtifactError, match="No such file"):
        BlockFolder.open(tmp_path)
    (tmp_path / "manifest.json").write_text("[")
    with pytest.raises(ArtifactError, match=r"manifest\.json is damaged"):
        BlockFolder.open(tmp_path)


@given(hnp.arrays(np.int64, st.integers(1, 400), elements=st.integers(1, 50)), st.integers(1, 20))
@settings(max_examples=examples(40))
def test_cuts_share_the_work(work, pieces):
    cuts = equal_work(work, pieces)
    assert cuts[0] == 0
    assert cuts[-1] == work.size
    assert (np.diff(cuts) > 0).all()
    assert len(cuts) <= pieces + 1
    heaviest = max(work[a:b].sum() for a, b in pairwise(cuts))
    assert heaviest <= work.sum() / pieces + work.max()
    aligned = equal_work(work, pieces, align=8)
    assert (aligned[1:-1] % 8 == 0).all()


def test_nothing_is_left_in_the_scratch_folder(tmp_path: Path):
    (tmp_path / "blocks").mkdir()
    (tmp_path / "scratch").mkdir()
    X = matrix(30, 20, 5)
    write_transposed(tmp_path / "blocks", "columns", rows_of(X), cut(20, 2), tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []
    assert not [path for path in (tmp_path / "blocks").iterdir() if path.suffix == ".partial"]


def test_a_window_is_bounded_by_default(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(block_reader, "WINDOW", 100)
    X = matrix(600, 20, 6, density=0.5)
    with SideReader(write_matrix(tmp_path, X, cut(600, 2), cut(20, 2)), "rows") as reader:
        assert [b - a for a, b in reader.windows(0, 600)] == [256, 256, 88]


def test_headers_are_read_by_many_threads_under_a_callback_of_the_garbage_collector(tmp_path: Path) -> None:
    """JAX has such a callback. It lets another thread run in the middle of numpy's parsing."""
    path, often, switch = tmp_path / "values.npy", gc.get_threshold(), sys.getswitchinterval()
    write_array(path, np.zeros(8, np.float32))

    def callback(*_: object) -> None:
        sum(range(300))

    def read(_: int) -> None:
        for _ in range(1000):
            read_header(path, "values", 8)

    gc.callbacks.append(callback)
    try:
        sys.setswitchinterval(1e-6)
        gc.set_threshold(1, 1, 1)
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(read, range(6)))
    finally:
        gc.set_threshold(*often)
        sys.setswitchinterval(switch)
        gc.callbacks.remove(callback)
