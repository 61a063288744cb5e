"""BLAS on one thread, whichever libraries are loaded by then."""

from __future__ import annotations

import subprocess
import sys

from threadpoolctl import threadpool_info, threadpool_limits

from pipeline.runtime.blas import one_blas_thread


def threads_of_blas() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_blas_has_one_thread_within_and_as_many_as_before_afterwards():
    with threadpool_limits(2, user_api="blas"):
        for _ in range(2):
            with one_blas_thread():
                assert set(threads_of_blas()) == {1}
            assert set(threads_of_blas()) == {2}


def test_the_library_that_scipy_brings_is_found_once_it_is_loaded():
    code = """
import numpy
from threadpoolctl import threadpool_info, threadpool_limits
from pipeline.runtime.blas import one_blas_thread

with one_blas_thread():
    before = len(threadpool_info())
import scipy.linalg
threadpool_limits(2)
with one_blas_thread():
    found = [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]
assert len(found) > before and set(found) == {1}, (before, found)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
