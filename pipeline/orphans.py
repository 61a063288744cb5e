"""Runs that a kill left as RUNNING: each says which process began it, and the next job ends those of dead ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlflow

from pipeline.owner import Owner
from pipeline.tracking import PROCESS_TAG, as_server_error

__all__ = ["FAILURE", "end_orphans"]

FAILURE = "its process was killed, or ended while the store was out of reach; a later job ended the run"


def end_orphans(uri: str, say: Callable[[str], None] = lambda _: None) -> list[str]:
    """End as KILLED every run of the store that is RUNNING and whose process is known to be gone; returns their ids.

    Runs of other machines (of other containers, and of before a boot) are left alone: nobody here can
    tell whether they still go on. Neither are runs that are none of ours. Raises ServerError.
    """
    client = mlflow.MlflowClient()
    ended: list[str] = []
    with as_server_error(uri):
        experiments = [one.experiment_id for one in client.search_experiments()]
        wanted = f"attributes.status = 'RUNNING' and tags.{PROCESS_TAG} LIKE '%'"
        token: str | None = None
        running: list[Any] = []
        while experiments:
            page = client.search_runs(experiments, wanted, max_results=500, page_token=token)
            running += page
            token = page.token
            if not token:
                break
        for run in running:
            owner = Owner.of(run.data.tags.get(PROCESS_TAG, ""))
            if owner is None or not owner.dead:
                continue
            # Since the list was read it may have ended the run and then itself, or another may have resumed it.
            now = client.get_run(run.info.run_id)
            owner = Owner.of(now.data.tags.get(PROCESS_TAG, ""))
            if now.info.status != "RUNNING" or owner is None or not owner.dead:
                continue
            if "failure" not in now.data.tags:
                client.set_tag(run.info.run_id, "failure", FAILURE)
            client.set_terminated(run.info.run_id, "KILLED")
            ended.append(str(run.info.run_id))
    if ended:
        listed = ", ".join(one[:8] for one in ended[:5]) + (", …" if len(ended) > 5 else "")
        say(f"{len(ended)} run(s) of killed processes ended as KILLED: {listed}")
    return ended
