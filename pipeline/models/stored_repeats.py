"""The file of what means need (`pipeline.data.repeats`), of a model whose duplicates became means."""

from __future__ import annotations

from io import BufferedReader
from typing import IO, Any

import numpy as np

from pipeline.data.repeats import Repeats
from pipeline.errors import ArtifactError
from pipeline.models import safe_files

__all__ = ["CELL_BYTES", "read_repeats", "write_repeats"]

CELL_BYTES = 20
_MEMBERS = ("cells.npy", "counts.npy", "sums.npy", "n_cells.npy")


def write_repeats(file: IO[bytes], repeats: Repeats) -> None:
    """Write them."""
    arrays: dict[str, Any] = {
        "cells": repeats.cells.astype(np.int64, copy=False),
        "counts": repeats.counts.astype(np.int32, copy=False),
        "sums": repeats.sums.astype(np.float64, copy=False),
        "n_cells": np.array([repeats.n_cells], np.int64),
    }
    np.savez(file, allow_pickle=False, **arrays)


def read_repeats(file: BufferedReader) -> Repeats:
    """Read and check them. Raises ArtifactError."""
    parts = safe_files.members(file, _MEMBERS)
    cells, counts, sums, n_cells = (
        safe_files.read_array(file, parts[name], dtype, 1)
        for name, dtype in zip(_MEMBERS, ("<i8", "<i4", "<f8", "<i8"), strict=True)
    )
    if not (cells.shape == counts.shape == sums.shape and cells.size and n_cells.shape == (1,)):
        raise ArtifactError("its arrays do not fit each other")
    if cells[0] < 0 or cells[-1] >= n_cells[0] or (np.diff(cells) <= 0).any():
        raise ArtifactError("its cells do not ascend, or are not cells")
    if counts.min() < 2 or not np.isfinite(sums).all():
        raise ArtifactError("its counts must be 2 or more, and its sums finite")
    return Repeats(cells, counts, sums, int(n_cells[0]))
