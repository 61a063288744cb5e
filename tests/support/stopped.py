"""A process that publishes or rolls back, again and again, and stops itself (SIGSTOP) before the statement it is told.

    python stopped.py DSN EXPIRY          # then a line of JSON for each job on its input

``{"job": "publish", "run": "run-a", "stop": 7}``: before the seventh statement of what it does under the lock, and of
taking the lock; ``stop`` 0: never. It answers ``{"outcome": …, "writes": [whether each statement changes something]}``
for each, and first, with its rows written and no lock taken yet, ``{"ready": true}``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any

import numpy as np

from pipeline.publishing import published_tables
from pipeline.publishing.checks import PublishLimits
from pipeline.publishing.lock import publish_lock
from pipeline.publishing.recommendations_table import Recommendations, RecommendationsTable
from pipeline.warehouse import Warehouse, connect

KEEP = 20
writes, stop_at, main = list[bool](), 0, threading.get_ident()


def counted(function: Any, does_write: bool) -> Any:
    """The method, which may stop the process before it sends anything."""

    def call(*arguments: Any, **options: Any) -> Any:
        if threading.get_ident() == main:  # signs of life come from another
            writes.append(does_write)
            if len(writes) == stop_at:
                os.kill(os.getpid(), signal.SIGSTOP)
        return function(*arguments, **options)

    return call


def rows(n: int = 5) -> Recommendations:
    ids = np.arange(n)
    return Recommendations(ids, np.ones(n, np.uint16), ids * 2, np.full(n, 0.5, np.float32), np.full(n, "nmf"))


def publish(
    warehouse: Warehouse,
    run: str,
    expiry: float,
    begun: Any = lambda: None,
    limits: PublishLimits | None = PublishLimits(1),  # noqa: B008 (it is frozen)
) -> str:
    table = RecommendationsTable(warehouse, "int", "int", "3", run)
    table.write(rows())
    begun()
    try:
        return table.publish(limits=limits, keep=KEEP, expiry=expiry).action
    except BaseException:
        table.discard()
        raise


def roll_back(warehouse: Warehouse, _run: str, expiry: float, begun: Any = lambda: None) -> str:
    begun()
    try:
        with publish_lock(warehouse, "rolling back", expiry=expiry) as lease:
            before, now = published_tables.roll_back(warehouse, KEEP, lease)
    except Exception:
        published_tables.settle(warehouse, KEEP, expiry)
        raise
    return f"{before.run_id} -> {now.run_id}"


def serve(dsn: str, expiry: float) -> None:
    global stop_at
    for name in ("command", "rows", "insert"):
        setattr(Warehouse, name, counted(getattr(Warehouse, name), name != "rows"))
    with connect(dsn) as warehouse:
        for line in sys.stdin:
            asked = json.loads(line)

            def begun(stop: int = asked["stop"]) -> None:
                global stop_at
                writes.clear()
                stop_at = stop
                print(json.dumps({"ready": True}), flush=True)

            stop_at = 0
            try:
                job = publish if asked["job"] == "publish" else roll_back
                outcome = job(warehouse, asked["run"], expiry, begun)
            except Exception as error:  # noqa: BLE001 (what it is is the answer)
                outcome = f"{type(error).__name__}: {error}"
            print(json.dumps({"outcome": outcome, "writes": writes}), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], float(sys.argv[2]))
