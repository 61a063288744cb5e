"""The load of `soak.py`: clients that check every answer against what was acknowledged and which version was served.

A client has users of its own, and connections that it uses in turn: most often they are of several workers, so that a
rating that one has acknowledged is looked for in the next list of another. It sends lists, ratings and explanations in
the given shares. It counts

    failed    answers that are no success, and connections that broke, but for those that a killed worker held
    stale     lists with an item whose rating was acknowledged before, and answers by a version that was served no more
              when they were asked for

A rating whose answer never came is sent again under the same Idempotency-Key until it is acknowledged.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

KINDS = ("list", "rating", "explanation")
_CONNECTIONS = 3  # of a client
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Acknowledged(NamedTuple):
    """A rating that the service has said is on the disk."""

    seq: int
    user: int
    item: int


@dataclass
class Pointers:
    """The versions that were served, and from when on at the latest, as `current.json` has them."""

    path: Path
    times: list[float] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    stamp: tuple[int, int] | None = None

    async def watch(self) -> None:
        """Follow the file for ever."""
        while True:
            self.look()
            await asyncio.sleep(0.002)

    def look(self) -> None:
        """See whether another version is served."""
        status = self.path.stat()
        stamp = status.st_mtime_ns, status.st_ino
        if stamp != self.stamp:
            pointer = json.loads(self.path.read_text())
            self.labels.append(f"{pointer['name']}/{pointer['version']}")
            self.times.append(time.perf_counter())
            self.stamp = stamp

    def is_stale(self, label: str, asked: float) -> bool:
        """Whether an answer that was asked for then is by a version that had been replaced by then."""
        self.look()  # the answer may be by one that was not seen here yet
        return label not in self.labels[max(0, bisect_right(self.times, asked) - 1) :]


class Load:
    """Clients, and what they saw.

    Parameters
    ----------
    shares : of lists, ratings and explanations
    token : an API key of the scopes read and write
    """

    def __init__(self, port: int, token: str, pointers: Pointers, shares: tuple[float, ...], clients: int) -> None:
        self.port, self._token, self._pointers, self._shares = port, token, pointers, shares
        self._clients = clients
        self.waited: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self.failures: list[str] = []
        self.stale: list[str] = []
        self.broken = 0  # connections that a killed worker held
        self.acknowledged: list[Acknowledged] = []
        self.sent_again = 0
        self.stopping = False
        self._doomed: set[int] = set()
        self._numbers = itertools.count()

    async def run(self) -> None:
        """Ask until `stopping`."""
        await asyncio.gather(*(_Client(self, n).run() for n in range(self._clients)))

    def doom(self, ports: set[int]) -> None:
        """These connections, by their local port here, are about to break."""
        self._doomed |= ports

    def was_doomed(self, port: int) -> bool:
        return port in self._doomed

    def kind(self, chance: random.Random) -> str:
        return chance.choices(KINDS, self._shares)[0]

    def key(self) -> str:
        return f"soak-{next(self._numbers)}"

    def head(self, method: str, path: str) -> str:
        return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._token}\r\n"

    def is_stale(self, label: str, asked: float) -> bool:
        return self._pointers.is_stale(label, asked)


class _Client:
    def __init__(self, load: Load, number: int) -> None:
        self._load, self._chance = load, random.Random(number)
        # Some whom the model has, some whom it has not; each user is of one client.
        own = [*range(1 + number * 20, 21 + number * 20), *(900_000 + number * 20 + n for n in range(20))]
        self._users = own
        self._rated: dict[int, set[int]] = {user: set() for user in own}
        self._listed: dict[int, list[int]] = {}
        self._connections: list[Connection | None] = [None] * _CONNECTIONS  # the one to use is the first

    async def run(self) -> None:
        load = self._load
        while not load.stopping:
            kind, user = load.kind(self._chance), self._chance.choice(self._users)
            begun = time.perf_counter()
            if kind == "list" or not self._listed.get(user):
                kind = "list"
                await self._list(user)
            elif kind == "rating":
                await self._rate(user, self._chance.choice(self._listed[user]))
            else:
                await self._explain(user, self._chance.choice(self._listed[user]))
            load.waited[kind].append(time.perf_counter() - begun)
        for _ in self._connections:
            self._connections.append(self._connections.pop(0))
            self._drop()

    async def _list(self, user: int) -> None:
        asked, known = time.perf_counter(), set(self._rated[user])
        answer = await self._ask("GET", f"/api/v1/recommendations/{user}?k=20")
        if answer is None:
            return
        status, version, body = answer
        if status != 200:
            self._load.failures.append(f"list: {status} {body[:200]!r}")
            return
        items = [row["item_id"] for row in json.loads(body)["recommendations"]]
        if old := known & set(items):
            self._load.stale.append(f"user {user}: {sorted(old)} had been rated")
        if self._load.is_stale(version, asked):
            self._load.stale.append(f"user {user}: by {version}")
        self._listed[user] = [item for item in items if item not in self._rated[user]]

    async def _rate(self, user: int, item: int) -> None:
        load = self._load
        body = json.dumps({"user_id": user, "item_id": item, "rating": self._chance.randint(1, 10) / 2})
        key, tries = load.key(), 0
        while True:
            answer = await self._ask("POST", "/api/v1/interactions", body, key)
            if answer is not None and answer[0] in (200, 201):
                break
            if answer is not None:
                load.failures.append(f"rating: {answer[0]} {answer[2][:200]!r}")
                await asyncio.sleep(0.05)
            tries += 1
        load.sent_again += tries
        load.acknowledged.append(Acknowledged(json.loads(answer[2])["seq"], user, item))
        self._rated[user].add(item)
        self._listed[user].remove(item)

    async def _explain(self, user: int, item: int) -> None:
        asked = time.perf_counter()
        answer = await self._ask("GET", f"/api/v1/explain/{user}/{item}")
        if answer is not None and answer[0] != 200:
            self._load.failures.append(f"explanation: {answer[0]} {answer[2][:200]!r}")
        elif answer is not None and self._load.is_stale(answer[1], asked):
            self._load.stale.append(f"explanation by {answer[1]}")

    async def _ask(self, method: str, path: str, body: str = "", key: str = "") -> tuple[int, str, bytes] | None:
        """Status, version and body; None where the connection broke."""
        head = self._load.head(method, path)
        if body:
            head += f"Content-Type: application/json\r\nIdempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n"
        port = 0
        self._connections.append(self._connections.pop(0))
        try:
            if (connection := self._connections[0]) is None:
                connection = self._connections[0] = await asyncio.open_connection("127.0.0.1", self._load.port)
            reader, writer = connection
            port = writer.get_extra_info("sockname")[1]
            writer.write(f"{head}\r\n{body}".encode())
            async with asyncio.timeout(60):
                text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = int(text.split("content-length:")[1].split("\r\n", 1)[0])
                content = await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self._drop()
            if self._load.was_doomed(port):
                self._load.broken += 1
            else:
                self._load.failures.append(f"{method}: {type(error).__name__} {error}")
            return None
        if "connection: close" in text:
            self._drop()
        version = text.partition("x-model-version: ")[2].partition("\r\n")[0]
        return int(text[9:12]), version, content

    def _drop(self) -> None:
        if (connection := self._connections[0]) is not None:
            connection[1].close()
            self._connections[0] = None


def connections_of(pid: int, port: int) -> set[int]:
    """The clients' ports of the connections to `port` that a process on this machine holds."""
    by_inode: dict[str, int] = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) == port:
            by_inode[fields[9]] = int(fields[2].partition(":")[2], 16)
    held = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        inode = target.removeprefix("socket:[").removesuffix("]")
        if inode in by_inode:
            held.add(by_inode[inode])
    return held - {0}
