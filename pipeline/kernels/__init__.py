"""Compiled kernels on raw arrays; the only room that may import numba, and not before `compiled()` is called."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from pipeline.errors import UsageError

__all__ = ["available", "compiled"]


def available() -> bool:
    """Whether numba is installed, without importing it."""
    return find_spec("numba") is not None


def compiled(kernel: str = "halfstep") -> ModuleType:
    """`pipeline.kernels.<kernel>`, imported at the first call (numba takes half a second).

    Raises UsageError where numba is not installed.
    """
    try:
        return import_module(f"pipeline.kernels.{kernel}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("numba", "llvmlite"):
            raise
        raise UsageError(
            "The fast solver needs numba, which is not installed: install it, or use --solver sklearn"
        ) from error
