"""The steps of NeuMF's network by time, beside the arithmetic that they need.

    python benchmarks/neumf.py [--quick] [--size 20000x10000x1000000]

One round over the interactions (100 iterations), four drawn items each: 5 million pairs at the default size. It
runs on one core; shown are its CPU seconds. The first iteration has the import of JAX and the compilation besides. The
floor is the time of the layers' products alone, forward and back, at the rate of a plain sgemm of 1,024 × 1,024 on the
same core: dropout, embeddings and Adam are not in it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from itertools import pairwise
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np
from scipy import sparse

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from machine import describe
from weighted import liked

from pipeline.models.neumf import PARTS, Pairs, Settings, start_weights
from pipeline.models.neural_network import Network
from pipeline.models.solvers.neumf import Steps

SIZE, QUICK = "20000x10000x1000000", "3000x2000x100000"


def sgemm_gflops() -> float:
    """Of one core, in 10⁹ multiply-adds and adds a second."""
    a = np.ones((1024, 1024), np.float32)
    a @ a
    start = time.process_time()
    for _ in range(10):
        a @ a
    return 10 * 2 * 1024**3 / (time.process_time() - start) / 1e9


def ours(X: sparse.csr_matrix, settings: Settings) -> tuple[float, float, int]:
    """CPU seconds of the first iteration, CPU seconds of a whole round after it, and the round's pairs."""
    rng = np.random.default_rng(0)
    W, H = (rng.normal(size=shape).astype(np.float32) for shape in ((X.shape[0], 32), (32, X.shape[1])))
    start = time.process_time()
    network = Network(start_weights(W, H, settings, rng), settings.layers)
    embeddings = network.embeddings(W)
    pairs = Pairs(X, settings, rng)
    steps = Steps({name: a for name, a in network.weights.items() if name != "user_scale"}, 0.001, settings.dropout)
    n = 0
    for iteration in range(PARTS + 1):
        losses = [steps.take(batch) for batch in pairs.batches(embeddings)]
        float(sum(losses))
        if iteration == 0:
            first, start = time.process_time() - start, time.process_time()
        else:
            n += len(losses) * pairs.batch
    return first, time.process_time() - start, n


def main() -> None:
    """Run it, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=QUICK)
    parser.add_argument("--size", default=SIZE, help="users x items x interactions")
    options = parser.parse_args()
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:1]))
    print(describe("numpy", "jax", "optax"), f"one core, load {os.getloadavg()[0]:.1f}")
    X = liked(*(int(n) for n in (QUICK if options.quick else options.size).split("x")))
    settings = Settings()
    first, seconds, n = ours(X, settings)
    widths = [2 * settings.embedding, *settings.layers]
    products = sum(a * b for a, b in pairwise(widths))
    rate = sgemm_gflops()
    floor = n * products * 6 / rate / 1e9
    print(f"first iteration, with import and compilation: {first:.1f} CPU s")
    print(f"{n:,} pairs: {seconds:.1f} CPU s, {n / seconds:,.0f} a second")
    print(
        f"the layers' products alone at {rate:.0f} GFLOP/s: {floor:.1f} s; a round is {seconds / floor:.1f} times that"
    )


if __name__ == "__main__":
    main()
