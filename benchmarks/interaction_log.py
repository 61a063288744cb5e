"""Durable interactions a second: many callers, one writer thread that commits what has queued, as the service does it.

    python benchmarks/interaction_log.py [SECONDS]

Each caller waits until its interaction is on the disk. The peer is the same with a commit for each interaction. The
folder is the working folder, so that the disk is the one that is asked about.
"""

from __future__ import annotations

import queue
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from pathlib import Path

from pipeline.interaction_log import Accepted, Batch, Interaction, InteractionLog

_AT_ONCE = 512


def write(log: InteractionLog, waiting: queue.SimpleQueue[tuple[Batch, Future[Accepted]] | None], at_once: int) -> None:
    """Commit what has queued, until None comes."""
    while (first := waiting.get()) is not None:
        taken = [first]
        while len(taken) < at_once:
            try:
                more = waiting.get_nowait()
            except queue.Empty:
                break
            if more is None:
                waiting.put(None)
                break
            taken.append(more)
        answers = log.append_many([batch for batch, _ in taken])
        for (_, future), answer in zip(taken, answers, strict=True):
            future.set_result(answer)


def measure(callers: int, at_once: int, seconds: float, keys: bool) -> tuple[float, float, float]:
    """Interactions a second, CPU microseconds of each (all threads), and the 99th percentile of the wait in ms."""
    with tempfile.TemporaryDirectory(dir=".") as folder, InteractionLog.open(Path(folder) / "interactions.db") as log:
        waiting: queue.SimpleQueue[tuple[Batch, Future[Accepted]] | None] = queue.SimpleQueue()
        waits: list[float] = []
        until = time.perf_counter() + seconds

        def call(caller: int) -> None:
            n = 0
            while (begun := time.perf_counter()) < until:
                n += 1
                key = f"{caller}-{n}" if keys else ""
                future: Future[Accepted] = Future()
                waiting.put((Batch([Interaction(caller, n, 4.0)], "key", key), future))
                future.result()
                waits.append(time.perf_counter() - begun)

        writer = threading.Thread(target=write, args=(log, waiting, at_once))
        threads = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
        cpu, begun = time.process_time(), time.perf_counter()
        for thread in (writer, *threads):
            thread.start()
        for thread in threads:
            thread.join()
        took, cpu = time.perf_counter() - begun, time.process_time() - cpu
        waiting.put(None)
        writer.join()
        assert log.latest_seq() == len(waits) == len(log.rows(0, log.latest_seq()))
    waits.sort()
    return len(waits) / took, cpu / len(waits) * 1e6, waits[int(len(waits) * 0.99)] * 1000


def main(seconds: float) -> None:
    """Print the table."""
    print(f"{'':44} durable/s  CPU µs each  p99 ms")
    for name, callers, at_once, keys in (
        ("one by one, 32 callers", 32, 1, False),
        ("together, 32 callers", 32, _AT_ONCE, False),
        ("together, 32 callers, idempotency keys", 32, _AT_ONCE, True),
        ("together, 128 callers", 128, _AT_ONCE, False),
    ):
        rate, cpu, p99 = measure(callers, at_once, seconds, keys)
        print(f"{name:44} {rate:9,.0f}  {cpu:11.1f}  {p99:6.1f}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
