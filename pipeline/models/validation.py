"""Checks of row numbers and of sparse columns, before a kernel reads where they point."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pipeline.errors import InputError, RowRangeError

__all__ = ["check_columns", "check_pairs", "check_rows"]


def check_rows(rows: ArrayLike, what: str, n: int) -> NDArray[np.intp]:
    """Row numbers as an integer array, (m,); `what` names them. Raises InputError, RowRangeError."""
    index = np.atleast_1d(np.asarray(rows))
    if index.size and index.dtype.kind not in "iu":
        raise InputError(f"{what} rows must be integers, got {index.dtype}")
    if index.size and (index.min() < 0 or index.max() >= n):
        raise RowRangeError(f"{what} IDs must be in range [0, {n})")
    return index.astype(np.intp)


def check_pairs(
    user_rows: ArrayLike, item_rows: ArrayLike, shape: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """User rows and item rows of a matrix, an item a user, (m,) each. Raises InputError, RowRangeError."""
    rows, cols = check_rows(user_rows, "User", shape[0]), check_rows(item_rows, "Item", shape[1])
    if rows.shape != cols.shape:
        raise InputError(f"{rows.size} user rows and {cols.size} item rows: one item a user")
    return rows, cols


def check_columns(matrix: sparse.csr_matrix, name: str) -> None:
    """Kernels read where an index points, and scipy does not look at one that was assigned. Raises InputError."""
    columns, n = matrix.indices, matrix.shape[1]
    if columns.size and not (columns.min() >= 0 and columns.max() < n):
        raise InputError(f"{name} has columns outside [0, {n})")
