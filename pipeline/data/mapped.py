"""Arrays in temporary files, mapped into memory; and passes over long arrays, some numbers at a time.

    users = empty(n, np.int32, folder)      # as np.empty; its numbers lie in a file without a name
    kept = taken(users, mask)               # as users[mask]; on disk where `users` is, else in memory
    release_all()                           # the pages that were touched are no memory of this process any more

The functions give the same arrays wherever their arguments lie. So what is written with them runs in memory and past
it, with the same bits. The system frees a file when its array is gone, or the process is killed.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.typing import NDArray

__all__ = [
    "any_of",
    "counts_of",
    "empty",
    "empty_beside",
    "ends_of",
    "is_mapped",
    "parts",
    "release",
    "release_all",
    "sums_of",
    "taken",
    "translated",
]

AT_ONCE = 1 << 20  # numbers of a part


class _File(mmap.mmap):
    """A mapped temporary file. folder : where it lies; None: where TMPDIR says. address : where it is mapped."""

    folder: Path | None = None
    address: int = 0

    def forget(self, first: int = 0, last: int | None = None) -> None:
        """Let the system have the pages of the bytes first … last − 1; what was written stays in the file."""
        first = first // mmap.PAGESIZE * mmap.PAGESIZE
        last = len(self) if last is None else last
        if hasattr(mmap, "MADV_DONTNEED") and last > first:
            self.madvise(mmap.MADV_DONTNEED, first, last - first)


_FILES: weakref.WeakSet[_File] = weakref.WeakSet()


def empty(size: int, dtype: Any, folder: Path | None = None) -> NDArray[Any]:
    """(size,) numbers in a temporary file in `folder`. Raises OSError where the disk has no room for them."""
    dtype = np.dtype(dtype)
    n_bytes = max(size * dtype.itemsize, 1)
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a signal at the first write
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        else:
            file.truncate(n_bytes)
        mapped = _File(file.fileno(), n_bytes)
    mapped.folder = folder
    _FILES.add(mapped)
    array: NDArray[Any] = np.ndarray((size,), dtype, buffer=mapped)
    mapped.address = array.ctypes.data
    return array


def _file_of(array: NDArray[Any]) -> _File | None:
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, _File) else None


def is_mapped(array: NDArray[Any]) -> bool:
    """Whether its numbers lie in a temporary file of `empty`."""
    return _file_of(array) is not None


def empty_beside(array: NDArray[Any], size: int, dtype: Any = None) -> NDArray[Any]:
    """(size,) numbers where those of `array` lie, on disk or in memory; of its type, if no other is named."""
    file = _file_of(array)
    dtype = array.dtype if dtype is None else dtype
    return np.empty(size, dtype) if file is None else empty(size, dtype, file.folder)


def release(*arrays: NDArray[Any]) -> None:
    """Free the memory of the pages that were touched, of arrays of `empty` or of parts of them.

    They are read again if needed.
    """
    for array in arrays:
        if (file := _file_of(array)) is not None:
            low, high = byte_bounds(array)
            file.forget(low - file.address, high - file.address)


def release_all() -> None:
    """The same, of all arrays of `empty`."""
    for file in list(_FILES):
        file.forget()


def parts(size: int, at_once: int = 0) -> Iterator[slice]:
    """Slices that cover `size` numbers, `at_once` each (default: about a million)."""
    step = at_once or AT_ONCE
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))


def taken(array: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
    """``array[rows]``, beside the array; rows : positions (m,), or a mask of its size."""
    if not is_mapped(array):
        result: NDArray[Any] = array[rows]
        return result
    mask = rows.dtype == np.bool_
    out = empty_beside(array, int(np.count_nonzero(rows)) if mask else rows.size)
    done = 0
    for part in parts(rows.size):
        some = array[part][rows[part]] if mask else array[rows[part]]
        out[done : done + some.size] = some
        done += some.size
        release(array, out)
    return out


def translated(codes: NDArray[Any], table: NDArray[Any]) -> NDArray[Any]:
    """``table[codes]``, beside the codes."""
    out = empty_beside(codes, codes.size, table.dtype)
    for part in parts(codes.size):
        out[part] = table[codes[part]]
        release(codes, out)
    return out


def counts_of(codes: NDArray[Any], n: int) -> NDArray[np.int64]:
    """How often each of the codes 0 … n − 1 is there, (n,)."""
    counts = np.zeros(n, np.int64)
    for part in parts(codes.size, max(AT_ONCE, n)):
        counts += np.bincount(codes[part], minlength=n)
        release(codes)
    return counts


def sums_of(codes: NDArray[Any], values: Callable[[slice], NDArray[Any]], n: int) -> NDArray[np.float64]:
    """``np.bincount(codes, values, n)`` to the bit; `values` gives those of a part."""
    total = np.zeros(n)
    for part in parts(codes.size):
        np.add.at(total, codes[part].astype(np.intp), values(part).astype(np.float64, copy=False))
        release_all()  # `values` may have read any
    return total


def any_of(test: Callable[[NDArray[Any]], NDArray[np.bool_]], array: NDArray[Any]) -> bool:
    """Whether `test` is true of a number."""
    for part in parts(array.size):
        found = bool(test(array[part]).any())
        release(array)
        if found:
            return True
    return False


def ends_of(array: NDArray[Any]) -> tuple[Any, Any]:
    """The least and the largest number, NaN where there is one; (0, 0) of none."""
    if not array.size:
        return 0, 0
    low, high = array[0], array[0]
    for part in parts(array.size):
        low, high = np.minimum(low, array[part].min()), np.maximum(high, array[part].max())
        release(array)
    return low, high
