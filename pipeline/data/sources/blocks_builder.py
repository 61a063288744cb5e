"""`BlocksBuilder`: rows are checked and encoded as they come, and wait on disk; the result is sorted there.

    BlocksBuilder(columns, …).finish()             # interactions in mapped files, sorted: for `train`
    BlocksBuilder(columns, …).write(folder, …)     # a folder of blocks: for `read_into_blocks`
    stored(interactions, folder)                   # interactions in memory → in mapped files

Meanwhile 12 bytes a row (20 with times) lie in temporary files, and as many again while they are sorted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.arrays_on_disk import ArraysOnDisk
from pipeline.data.block_builder import CellSorter, SortedRows, rows_of_side, write_transposed
from pipeline.data.block_files import write_array
from pipeline.data.blocks import Block, BlockFolder, equal_work, write_block, write_manifest
from pipeline.data.id_map import IdMap
from pipeline.data.interactions import Interactions
from pipeline.data.mapped import counts_of, empty, parts, release_all
from pipeline.data.prepare import aggregate, sort_interactions
from pipeline.data.sources.blocks import ReadResult
from pipeline.data.sources.builder import InteractionsBuilder
from pipeline.data.sources.columns import Columns
from pipeline.errors import BadRowsError, InputError
from pipeline.options import Duplicates, OnBadRows

__all__ = ["BlocksBuilder", "builder_for", "stored"]

_BLOCK = 1 << 19  # cells of a block, more or less: sorting it takes some 80 bytes a cell
_MOST_BLOCKS = 64


def builder_for(folder: Path | None, columns: Columns, on_bad_rows: OnBadRows, where: str) -> InteractionsBuilder:
    """A builder of interactions in memory, or in files in `folder`."""
    if folder is None:
        return InteractionsBuilder(columns, on_bad_rows, where)
    return BlocksBuilder(columns, on_bad_rows, where, folder)


class BlocksBuilder(InteractionsBuilder):
    """`InteractionsBuilder` whose columns wait on disk, in `scratch`, and whose result is sorted there.

    The result is a folder of blocks (`write`), or interactions in mapped temporary files (`finish`).
    """

    gather_rows, gather_bytes = 1 << 18, 1 << 25  # encoding takes some 150 bytes a row

    def __init__(self, columns: Columns, on_bad_rows: OnBadRows, where: str, scratch: Path) -> None:
        self.scratch = scratch
        self._waiting: list[ArraysOnDisk] = []
        super().__init__(columns, on_bad_rows, where)

    def _new_chunks(self) -> ArraysOnDisk:
        self._waiting.append(ArraysOnDisk(self.scratch))
        return self._waiting[-1]

    def finish(self) -> ReadResult:
        """The interactions by user, item, time and score, in mapped files. Raises as `InteractionsBuilder.finish`."""
        self._check()
        if not self._names or not len(self._scores):
            return self._result(Interactions.of([], []))
        with self._sorter() as (sorter, user_ids, item_ids, n):
            interactions = _in_files(sorter, user_ids, item_ids, n, self.scratch)
        if self._times is not None and self._times.note:
            self.note(self._times.note)
        return self._result(interactions)

    def write(self, folder: Path, duplicates: Duplicates) -> BlockFolder:
        """Write the blocks of both sides and the ids. Raises as `InteractionsBuilder.finish`."""
        self._check()
        if not self._names or not len(self._scores):
            raise InputError(f"{self._place()}no interactions")
        with self._sorter() as (sorter, user_ids, item_ids, _):
            rows, per_item = _merged(folder, sorter, item_ids, duplicates)
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

    def _check(self) -> None:
        self._flush()
        self._bad.raise_refused(self.n_rows, self.where, self.row_word)

    @contextmanager
    def _sorter(self) -> Iterator[tuple[CellSorter, IdMap, IdMap, int]]:
        """All interactions, sorted into ranges of users; the ids of both sides, and how many interactions there are."""
        try:
            (users, user_ids), (items, item_ids) = (column.by_chunk() for column in self._ids)
        except InputError as error:
            raise InputError(f"{self._place()}{error}") from None
        counts = np.zeros(len(user_ids), np.int64)
        for codes in users():
            counts += np.bincount(codes, minlength=counts.size)
        with CellSorter(_cuts(counts), self.scratch, times=self._times is not None) as sorter:
            for codes, others, scores, at in zip(users(), items(), self._scores, self._moments(), strict=False):
                sorter.add(codes, others, scores, at)
            for chunks in self._waiting:  # the disk has their room again
                chunks.close()
            yield sorter, user_ids, item_ids, int(counts.sum())

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


def stored(x: Interactions, folder: Path) -> Interactions:
    """The interactions in mapped files in `folder`, by user, item, time and score."""
    at = None if x.at is None else x.at.view(np.int64)
    with CellSorter(_cuts(counts_of(x.users, len(x.user_ids))), folder, times=at is not None) as sorter:
        for part in parts(len(x)):
            sorter.add(x.users[part], x.items[part], x.scores[part], None if at is None else at[part])
        return _in_files(sorter, x.user_ids, x.item_ids, len(x), folder)


def _cuts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where ranges of users begin that are sorted at a time, from the interactions of each user."""
    return equal_work(counts + 1.0, int(np.clip(counts.sum() // _BLOCK, 1, _MOST_BLOCKS)))


def _in_files(sorter: CellSorter, user_ids: IdMap, item_ids: IdMap, n: int, folder: Path) -> Interactions:
    """The n interactions of a sorter, in order, in mapped files."""
    users, items, scores = (empty(n, dtype, folder) for dtype in (np.int32, np.int32, np.float32))
    at = empty(n, "datetime64[ms]", folder) if sorter.times else None
    start = 0
    for number, (first, last) in enumerate(pairwise(sorter.cuts.tolist())):
        some = _in_order(sorter.rows(number), last - first, item_ids)
        rows = slice(start, start + len(some))
        np.add(some.users, np.int32(first), out=users[rows])
        items[rows], scores[rows] = some.items, some.scores
        if at is not None:
            at[rows] = some.at
        start = rows.stop
        release_all()
    return Interactions(users, items, scores, user_ids, item_ids, at)


def _merged(
    folder: Path, sorter: CellSorter, item_ids: IdMap, duplicates: Duplicates
) -> tuple[list[Block], NDArray[np.int64]]:
    """The blocks of users with duplicates merged, and how many cells each item has."""
    blocks, per_item = [], np.zeros(len(item_ids), np.int64)
    for number, (first, last) in enumerate(pairwise(sorter.cuts.tolist())):
        unique = aggregate(_in_order(sorter.rows(number), last - first, item_ids), duplicates)
        per_item += np.bincount(unique.items, minlength=per_item.size)
        starts = unique.user_starts()
        blocks.append(write_block(folder, "rows", number, first, starts, unique.items, unique.scores))
    return blocks, per_item


def _in_order(rows: SortedRows, n_rows: int, item_ids: IdMap) -> Interactions:
    owner = np.repeat(np.arange(n_rows, dtype=np.int32), np.diff(rows.indptr))
    at = None if rows.times is None else rows.times.view("datetime64[ms]")
    return sort_interactions(Interactions(owner, rows.indices, rows.scores, IdMap(np.arange(n_rows)), item_ids, at))
