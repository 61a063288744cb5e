"""How long each stage of a training took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.data.mapped import release_all
from pipeline.runtime.memory import give_back

__all__ = ["Stages"]


class Stages:
    """Wall-clock seconds by stage: ``with stages("fit"): …``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the duration of the block to the stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            # A stage does not pay for what the one before has read from disk, and freed.
            release_all()
            give_back()
