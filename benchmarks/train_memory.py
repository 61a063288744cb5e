"""Peak memory of a training by stage: interactions in memory, and in files (`rankline train --memory-limit`).

    python benchmarks/train_memory.py [--quick] [--size 100000x50000x20000000] [--k 64] [--iterations 3] [--ways …]

The interactions lie in a Parquet file in no order, with times. Each way is a process of its own: it reads, holds out
the latest fifth of each user, fits, evaluates beside the baselines, fits on all, measures and saves, as
`rankline train` does without MLflow. Peaks are resident memory, mapped pages of files included, less what there was
after imports and a small training. They stand beside one CSR matrix and the factors.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import machine
import numpy as np

SIZE, QUICK = "100000x50000x20000000", "20000x8000x2000000"
WAYS = ("memory", "files")


def make(path: Path, users: int, items: int, cells: int) -> None:
    """Skewed interactions, each pair at most once or twice, a million at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    schema = pa.schema([("user_id", pa.int64()), ("item_id", pa.int64()), ("rating", pa.float32()), ("at", pa.int64())])
    with pq.ParquetWriter(path, schema) as file:
        for start in range(0, cells, 1 << 20):
            n = min(1 << 20, cells - start)
            columns = [
                (users * rng.random(n) ** 1.5).astype(np.int64), (items * rng.random(n) ** 2).astype(np.int64),
                (rng.integers(1, 11, n) / 2).astype(np.float32), rng.integers(1_600_000_000, 1_700_000_000, n),
            ]  # fmt: skip
            file.write_table(pa.table(columns, schema))


def run(path: Path, k: int, iterations: int, way: str) -> dict[str, float | str]:
    """MB above the start by stage, seconds, and a digest of the model's files; in its own process."""
    from pipeline.data.sources.columns import Columns
    from pipeline.data.sources.files import read_file
    from pipeline.options import TrainOptions
    from pipeline.runtime.memory import give_back, reset_peak
    from pipeline.training import stages
    from pipeline.training.train import train

    spec = TrainOptions(n_components=k, max_iter=iterations)
    columns, folder = Columns(timestamp="at"), path.parent if way == "files" else None
    small = path.with_name("small.parquet")
    train(read_file(small, columns, folder=folder).interactions, spec)
    give_back()
    before, peaks = machine.now_mb(), {}
    total = time.process_time()

    class Peaks(stages.Stages):
        @contextmanager
        def __call__(self, name):
            reset_peak()
            with super().__call__(name):
                yield
                peaks[name] = max(machine.peak_mb() - before, peaks.get(name, 0))

    import pipeline.training.train as training

    training.Stages = Peaks  # type: ignore[misc]  # the training names its stages itself: they are measured there
    recorded = Peaks()
    with recorded("read"):
        read = read_file(path, columns, folder=folder).interactions
    trained = train(read, spec)
    with recorded("save"), tempfile.TemporaryDirectory(dir=path.parent) as saved:
        trained.model.save(saved)
        digest = hashlib.sha256()
        for file in sorted(Path(saved).iterdir()):
            if file.suffix == ".npy":
                digest.update(file.read_bytes())
    digest.update(json.dumps(dict(trained.report.metrics), sort_keys=True).encode())
    cells = trained.matrix.scores
    csr = (8 * cells.nnz + 4 * cells.shape[0]) / 2**20
    return {
        **{f"peak {name}": peak for name, peak in peaks.items()}, "csr": csr,
        "factors": 4 * k * sum(cells.shape) / 2**20, "cpu": time.process_time() - total, "digest": digest.hexdigest(),
    }  # fmt: skip


def main() -> None:
    """Make the file, train in children, print a line for each stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=QUICK)
    parser.add_argument("--size", default=SIZE, help="users x items x interactions")
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=3, help="at most, of each fit")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--folder", type=Path, help="for the files; default, a temporary one")
    parser.add_argument("--child", nargs=2, metavar=("FILE", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    users, items, cells = (int(n) for n in (QUICK if options.quick else options.size).split("x"))
    if options.child:
        print(json.dumps(run(Path(options.child[0]), options.k, options.iterations, options.child[1])))
        return
    print(machine.describe("numpy", "scipy", "numba", "pyarrow"), f"load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{users}x{items}x{cells}.parquet"
        if not path.exists():
            make(path, users, items, cells)
        make(folder / "small.parquet", 2000, 300, 60_000)
        child = ["--k", str(options.k), "--iterations", str(options.iterations)]
        ways = options.ways.split(",")
        found = {way: machine.in_child(__file__, ["--child", str(path), way, *child], 1)[0] for way in ways}
    some = next(iter(found.values()))
    both = some["csr"] + some["factors"]
    print(f"\n{users:,} × {items:,}, {cells:,} interactions, k = {options.k}, {options.iterations} iterations a fit:")
    print(f"CSR {some['csr']:,.0f} MB, factors {some['factors']:,.0f} MB\n")
    print("| stage |" + "".join(f" {way}: peak MB | beside CSR + factors |" for way in ways))
    print("|---|" + "---|---|" * len(ways))
    for name in (name for name in some if name.startswith("peak ")):
        cells_of = (f" {one[name]:,.0f} | {one[name] / both:.2f}× |" for one in found.values())
        print(f"| {name.removeprefix('peak ')} |" + "".join(cells_of))
    for way, one in found.items():
        same = "the same factors and metrics" if one["digest"] == some["digest"] else "OTHER factors or metrics"
        print(f"\n{way}: {one['cpu']:.0f} CPU s, {same}")


if __name__ == "__main__":
    main()
