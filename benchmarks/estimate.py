"""Estimated and measured peak memory and seconds of real trainings, each in its own process.

    python benchmarks/estimate.py [--quick] [--shape 100000x27000x10000000 --k 64 --holdout 0.2 --text]

The estimates are those that the run logged before its fit. The sample is read from an embedded warehouse, the other
data from Parquet. `seconds` is the time of the last fit, `all` that of everything after reading.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import machine
import numpy as np


class Case(NamedTuple):
    """A training: `shape` users x items x interactions, or the sample."""

    shape: str
    k: int = 10
    holdout: float = 0.2
    text: bool = False
    extra: tuple[str, ...] = ()


CASES = (
    Case("sample"),
    Case("10000x50000x1000000", 10),
    Case("10000x50000x1000000", 64),
    Case("100000x27000x10000000", 10),
    Case("100000x27000x10000000", 64),
    Case("100000x27000x5000000", 10, 0.0, text=True),
    Case("800000x100000x3000000", 64, 0.0),
    Case("10000x50000x1000000", 64, 0.0, extra=("--solver", "sklearn", "--max-iter", "20")),
    Case("10000x50000x1000000", 64, 0.0, extra=("--unobserved-weight", "0.1", "--max-iter", "20")),
)
QUICK = (Case("sample"), Case("2000x5000x100000", 10))


def make(path: Path, shape: str, text: bool) -> None:
    """Skewed interactions with times: lognormal activity, popularity falling as a power."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.data.id_map import distinct

    users, items, rows = (int(n) for n in shape.split("x"))
    rng = np.random.default_rng(0)
    activity = rng.lognormal(0, 1, users)
    user = rng.choice(users, int(rows * 1.1), p=activity / activity.sum())
    pairs = distinct(user * items + (items * rng.random(user.size) ** 3).astype(np.int64))
    pairs = rng.permutation(pairs)[:rows]
    ids = {"user_id": pa.array(pairs // items), "item_id": pa.array(pairs % items)}
    if text:
        ids = {name: pa.array([f"{n:08x}-0000-4000-8000-{n:012x}" for n in v.to_pylist()]) for name, v in ids.items()}
    scores = (rng.integers(1, 11, pairs.size) / 2).astype(np.float32)
    times = rng.integers(1_600_000_000, 1_700_000_000, pairs.size)
    pq.write_table(pa.table({**ids, "rating": scores, "timestamp": times}), path)


def run(folder: Path, case: Case) -> dict[str, float]:
    """The metrics of a training."""
    import mlflow

    store = f"sqlite:///{folder / 'mlflow.db'}"
    source = ["--source", "warehouse"]
    if case.shape != "sample":
        path = folder / f"{case.shape}{'-text' if case.text else ''}.parquet"
        if not path.exists():
            make(path, case.shape, case.text)
        source = ["--source", "file", "--input", str(path)]
    command = [sys.executable, "-m", "pipeline", "train", *source, "--n-components", str(case.k)]
    env = {k: v for k, v in os.environ.items() if not k.startswith("RANKLINE_")}
    env |= {"MLFLOW_TRACKING_URI": store, "RANKLINE_WAREHOUSE": f"chdb://{folder / 'warehouse'}"}
    done = subprocess.run(
        [*command, "--holdout", str(case.holdout), *case.extra], env=env, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name("rankline")
    return dict(client.search_runs([experiment.experiment_id], max_results=1)[0].data.metrics)


def main() -> None:
    """Print a line per case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small ones")
    parser.add_argument("--shape", help="users x items x interactions, instead of the list")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--holdout", type=float, default=0.2)
    parser.add_argument("--text", action="store_true", help="ids are UUIDs")
    options = parser.parse_args()
    asked = Case(options.shape or "", options.k, options.holdout, options.text)
    print(machine.describe("numpy", "scipy", "numba", "mlflow"))
    print(f"load {os.getloadavg()[0]:.1f}\n")
    print(
        "| interactions | k | holdout | MB estimated | measured | ratio | fit s estimated | measured "
        "| all s estimated | measured |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for case in (asked,) if options.shape else QUICK if options.quick else CASES:
            metrics = run(Path(scratch), case)
            mb, peak = metrics["cost/estimated_peak_mb"], metrics["cost/peak_memory_mb"]
            after = metrics["cost/seconds_total"] - metrics["cost/seconds_read"]
            name = " ".join([case.shape, *(["text"] if case.text else []), *case.extra])
            print(
                f"| {name} | {case.k} | {case.holdout:g} | {mb:,.0f} | {peak:,.0f} | {mb / peak:.2f} "
                f"| {metrics['cost/estimated_fit_seconds']:.1f} | {metrics['cost/seconds_fit']:.1f} "
                f"| {metrics['cost/estimated_seconds']:.0f} | {after:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
