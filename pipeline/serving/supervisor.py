"""`serve`: binds the address, starts the agent and the workers, starts those anew that end, and stops all in order."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from pipeline.errors import ArtifactError, LockedError, ServerError, UsageError
from pipeline.models.signatures import SigningKeys
from pipeline.runtime.file_lock import FileLock
from pipeline.serving import metrics
from pipeline.serving.access import is_loopback
from pipeline.serving.keys import KeyFile
from pipeline.serving.live_folder import LiveFolder, read_json
from pipeline.serving.names import check_names
from pipeline.serving.service import ServiceConfig

__all__ = ["serve"]

_LOG = logging.getLogger("rankline")
_SOON = 5.0  # a process that ends sooner after its start is started again after a while
_LONGEST_PAUSE = 30.0
_LONG = 20.0  # seconds until it is said why it takes so long
_AFTER_DRAIN = 10.0  # seconds until a process that does not stop is killed


class _Child:
    """A process that is started anew whenever it ends."""

    def __init__(self, name: str, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self.name, self._target, self._arguments = name, target, arguments
        self.process: BaseProcess | None = None
        self._begun, self._pause, self._not_before = 0.0, 0.0, 0.0

    def keep_running(self, ended: Callable[[int], None]) -> None:
        """Start it, if it does not run and is not to wait."""
        now = time.monotonic()
        if self.process is not None:
            if self.process.is_alive():
                return
            pid, status = self.process.pid or 0, self.process.exitcode
            self.process = None
            ended(pid)
            quick = now - self._begun < _SOON
            self._pause = min(_LONGEST_PAUSE, max(0.5, 2 * self._pause)) if quick else 0.0
            self._not_before = now + self._pause
            _LOG.warning(f"{self.name} (process {pid}) ended with {status}; it is started again")
        if now >= self._not_before:
            fork = multiprocessing.get_context("fork")
            self.process = fork.Process(target=self._target, args=self._arguments, name=self.name)
            self._begun = now
            self.process.start()

    def signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.process is not None and self.process.is_alive() and self.process.pid:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)


def serve(config: ServiceConfig, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises
    ------
    UsageError
        For an address that others can reach while there are no keys, or for signing keys that are none.
    ArtifactError
        For a file of keys that is damaged, or open to other users.
    ServerError
        Where the address is taken, or the folder is another service's.
    """
    options = config.options
    if options.min_rating > options.max_rating:
        raise UsageError("min_rating must not be above max_rating")
    if options.metrics_port and options.metrics_port == options.port:
        raise UsageError("--metrics-port must be another than --port, which has /metrics in any case")
    signing = SigningKeys.of_environment()
    check_names([one.model for one in config.every])
    folders = [LiveFolder(one.live, one.model) for one in config.every]
    for each in folders:
        each.make()
    folder = folders[0]
    keys = KeyFile(folder.keys_path).keys()  # raises for a file that would be refused with each request
    if not is_loopback(options.host) and not keys:
        raise UsageError(
            f"--host {options.host} can be reached from elsewhere, and there are no keys: "
            "make one first (rankline key add --scope read), or serve on 127.0.0.1"
        )
    with ExitStack() as stack:
        for each in folders:
            stack.enter_context(_only_service(each))
        ports = [options.port, *([options.metrics_port] if options.metrics_port else [])]
        listening = [stack.enter_context(_listen(options.host, port)) for port in ports]
        for each in folders:
            for stale in each.workers.glob("*.json"):
                stale.unlink(missing_ok=True)
            each.withdraw()
        metrics.prepare(folder.metrics)
        address = _address(listening[0])
        if signing:
            say(f"only models signed with {', '.join(signing.keys)} are served ({signing.where})")
        say(f"starting {options.workers} worker(s) at {address}; the folder is {folder.root}")
        stack.callback(metrics.remove)
        if options.metrics_port:
            say(f"metrics alone at {_address(listening[1])}/metrics")
        _supervise(config, folders, listening, _Readiness(folder, options.workers, address, say))


def _only_service(folder: LiveFolder) -> FileLock:
    try:
        return FileLock(folder.root / "serve.lock")
    except LockedError as error:
        raise LockedError(f"{error}: another `rankline serve` uses this folder; --live-dir names another") from None


class _Readiness:
    """Says once when all workers answer with a model: the socket accepts connections long before.

    Where that takes long, it says once why.
    """

    def __init__(self, folder: LiveFolder, workers: int, address: str, say: Callable[[str], None]) -> None:
        self._folder, self._workers, self._address, self._say = folder, workers, address, say
        self._begun, self._said, self._said_why = time.monotonic(), False, False

    def look(self) -> None:
        """See whether it is so by now."""
        if self._said:
            return
        serving = [report.serving for report in self._folder.reports() if report.serving]
        seconds = time.monotonic() - self._begun
        if len(serving) >= self._workers:
            self._said = True
            self._say(f"ready after {seconds:.1f} s: {self._address} answers by {serving[0]}")
        elif seconds > _LONG and not self._said_why:
            self._said_why = True
            self._say(f"not ready yet: {self._why()}")

    def _why(self) -> str:
        with suppress(ArtifactError):
            proposal = self._folder.candidate()
            if proposal is not None or self._folder.current() is not None:
                return "the workers load the model"
        with suppress(FileNotFoundError, ArtifactError, KeyError, TypeError):
            if fault := read_json(self._folder.agent_path)["fault"]:
                return str(fault)
        return "the agent starts, and fetches the model from MLflow"


def _supervise(
    config: ServiceConfig, folders: Sequence[LiveFolder], listening: Sequence[socket.socket], readiness: _Readiness
) -> None:
    asked = threading.Event()
    drains = [True]

    def stop(number: int, frame: FrameType | None) -> None:
        drains[0] = number == signal.SIGTERM
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    agent = _Child("agent", _as_child(_run_agent), (config,))

    def ended(pid: int) -> None:
        for folder in folders:
            folder.forget_worker(pid)
        metrics.process_ended(pid)

    agent.keep_running(ended)  # it imports MLflow for seconds, while this process imports what the workers need
    # Imported once, before the workers are forked: they share the memory, and begin at once.
    from pipeline.kernels import available, compiled
    from pipeline.serving import worker

    if available():
        for kernels in ("topk", "fold_in", "half_step"):
            compiled(kernels)
    workers = [
        _Child(f"worker {n + 1}", _as_child(worker.run_worker), (config, listening))
        for n in range(config.options.workers)
    ]
    while not asked.is_set():
        for child in (*workers, agent):
            child.keep_running(ended)
        readiness.look()
        asked.wait(0.1)
    _stop(workers, agent, config.options.drain_seconds if drains[0] else 0.0, ended)


def _run_agent(config: ServiceConfig) -> None:
    # Here and not above: of all processes the agent alone is to have MLflow in memory.
    from pipeline.serving.agent_process import run_agent

    run_agent(config)


def _as_child(target: Callable[..., None]) -> Callable[..., None]:
    def run(*arguments: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        target(*arguments)

    return run


def _stop(workers: list[_Child], agent: _Child, drain: float, ended: Callable[[int], None]) -> None:
    """SIGTERM, time to drain, then SIGKILL for what is still there. Without a drain workers end at once."""
    for child in (*workers, agent):
        child.signal(signal.SIGTERM)
    if not drain:
        time.sleep(0.1)
        for child in workers:  # the second one ends the drain
            child.signal(signal.SIGTERM)
    until = time.monotonic() + drain + _AFTER_DRAIN
    running = [child.process for child in (*workers, agent) if child.process is not None]
    for process in running:
        process.join(max(0.0, until - time.monotonic()))
    for child in (*workers, agent):
        child.signal(signal.SIGKILL)
    for process in running:
        process.join(1.0)
        ended(process.pid or 0)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
        listening.set_inheritable(True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ServerError(f"{host}:{port} can't be listened on ({reason}): --port names another") from None
    return listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"
