"""Threads that share out numbered pieces of work, and stop within a piece when interrupted."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from types import TracebackType

from pipeline.errors import UsageError

__all__ = ["Crew", "thread_count"]


def thread_count(n_threads: int | None) -> int:
    """`n_threads`, or the cores this process may use. Raises UsageError under 1."""
    if n_threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if n_threads < 1:
        raise UsageError(f"n_threads must be at least 1, got {n_threads}")
    return n_threads


class Crew:
    """Runs pieces on its own threads (on the caller's where it has one): safe beside other crews.

    The pieces don't depend on the number of threads, so neither do results.
    """

    def __init__(self, n_threads: int | None = None) -> None:
        self.n_threads = thread_count(n_threads)
        self._pool = ThreadPoolExecutor(self.n_threads, "nmf") if self.n_threads > 1 else None

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(self, piece: Callable[[int], None], count: int) -> None:
        """piece(0) … piece(count − 1), in any order; an error or an interrupt leaves the rest undone."""
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

        jobs = [self._pool.submit(work) for _ in range(min(self.n_threads, count))]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            todo.clear()
            wait(jobs)
            raise
