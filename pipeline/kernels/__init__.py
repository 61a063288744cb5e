"""Compiled kernels on raw arrays; the only room that may import numba, and not before `compiled()` is called."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from pipeline.errors import UsageError

__all__ = ["available", "cache_folder", "compiled"]


def available() -> bool:
    """Whether numba is installed, without importing it."""
    return find_spec("numba") is not None


def cache_folder() -> Path:
    """Where compiled code is kept, unless ``NUMBA_CACHE_DIR`` names another folder."""
    here = Path(__file__).parent
    sources = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(here.glob("*.py"))))
    return here / "__pycache__" / sources.hexdigest()[:12]


def compiled(kernel: str = "halfstep") -> ModuleType:
    """`pipeline.kernels.<kernel>`, imported at the first call (numba takes half a second).

    Raises UsageError where numba is not installed.
    """
    try:
        _keep_compiled_apart()
        return import_module(f"pipeline.kernels.{kernel}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("numba", "llvmlite"):
            raise
        raise UsageError(
            "The fast solver needs numba, which is not installed: install it, or use --solver sklearn"
        ) from error


@cache
def _keep_compiled_apart() -> None:
    """Compiled code is cached in a folder named after the sources of all kernels.

    numba looks at the age of a kernel's own file alone, and would go on with code compiled from an older
    helper in another one.
    """
    from numba.core import config

    if os.environ.get("NUMBA_CACHE_DIR"):
        return
    config.CACHE_DIR = str(cache_folder())  # type: ignore[attr-defined]  # set by name
