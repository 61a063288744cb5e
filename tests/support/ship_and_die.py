"""A process that ships a log and kills itself (SIGKILL) at a step that it is told.

    python ship_and_die.py DSN LOG STEP

The steps are the moments after each call that changes the log or the warehouse, from 1. With step 0 it ships everything
and prints, as JSON, what the warehouse then holds and the number of steps.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from pipeline.interaction_log import InteractionLog
from pipeline.shipping.ship import ship
from pipeline.warehouse import Warehouse, connect

__all__ = ["shipped_rows"]


def shipped_rows(warehouse: Warehouse) -> dict[str, list[list[Any]]]:
    """All rows of the events, and of the ledger, sorted."""
    queries = {
        "ratings": "SELECT user_id, movie_id, rating, toUnixTimestamp64Milli(rated_at) AS at FROM raw.ratings",
        "watched": "SELECT user_id, movie_id, toUnixTimestamp64Milli(watched_at) AS at FROM raw.watched_movies",
        "ledger": "SELECT first_seq, last_seq, n_ratings, n_watched FROM raw.shipments",
    }
    return {name: sorted(list(row.values()) for row in warehouse.rows(text)) for name, text in queries.items()}


def main(dsn: str, path: str, step: int) -> None:
    steps = 0

    def deadly(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal steps
            result = function(*arguments, **options)
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for kind, name in ((Warehouse, "insert"), (InteractionLog, "next_shipment"), (InteractionLog, "mark_shipped")):
        setattr(kind, name, deadly(getattr(kind, name)))
    with InteractionLog.open(path, create=False) as log, connect(dsn) as warehouse:
        ship(warehouse, log)
        print(json.dumps({**shipped_rows(warehouse), "steps": steps}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
