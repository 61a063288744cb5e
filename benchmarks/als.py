"""Unconstrained implicit-feedback ALS by time, beside `implicit`.

    python benchmarks/als.py [--quick] [--sizes 20000x10000x1000000,…] [--k 64,128] [--rounds 5] [--threads 2]

Both minimise the objective of benchmarks/weighted.py, from a start of the same kind, in float32: `implicit` with its
conjugate gradients (three steps) and BLAS on one thread. The loss is computed here for both, in float64, from their
factors. Shown are the seconds until ours is as low as that of `implicit` after 3, 5 and 8 iterations: medians of the
rounds, from the call; compilation, implicit's transpose and its start are left out. The ratio of CPU seconds stands
beside: on a machine that others use it is the steadier. "last rows" is the exact solution for the users that `als` ends
with, which `implicit` does not have.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as `implicit` asks for; ours does not use it

import numpy as np
from scipy import sparse

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import weighted
from machine import describe
from weighted import OBJECTIVE, Trace, implicit_als, liked, loss_of, row, until

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.models.als import start_als
from pipeline.models.fold_in import FoldIn
from pipeline.models.solvers.als import factorize_als

SIZES, QUICK = "20000x10000x1000000,6040x3700x1000000", "3000x2000x100000"
ITERATIONS = (3, 5, 8)  # of implicit, whose loss is the goal
MORE = 6  # iterations of ours beyond the last of these, at most


def ours(X: sparse.csr_matrix, k: int, iterations: int, threads: int) -> tuple[Trace, float]:
    """The trace, and the CPU seconds of the exact solution for the users at the end."""
    matrix = UserItems(X, IdMap(np.arange(X.shape[0])), IdMap(np.arange(X.shape[1])))
    W, H = start_als(matrix, k, OBJECTIVE, 1)
    trace: Trace = []
    wall, cpu = time.perf_counter(), time.process_time()
    fitted = factorize_als(
        X, W, H, OBJECTIVE, max_iter=iterations, tol=0, n_threads=threads,
        on_iteration=lambda _, loss: trace.append((time.perf_counter() - wall, time.process_time() - cpu, loss)),
    )  # fmt: skip
    cpu = time.process_time()
    fold_in = FoldIn(fitted.H, {"fold_in": "ridge", "objective": OBJECTIVE.as_json()}, compiled=True)
    rows = fold_in.solve(X.indptr, X.indices, X.data, threads)
    last = time.process_time() - cpu
    assert loss_of(X, rows, fitted.H) <= trace[-1][2] * (1 + 1e-5)  # the loss that is told is true
    return trace, last


def main() -> None:
    """Run the comparison and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK}, k 64, one round")
    parser.add_argument("--sizes", default=SIZES, help="users x items x cells, separated by commas")
    parser.add_argument("--k", default="64,128")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, weighted.CORES))
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    warnings.simplefilter("ignore")
    weighted.CORES = options.threads
    peer = "implicit" if find_spec("implicit") else ""
    print(describe("numpy", "numba", *filter(None, [peer])), f"{options.threads} threads,", end=" ")
    print(f"load {os.getloadavg()[0]:.1f}")
    if not peer:
        print("implicit is not installed: left out (`make peers`)")
    for k in (64,) if options.quick else map(int, options.k.split(",")):
        ours(liked(200, 300, 3000), k, 2, options.threads)  # compiles
        for size in (QUICK if options.quick else options.sizes).split(","):
            compare(liked(*(int(n) for n in size.split("x"))), size, k, rounds, options.threads)


def compare(X: sparse.csr_matrix, size: str, k: int, rounds: int, threads: int) -> None:
    """One table."""
    theirs, mine, last = [], [], []
    for _ in range(rounds):  # by turns: both meet the same neighbours on the machine
        theirs += [implicit_als(X, k, ITERATIONS[-1])] if find_spec("implicit") else []
        trace, seconds = ours(X, k, ITERATIONS[-1] + MORE, threads)
        mine.append(trace)
        last.append(seconds)
    cpu = statistics.median(trace[-1][1] / len(trace) for trace in mine)
    print(f"\n{size}, k = {k}: {cpu:.3f} CPU s an iteration, last rows {statistics.median(last):.2f} CPU s\n")
    if theirs:
        print("| goal | theirs s | ours s | ratio | CPU ratio |\n|---|---|---|---|---|")
    for iterations in ITERATIONS if theirs else ():
        goal = theirs[0][iterations - 1][2] * (1 + 1e-6)
        row(f"loss {goal:.2f}, after {iterations} iterations", until(theirs, goal), until(mine, goal))


if __name__ == "__main__":
    main()
