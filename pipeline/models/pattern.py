"""Where the cells of a stored sparse matrix are: read, and checked before anything goes by it."""

from __future__ import annotations

from collections.abc import Mapping
from io import BufferedReader
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtifactError
from pipeline.models import safe_files

__all__ = ["Pattern", "read_pattern", "read_seen"]

# Members of the file of seen items, in the order that they are written.
_SEEN_MEMBERS = ("indptr.npy", "indices.npy", "shape.npy")


class Pattern(NamedTuple):
    """Where the cells of a sparse matrix are."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]


def read_pattern(
    file: BufferedReader, parts: Mapping[str, safe_files.Part], shape: tuple[int, int], *, mapped: bool = False
) -> Pattern:
    """``indptr`` and ``indices`` of a csr matrix of this shape, checked before they are used."""
    # Signed: the difference of falling unsigned integers is not negative, and scipy reads where it points.
    indptr = safe_files.read_array(file, parts["indptr.npy"], "<i8", 1)
    indices = safe_files.read_array(file, parts["indices.npy"], "<i4", 1, mapped=mapped)
    if indptr.shape != (shape[0] + 1,) or indptr[0] != 0 or indptr[-1] != indices.size or (np.diff(indptr) < 0).any():
        raise ArtifactError(f"indptr does not fit {indices.size} items")
    if indices.size and (indices.min() < 0 or indices.max() >= shape[1]):
        raise ArtifactError(f"item rows must be in range [0, {shape[1]})")
    return Pattern(indptr, indices)


def read_seen(file: BufferedReader, mapped: bool, shape: tuple[int, int]) -> Pattern:
    """The pattern of the seen items, for so many users and items. Raises ArtifactError."""
    parts = safe_files.members(file, _SEEN_MEMBERS)
    stored_shape = tuple(safe_files.read_array(file, parts["shape.npy"], "<i8", 1).tolist())
    if stored_shape != shape:
        raise ArtifactError(f"it is for {str(stored_shape)[:60]}, the ids for {shape}")
    return read_pattern(file, parts, shape, mapped=mapped)
