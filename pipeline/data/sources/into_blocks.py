"""Interactions of a warehouse, read straight into blocks on disk: memory does not grow with the number of rows.

    matrix = read_into_blocks(warehouse, query, "blocks")      # a folder that is not there yet, or is empty
    users, items = ids_of(matrix)
    W = NMF(64, init="random").fit_transform(matrix)

Rows are checked, ids numbered and duplicates merged as `read_warehouse` and `prepare_interactions` do: the matrix is
theirs, to the bit. Meanwhile 12 bytes a row (20 with times) lie in temporary files, and as many again while
they are sorted.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.arrays_on_disk import ArraysOnDisk
from pipeline.data.block_builder import CellSorter, SortedRows, rows_of_side, write_transposed
from pipeline.data.block_files import write_array
from pipeline.data.blocks import MANIFEST, Block, BlockFolder, equal_work, write_block, write_manifest
from pipeline.data.id_map import IdMap
from pipeline.data.interactions import Interactions
from pipeline.data.prepare import aggregate, sort_interactions
from pipeline.data.sources.builder import InteractionsBuilder
from pipeline.data.sources.columns import Columns
from pipeline.data.sources.warehouse import stream_rows
from pipeline.errors import ArtifactError, BadRowsError, InputError
from pipeline.options import Duplicates, OnBadRows
from pipeline.warehouse import Warehouse, sql

__all__ = ["BlocksBuilder", "ids_of", "read_into_blocks"]

_BLOCK = 1 << 19  # cells of a block, more or less: merging duplicates takes some 80 bytes a cell of it
_MOST_BLOCKS = 64
# What a read that was stopped may leave.
_LEFT = re.compile(r"(?:(?:rows|columns)-\d{5}|users|items)\..*|manifest\.json\..*|answer-\w+")


def read_into_blocks(
    warehouse: Warehouse,
    query: sql.Sql,
    folder: str | Path,
    columns: Columns | None = None,
    on_bad_rows: OnBadRows = "error",
    duplicates: Duplicates = "last",
    scratch: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BlockFolder:
    """The matrix of the query's interactions, in blocks; `facts` have its counts.

    scratch : the folder of temporary files; default, `folder`

    Raises
    ------
    InputError
        For a folder that holds anything but what a stopped read has left, or a query without rows;
        rows and columns as `read_warehouse`.
    ConnectionLostError
        As `read_warehouse`.
    """
    folder = Path(folder)
    _clear(folder)

    def made() -> BlocksBuilder:
        return BlocksBuilder(columns or Columns(), on_bad_rows, query.name, duplicates, scratch or folder)

    def write(builder: BlocksBuilder) -> BlockFolder:
        return builder.write(folder)

    matrix: BlockFolder = stream_rows(
        warehouse, query, columns or Columns(), made, write, progress, through=scratch or folder
    )
    return matrix


def _clear(folder: Path) -> None:
    """Make the folder, or delete what a read that was stopped has left in it. Raises InputError for anything else."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if not _LEFT.fullmatch(path.name) or (folder / MANIFEST).exists():
            raise InputError(f"{folder} is not empty: name a new folder for the blocks")
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def ids_of(matrix: BlockFolder) -> tuple[IdMap, IdMap]:
    """The ids of the rows and of the columns of blocks that `read_into_blocks` has written."""
    return IdMap(_read_ids(matrix.folder / "users.npy")), IdMap(_read_ids(matrix.folder / "items.npy"))


def _read_ids(path: Path) -> NDArray[Any]:
    try:
        ids: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} can't be read ({error}): read the interactions into blocks again") from None
    return ids


class BlocksBuilder(InteractionsBuilder):
    """`InteractionsBuilder` whose columns wait on disk, and whose result is a folder of blocks (`write`)."""

    def __init__(
        self, columns: Columns, on_bad_rows: OnBadRows, where: str, duplicates: Duplicates, scratch: Path
    ) -> None:
        self.duplicates, self.scratch = duplicates, scratch
        super().__init__(columns, on_bad_rows, where)

    def _new_chunks(self) -> ArraysOnDisk:
        return ArraysOnDisk(self.scratch)

    def write(self, folder: Path) -> BlockFolder:
        """Write the blocks of both sides and the ids. Raises as `InteractionsBuilder.finish`."""
        self._flush()
        self._bad.raise_refused(self.n_rows, self.where, self.row_word)
        if not self._names or not len(self._scores):
            raise InputError(f"{self._place()}no interactions")
        (users, user_ids), (items, item_ids) = (column.by_chunk() for column in self._ids)
        counts = np.zeros(len(user_ids), np.int64)
        for codes in users():
            counts += np.bincount(codes, minlength=counts.size)
        cuts = equal_work(counts + 1.0, int(np.clip(counts.sum() // _BLOCK, 1, _MOST_BLOCKS)))
        with CellSorter(cuts, self.scratch, times=self._times is not None) as sorter:
            for codes, others, scores, at in zip(users(), items(), self._scores, self._moments(), strict=False):
                sorter.add(codes, others, scores, at)
            rows, per_item = self._merged(folder, sorter, item_ids)
        shape = (len(user_ids), len(item_ids))
        column_cuts = equal_work(per_item + 1.0, len(rows))
        half = BlockFolder(folder, shape, sum(block.cells for block in rows), tuple(rows), ())
        columns = write_transposed(folder, "columns", rows_of_side(half, "rows"), column_cuts, self.scratch)
        for name, ids in (("users", user_ids), ("items", item_ids)):
            write_array(folder / f"{name}.npy", ids.values)
        facts = {
            "rows_read": self.n_rows, "rows_left_out": self.n_bad, "cells": half.cells,
            "user_ids": user_ids.digest, "item_ids": item_ids.digest,
        }  # fmt: skip
        return write_manifest(folder, shape, rows, columns, facts)

    def _moments(self) -> Iterator[NDArray[np.int64] | None]:
        """Times of each block in milliseconds; None without times."""
        if self._times is None:
            while True:
                yield None
        for times, wrong in self._times.by_chunk():
            if wrong is not None and wrong.any():
                raise BadRowsError(
                    f"{self._place()}{int(np.count_nonzero(wrong)):,} times or more lie outside the years 1 to 9999: "
                    "leave those rows out in the query"
                )
            yield times

    def _merged(self, folder: Path, sorter: CellSorter, item_ids: IdMap) -> tuple[list[Block], NDArray[np.int64]]:
        """The blocks of users with duplicates merged, and how many cells each item has."""
        blocks, per_item = [], np.zeros(len(item_ids), np.int64)
        for number, (first, last) in enumerate(zip(sorter.cuts, sorter.cuts[1:], strict=False)):
            unique = _unique(sorter.rows(number), int(last - first), item_ids, self.duplicates)
            per_item += np.bincount(unique.items, minlength=per_item.size)
            starts = unique.user_starts()
            blocks.append(write_block(folder, "rows", number, int(first), starts, unique.items, unique.scores))
        return blocks, per_item


def _unique(rows: SortedRows, n_rows: int, item_ids: IdMap, duplicates: Duplicates) -> Any:
    owner = np.repeat(np.arange(n_rows, dtype=np.int32), np.diff(rows.indptr))
    at = None if rows.times is None else rows.times.view("datetime64[ms]")
    given = Interactions(owner, rows.indices, rows.scores, IdMap(np.arange(n_rows)), item_ids, at)
    return aggregate(sort_interactions(given), duplicates)
