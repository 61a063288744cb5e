"""Parquet read in parts by tasks: the interactions, the digest and the errors of one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.prepare import content_digest, sort_interactions
from pipeline.data.sources.builder import Columns
from pipeline.data.sources.files import FileForm, read_file
from pipeline.errors import BadRowsError, InputError
from pipeline.models.solvers.block_engine import HereTasks
from pipeline.spark import part_files, reading

IDS = {"int": lambda n: n * 7 - 900, "str": lambda n: f"u-{n}"}


def table(rng, n, kind="int", times=True, **changed):
    columns = {
        "user_id": [IDS[kind](int(i)) for i in rng.integers(0, 40, n)],
        "item_id": [f"item {i}" for i in rng.integers(0, 30, n)],
        "rating": rng.integers(0, 11, n) / 2,
        **({"timestamp": rng.integers(1_500_000_000, 1_500_000_050, n)} if times else {}),
        **changed,
    }
    return pa.table(columns)


def written(folder: Path, tables, group=37) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for i, part in enumerate(tables):
        pq.write_table(part, folder / f"part-{i}.parquet", row_group_size=group)
    return [folder]


def read(tmp_path, paths, on_bad_rows="error", tasks=None):
    return reading.read_on(
        tasks or HereTasks(2), tmp_path / "work", paths, Columns(), None, on_bad_rows, None, FileForm()
    )


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(reading, "_PART", 50)
    monkeypatch.setattr(reading, "_RANGE", 64)


@pytest.mark.parametrize("kind", ["int", "str"])
@pytest.mark.parametrize("times", [False, True])
@pytest.mark.parametrize("slots", [1, 3])
def test_it_reads_what_one_process_reads(tmp_path, rng, kind, times, slots):
    paths = written(tmp_path / "in", [table(rng, n, kind, times) for n in (200, 1, 90)])
    here = read_file(paths)
    there = read(tmp_path, paths, tasks=HereTasks(slots))
    assert there.n_rows == here.n_rows == 291
    assert there.columns == here.columns
    mine, other = there.interactions, sort_interactions(here.interactions)
    assert content_digest(mine) == content_digest(other)
    for column in ("users", "items", "scores"):
        assert getattr(mine, column).tolist() == getattr(other, column).tolist()
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == sorted(
        ["users", "items", "scores", *(["at"] if times else []), "users.npy", "items.npy"]
    )


def test_a_file_of_text_is_read_here(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text("user_id,item_id,rating\n1,2,3\n1,x,4\n")
    assert len(read(tmp_path, [file]).interactions) == 2


def test_bad_rows_are_left_out_and_counted_with_their_number(tmp_path, rng):
    good = table(rng, 130)
    bad = table(rng, 130, rating=[None if i == 77 else 1.0 for i in range(130)])
    paths = written(tmp_path / "in", [good, bad])
    there, here = read(tmp_path, paths, "drop"), read_file(paths, on_bad_rows="drop")
    assert (
        (there.n_rows, there.n_bad, there.bad_rows)
        == (here.n_rows, here.n_bad, here.bad_rows)
        == (260, 1, there.bad_rows)
    )
    assert there.bad_rows[0]["row"] == 78
    with pytest.raises(BadRowsError, match=r"row 78 .rating is missing"):
        read(tmp_path, paths)


def test_ids_of_two_kinds_are_refused_with_both_files(tmp_path, rng):
    paths = written(tmp_path / "in", [table(rng, 60), table(rng, 60, "str")])
    with pytest.raises(InputError, match=r"'user_id' holds integers in \S+0.parquet and text in \S+1.parquet"):
        read(tmp_path, paths)


def test_other_columns_on_the_way_are_refused(tmp_path, rng):
    other = table(rng, 60).rename_columns(["uid", "item_id", "rating", "timestamp"])
    paths = written(tmp_path / "in", [table(rng, 60), other])
    with pytest.raises(InputError, match="Columns change on the way"):
        read(tmp_path, paths)


def test_a_part_that_is_gone_or_none_is_named(tmp_path, rng):
    paths = written(tmp_path / "in", [table(rng, 60), table(rng, 60)])

    class Late(HereTasks):
        def run(self, function, tasks):
            (tmp_path / "in" / "part-1.parquet").unlink(missing_ok=True)
            return super().run(function, tasks)

    with pytest.raises(InputError, match=r"part-1.parquet is gone, or not every executor sees it"):
        read(tmp_path, paths, tasks=Late(1))
    (tmp_path / "in" / "part-1.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"part-1.parquet is no good parquet file"):
        read(tmp_path, paths)


def test_no_rows_are_refused(tmp_path, rng):
    with pytest.raises(InputError, match="has no rows"):
        read(tmp_path, written(tmp_path / "in", [table(rng, 10).slice(0, 0)]))


def test_a_part_may_be_empty(tmp_path, rng):
    tables = [table(rng, 70).slice(0, 0), table(rng, 70)]
    paths = written(tmp_path / "in", tables)
    assert len(read(tmp_path, paths).interactions) == 70


def test_row_groups_make_parts_of_about_one_size(tmp_path, rng):
    written(tmp_path / "in", [table(rng, 200)])
    groups = part_files.groups_of(tmp_path / "in" / "part-0.parquet", 70)
    assert groups == [((0, 1), 1, 74), ((2, 3), 75, 74), ((4, 5), 149, 52)]
    assert np.sum([n for _, _, n in groups]) == 200
