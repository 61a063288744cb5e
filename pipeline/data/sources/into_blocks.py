"""Interactions of a warehouse, read straight into blocks on disk: memory does not grow with the number of rows.

    matrix = read_into_blocks(warehouse, query, "blocks")      # a folder that is not there yet, or is empty
    users, items = ids_of(matrix)
    W = NMF(64, init="random").fit_transform(matrix)

Rows are checked, ids numbered and duplicates merged as `read_warehouse` and `prepare_interactions` do: the matrix is
theirs, to the bit.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.blocks import MANIFEST, BlockFolder
from pipeline.data.id_map import IdMap
from pipeline.data.sources.blocks_builder import BlocksBuilder
from pipeline.data.sources.columns import Columns
from pipeline.data.sources.warehouse import stream_rows
from pipeline.errors import ArtifactError, InputError
from pipeline.options import Duplicates, OnBadRows
from pipeline.warehouse import Warehouse, sql

__all__ = ["ids_of", "read_into_blocks"]

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

    def made(through: Path | None) -> BlocksBuilder:
        return BlocksBuilder(columns or Columns(), on_bad_rows, query.name, through or folder)

    def write(builder: BlocksBuilder) -> BlockFolder:
        return builder.write(folder, duplicates)

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
