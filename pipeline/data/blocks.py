"""A sparse matrix on disk, in blocks of rows: one format for a fit in one process and for a fit on a cluster.

A folder holds the matrix X (m, n) by row and by column, so that each half of an alternation reads its own side:

    manifest.json               shape, cells, facts; of each block its rows, cells, and files with bytes and sha256
    rows-00000.indptr.npy       (rows + 1,) int64: where each row's cells begin in this block, from 0
    rows-00000.indices.npy      (cells,) int32: columns, ascending in a row
    rows-00000.values.npy       (cells,) uint8, float16 or float32, whichever is the smallest that is exact
    rows-00000.levels.npy       (256,) float32, beside values of uint8 alone: the score that each code stands for
    columns-00000.….npy         the same cells by column: its "rows" are columns of X, and its indices rows of X

Blocks of a side cover its rows in order, without gaps. The writer of a block alone decides how its values are stored,
so many processes can write blocks at once:

    folder.mkdir()
    block = write_block(folder, "rows", number, first, indptr, indices, scores)     # anywhere, in any order
    matrix = write_manifest(folder, (m, n), blocks_of_rows, blocks_of_columns)      # once, last

    matrix = BlockFolder.open(folder)            # raises ArtifactError where it is no complete folder of blocks
    for block in matrix.rows:
        arrays = matrix.read(block)              # mapped files, as plain arrays
        cells = CsrRows(0, block.n_rows, arrays.indptr, arrays.indices, arrays.scores())

A folder without a manifest is not finished: a writer that was killed leaves blocks, and a second run writes what is
missing (`finished_block`). A file replaces another only when it is complete. The same cells give the same bytes.

`pipeline.data.block_reader` reads rows by range in bounded memory. `pipeline.data.block_builder` makes the blocks of a
side from cells in any order, in bounded memory. `pipeline.models.solvers.half_steps.cuts_of(counts, k)` are the ranges
of rows whose sums a fit adds in order: blocks that are cut there give the bits of a fit in one process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.block_files import MANIFEST, SIDES, Block, Side, StoredFile, read_header, replace_file, write_array
from pipeline.data.stored_values import decoded, encoded, square_of
from pipeline.errors import ArtifactError, UsageError

__all__ = [
    "MANIFEST",
    "Block",
    "BlockArrays",
    "BlockFolder",
    "Side",
    "StoredFile",
    "equal_work",
    "finished_block",
    "square_of",
    "write_block",
    "write_manifest",
]

FORMAT = 1
_MOST_MANIFEST = 1 << 28  # bytes: 64 blocks a side take some 50,000
_DAMAGED = "{} is damaged: write the blocks again"


class BlockArrays(NamedTuple):
    """The arrays of a block, as they lie on disk.

    indptr : (rows + 1,) int64, from 0
    indices : (cells,) int32
    values : (cells,) uint8, float16 or float32
    levels : (256,) float32 beside uint8, else (0,)
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[Any]
    levels: NDArray[np.float32]

    def scores(self) -> NDArray[np.float32]:
        """The values as float32, (cells,): `values` itself where they are stored so, else a new array."""
        return decoded(self.values, self.levels)


@dataclass(frozen=True)
class BlockFolder:
    """A finished folder of blocks.

    Attributes
    ----------
    folder : where its files lie
    shape : (m, n) of X
    cells : stored cells of X
    rows, columns : the blocks of each side, in order; () is a side that was not written
    facts : JSON-able, of whoever wrote the folder (a source, a digest of the data)
    """

    folder: Path
    shape: tuple[int, int]
    cells: int
    rows: tuple[Block, ...]
    columns: tuple[Block, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: str | Path) -> BlockFolder:
        """The folder, its manifest read and compared with the sizes of the files; `verify` compares the digests too.

        Raises ArtifactError for a folder without a manifest, of another format, or with a file missing or cut short.
        """
        path = Path(folder) / MANIFEST
        try:
            with path.open("rb") as file:
                value = json.loads(file.read(_MOST_MANIFEST))
        except FileNotFoundError:
            raise ArtifactError(f"{folder} has no {MANIFEST}: its blocks are not finished; write them again") from None
        except OSError as error:
            raise ArtifactError(f"{path} can't be read ({error.strerror}): write the blocks again") from None
        except ValueError:
            raise ArtifactError(_DAMAGED.format(path)) from None
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise ArtifactError(f"{path} is of another format than {FORMAT}: write the blocks again")
        try:
            m, n = (int(size) for size in value["shape"])
            rows, columns = (tuple(Block.of_json(block) for block in value[side]) for side in SIDES)
            cells, facts = int(value["cells"]), dict(value["facts"])
        except ArtifactError:
            raise
        except (KeyError, TypeError, ValueError):
            raise ArtifactError(_DAMAGED.format(path)) from None
        _check_cover(rows, m, cells)
        _check_cover(columns, n, cells)
        opened = cls(Path(folder), (m, n), cells, rows, columns, facts)
        for block in (*rows, *columns):
            opened._check_sizes(block)
        return opened

    def side(self, side: Side) -> tuple[Block, ...]:
        """The blocks of a side. Raises UsageError where it was not written."""
        blocks = self.rows if side == "rows" else self.columns
        if not blocks and self.n_rows(side):
            raise UsageError(f"{self.folder} has no blocks of {side}: write that side too")
        return blocks

    def n_rows(self, side: Side) -> int:
        """Rows of a side: m, or n for the columns."""
        return self.shape[0] if side == "rows" else self.shape[1]

    def read(self, block: Block, *, check: bool = False) -> BlockArrays:
        """The block's arrays, mapped from its files; changes to them stay in memory. `check` compares digests first.

        They are plain arrays that count as writable, so that a compiled kernel has one version for them and for arrays
        in memory. Raises ArtifactError for a file that is missing or damaged.
        """
        self._check_sizes(block)
        if check:
            self._check_digests(block)
        arrays = {part: self._array(block, part) for part in block.files}
        return BlockArrays(
            arrays["indptr"], arrays["indices"], arrays["values"], arrays.get("levels", np.zeros(0, np.float32))
        )

    def indptr(self, side: Side) -> NDArray[np.int64]:
        """Where each row's cells begin among all cells of the side: (rows + 1,), read from every block."""
        out = np.zeros(self.n_rows(side) + 1, np.int64)
        before = 0
        for block in self.side(side):
            out[block.first : block.last + 1] = self._array(block, "indptr") + before
            before += block.cells
        return out

    def verify(self) -> None:
        """Read every file and compare its digest. Raises ArtifactError, which names the file."""
        for block in (*self.rows, *self.columns):
            self._check_sizes(block)
            self._check_digests(block)

    def _array(self, block: Block, part: str) -> NDArray[Any]:
        path, length = self.folder / block.name(part), block.length(part)
        dtype, start = read_header(path, part, length)
        if not length:  # nothing can be mapped of it
            return np.zeros(0, dtype)
        # Copy on write: numba compiles a second version of a kernel for arrays that can't be written to.
        return np.memmap(path, dtype, "c", start, (length,)).view(np.ndarray)

    def _check_sizes(self, block: Block) -> None:
        for part, stored in block.files.items():
            path = self.folder / block.name(part)
            try:
                size = path.stat().st_size
            except OSError as error:
                raise ArtifactError(f"{path} can't be read ({error.strerror}): write the blocks again") from None
            if size != stored.bytes:
                raise ArtifactError(
                    f"{path} has {size:,} bytes, and {stored.bytes:,} were written: write the blocks again"
                )

    def _check_digests(self, block: Block) -> None:
        for part, stored in block.files.items():
            path = self.folder / block.name(part)
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != stored.sha256:
                    raise ArtifactError(_DAMAGED.format(path))


def write_block(
    folder: str | Path,
    side: Side,
    number: int,
    first: int,
    indptr: NDArray[Any],
    indices: NDArray[Any],
    scores: NDArray[np.float32],
) -> Block:
    """Write one block of a side; any process may, in any order. The folder must exist.

    Parameters
    ----------
    number : its place in the order of the side, from 0
    first : the row of the side that it begins with
    indptr : (rows + 1,), from 0; indices : (cells,), ascending in a row; scores : (cells,) float32
    """
    folder = Path(folder)
    values, levels = encoded(scores)
    parts: dict[str, NDArray[Any]] = {
        "indptr": indptr.astype(np.int64),
        "indices": indices.astype(np.int32, copy=False),
        "values": values,
    }
    if levels.size:
        parts["levels"] = levels
    block = Block(side, number, first, first + len(indptr) - 1, int(indptr[-1]), *square_of(scores))
    block = replace(block, files={part: write_array(folder / block.name(part), a) for part, a in parts.items()})
    replace_file(folder / _listing(side, number), json.dumps(block.as_json()).encode())
    return block


def finished_block(folder: str | Path, side: Side, number: int) -> Block | None:
    """The block that an earlier run wrote, its digests compared; None where it is missing or damaged."""
    folder = Path(folder)
    try:
        block = Block.of_json(json.loads((folder / _listing(side, number)).read_bytes()))
        BlockFolder(folder, (0, 0), block.cells, (block,), ()).verify()
    except (OSError, ValueError):  # ArtifactError is a ValueError
        return None
    return block if (block.side, block.number) == (side, number) else None


def write_manifest(
    folder: str | Path,
    shape: tuple[int, int],
    rows: Iterable[Block],
    columns: Iterable[Block] = (),
    facts: Mapping[str, Any] | None = None,
) -> BlockFolder:
    """Finish a folder whose blocks are written. Raises ArtifactError where they do not cover the matrix."""
    folder = Path(folder)
    by_row, by_column = (sorted(blocks, key=lambda block: block.number) for blocks in (rows, columns))
    cells = sum(block.cells for block in by_row or by_column)
    _check_cover(by_row, shape[0], cells)
    _check_cover(by_column, shape[1], cells)
    sides = {"rows": [b.as_json() for b in by_row], "columns": [b.as_json() for b in by_column]}
    value = {"format": FORMAT, "shape": list(shape), "cells": cells, "facts": dict(facts or {}), **sides}
    replace_file(folder / MANIFEST, json.dumps(value, allow_nan=False).encode())
    return BlockFolder.open(folder)


def equal_work(work: NDArray[Any], pieces: int, align: int = 1) -> NDArray[np.int64]:
    """Cut rows into at most `pieces` ranges of about equal work: (pieces + 1,), ascending, from 0 to the last row + 1.

    work : (rows,) of each row, > 0; align : inner cuts are multiples of it
    """
    done = np.cumsum(work, dtype=np.float64)
    if not done.size:
        return np.zeros(1, np.int64)
    inner = np.searchsorted(done, done[-1] * np.arange(1, pieces) / pieces) // align * align
    return np.unique(np.concatenate([[0], inner, [done.size]])).astype(np.int64)


def _listing(side: Side, number: int) -> str:
    return f"{side}-{number:05d}.json"


def _check_cover(blocks: Sequence[Block], size: int, cells: int) -> None:
    """Raise ArtifactError where the blocks of a side do not cover its rows and cells; none at all is a missing side."""
    if not blocks:
        return
    begin, end = [block.first for block in blocks], [block.last for block in blocks]
    if begin != [0, *end[:-1]] or end[-1] != size or sum(block.cells for block in blocks) != cells:
        raise ArtifactError(
            f"The blocks of {blocks[0].side} do not cover {size:,} rows and {cells:,} cells: write them again"
        )
