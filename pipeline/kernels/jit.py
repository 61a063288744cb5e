"""The decorators of compiled functions. Importing this module imports numba.

A part of a kernel is called by compiled functions alone: it is one whose name begins with an underscore, or that
`jit_inlined` or `jit_part` decorates. It has no way in from Python, and a call raises TypeError: a way in unpacks and
checks each array of its named tuples, and to compile those of all parts took a fifth of the time.
"""

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

__all__ = ["jit", "jit_inlined", "jit_part", "jit_reassociating"]

# Sums may be reordered and divisions become products; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "nsz", "arcp"}
_LONGEST = 60.0  # seconds that a process waits for another one's compiling, before it compiles itself


def jit(function: Callable[..., Any]) -> Any:
    """Compile without the GIL, division by zero giving infinity or NaN; sums keep their order."""
    return _compile(function, fastmath=False)


def jit_part(function: Callable[..., Any]) -> Any:
    """As `jit`, for a part that another module's kernel calls."""
    return _compile(function, fastmath=False, part=True)


def jit_reassociating(function: Callable[..., Any]) -> Any:
    """As `jit`, but the compiler may reorder sums (see `FAST`)."""
    return _compile(function, fastmath=FAST)


def jit_inlined(function: Callable[..., Any]) -> Any:
    """As `jit_reassociating`, for a part of a row's work: it becomes part of its callers.

    A call counts references to every array of its arguments, which for a short row takes longer than its work.
    """
    return _compile(function, fastmath=FAST, part=True, forceinline=True)


def _compile(function: Callable[..., Any], fastmath: Any, part: bool = False, **options: Any) -> Any:
    """numba's decorator, its cache in `cache_folder`, or without a cache where there is no folder for it."""
    part = part or function.__name__.startswith("_")
    # No kernel is passed to another as an argument, which is what numba's wrapper for C is for.
    options |= {"no_cfunc_wrapper": True, "no_cpython_wrapper": part}
    folder = cache_folder()
    before = config.CACHE_DIR  # type: ignore[attr-defined]  # numba sets its options by name
    # numba takes the folder when it decorates. Other people's functions in this process keep theirs.
    config.CACHE_DIR = str(folder or "")  # type: ignore[attr-defined]
    try:
        decorate = numba.njit(nogil=True, error_model="numpy", fastmath=fastmath, cache=folder is not None, **options)
        compiled = decorate(function)
    finally:
        config.CACHE_DIR = before  # type: ignore[attr-defined]
    if part:
        _refuse_python(compiled)
    if folder is not None:
        _one_process_at_a_time(compiled, folder / f"{function.__module__.rpartition('.')[2]}.{function.__name__}.lock")
    return compiled


def _refuse_python(compiled: Any) -> None:
    """Raise TypeError where Python calls a part: numba would jump to the way in that is not there."""

    def refuse(*_: object, **__: object) -> None:
        raise TypeError(f"{compiled.__name__} is a part of compiled functions: Python can't call it")

    compiled._insert = lambda *_, **__: None  # what is compiled is not found by calls, which go on to the next:
    compiled._compile_for_args = refuse


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
