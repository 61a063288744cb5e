"""BLAS on one thread, for small products and for those on threads of our own."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]


def one_blas_thread() -> AbstractContextManager[Any]:
    """A context in which BLAS uses one thread."""
    limited: AbstractContextManager[Any] = _libraries("scipy.linalg" in sys.modules).limit(limits=1, user_api="blas")
    return limited


@cache
def _libraries(scipy: bool) -> Any:
    """The BLAS libraries that are loaded: numpy's, and scipy's own once that is imported. To find them takes 15 ms."""
    return ThreadpoolController()
