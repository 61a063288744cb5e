"""The decorators of compiled functions. Importing this module imports numba."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
from numba.core import config
from numba.core.compiler_lock import global_compiler_lock

from pipeline.errors import LockedError
from pipeline.kernels.compile_cache import cache_folder
from pipeline.runtime.file_lock import FileLock

__all__ = ["jit", "jit_inlined", "jit_reassociating"]

# Sums may be reordered and divisions become products; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "nsz", "arcp"}
_LONGEST = 60.0  # seconds that a process waits for another one's compiling, before it compiles itself


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
        compiled = decorate(function)
    finally:
        config.CACHE_DIR = before  # type: ignore[attr-defined]
    if folder is not None:
        _one_process_at_a_time(compiled, folder / f"{function.__module__.rpartition('.')[2]}.{function.__name__}.lock")
    return compiled


def _one_process_at_a_time(compiled: Any, lock: Path) -> None:
    """Let one process compile a function while others wait for its code in the cache.

    Processes that start together, as the workers of a service, would each compile all, for ten seconds of CPU; and of
    two that write to the cache of one function at once, numba keeps what one of them wrote.
    """
    compile_or_load = compiled.compile

    def compile_alone(signature: Any) -> Any:
        # numba's own lock first: with the two in another order, two threads could wait for each other.
        with global_compiler_lock, _held(lock):
            return compile_or_load(signature)

    compiled.compile = compile_alone


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold the lock; where that can't be, or takes too long, go on without it: to compile twice is no fault."""
    try:
        lock = FileLock(path, timeout=_LONGEST)
    except (LockedError, OSError):
        yield
        return
    with lock:
        yield
