"""Warehouse → matrix: 10 million interactions from a table in the embedded engine, time and peak memory.

    python benchmarks/read_warehouse.py [--rows 10000000] [--runs 5]
    python benchmarks/read_warehouse.py --rows 100000000 --blocks

The peer reads the same table in the same run as a notebook does: the client's data frame (`query_df`), turned into a
matrix by pandas and scipy.

With `--blocks` the rows are read straight into blocks on disk (`read_into_blocks`), without a peer: what is measured is
the peak memory above that of the process with its engine open, beside the size of the matrix.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import machine

# Random users; items by a power law, so that a few items have most interactions.
USER = "sipHash64(number, 1) % 300000"
ITEM = "toUInt32(50000 * pow((sipHash64(number, 2) % 1000000) / 1000000., 3))"
KINDS = {
    "integers": (f"toUInt32({USER})", ITEM),
    "UUIDs": tuple(
        f"concat(lower(leftPad(hex(sipHash64({key}, 4)), 16, '0')), '-4000-8000-', leftPad(toString({key}), 9, '0'))"
        for key in (USER, ITEM)
    ),
}


def make(folder: str, rows: int, kind: str) -> None:
    from pipeline.warehouse import connect

    user, item = KINDS[kind]
    with connect(f"chdb://{folder}") as warehouse:
        warehouse.command(
            f"CREATE TABLE default.big ENGINE = MergeTree ORDER BY tuple() AS SELECT {user} AS user_id, "
            f"{item} AS item_id, toFloat32(1 + sipHash64(number, 3) % 5) AS score FROM numbers({rows})"
        )


def ours(folder: str) -> dict[str, float]:
    start = time.perf_counter()
    from pipeline.data.matrix import to_matrix
    from pipeline.data.prepare import prepare_interactions
    from pipeline.data.sources.warehouse import read_warehouse
    from pipeline.warehouse import connect
    from pipeline.warehouse.sql import Sql

    imported = time.perf_counter()
    with connect(f"chdb://{folder}") as warehouse:
        read = read_warehouse(warehouse, Sql("SELECT user_id, item_id, score FROM default.big", "big"))
    seconds_read = time.perf_counter() - imported
    interactions = read.interactions
    del read
    matrix = to_matrix(prepare_interactions(interactions).interactions)
    end = time.perf_counter()
    return {"seconds": end - start, "read": seconds_read, "nnz": matrix.scores.nnz, "mb": machine.peak_mb()}


def into_blocks(folder: str) -> dict[str, float]:
    from pipeline.data.sources.into_blocks import read_into_blocks
    from pipeline.warehouse import connect
    from pipeline.warehouse.sql import Sql

    with connect(f"chdb://{folder}") as warehouse:
        # A small read first: what the engine and Arrow load counts as imports.
        read_into_blocks(
            warehouse, Sql("SELECT user_id, item_id, score FROM default.big LIMIT 1000", "few"), f"{folder}-few"
        )
        start, before = time.perf_counter(), machine.now_mb()
        matrix = read_into_blocks(
            warehouse, Sql("SELECT user_id, item_id, score FROM default.big", "big"), f"{folder}-blocks"
        )
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "nnz": matrix.cells, "before": before, "mb": machine.peak_mb(),
            "matrix": (8 * matrix.cells + 8 * matrix.shape[0]) / 2**20}  # fmt: skip


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
    parser.add_argument("--blocks", action="store_true")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        who, folder, *rest = arguments.child
        if who == "make":
            make(folder, int(rest[0]), rest[1])
            print("{}")
            return
        print(json.dumps({"ours": ours, "notebook": notebook, "into_blocks": into_blocks}[who](folder)))
        return
    print(machine.describe("clickhouse-connect", "chdb", "pyarrow", "pandas"))
    if arguments.blocks:
        print("\n| ids | interactions | cells | seconds | matrix MB | peak MB above that before | beside the matrix |")
        print("|---|---|---|---|---|---|---|")
        for kind in KINDS:
            with tempfile.TemporaryDirectory() as scratch:
                folder = str(Path(scratch) / "warehouse")
                machine.in_child(__file__, ["--child", "make", folder, str(arguments.rows), kind], 1)
                (read,) = machine.in_child(__file__, ["--child", "into_blocks", folder], 1)
            peak = read["mb"] - read["before"]
            print(
                f"| {kind} | {arguments.rows:,} | {read['nnz']:,} | {read['seconds']:.0f} | {read['matrix']:,.0f} "
                f"| {peak:,.0f} | {peak / read['matrix']:.2f}× |",
                flush=True,
            )
        return
    print(f"\n{arguments.rows:,} interactions, 300,000 users, 50,000 items; medians of {arguments.runs}\n")
    print("| ids | Rankline s (of it reading) | peak MB | notebook (query_df, pandas) s | peak MB | ratio |")
    print("|---|---|---|---|---|---|")
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as scratch:
            folder = str(Path(scratch) / "warehouse")
            machine.in_child(__file__, ["--child", "make", folder, str(arguments.rows), kind], 1)
            fitted = machine.in_child(__file__, ["--child", "ours", folder], arguments.runs)
            peer = machine.in_child(__file__, ["--child", "notebook", folder], arguments.runs)
            assert fitted[0]["nnz"] == peer[0]["nnz"]
            a, b = machine.median(fitted, "seconds"), machine.median(peer, "seconds")
            print(
                f"| {kind} | {a:.1f} ({machine.median(fitted, 'read'):.1f}) | {machine.median(fitted, 'mb'):,.0f} "
                f"| {b:.1f} | {machine.median(peer, 'mb'):,.0f} | {b / a:.1f}× |"
            )


if __name__ == "__main__":
    main()
