"""A worker of the service behind a real socket of this process, for clients that keep to no rule."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn

from pipeline.serving.worker import server_config
from support.served import Workers


class ServedWorker:
    """One worker in a thread, set up by uvicorn as the real one is.

    fill : puts a version into the folder before the worker starts
    """

    def __init__(self, live: Path, fill: Callable[[Workers], None] = lambda _: None, **options: Any) -> None:
        self._ready = threading.Event()
        self._made = (live, fill, options)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(60)

    def _run(self) -> None:
        live, fill, options = self._made
        self.workers = Workers(live, n=0, **options)
        self.workers.folder.make()
        fill(self.workers)
        self.workers.runner.run(self._serve())
        self.workers.close()

    async def _serve(self) -> None:
        await self.workers._start()
        self.server = uvicorn.Server(server_config(self.workers.gates[0]))
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        self.address = listening.getsockname()
        serving = asyncio.create_task(self.server.serve([listening]))
        self._ready.set()
        await serving

    def close(self) -> None:
        self.server.should_exit = True
        self._thread.join()

    # ---- a client ---------------------------------------------------------------------------

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=60)

    def send(self, data: bytes) -> bytes:
        """What comes back on a new connection until the service closes it."""
        with self.connect() as client:
            with suppress(ConnectionResetError, BrokenPipeError):  # it has been closed already
                client.sendall(data)
            return rest_of(client)


def rest_of(client: socket.socket) -> bytes:
    """All that comes until the service closes the connection."""
    got = b""
    with suppress(ConnectionResetError):
        while piece := client.recv(1 << 16):
            got += piece
    return got
