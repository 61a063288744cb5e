"""A thread pool for numbered pieces of work. An error or an interrupt stops it within one piece."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from types import TracebackType

from pipeline.errors import UsageError
from pipeline.runtime.cpus import cpu_count

__all__ = ["ThreadPool", "thread_count"]


def thread_count(n_threads: int | None) -> int:
    """`n_threads`, by default the number of cores this process may use. Raises UsageError if it is under 1."""
    if n_threads is None:
        return cpu_count()
    if n_threads < 1:
        raise UsageError(f"n_threads must be at least 1, got {n_threads}")
    return n_threads


class ThreadPool:
    """Runs pieces of work on the caller's thread and on threads of its own, `n_threads` together.

    Several pools may run at once. The pieces don't depend on the number of threads, so neither do the results.
    The caller works too because a thread that only waits still takes a core for a moment each time it wakes another:
    Linux then puts the woken thread behind the one that already works, and may leave it there for milliseconds.
    """

    def __init__(self, n_threads: int | None = None) -> None:
        self.n_threads = thread_count(n_threads)
        self._pool = ThreadPoolExecutor(self.n_threads - 1, "kernel") if self.n_threads > 1 else None

    def __enter__(self) -> ThreadPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(self, piece: Callable[[int], None], count: int) -> None:
        """Call piece(0) … piece(count − 1), in any order. An error or an interrupt skips the remaining pieces."""
        if self._pool is None or count == 1:
            for number in range(count):
                piece(number)
            return
        todo = deque(range(count))

        def work() -> None:
            while True:
                try:
                    number = todo.popleft()
                except IndexError:
                    return
                try:
                    piece(number)
                except BaseException:
                    todo.clear()
                    raise

        jobs = [self._pool.submit(work) for _ in range(min(self.n_threads, count) - 1)]
        try:
            work()
            for job in jobs:
                if not job.cancel():  # nothing is left to do for a thread that has not begun
                    job.result()
        except BaseException:
            todo.clear()
            wait(jobs)
            raise
