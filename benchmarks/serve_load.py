"""What `serve.py`, `serve_peers.py` and `soak.py` share: a load over loopback, and servers and the CPU they use."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

TICK = os.sysconf("SC_CLK_TCK")
Ask = Callable[[int], bytes]


def cpu(pids: list[int]) -> float:
    """CPU seconds of processes and all below them."""
    seconds, todo = 0.0, list(pids)
    while todo:
        one = todo.pop()
        with suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            seconds += (int(fields[11]) + int(fields[12])) / TICK
            todo += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
    return seconds


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def post(path: str, body: object) -> bytes:
    text = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(text)}"
    return head.encode() + b"\r\n\r\n" + text


async def ask(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes) -> tuple[int, bytes]:
    reader, writer = connection
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n", 1)[0])
    return int(head[9:12]), await reader.readexactly(length)


class Load:
    """Requests from several clients, each on a connection of its own."""

    def __init__(self, port: int, clients: int) -> None:
        self.port, self.clients = port, clients
        self.waited: list[float] = []
        self.failed = 0

    async def run(self, seconds: float, request: Ask) -> int:
        """The number of answers in so many seconds."""
        self.waited, self.failed = [], 0
        numbers, until = itertools.count(), time.perf_counter() + seconds
        await asyncio.gather(*(self._client(numbers, until, request) for _ in range(self.clients)))
        self.waited.sort()
        return len(self.waited)

    async def _client(self, numbers: Iterator[int], until: float, request: Ask) -> None:
        connection = None
        while time.perf_counter() < until:
            begun = time.perf_counter()
            try:
                connection = connection or await asyncio.open_connection("127.0.0.1", self.port)
                status, _ = await ask(connection, request(next(numbers)))
                self.failed += status >= 400
            except (OSError, asyncio.IncompleteReadError):
                self.failed += 1
                connection = None
            self.waited.append(time.perf_counter() - begun)
        if connection is not None:
            connection[1].close()

    def at(self, share: float) -> float:
        """Milliseconds within which this share was answered."""
        return 1000 * self.waited[min(len(self.waited) - 1, int(share * len(self.waited)))]


class Seen(NamedTuple):
    """Answers a second, milliseconds, CPU microseconds an answer, and failed requests."""

    rate: float
    p50: float
    p99: float
    used: float
    failed: int

    @property
    def waits(self) -> str:
        """The CPU of an answer, and how long it takes."""
        return f"{self.used:,.0f} µs of CPU, p50 {self.p50:.1f} ms, p99 {self.p99:.1f} ms"


def row(name: str, server: list[int], load: Load, seconds: float, request: Ask) -> Seen:
    """Print a row, and return it."""
    asyncio.run(load.run(1.0, request))
    before = cpu(server)
    n = asyncio.run(load.run(seconds, request))
    used = (cpu(server) - before) / n * 1e6
    print(f"{name:<28}{n / seconds:>10,.0f}/s  p50 {load.at(0.5):6.1f} ms  p99 {load.at(0.99):6.1f} ms"
          f"  {used:8,.0f} µs CPU  {1e6 / used:8,.0f} per CPU second  failed {load.failed}")  # fmt: skip
    return Seen(n / seconds, load.at(0.5), load.at(0.99), used, load.failed)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def server(command: list[str], env: dict[str, str], ready: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server, from when it answers until it is stopped."""
    process = subprocess.Popen(
        command, env=env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        until = time.monotonic() + 300
        while time.monotonic() < until and process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(ready, timeout=5):
                break
            time.sleep(0.05)
        else:
            raise SystemExit(f"{command[:4]} does not answer")
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def workers(live: Path, n: int) -> list[int]:
    """The processes of the n workers, as soon as all of them have loaded the model."""
    until = time.monotonic() + 60
    while len(found := [int(path.stem) for path in (live / "workers").glob("*.json")]) < n:
        if time.monotonic() > until:
            raise SystemExit(f"{len(found)} of {n} workers answer")
        time.sleep(0.1)
    return found


def memory(pid: int) -> str:
    """Proportional memory of each process below, in megabytes."""
    sizes = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        text = Path(f"/proc/{child}/smaps_rollup").read_text()
        sizes.append(int(text.split("Pss:")[1].split()[0]) // 1024)
    return " + ".join(map(str, sizes))
