"""`python -m pipeline.tracking.ui_address http://127.0.0.1:5000` prints the address of the runs in the MLflow UI.

The UI's root page is about language models and looks empty.
"""

from __future__ import annotations

import os
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import mlflow

from pipeline.tracking.run import as_server_error
from pipeline.tracking.store import open_or_make_store

__all__ = ["runs_address"]

_WAIT = 180  # seconds to wait for a server that is starting


def runs_address(base: str, store: str, experiment: str = "rankline") -> str:
    """The address of the experiment's runs in the UI at `base`, or of all experiments where it does not exist yet."""
    open_or_make_store(store, lambda _: None)  # MLflow's own server makes it, too
    with as_server_error(store):
        existing = mlflow.get_experiment_by_name(experiment)
    return f"{base.rstrip('/')}/#/experiments" + (f"/{existing.experiment_id}/runs" if existing is not None else "")


def _answers(base: str) -> bool:
    """Whether the server answers within `_WAIT` seconds."""
    end = time.monotonic() + _WAIT
    while time.monotonic() < end:
        try:
            with urlopen(f"{base.rstrip('/')}/health", timeout=5):  # noqa: S310  the address comes from the Makefile
                return True
        except (URLError, OSError):
            time.sleep(0.5)
    return False


def _main(base: str, experiment: str = "rankline") -> None:
    address = runs_address(base, os.environ["MLFLOW_TRACKING_URI"], experiment)
    # Print it after the server's own start messages, so that it is the last line.
    if _answers(base):
        sys.stdout.write(f"\nthe runs: {address}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main(*sys.argv[1:])
