"""Working memory of the kernels, compiled. Importing it imports numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.kernels.jit import jit_inlined

__all__ = ["scratch", "unset"]

LINE = 64  # bytes of a cache line


@jit_inlined
def unset(rows: int, width: int, kind: Any) -> Any:
    """(rows, width) from a cache line on: a vector that lies in two lines takes twice the time to load."""
    memory = np.empty(rows * width + LINE, kind)
    first = -memory.ctypes.data % LINE // memory.itemsize
    return memory[first : first + rows * width].reshape((rows, width))


@jit_inlined
def scratch(rows: int, width: int, kind: Any) -> Any:
    """As `unset`, of zeros."""
    memory = unset(rows, width, kind)
    memory[:] = 0
    return memory
