"""A folder of Parquet files with the lists: whole or not at all, one job at a time, nothing written over."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow.dataset as ds
import pytest

from pipeline.errors import InputError, LockedError, ServerError, UsageError
from pipeline.publishing.batch_scoring import BatchSummary, ScoredBlock
from pipeline.publishing.lists import Lineage, Recommendations
from pipeline.publishing.parquet_lists import ParquetTarget, block_path, read_block, write_block

LINEAGE = Lineage("3", "run-a", 1_700_000_000_123)


def block(text: bool = False, n: int = 3) -> Recommendations:
    ids = np.arange(n)
    users = np.array([f"user {i}" for i in ids.tolist()], dtype=str) if text else ids - 2**62
    return Recommendations(
        users,
        np.arange(1, n + 1).astype(np.uint16),
        ids * 7,
        np.linspace(0, 1, n).astype(np.float32),
        np.full(n, "nmf"),
    )


@pytest.mark.parametrize(("text", "n"), [(False, 3), (True, 3), (False, 0), (True, 0)])
def test_a_block_is_read_as_it_was_written(tmp_path, text, n):
    summary = BatchSummary(5, 4, 3, 2, 0, n, n_promoted=1)
    write_block(tmp_path, 7, ScoredBlock(block(text, n), summary), LINEAGE)
    read = read_block(tmp_path, 7)
    assert read.summary == summary
    for name, column in block(text, n).__dict__.items():
        got = getattr(read.lists, name)
        assert got.tolist() == column.tolist()
        assert got.dtype.kind == column.dtype.kind
    assert [path.name for path in tmp_path.iterdir()] == ["part-000007.parquet"]


def test_a_damaged_or_other_file_is_an_error(tmp_path):
    with pytest.raises(ServerError, match="can't be read"):
        read_block(tmp_path, 0)
    write_block(tmp_path, 0, ScoredBlock(block(), BatchSummary(3, 3, 0, 0, 0, 4)), LINEAGE)
    with pytest.raises(ServerError, match="has 3 rows, not 4"):
        read_block(tmp_path, 0)
    path = block_path(tmp_path, 0)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ServerError, match="can't be read"):
        read_block(tmp_path, 0)


def test_the_folder_appears_whole_and_with_its_rows(tmp_path):
    target = tmp_path / "lists"
    with ParquetTarget(target) as parquet:
        sink = parquet.sink(LINEAGE)
        sink.write(block())
        sink.write(block())
        assert not target.exists()
        parquet.appear()
    assert [path.name for path in tmp_path.iterdir()] == ["lists"]
    rows = ds.dataset(target, format="parquet").to_table()
    assert rows.num_rows == 6
    assert rows.column("generated_at")[0].as_py().timestamp() == LINEAGE.generated_at_ms / 1000
    assert set(rows.column("run_id").to_pylist()) == {"run-a"}


def test_a_job_that_fails_leaves_nothing_and_one_that_was_killed_is_cleared_up(tmp_path):
    target = tmp_path / "lists"

    def interrupted():
        with ParquetTarget(target) as parquet:
            parquet.sink(LINEAGE).write(block())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())
    left = tmp_path / ".lists.partial"
    left.mkdir()
    (left / "part-000009.parquet").touch()
    with ParquetTarget(target) as parquet:
        assert not list(parquet.folder.iterdir())


def test_what_is_there_stays(tmp_path):
    target = tmp_path / "lists"
    with ParquetTarget(target) as parquet:
        with pytest.raises(LockedError, match="Another job makes"):
            ParquetTarget(target)
        target.touch()
        with pytest.raises(UsageError, match="exists already"):
            parquet.appear()
    with pytest.raises(UsageError, match="exists already, and is not written over"):
        ParquetTarget(target)
    target.unlink()
    target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="exists already"):
        ParquetTarget(target)


def test_where_it_can_not_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"can't be made \(.*Not a directory\)"):
        ParquetTarget(tmp_path / "file" / "lists")
    with pytest.raises(InputError, match=r"can't be made \(.*No such file or directory\); is the folder there"):
        ParquetTarget(tmp_path / "nowhere" / "lists")


_FULL = """
import resource, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_parquet_lists import LINEAGE, block
from pipeline.errors import ServerError
from pipeline.publishing.parquet_lists import ParquetTarget
with ParquetTarget(Path(sys.argv[1])) as parquet:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # as a full disk: the system takes no more bytes
    try:
        parquet.sink(LINEAGE).write(block())
    except ServerError as error:
        assert not list(parquet.folder.iterdir())
        print(error)
"""


@pytest.mark.slow
def test_a_disk_that_is_full(tmp_path):
    here = __file__.rpartition("/")[0]
    done = subprocess.run([sys.executable, "-c", _FULL, str(tmp_path / "lists"), here], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "part-000000.parquet can't be written (" in done.stdout
    assert "make room there" in done.stdout
    assert not list(tmp_path.iterdir())
