"""A million users × 100,000 items: every user's top 10, streamed to the table; users a second, and memory on the way.

    python benchmarks/million.py [--users 1000000] [--items 100000] [--server clickhouse://…]

The table is of the embedded engine, whose memory is the process's own, or of a server. The memory is given at each
tenth of the users; it must not grow with them. "Nowhere" is the same without a table.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import machine
import numpy as np

TOP, SEEN, K = 10, 50, 64


def make(folder: str, users: int, items: int) -> None:
    """The model of `batch.py`, made in blocks: at no time is more than its seen items in memory."""
    from scipy import sparse

    from pipeline.data.id_map import IdMap
    from pipeline.models.factor_model import FactorModel

    rng = np.random.default_rng(0)
    w = np.empty((users, K), np.float32)
    indices = np.empty(users * SEEN, np.int32)
    for first in range(0, users, 50_000):
        block = slice(first, min(first + 50_000, users))
        n = block.stop - block.start
        w[block] = rng.gamma(0.3, 1.0, (n, K))
        cols = (items * rng.random((n, SEEN)) ** 3).astype(np.int32)
        # The same item twice for one user would be no matrix: what comes again moves on to the next item.
        cols.sort(axis=1)
        for place in range(1, SEEN):
            cols[:, place] = np.maximum(cols[:, place], cols[:, place - 1] + 1)
        indices[block.start * SEEN : block.stop * SEEN] = np.minimum(cols, items - SEEN + np.arange(SEEN)).ravel()
    h = (rng.gamma(0.3, 1.0, (K, items)) * rng.lognormal(0, 1, items)).astype(np.float32)
    seen = sparse.csr_matrix((users, items), dtype=np.int8)
    seen.indices, seen.indptr = indices, np.arange(users + 1, dtype=np.int64) * SEEN
    seen.data = np.broadcast_to(np.int8(1), indices.size)
    FactorModel(w, h, IdMap(np.arange(users)), IdMap(np.arange(items)), seen).save(folder)


class Nowhere:
    """A sink that counts."""

    n_rows = 0

    def write(self, block: object) -> None:
        self.n_rows += block.ranks.size  # type: ignore[attr-defined]  # Recommendations


def score(folder: str, where: str) -> dict[str, object]:
    from contextlib import ExitStack

    from pipeline.publishing.batch_scoring import score_all
    from pipeline.publishing.checks import PublishLimits
    from pipeline.publishing.recommendations_table import RecommendationsTable
    from pipeline.ranking.scorer import Scorer
    from pipeline.warehouse import connect

    memory: list[float] = []

    def progress(done: int, total: int) -> None:
        if done * 10 // total > len(memory) - 1:
            memory.append(machine.now_mb())

    loading = time.perf_counter()
    scorer = Scorer.load(folder, mapped=True)
    loaded = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        sink, table = Nowhere(), None
        if where != "nowhere":
            dsn = f"chdb://{scratch}/warehouse" if where == "embedded" else where
            table = RecommendationsTable(stack.enter_context(connect(dsn)), "int", "int", "1", "run")
        start, cpu = time.perf_counter(), time.process_time()
        memory.append(machine.now_mb())
        score_all(scorer, table or sink, TOP, progress=progress)
        scored, cpu = time.perf_counter(), time.process_time() - cpu
        peak = machine.peak_mb()
        if table is not None:
            table.publish(scorer.model, PublishLimits(TOP))
        return {
            "load": loaded - loading,
            "seconds": scored - start,
            "cpu": cpu,
            "publish": time.perf_counter() - scored,
            "memory": memory,
            "mb": peak,
            "mb_published": machine.peak_mb(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--server", help="the DSN of a server that has no analytics.recommendations")
    parser.add_argument("--child", nargs=2, metavar=("WHERE", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        where, folder = arguments.child
        print(json.dumps(score(folder, where)))
        return
    print(machine.describe("numpy", "numba"))
    print(f"\n{arguments.users:,} users × {arguments.items:,} items, k = {K}, top {TOP}, {SEEN} seen a user\n")
    print("| to | users a second | scored s (CPU) | checked and published s | MB at each tenth | peak MB, published |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = str(Path(scratch) / "model")
        make(folder, arguments.users, arguments.items)
        for where in ("nowhere", "embedded", *([arguments.server] if arguments.server else [])):
            (got,) = machine.in_child(__file__, ["--child", where, folder], 1)
            memory = " ".join(f"{mb:,.0f}" for mb in got["memory"])
            name = {"nowhere": "nowhere", "embedded": "the embedded engine"}.get(where, "a server")
            print(
                f"| {name} | {arguments.users / got['seconds']:,.0f} | {got['seconds']:.1f} ({got['cpu']:.1f}) "
                f"| {got['publish']:.1f} | {memory} | {got['mb']:,.0f}, {got['mb_published']:,.0f} |"
            )


if __name__ == "__main__":
    main()
