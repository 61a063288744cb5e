"""The batch job: every user's top 10, seen items left out; time, and memory as users grow.

    python benchmarks/batch.py [--users 100000] [--items 20000] [--runs 5]

Two peers run beside it. The first is what a notebook does: `argpartition` over blocks of a dense score matrix, masked
user by user. The second is the matrix product (sgemm) of the same blocks alone, the lower bound of every method that
scores all items. Compiled kernels do not score them all; `benchmarks/topk.py` compares those with their peers. Each
runs in its own process, so the time of the compiled method includes loading numba.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import machine
import numpy as np
from scipy import sparse

K, TOP, SEEN = 50, 10, 50


def make(folder: str, users: int, items: int) -> None:
    """Factors as skewed as fitted ones, and about 50 seen items per user, more of them popular."""
    from pipeline.data.id_map import IdMap
    from pipeline.models.factor_model import FactorModel

    rng = np.random.default_rng(0)
    w = rng.gamma(0.3, 1.0, (users, K)).astype(np.float32)
    h = (rng.gamma(0.3, 1.0, (K, items)) * rng.lognormal(0, 1, items)).astype(np.float32)
    rows = np.repeat(np.arange(users), SEEN)
    cols = (items * rng.random(users * SEEN) ** 3).astype(np.int64)
    seen = sparse.csr_matrix((np.ones(rows.size, np.int8), (rows, cols)), shape=(users, items))
    FactorModel(w, h, IdMap(np.arange(users)), IdMap(np.arange(items)), seen).save(folder)


class Nowhere:
    """A sink that counts."""

    n_rows = 0

    def write(self, block: object) -> None:
        self.n_rows += block.ranks.size  # type: ignore[attr-defined]  # Recommendations


def ours(folder: str, compiled: bool | None = None) -> dict[str, float]:
    from pipeline.models.factor_model import FactorModel
    from pipeline.publishing.batch_scoring import score_all
    from pipeline.ranking.scorer import Scorer

    start = time.perf_counter()
    scorer = Scorer(FactorModel.load(folder, mapped=True), compiled=compiled)
    loaded, cpu = time.perf_counter(), time.process_time()
    sink = Nowhere()
    score_all(scorer, sink, TOP)
    took = {"seconds": time.perf_counter() - loaded, "cpu": time.process_time() - cpu}
    return {**took, "load": loaded - start, "mb": machine.peak_mb(), "rows": sink.n_rows}


def job(folder: str, checked: bool = True) -> dict[str, float]:
    """The same into a table of the embedded engine, checked (or not) and published."""
    from pipeline.publishing.batch_scoring import score_all
    from pipeline.publishing.checks import PublishLimits
    from pipeline.publishing.recommendations_table import RecommendationsTable
    from pipeline.ranking.scorer import Scorer
    from pipeline.warehouse import connect

    scorer = Scorer.load(folder, mapped=True)
    with tempfile.TemporaryDirectory() as scratch, connect(f"chdb://{scratch}/warehouse") as warehouse:
        start, cpu = time.perf_counter(), time.process_time()
        table = RecommendationsTable(warehouse, "int", "int", "1", "run")
        score_all(scorer, table, TOP)
        table.publish(scorer.model, PublishLimits(TOP)) if checked else table.publish()
        took = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
        return {**took, "mb": machine.peak_mb(), "rows": table.n_rows}


def notebook(folder: str) -> dict[str, float]:
    from pipeline.models.factor_model import FactorModel

    model = FactorModel.load(folder)
    start, cpu = time.perf_counter(), time.process_time()
    n_rows = 0
    for first in range(0, len(model.users), 1000):
        scores = model.user_factors[first : first + 1000] @ model.item_factors
        for u in range(scores.shape[0]):
            row = first + u
            scores[u, model.seen.indices[model.seen.indptr[row] : model.seen.indptr[row + 1]]] = -np.inf
        top = np.argpartition(-scores, TOP, axis=1)[:, :TOP]
        order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1)
        n_rows += np.take_along_axis(top, order, axis=1).size
    took = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    return {**took, "mb": machine.peak_mb(), "rows": n_rows}


def sgemm(folder: str) -> dict[str, float]:
    from pipeline.models.factor_model import FactorModel

    model = FactorModel.load(folder)
    out = np.empty((400, len(model.items)), np.float32)
    start, cpu = time.perf_counter(), time.process_time()
    for first in range(0, len(model.users), 400):
        block = model.user_factors[first : first + 400]
        np.matmul(block, model.item_factors, out=out[: block.shape[0]])
    took = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    return {**took, "mb": machine.peak_mb(), "rows": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--child", nargs=2, metavar=("WHO", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    programs = {
        "ours": ours,
        "numpy": lambda folder: ours(folder, False),
        "job": job,
        "unchecked": lambda folder: job(folder, False),
        "notebook": notebook,
        "sgemm": sgemm,
    }
    if arguments.child:
        who, folder = arguments.child
        print(json.dumps(programs[who](folder)))
        return
    print(machine.describe("numpy", "scipy", "numba"))
    print(f"\n{arguments.users:,} users × {arguments.items:,} items, k = {K}, top {TOP}, {SEEN} seen a user")
    print(f"medians of {arguments.runs}, a process each\n")
    with tempfile.TemporaryDirectory() as scratch:
        folder = str(Path(scratch) / "model")
        make(folder, arguments.users, arguments.items)
        names = {
            "ours": "Rankline, ranked",
            "numpy": "the same with numpy alone",
            "job": "Rankline, ranked, checked and published (embedded)",
            "unchecked": "the same without the checks",
            "sgemm": "bare sgemm of the same blocks",
            "notebook": "argpartition over dense blocks (notebook)",
        }
        rounds = [
            {who: machine.in_child(__file__, ["--child", who, folder], 1)[0] for who in names}
            for _ in range(arguments.runs)
        ]
        base = machine.median([measured["ours"] for measured in rounds], "seconds")
        print("| | seconds | CPU seconds | beside Rankline | peak MB |")
        print("|---|---|---|---|---|")
        for who, name in names.items():
            results = [measured[who] for measured in rounds]
            seconds = machine.median(results, "seconds")
            cpu, mb = machine.median(results, "cpu"), machine.median(results, "mb")
            print(f"| {name} | {seconds:.2f} | {cpu:.2f} | {seconds / base:.2f}× | {mb:,.0f} |")
    print("\n| users | peak MB of ranking |")
    print("|---|---|")
    for users in (arguments.users // 4, arguments.users, arguments.users * 2):
        with tempfile.TemporaryDirectory() as scratch:
            make(scratch, users, arguments.items)
            (result,) = machine.in_child(__file__, ["--child", "ours", scratch], 1)
            print(f"| {users:,} | {result['mb']:,.0f} |")


if __name__ == "__main__":
    main()
