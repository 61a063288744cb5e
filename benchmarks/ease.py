"""Seconds to fit EASE, and how near its scores are to those of the primal form in numpy.

    python benchmarks/ease.py [--sizes 610x9724x100836,6040x3706x1000209] [--rounds 3] [--threads 2]

Data are made up: as many users, items and cells as ml-latest-small and ML-1M have, with ratings of 1 to 5. *numpy* is
the primal form of Steck (2019) as the paper writes it, P = (XᵀX + λI)⁻¹ by `numpy.linalg.inv` in float64 on as many
threads of the BLAS, once. Shown are wall and CPU seconds, ours medians of the rounds, and the largest difference of a
score of 200 users, as a share of the largest score.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from machine import describe
from solver import generate

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.models.ease import fit_ease, is_dual

SIZES = "610x9724x100836,6040x3706x1000209"
REGULARIZATION = 200.0
CHECKED = 200  # users


def primal(X: sparse.csr_matrix) -> np.ndarray:
    """B by the primal form, (n_items, n_items), float64."""
    gram = (X.T @ X).toarray()
    gram[np.diag_indices_from(gram)] += REGULARIZATION
    inverse = np.linalg.inv(gram)
    weights = inverse / -np.diagonal(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def main() -> None:
    """Run the comparison and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=SIZES, help="users x items x cells, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=min(2, len(os.sched_getaffinity(0))))
    options = parser.parse_args()
    print(f"{describe('numpy', 'scipy')}, {options.threads} threads, load {os.getloadavg()[0]:.1f}\n")
    print("| users × items | form | ours s | CPU s | numpy s | CPU s | largest difference |")
    print("|---|---|---|---|---|---|---|")
    for size in options.sizes.split(","):
        m, n, cells = (int(part) for part in size.split("x"))
        X = generate(m, n, cells).astype(np.float64)
        matrix = UserItems(X.astype(np.float32), IdMap(np.arange(m)), IdMap(np.arange(n)))
        wall, cpu = time.perf_counter(), time.process_time()
        with threadpool_limits(options.threads, user_api="blas"):
            weights = primal(X)
        theirs = [(time.perf_counter() - wall, time.process_time() - cpu)]
        mine = []
        for _ in range(options.rounds):
            wall, cpu = time.perf_counter(), time.process_time()
            model = fit_ease(matrix, REGULARIZATION, options.threads)
            mine.append((time.perf_counter() - wall, time.process_time() - cpu))
        rows = np.random.default_rng(1).choice(m, min(CHECKED, m), replace=False)
        expected = X[rows] @ weights
        off = np.abs(model.scores(rows) - expected).max() / np.abs(expected).max()
        took = [f"{statistics.median(column):.2f}" for runs in (mine, theirs) for column in zip(*runs, strict=True)]
        print(
            f"| {m:,} × {n:,} | {'dual' if is_dual((m, n)) else 'primal'} | {' | '.join(took)} | {off:.1e} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
