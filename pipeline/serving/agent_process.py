"""The agent's process: an `Agent` for each model, and its visits to the warehouse and to Redis."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

from pipeline.serving.agent import Agent
from pipeline.serving.agent_alerts import keep_watch
from pipeline.serving.live_folder import LiveFolder
from pipeline.serving.server_warehouse import keep_in_touch
from pipeline.serving.service import ServiceConfig
from pipeline.serving.shared_cache.published import keep_published

__all__ = ["run_agent"]

_JOBS_END_SECONDS = 9.0  # the supervisor waits for a second more


def run_agent(config: ServiceConfig) -> None:
    """The agent's process: until SIGTERM, or until the supervisor is gone."""
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=_end_with, args=(stopping,), daemon=True).start()
    for one in config.every:
        threading.Thread(target=keep_in_touch, args=(one, stopping), daemon=True).start()
        threading.Thread(target=keep_watch, args=(one, stopping), daemon=True).start()
        if one.redis is not None:
            folder = LiveFolder(one.live, one.model)
            threading.Thread(target=keep_published, args=(folder, one.redis, stopping), daemon=True).start()
    others = [threading.Thread(target=Agent(other, stopping).run, daemon=True) for other in config.others]
    for thread in others:
        thread.start()
    Agent(config, stopping).run()
    for thread in others:  # they end their trainings
        thread.join(_JOBS_END_SECONDS)


def _end_with(stopping: threading.Event) -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.5)
    stopping.set()
