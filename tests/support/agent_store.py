"""The service's agent over a real MLflow store, with workers in this process."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import mlflow

from pipeline.models.saved_model import SavedModel
from pipeline.serving.agent import Agent
from pipeline.serving.live_folder import LiveFolder
from support.served import Workers, item_texts


class Store:
    """An MLflow store with versions of `rankline`, and an agent that one worker answers to."""

    def __init__(self, uri: str, workers: Workers) -> None:
        self.workers = workers
        self.client = mlflow.MlflowClient(uri)
        config = replace(workers.config, tracking_uri=uri, options=replace(workers.config.options, workers=1))
        self.agent = Agent(config, threading.Event())

    def register(self, model: SavedModel, *, run_id: str | None = None, leave_out: str = "") -> str:
        run = self.client.create_run(self.client.get_experiment_by_name("rankline").experiment_id)
        folder = Path(run.info.artifact_uri.removeprefix("file://"))
        meta = {**model.meta, "run_id": run_id or run.info.run_id}
        replace(model, meta=meta).save(folder, item_texts(model))
        if leave_out:
            (folder / leave_out).unlink()
        if not self.client.search_registered_models("name = 'rankline'"):
            self.client.create_registered_model("rankline")
        return str(self.client.create_model_version("rankline", str(folder), run.info.run_id).version)

    def promote(self, version: str) -> None:
        self.client.set_registered_model_alias("rankline", "champion", version)

    def look(self) -> str:
        """The agent's fault after a look, while workers load what it proposes."""
        looking = threading.Thread(target=self.agent.look)
        looking.start()
        while looking.is_alive():
            self.workers.look()
            looking.join(0.02)
        return str(self.agent._fault)

    @property
    def version(self) -> str:
        pointer = LiveFolder(self.workers.config.live).current()
        return "" if pointer is None else pointer.version
