"""Scoring on Spark beside the batch job in one process: every user's top 10, checked and published (embedded engine).

    python benchmarks/spark_scoring.py [--users 100000] [--items 50000] [--master local[2]] [--runs 3]

Each runs in a process of its own. The figures of Spark are given without the start of its session, and with it: a
cluster's session is there before the job.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from pathlib import Path

import batch
import machine


def in_one_process(folder: str, _master: str) -> dict[str, float]:
    return _published(folder, "")


def on_spark(folder: str, master: str) -> dict[str, float]:
    return _published(folder, master)


def _published(folder: str, master: str) -> dict[str, float]:
    """The whole job on a warehouse of its own; seconds, and a digest of the rows."""
    from contextlib import ExitStack

    from pipeline.publishing.batch_scoring import score_all
    from pipeline.publishing.checks import PublishLimits
    from pipeline.publishing.recommendations_table import RecommendationsTable
    from pipeline.ranking.rules import Rules
    from pipeline.ranking.scorer import Scorer
    from pipeline.warehouse import connect

    scorer = Scorer.load(folder, mapped=True)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        warehouse = stack.enter_context(connect(f"chdb://{scratch}/warehouse"))
        begun = time.perf_counter()
        by, size = None, None
        if master:
            from pipeline.spark.scoring import rank_on, scoring_job, users_a_block
            from pipeline.spark.session import spark_session

            session = stack.enter_context(spark_session(master, "benchmark"))
            size = users_a_block(session, len(scorer.users))
        start = time.perf_counter()
        table = RecommendationsTable(warehouse, "int", "int", "1", "run")
        if master:
            shared = Path(scratch) / "shared"
            job = stack.enter_context(scoring_job(session, scorer, Rules(), table.lineage, batch.TOP, shared))
            by = rank_on(session, job)
        score_all(scorer, table, batch.TOP, rank=by, users_a_block=size)
        scored = time.perf_counter()
        table.publish(scorer.model, PublishLimits(batch.TOP))
        ended = time.perf_counter()
        rows = warehouse.table("SELECT user_id, rank, item_id, score FROM analytics.recommendations ORDER BY 1, 2")
        digest = hashlib.sha256(b"".join(column.to_numpy().tobytes() for column in rows.columns)).hexdigest()
        return {
            "session": start - begun,
            "scored": scored - start,
            "seconds": ended - start,
            "mb": machine.peak_mb(),
            "rows": int(digest[:13], 16),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--master", default="local[2]")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", nargs=2, metavar=("WHO", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    programs = {"one": in_one_process, "spark": on_spark}
    if arguments.child:
        who, folder = arguments.child
        print(json.dumps(programs[who](folder, arguments.master)))
        return
    print(machine.describe("numpy", "numba", "pyspark"))
    print(f"\n{arguments.users:,} users × {arguments.items:,} items, top {batch.TOP}; {arguments.runs} runs\n")
    with tempfile.TemporaryDirectory() as scratch:
        folder = str(Path(scratch) / "model")
        batch.make(folder, arguments.users, arguments.items)
        rounds = [
            {
                who: machine.in_child(__file__, ["--master", arguments.master, "--child", who, folder], 1)[0]
                for who in programs
            }
            for _ in range(arguments.runs)
        ]
    one, spark = ([measured[who] for measured in rounds] for who in programs)
    base = machine.median(one, "seconds")
    print("| | scored s | and published s | beside one process | start of the session s | peak MB of the driver |")
    print("|---|---|---|---|---|---|")
    for name, results in (("one process", one), (f"Spark, {arguments.master}", spark)):
        seconds = machine.median(results, "seconds")
        print(
            f"| {name} | {machine.median(results, 'scored'):.2f} | {seconds:.2f} | {seconds / base:.2f}× "
            f"| {machine.median(results, 'session'):.1f} | {machine.median(results, 'mb'):,.0f} |"
        )
    print("\nthe same rows:", {measured["rows"] for measured in one} == {measured["rows"] for measured in spark})


if __name__ == "__main__":
    main()
