"""Memory of a fit: peak RSS minus the RSS after imports, and the sizes of the CSR matrix and the factors.

    python benchmarks/memory.py [--quick] [--size 300000x300000x100000000] [--k 64]

A child process loads the matrix from disk, so that making it does not count, and fits three iterations with the
estimator. A small fit precedes it, because compiled kernels count as imports.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import machine
import numpy as np
from scipy import sparse

SIZE, QUICK = "300000x300000x100000000", "30000x30000x3000000"


def make(folder: Path, users: int, items: int, cells: int) -> None:
    """Skewed cells by user: lognormal activity, popularity falling as a power; written block by block."""
    rng = np.random.default_rng(0)
    counts = np.minimum(np.maximum(1, cells * (draw := rng.lognormal(0, 1, users)) / draw.sum()), items / 2)
    counts = counts.astype(np.int64)
    indices = np.lib.format.open_memmap(folder / "indices.npy", "w+", np.int32, (int(counts.sum()),))
    indptr = np.concatenate([[0], np.cumsum(counts)])
    for start in range(0, users, 5000):
        rows = []
        for n in counts[start : start + 5000]:
            row = np.unique((items * rng.random(2 * n + 20) ** 2).astype(np.int32))
            while row.size < n:
                row = np.unique(np.append(row, (items * rng.random(n)).astype(np.int32)))
            rows.append(np.sort(rng.choice(row, n, replace=False)))
        indices[indptr[start] : indptr[min(start + 5000, users)]] = np.concatenate(rows)
    np.save(folder / "indptr.npy", indptr.astype(np.int32), allow_pickle=False)
    data = (rng.integers(1, 11, indices.size, np.int8) / 2).astype(np.float32)
    np.save(folder / "data.npy", data, allow_pickle=False)
    indices.flush()


def fit(folder: Path, users: int, items: int, k: int) -> dict[str, float]:
    """MB that a fit adds to memory, in its own process."""
    import warnings

    from pipeline.models.nmf import NMF

    warnings.simplefilter("ignore")
    for rows in (300, 2**20 // k):  # factors at both widths
        small = sparse.random(rows, 200, 0.1, "csr", np.float32, rng=np.random.default_rng(0))
        NMF(k, init="random", max_iter=2).fit(small)
    before = machine.now_mb()
    parts = tuple(np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("data", "indices", "indptr"))
    X = sparse.csr_matrix(parts, shape=(users, items))
    csr, factors = sum(part.nbytes for part in parts), (users + items) * k * 4
    NMF(k, init="random", random_state=0, max_iter=3).fit_transform(X)
    return {"csr": csr / 2**20, "factors": factors / 2**20, "before": before, "peak": machine.peak_mb()}


def main() -> None:
    """Make the matrix, fit in a child, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=QUICK)
    parser.add_argument("--size", default=SIZE, help="users x items x cells")
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--child", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    users, items, cells = (int(n) for n in (QUICK if options.quick else options.size).split("x"))
    if options.child:
        print(json.dumps(fit(Path(options.child), users, items, options.k)))
        return
    print(machine.describe("numpy", "scipy", "numba"))
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), users, items, cells)
        size = ["--size", f"{users}x{items}x{cells}", "--k", str(options.k)]
        (measured,) = machine.in_child(__file__, ["--child", folder, *size], 1)
    base = measured["csr"] + measured["factors"]
    print(f"\n| {users:,} × {items:,}, {cells:,} cells, k = {options.k} | MB | beside CSR + factors |\n|---|---|---|")
    print(f"| CSR | {measured['csr']:,.0f} | |\n| factors | {measured['factors']:,.0f} | |")
    print(f"| peak RSS less that after imports | {measured['peak'] - measured['before']:,.0f} |", end="")
    print(f" {(measured['peak'] - measured['before']) / base:.2f}× |")


if __name__ == "__main__":
    main()
