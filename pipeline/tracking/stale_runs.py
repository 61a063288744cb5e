"""Ends stale runs: a killed process leaves its run RUNNING. A tag of the run names the process."""

from __future__ import annotations

from collections.abc import Callable

import mlflow

from pipeline.runtime.process import ProcessIdentity
from pipeline.tracking.run import PROCESS_TAG
from pipeline.tracking.store import as_server_error, search_runs

__all__ = ["FAILURE", "end_stale_runs"]

FAILURE = "its process was killed, or ended while the store was out of reach; a later job ended the run"


def end_stale_runs(uri: str, say: Callable[[str], None] = lambda _: None) -> list[str]:
    """End every RUNNING run whose process has certainly ended, as KILLED; returns the ids of these runs.

    Runs of another machine or container, and of before the last boot, stay as they are, since their processes can't
    be checked from here. So do runs of other programs. Raises ServerError.
    """
    client = mlflow.MlflowClient()
    ended: list[str] = []
    with as_server_error(uri):
        for run in search_runs(f"attributes.status = 'RUNNING' and tags.{PROCESS_TAG} LIKE '%'"):
            owner = ProcessIdentity.of(run.data.tags.get(PROCESS_TAG, ""))
            if owner is None or not owner.dead:
                continue
            # Read the run again: meanwhile its process may have ended it, or another one may have resumed it.
            current = client.get_run(run.info.run_id)
            owner = ProcessIdentity.of(current.data.tags.get(PROCESS_TAG, ""))
            if current.info.status != "RUNNING" or owner is None or not owner.dead:
                continue
            if "failure" not in current.data.tags:
                client.set_tag(run.info.run_id, "failure", FAILURE)
            client.set_terminated(run.info.run_id, "KILLED")
            ended.append(str(run.info.run_id))
    if ended:
        listed = ", ".join(run_id[:8] for run_id in ended[:5]) + (", …" if len(ended) > 5 else "")
        say(f"{len(ended)} run(s) of killed processes ended as KILLED: {listed}")
    return ended
