"""Memory of a fit: peak RSS minus the RSS after imports, beside the sizes of the CSR matrix and the factors.

    python benchmarks/memory.py [--quick] [--size 300000x300000x100000000] [--k 64] [--iterations 3] [--ways disk,…]

Four ways to the same factors: `memory`, with X and Xᵀ in memory; `disk`, with X in memory and Xᵀ in a temporary file
(`LocalEngine(on_disk=True)`); `files`, with X in mapped files and Xᵀ in another, as `rankline train --memory-limit` has
them; `blocks`, with both in blocks on disk. Each is a process of its own, which loads the matrix from disk, so that
making it does not count. A small fit precedes it, because compiled kernels count as imports.
The factors are compared by their digests.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import machine
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

SIZE, QUICK = "300000x300000x100000000", "30000x30000x3000000"
WAYS = ("memory", "disk", "files", "blocks")
PARTS = ("data", "indices", "indptr")


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


def to_blocks(folder: Path, users: int, items: int, k: int) -> dict[str, float]:
    """Write both sides in blocks, from the mapped arrays; in a process of its own."""
    from pipeline.data.block_builder import write_matrix
    from pipeline.models.solvers.half_steps import cuts_of
    from pipeline.models.solvers.stored_side import counts_of_columns

    data, indices, indptr = (np.load(folder / f"{name}.npy", "r", allow_pickle=False) for name in PARTS)
    X = sparse.csr_matrix((data, indices, indptr), shape=(users, items), copy=False)
    X.has_canonical_format = True
    (folder / "blocks").mkdir()
    start = time.perf_counter()
    write_matrix(folder / "blocks", X, cuts_of(np.diff(X.indptr), k), cuts_of(counts_of_columns(X), k), folder)
    return {"seconds": time.perf_counter() - start}


def mapped_copy(path: Path) -> NDArray[Any]:
    """The array in a mapped temporary file beside it; row starts in memory."""
    from pipeline.data.mapped import empty, parts, release

    source = np.load(path, "r", allow_pickle=False)
    if path.stem == "indptr":
        return np.array(source)
    array = empty(source.size, source.dtype, path.parent)
    for part in parts(source.size):
        array[part] = source[part]
        release(array)
    return array


def fit(folder: Path, users: int, items: int, k: int, iterations: int, way: str) -> dict[str, float | str]:
    """MB that a fit adds to memory, in its own process, its seconds, and a digest of the factors."""
    from pipeline.data.blocks import BlockFolder
    from pipeline.models.nmf import NMF
    from pipeline.models.solvers.engine import LocalEngine
    from pipeline.runtime.memory import reset_peak

    engine = LocalEngine(on_disk=way in ("disk", "files"))
    warnings.simplefilter("ignore")
    for rows in (300, 2**20 // k):  # factors at both widths
        small = sparse.random(rows, 200, 0.1, "csr", np.float32, rng=np.random.default_rng(0))
        NMF(k, init="random", max_iter=2).on(LocalEngine(on_disk=way != "memory")).fit(small)
    before = machine.now_mb()
    if way == "blocks":
        X = BlockFolder.open(folder / "blocks")
    else:
        load = mapped_copy if way == "files" else partial(np.load, allow_pickle=False)
        parts = tuple(load(folder / f"{name}.npy") for name in PARTS)
        X = sparse.csr_matrix(parts, shape=(users, items))
        X.has_canonical_format = True  # as a training makes it: scipy would read all of it to see
        del parts
    estimator = NMF(k, init="random", random_state=0, max_iter=iterations).on(engine)
    reset_peak()  # loading has mapped the arrays' files
    start, cpu = time.perf_counter(), time.process_time()
    W = estimator.fit_transform(X)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = machine.peak_mb()
    digest = hashlib.sha256(W.tobytes())
    digest.update(np.array(estimator.loss_curve_).tobytes())
    for row in estimator.components_:
        digest.update(np.ascontiguousarray(row).tobytes())
    return {
        "peak": peak - before, "seconds": seconds, "cpu": cpu, "digest": digest.hexdigest(),
        "iterations": estimator.n_iter_,
    }  # fmt: skip


def main() -> None:
    """Make the matrix, fit in children, print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=QUICK)
    parser.add_argument("--size", default=SIZE, help="users x items x cells")
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=3, help="at most")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--folder", type=Path, help="for the matrix, which is kept there and found again")
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    users, items, cells = (int(n) for n in (QUICK if options.quick else options.size).split("x"))
    if options.child:
        folder, way = Path(options.child[0]), options.child[1]
        if way == "make":
            print(json.dumps(to_blocks(folder, users, items, options.k)))
        else:
            print(json.dumps(fit(folder, users, items, options.k, options.iterations, way)))
        return
    print(machine.describe("numpy", "scipy", "numba"))
    size = [
        "--size", f"{users}x{items}x{cells}", "--k", str(options.k), "--iterations", str(options.iterations)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        if not (folder / "data.npy").exists():
            folder.mkdir(parents=True, exist_ok=True)
            make(folder, users, items, cells)
        ways = options.ways.split(",")
        if "blocks" in ways and not (folder / "blocks" / "manifest.json").exists():
            (made,) = machine.in_child(__file__, ["--child", str(folder), "make", *size], 1)
            print(f"\nboth sides written in blocks in {made['seconds']:.1f} s")
        measured = {way: machine.in_child(__file__, ["--child", str(folder), way, *size], 1)[0] for way in ways}
        csr = sum((folder / f"{name}.npy").stat().st_size for name in PARTS) / 2**20
    factors = (users + items) * options.k * 4 / 2**20
    some = next(iter(measured.values()))
    print(f"\n{users:,} × {items:,}, {cells:,} cells, k = {options.k}, {some['iterations']} iterations:")
    print(f"CSR {csr:,.0f} MB, factors {factors:,.0f} MB\n")
    print("| way | peak MB, less that after imports | beside CSR + factors | seconds | CPU s | the same factors |")
    print("|---|---|---|---|---|---|")
    for way, one in measured.items():
        same = "yes" if one["digest"] == some["digest"] else "NO"
        print(
            f"| {way} | {one['peak']:,.0f} | {one['peak'] / (csr + factors):.2f}× | {one['seconds']:.1f} "
            f"| {one['cpu']:.1f} | {same} |"
        )


if __name__ == "__main__":
    main()
