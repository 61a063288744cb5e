"""A Redis of the tests' own: Debian's redis-server on a free port, without files."""

from __future__ import annotations

import signal
import subprocess
import time
from contextlib import suppress
from typing import Any

from support.processes import free_port


class RedisServer:
    """Attributes
    ----------
    url : its address
    """

    def __init__(self, *settings: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *self._settings]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with suppress(Exception):
                self.client().ping()
                return
            time.sleep(0.02)
        raise AssertionError("redis-server does not answer")

    def client(self, **options: Any) -> Any:
        import redis

        password = self._settings[self._settings.index("--requirepass") + 1] if self._settings else None
        return redis.Redis(port=self.port, password=password, protocol=2, **options)

    def hang(self) -> None:
        """It takes connections, and answers nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
