"""Warehouse → matrix: 10 million interactions from a table in the embedded engine, time and peak memory.

    python benchmarks/read_warehouse.py [--rows 10000000] [--runs 5]

Peers, on the same table in the same run: the client's own data frame (`query_df`) turned into a
matrix by pandas and scipy, which is what a notebook does.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import machine

TABLE = {
    "integers": "toUInt32(number % 300000)",
    "UUIDs": "concat(lower(hex(sipHash64(number % 300000))), '-0000-4000-8000-', leftPad(toString(number % 300000), 12, '0'))",
}


def make(folder: str, rows: int, kind: str) -> None:
    from pipeline.warehouse import connect

    user = TABLE[kind].replace("number %", "sipHash64(number, 1) %")
    # Items by a power law: a few are in most baskets.
    item = "toUInt32(50000 * pow((sipHash64(number, 2) % 1000000) / 1000000., 3))"
    if kind == "UUIDs":
        item = f"concat('item-', leftPad(toString({item}), 31, '0'))"
    with connect(f"chdb://{folder}") as warehouse:
        warehouse.command(
            f"CREATE TABLE default.big ENGINE = MergeTree ORDER BY tuple() AS SELECT {user} AS user_id, {item} AS item_id, "
            f"toFloat32(1 + sipHash64(number, 3) % 5) AS score FROM numbers({rows})"
        )


def ours(folder: str) -> dict[str, float]:
    start = time.perf_counter()
    from pipeline.matrix import aggregate, in_order, to_matrix
    from pipeline.sources.warehouse import read_warehouse
    from pipeline.sql import Sql
    from pipeline.warehouse import connect

    imported = time.perf_counter()
    with connect(f"chdb://{folder}") as warehouse:
        read = read_warehouse(warehouse, Sql("SELECT user_id, item_id, score FROM default.big", "big"))
    seconds_read = time.perf_counter() - imported
    interactions = read.interactions
    del read
    matrix = to_matrix(aggregate(in_order(interactions)))
    end = time.perf_counter()
    return {"seconds": end - start, "read": seconds_read, "nnz": matrix.scores.nnz, "mb": machine.peak_mb()}


def notebook(folder: str) -> dict[str, float]:
    start = time.perf_counter()
    import clickhouse_connect
    import numpy as np
    from scipy import sparse

    client = clickhouse_connect.get_client(interface="chdb", path=folder)
    frame = client.query_df("SELECT user_id, item_id, score FROM default.big").drop_duplicates(
        ["user_id", "item_id"], keep="last"
    )
    users, items = frame["user_id"].astype("category").cat, frame["item_id"].astype("category").cat
    matrix = sparse.csr_matrix(
        (frame["score"].to_numpy(np.float32), (users.codes.to_numpy(), items.codes.to_numpy())),
        shape=(len(users.categories), len(items.categories)),
    )
    return {"seconds": time.perf_counter() - start, "read": 0.0, "nnz": matrix.nnz, "mb": machine.peak_mb()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--child", nargs=2, metavar=("WHO", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        who, folder = arguments.child
        print(json.dumps({"ours": ours, "notebook": notebook}[who](folder)))
        return
    print(machine.describe("clickhouse-connect", "chdb", "pyarrow", "pandas"))
    print(f"\n{arguments.rows:,} interactions, 300,000 users, 50,000 items; medians of {arguments.runs}, a process each\n")
    print("| ids | Rankline s (of it reading) | peak MB | notebook (query_df, pandas) s | peak MB | ratio |")
    print("|---|---|---|---|---|---|")
    for kind in TABLE:
        with tempfile.TemporaryDirectory() as scratch:
            folder = str(Path(scratch) / "warehouse")
            # In a process of its own: an engine's memory would count for the child's otherwise.
            import subprocess

            code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import read_warehouse as b; "
            subprocess.run([sys.executable, "-c", code + f"b.make({folder!r}, {arguments.rows}, {kind!r})"], check=True)
            mine = machine.in_child(__file__, ["--child", "ours", folder], arguments.runs)
            peer = machine.in_child(__file__, ["--child", "notebook", folder], 1 if kind == "UUIDs" else arguments.runs)
            assert mine[0]["nnz"] == peer[0]["nnz"]
            a, b = machine.median(mine, "seconds"), machine.median(peer, "seconds")
            print(
                f"| {kind} | {a:.1f} ({machine.median(mine, 'read'):.1f}) | {machine.median(mine, 'mb'):,.0f} "
                f"| {b:.1f} | {machine.median(peer, 'mb'):,.0f} | {b / a:.1f}× |"
            )


if __name__ == "__main__":
    main()
