"""Compiled kernels on raw arrays; the only room that may import numba, and not before `compiled()` is called."""

from __future__ import annotations

from types import ModuleType

from pipeline.errors import UsageError

__all__ = ["compiled"]


def compiled() -> ModuleType:
    """`pipeline.kernels.halfstep`, imported at the first call (numba takes half a second).

    Raises UsageError where numba is not installed.
    """
    try:
        from pipeline.kernels import halfstep
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("numba", "llvmlite"):
            raise
        raise UsageError(
            "The fast NMF solver needs numba, which is not installed: install rankline[fast], or use --solver sklearn"
        ) from error
    return halfstep
