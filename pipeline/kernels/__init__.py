"""Compiled kernels on raw arrays: the only package that imports numba, and not before `compiled()` is called.

Registered models bring this package along under another name, so modules are found from where this one is.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from pipeline.errors import UsageError
from pipeline.kernels.compile_cache import cache_folder

__all__ = ["available", "cache_folder", "compiled", "is_loaded"]


def available() -> bool:
    """Whether numba is installed, without importing it."""
    return find_spec("numba") is not None


def is_loaded(kernel: str) -> bool:
    """Whether `compiled` has given this kernel already."""
    return f"{__name__}.{kernel}" in sys.modules


def compiled(kernel: str = "half_step") -> ModuleType:
    """The module `kernel` of this package, imported at the first call (importing numba takes half a second).

    Raises UsageError where numba is not installed.
    """
    try:
        return import_module(f"{__name__}.{kernel}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("numba", "llvmlite"):
            raise
        raise UsageError(
            "The fast solver needs numba, which is not installed: install it, or take NMF with --solver sklearn"
        ) from error
