"""A fit of up to 10⁹ cells, 1M × 1M, from blocks on disk: seconds an iteration and peak memory.

    python benchmarks/billion.py --folder /data/billion [--cells 300000000] [--users 1000000] [--items 1000000] [--k 64]
                                 [--iterations 3] [--threads 2]

The cells are made by seed, block by block, and stay in the folder: a run that was stopped goes on, and a second one
begins with the fit. The cells are as skewed as those of `memory.py`; a few per cent less than asked for, since a user
who draws an item twice has it once. It makes, sorts and fits in processes of its own, and prints what each took.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from itertools import pairwise
from pathlib import Path

import machine
import numpy as np


def rows_of_block(seed: int, counts: np.ndarray, items: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """indptr, indices and half stars of a block whose rows draw so many items each."""
    from pipeline.data.id_map import distinct

    rng = np.random.default_rng([7, seed])
    owner = np.repeat(np.arange(counts.size, dtype=np.int64), counts)
    keys = owner * items + (items * rng.random(owner.size) ** 2).astype(np.int64)
    del owner
    keys = distinct(keys)
    indptr = np.searchsorted(keys, np.arange(counts.size + 1, dtype=np.int64) * items)
    scores = rng.integers(1, 11, keys.size, np.int8).astype(np.float32) * np.float32(0.5)
    keys %= items
    return indptr, keys.astype(np.int32), scores


def make(folder: Path, users: int, items: int, cells: int, k: int) -> dict[str, float]:
    """Write the blocks of rows that are missing, then those of columns."""
    from pipeline.data.block_builder import rows_of_side, write_transposed
    from pipeline.data.blocks import BlockFolder, finished_block, write_block, write_manifest
    from pipeline.models.solvers.half_steps import cuts_of
    from pipeline.models.solvers.stored_side import counts_of_columns

    start = time.perf_counter()
    draw = np.random.default_rng(0).lognormal(0, 1, users)
    counts = np.minimum(np.maximum(1, cells * draw / draw.sum()), items / 2).astype(np.int64)
    cuts = cuts_of(counts, k)
    rows = []
    for number, (first, last) in enumerate(pairwise(cuts)):
        block = finished_block(folder, "rows", number)
        if block is None:
            block = write_block(folder, "rows", number, int(first), *rows_of_block(number, counts[first:last], items))
        rows.append(block)
    made = time.perf_counter()
    half = BlockFolder(folder, (users, items), sum(block.cells for block in rows), tuple(rows), ())
    column_cuts = cuts_of(counts_of_columns(half), k)
    columns = write_transposed(folder, "columns", rows_of_side(half, "rows"), column_cuts, folder)
    write_manifest(folder, half.shape, rows, columns, {"asked_for": cells, "seed": 7})
    return {"rows": made - start, "columns": time.perf_counter() - made, "peak": machine.peak_mb()}


def fit(folder: Path, k: int, iterations: int, threads: int | None) -> dict[str, float | list[float]]:
    """Seconds of each iteration and of the last half-step, CPU seconds, losses, MB."""
    from pipeline.data.blocks import BlockFolder
    from pipeline.models.nmf import NMF

    warnings.simplefilter("ignore")
    from scipy import sparse

    small = sparse.random(2**20 // k, 200, 0.1, "csr", np.float32, rng=np.random.default_rng(0))
    NMF(k, init="random", max_iter=2).fit(small)
    before, matrix = machine.now_mb(), BlockFolder.open(folder)
    moments = [(time.perf_counter(), time.process_time())]

    def told(iteration: int, loss: float) -> None:
        moments.append((time.perf_counter(), time.process_time()))
        print(f"iteration {iteration}: loss {loss:.2f}, {moments[-1][0] - moments[-2][0]:.1f} s, "
              f"{machine.peak_mb() - before:,.0f} MB", flush=True)  # fmt: skip

    estimator = NMF(k, init="random", random_state=0, max_iter=iterations, n_threads=threads, callback=told)
    estimator.fit(matrix)
    end = (time.perf_counter(), time.process_time())
    steps = np.diff(np.array(moments), axis=0)
    return {
        "cells": matrix.cells, "seconds": steps[:, 0].tolist(), "cpu": steps[:, 1].tolist(),
        "last": end[0] - moments[-1][0], "last_cpu": end[1] - moments[-1][1],
        "losses": list(estimator.loss_curve_), "before": before, "peak": machine.peak_mb(),
    }  # fmt: skip


def main() -> None:
    """Make, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--cells", type=int, default=1_000_000_000)
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--child", choices=["make", "fit"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child == "make":
        print(json.dumps(make(options.folder, options.users, options.items, options.cells, options.k)))
        return
    if options.child == "fit":
        print(json.dumps(fit(options.folder, options.k, options.iterations, options.threads)))
        return
    print(machine.describe("numpy", "scipy", "numba"))
    options.folder.mkdir(parents=True, exist_ok=True)
    size = ["--folder", str(options.folder), "--users", str(options.users), "--items", str(options.items),
            "--cells", str(options.cells), "--k", str(options.k), "--iterations", str(options.iterations),
            *(["--threads", str(options.threads)] if options.threads else [])]  # fmt: skip
    if not (options.folder / "manifest.json").exists():
        (made,) = machine.in_child(__file__, ["--child", "make", *size], 1)
        print(f"blocks of rows made in {made['rows']:.0f} s, sorted by column in {made['columns']:.0f} s, "
              f"peak {made['peak']:,.0f} MB")  # fmt: skip
    disk = sum(path.stat().st_size for path in options.folder.iterdir()) / 2**30
    (measured,) = machine.in_child(__file__, ["--child", "fit", *size], 1)
    cells, factors = measured["cells"], (options.users + options.items) * options.k * 4 / 2**30
    print(f"{options.users:,} × {options.items:,}, {cells:,} cells, k = {options.k}: {disk:.1f} GB on disk, "
          f"CSR {8 * cells / 2**30:.1f} GB, factors {factors:.2f} GB")  # fmt: skip
    print(f"seconds an iteration: {', '.join(f'{s:.0f}' for s in measured['seconds'])} "
          f"(CPU {', '.join(f'{s:.0f}' for s in measured['cpu'])}); the last half-step {measured['last']:.0f} "
          f"(CPU {measured['last_cpu']:.0f})")  # fmt: skip
    print(f"peak RSS {measured['peak']:,.0f} MB, {measured['peak'] - measured['before']:,.0f} MB of them the fit")


if __name__ == "__main__":
    main()
