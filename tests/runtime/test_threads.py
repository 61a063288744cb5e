"""Pieces of work on threads: each is done once, the caller works too, an error stops the rest."""

from __future__ import annotations

import threading
import time

import pytest

from pipeline.errors import UsageError
from pipeline.runtime.threads import ThreadPool, thread_count


@pytest.mark.parametrize("interrupted", ["caller", "thread"])
def test_an_error_in_a_piece_leaves_the_rest_undone(interrupted):
    done, n_before, caller = [], threading.active_count(), threading.get_ident()

    def piece(number):
        if len(done) > 10 and (threading.get_ident() == caller) == (interrupted == "caller"):
            raise KeyboardInterrupt
        time.sleep(0.001)
        done.append(number)

    with pytest.raises(KeyboardInterrupt), ThreadPool(2) as threads:
        threads.run(piece, 1000)
    assert len(done) < 900
    assert threading.active_count() == n_before


@pytest.mark.parametrize("n", [1, 2, 5])
def test_every_piece_is_done_once(n):
    done = []
    with ThreadPool(n) as threads:
        threads.run(done.append, 300)
    assert sorted(done) == list(range(300))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_as_many_threads_work_as_were_asked_for_and_the_caller_is_one(n):
    together, workers = threading.Barrier(n), []

    def piece(_):
        workers.append(threading.get_ident())
        together.wait(timeout=20)  # passed when n pieces are at work at once

    with ThreadPool(n) as threads:
        threads.run(piece, 10 * n)
        threads.run(piece, 10 * n)
    assert len(set(workers)) == n
    assert threading.get_ident() in workers


def test_a_thread_that_comes_late_is_not_waited_for():
    """The pieces of one run keep the pool's thread busy while the caller does all of another."""
    begun, over, done, ended = threading.Event(), threading.Event(), [], []

    def long(number):
        begun.set()
        over.wait(10)
        ended.append(number)

    with ThreadPool(2) as threads:
        other = threading.Thread(target=threads.run, args=(long, 2))
        other.start()
        begun.wait(10)
        threads.run(done.append, 5)
        assert done == list(range(5))
        assert not ended
        over.set()
        other.join(10)


def test_thread_count():
    assert thread_count(None) >= 1
    assert thread_count(3) == 3
    with pytest.raises(UsageError, match="at least 1, got 0"):
        thread_count(0)
