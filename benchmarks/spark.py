"""An iteration of NMF on Spark after the blocks are made, beside Spark ML's ALS in the same session, and one process.

    python benchmarks/spark.py [--size 100000x100000x10000000] [--k 64] [--iterations 8] [--cores 2] [--without-ml]

The interactions lie in Parquet, in eight files. Shown are seconds and CPU seconds (of this process, Java and the
workers of Python together): reading and building the blocks of both sides, beside the read of one process; a median
iteration of the plain objective on executors and in one process, from the same start; an iteration of Spark ML's ALS,
nonnegative and implicit, as the difference of a fit of three iterations and a fit of one. The losses after the last
iteration are the same to the bit, or the program fails. On a machine that others use, CPU seconds are the steadier.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["PYTHONPATH"] = os.pathsep.join([sys.path[0], *filter(None, [os.environ.get("PYTHONPATH")])])

from machine import describe

from pipeline.data.id_map import distinct
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import prepare_interactions
from pipeline.data.sources.files import read_file
from pipeline.models.solvers.engine import LOCAL
from pipeline.models.solvers.nmf import factorize
from pipeline.models.starts import half_normal_rows

_TICK = os.sysconf("SC_CLK_TCK")


def cpu_of_all() -> float:
    """CPU seconds of this process and of all that it has started, those that have ended too."""
    parents, seconds = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(folder.name)] = int(fields[1])
        seconds[int(folder.name)] = sum(map(int, fields[11:15])) / _TICK
    total = 0.0
    for pid, own in seconds.items():
        up = pid
        while up not in (0, 1, os.getpid()):
            up = parents.get(up, 0)
        total += own if up == os.getpid() else 0
    return total


class Timed:
    wall = cpu = 0.0


@contextmanager
def timed() -> Iterator[Timed]:
    out, wall, cpu = Timed(), time.perf_counter(), cpu_of_all()
    yield out
    out.wall, out.cpu = time.perf_counter() - wall, cpu_of_all() - cpu


def write_parquet(folder: Path, m: int, n: int, cells: int) -> None:
    """Made-up interactions: popular items and busy users, each pair once."""
    rng = np.random.default_rng(0)
    users = (m * rng.random(int(cells * 1.3)) ** 1.7).astype(np.int64)
    items = (n * rng.random(users.size) ** 2.2).astype(np.int64)
    pairs = distinct(users * n + items)
    pairs = rng.permutation(pairs)[:cells]
    scores = rng.integers(1, 11, pairs.size) / np.float32(2)
    table = pa.table({"user_id": pairs // n, "item_id": pairs % n, "rating": scores})
    folder.mkdir()
    step = -(-table.num_rows // 8)
    for i in range(8):
        pq.write_table(table.slice(i * step, step), folder / f"part-{i}.parquet", row_group_size=1 << 19)


def iterations(x: Any, k: int, n: int, engine: Any) -> tuple[list[float], list[float], list[float]]:
    """Seconds and CPU seconds of each iteration but the first, and the losses."""
    W, H = half_normal_rows(x.users, k, 1, "users"), half_normal_rows(x.items, k, 1, "items").T
    size = np.sqrt(x.scores.mean() / k).astype(np.float32)
    at: list[tuple[float, float]] = []
    fitted = factorize(
        x.scores, W * size, np.ascontiguousarray(H) * size, max_iter=n, tol=0, engine=engine,
        on_iteration=lambda i, loss: at.append((time.perf_counter(), cpu_of_all())),
    )  # fmt: skip
    steps = np.diff(np.array(at), axis=0)
    return steps[:, 0].tolist(), steps[:, 1].tolist(), fitted.losses


def spark_ml(session: Any, folder: Path, k: int) -> Timed:
    """One iteration of Spark ML's ALS: what three take more than one, halved."""
    from pyspark.ml.recommendation import ALS

    data = (
        session.read.parquet(str(folder))
        .selectExpr("int(user_id) user", "int(item_id) item", "float(rating) rating")
        .cache()
    )
    data.count()
    taken = []
    for n in (1, 3):
        with timed() as fit:
            ALS(
                rank=k, maxIter=n, regParam=0.01, implicitPrefs=True, nonnegative=True, alpha=1.0, seed=1,
                userCol="user", itemCol="item", ratingCol="rating",
            ).fit(data)  # fmt: skip
        taken.append(fit)
    one = Timed()
    one.wall, one.cpu = (taken[1].wall - taken[0].wall) / 2, (taken[1].cpu - taken[0].cpu) / 2
    data.unpersist()
    return one


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="100000x100000x10000000")
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--without-ml", action="store_true")
    asked = parser.parse_args()
    m, n, cells = map(int, asked.size.split("x"))
    from pipeline.spark.engine import open_spark

    print(describe("pyspark", "numpy", "numba"))
    print(f"load {os.getloadavg()[0]:.1f}; {m:,} × {n:,}, {cells:,} cells, k {asked.k}, {asked.cores} cores")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "ratings"
        write_parquet(folder, m, n, cells)
        with timed() as read:
            here = prepare_interactions(read_file(folder).interactions).interactions
        matrix = to_matrix(here)
        print(f"read and sort, one process                  {read.wall:8.2f} s {read.cpu:8.2f} CPU s")
        wall, cpu, losses = iterations(matrix, asked.k, asked.iterations, LOCAL)
        own = statistics.median(wall), statistics.median(cpu)
        print(f"iteration, one process                      {own[0]:8.2f} s {own[1]:8.2f} CPU s")
        with open_spark(f"local[{asked.cores}]", Path(scratch) / "shared") as spark:
            from pipeline.data.sources.columns import Columns
            from pipeline.data.sources.files import FileForm

            with timed() as read:
                there = spark.read_files([folder], Columns(), None, "error", None, FileForm())
                x = to_matrix(prepare_interactions(there.interactions).interactions)
            print(f"read and sort, executors                    {read.wall:8.2f} s {read.cpu:8.2f} CPU s")
            with timed() as built, spark.engine.open() as engine:
                engine.sides(x.scores, asked.k)
            print(f"blocks of both sides                        {built.wall:8.2f} s {built.cpu:8.2f} CPU s")
            wall, cpu, on_spark = iterations(x, asked.k, asked.iterations, spark.engine)
            took = statistics.median(wall), statistics.median(cpu)
            print(f"iteration, executors                        {took[0]:8.2f} s {took[1]:8.2f} CPU s   "
                  f"(one process + {took[0] - own[0]:.2f} s)")  # fmt: skip
            assert on_spark == losses, "the losses differ from those of one process"
            if not asked.without_ml:
                ml = spark_ml(spark.session, folder, asked.k)
                print(f"iteration, Spark ML ALS nonnegative implicit{ml.wall:8.2f} s {ml.cpu:8.2f} CPU s   "
                      f"({ml.wall / took[0]:.1f}× ours, {ml.cpu / took[1]:.1f}× in CPU)")  # fmt: skip
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
