"""The decorators of compiled functions. Importing this module imports numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.core import config

from pipeline.kernels.compile_cache import cache_folder

__all__ = ["jit", "jit_inlined", "jit_reassociating"]

# Sums may be reordered and divisions become products; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "nsz", "arcp"}


def jit(function: Callable[..., Any]) -> Any:
    """Compile without the GIL, division by zero giving infinity or NaN; sums keep their order."""
    return _compile(function, fastmath=False)


def jit_reassociating(function: Callable[..., Any]) -> Any:
    """As `jit`, but the compiler may reorder sums (see `FAST`)."""
    return _compile(function, fastmath=FAST)


def jit_inlined(function: Callable[..., Any]) -> Any:
    """As `jit_reassociating`, for a part of a row's work: it becomes part of its callers.

    A call counts references to every array of its arguments, which for a short row takes longer than its work.
    """
    return _compile(function, fastmath=FAST, forceinline=True)


def _compile(function: Callable[..., Any], fastmath: Any, **options: Any) -> Any:
    """numba's decorator, its cache in `cache_folder`, or without a cache where there is no folder for it."""
    folder = cache_folder()
    before = config.CACHE_DIR  # type: ignore[attr-defined]  # numba sets its options by name
    # numba takes the folder when it decorates. Other people's functions in this process keep theirs.
    config.CACHE_DIR = str(folder or "")  # type: ignore[attr-defined]
    try:
        decorate = numba.njit(nogil=True, error_model="numpy", fastmath=fastmath, cache=folder is not None, **options)
        return decorate(function)
    finally:
        config.CACHE_DIR = before  # type: ignore[attr-defined]
