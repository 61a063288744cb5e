"""A worker: one process that answers requests. It imports neither MLflow nor the warehouse's client."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

import uvicorn

from pipeline.errors import RanklineError
from pipeline.interaction_log import InteractionLog
from pipeline.serving.app import make_app
from pipeline.serving.gate import Gate
from pipeline.serving.metrics import metrics
from pipeline.serving.protocol import PatientProtocol
from pipeline.serving.service import Service, ServiceConfig

__all__ = ["run_worker", "server_config"]

_LOG = logging.getLogger("rankline")
_KEEP_ALIVE = 75  # seconds; more than a proxy's usual 60, so that it is not the one to find a closed connection
_AT_ONCE = 512  # connections of one worker
_LOG_AGAIN = 5.0  # seconds until a log that could not be opened is tried again
_LAST_ANSWERS = 5  # seconds that a request has after the drain


class _Server(uvicorn.Server):
    """uvicorn, which goes on answering for some seconds after SIGTERM, and says that it is not ready."""

    def __init__(self, config: uvicorn.Config, service: Service, gate: Gate) -> None:
        super().__init__(config)
        self._service, self._gate = service, gate
        self._ending: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: begin to drain. Ctrl-C reaches all processes of a terminal, and the supervisor decides."""
        if sig == signal.SIGTERM:
            self._loop.call_soon_threadsafe(self.drain)

    def drain(self) -> None:
        """Stop in some seconds; when it is asked a second time, now."""
        if self._ending is not None:
            self.should_exit = True
            return
        self._gate.draining = True
        for service in self._service.every:
            service.draining = True
        self._ending = self._loop.create_task(self._end())

    async def _end(self) -> None:
        await asyncio.sleep(self._service.config.options.drain_seconds)
        for server in self.servers:
            server.close()
        await asyncio.sleep(0.1)  # what was accepted is answered
        self.should_exit = True


def run_worker(config: ServiceConfig, listening: Sequence[socket.socket]) -> None:
    """Answer requests on the sockets until SIGTERM, or until the supervisor is gone."""
    import uvloop

    uvloop.run(_run(config, listening))


async def _run(config: ServiceConfig, listening: Sequence[socket.socket]) -> None:
    logging.getLogger("uvicorn.error").handlers = _LOG.handlers  # what it says of clients, in the same form
    service = Service.of(config, metrics())
    _open_log(service)
    for one in service.every:
        await one.model.look()
    gate, _ = make_app(service)
    server = _Server(server_config(gate), service, gate)
    watching = [asyncio.create_task(one.model.watch()) for one in service.every]
    watching.append(asyncio.create_task(_with_supervisor(server)))
    watching.append(asyncio.create_task(_open_log_later(service)))
    if service.shared is not None:
        watching.append(asyncio.create_task(service.shared.watch()))
    watching += [asyncio.create_task(one.exposures.watch()) for one in service.every]
    try:
        await server.serve(list(listening))
    finally:
        for task in watching:
            task.cancel()
        if service.shared is not None:
            await service.shared.close()
        for one in service.every:
            one.folder.forget_worker(os.getpid())
            await asyncio.to_thread(one.exposures.close)
        if service.writer is not None:
            await asyncio.to_thread(service.writer.close)
        if service.log is not None:
            service.log.close()


def server_config(gate: Gate) -> uvicorn.Config:
    """How uvicorn serves the application."""
    return uvicorn.Config(
        gate,
        http=PatientProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_LAST_ANSWERS,
        limit_concurrency=_AT_ONCE,
    )


def _open_log(service: Service) -> None:
    """Open the log of new interactions; without it lists are served all the same."""
    try:
        log = InteractionLog.open(service.folder.interactions_path)
    except (RanklineError, OSError) as error:
        if str(error) != service.log_fault:
            _LOG.error(f"no new interactions can be kept: {error}")
        for one in service.every:
            one.log_fault = str(error)
        return
    if service.log_fault:
        _LOG.info("new interactions are kept again")
    service.use(log)


async def _open_log_later(service: Service) -> None:
    """Try again while the log can't be opened: a disk that was full may have room by now."""
    while service.log is None:
        await asyncio.sleep(_LOG_AGAIN)
        _open_log(service)


async def _with_supervisor(server: _Server) -> None:
    """End with the supervisor, however it ended."""
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(0.5)
    with suppress(RuntimeError):
        server.drain()
