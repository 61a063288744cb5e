"""`ArraysOnDisk`: a list of arrays whose numbers lie in a temporary file without a name."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ArraysOnDisk"]


class ArraysOnDisk:
    """Takes the place of a list of one-dimensional arrays; each access reads one of them. The system frees the file.

    scratch : the folder of the file; default, the one that TMPDIR names
    """

    def __init__(self, scratch: Path | None = None) -> None:
        self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - it lives as long as this
        self._places: list[tuple[int, np.dtype[Any], int]] = []
        self._end = 0

    def __len__(self) -> int:
        return len(self._places)

    def _put(self, array: NDArray[Any]) -> tuple[int, np.dtype[Any], int]:
        place = (self._end, array.dtype, array.size)
        self._file.seek(self._end)
        self._file.write(np.ascontiguousarray(array).view(np.uint8).data)
        self._file.flush()  # `__getitem__` reads past the buffer
        self._end += array.nbytes
        return place

    def append(self, array: NDArray[Any]) -> None:
        """Write one more array."""
        self._places.append(self._put(array))

    def __setitem__(self, number: int, array: NDArray[Any]) -> None:
        """Write it anew; the room of the one before is not used again."""
        self._places[number] = self._put(array)

    def __getitem__(self, number: int) -> NDArray[Any]:
        start, dtype, size = self._places[number]
        self._file.seek(start)
        return np.fromfile(self._file, dtype, size)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for number in range(len(self)):
            yield self[number]

    def close(self) -> None:
        """Free the file."""
        self._places = []
        self._file.close()
