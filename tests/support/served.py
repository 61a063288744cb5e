"""Workers of the service in this process, over one folder: what they answer, without sockets."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from pipeline.data.interactions import Interactions
from pipeline.interaction_log import InteractionLog
from pipeline.models.model_files import METADATA
from pipeline.models.saved_model import ItemTexts, SavedModel
from pipeline.options import ServeOptions, TrainOptions
from pipeline.runtime.redis_address import RedisAddress
from pipeline.serving.app import make_app
from pipeline.serving.gate import Gate
from pipeline.serving.live_folder import LiveFolder, Pointer, write_json
from pipeline.serving.metrics import Metrics
from pipeline.serving.service import Service, ServiceConfig
from pipeline.training.train import train

GENRES = ("Comedy", "Drama", "War")


def small_ratings(seed: int = 5) -> Interactions:
    """Ratings 0.5–5 of 30 users for 40 items, ids 100, 101, … and 1000, 1001, …"""
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((30, 40)) < 0.3)
    scores = rng.integers(1, 11, users.size).astype(np.float32) / 2
    return Interactions.of(100 + users, 1000 + items, scores)


def small_trained(algorithm: str = "NMF") -> SavedModel:
    """A model of these ratings."""
    own = {"n_components": 4, "max_iter": 20} if algorithm == "NMF" else {}
    spec = TrainOptions(algorithm=algorithm, holdout=0, **own)
    return train(small_ratings(), spec).model


def item_texts(model: SavedModel) -> ItemTexts:
    """A title and one or two genres for each item."""
    ids = [str(value) for value in model.items.values.tolist()]
    titles = {item: f"The {GENRES[n % 3]} of {item}" for n, item in enumerate(ids)}
    return ItemTexts(titles, {item: (GENRES[n % 3], "All") for n, item in enumerate(ids)})


def put_copy(
    folder: LiveFolder, model: SavedModel, version: str = "1", at: int = 1, texts: ItemTexts | None = None
) -> Pointer:
    """A copy of the model in the folder, as the agent makes one; `texts`, else those of `item_texts`."""
    folder.make()
    run_id = version * 32
    saved = replace(model, meta={**model.meta, "run_id": run_id})
    incoming = saved.save(folder.models / f"incoming-{version}", texts or item_texts(model))
    digest = hashlib.sha256((incoming / METADATA).read_bytes()).hexdigest()
    pointer = Pointer(digest, "rankline", version[0], run_id, True, at)
    incoming.rename(folder.model_folder(digest))
    write_json(folder.models / f"{digest}.json", asdict(pointer))
    return pointer


class Workers:
    """Several workers over one folder.

    others : names of further models besides rankline

    Attributes
    ----------
    services : each worker's
    """

    def __init__(
        self,
        live: Path,
        n: int = 2,
        redis: RedisAddress | None = None,
        others: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        self.runner = asyncio.Runner()
        spec = ServeOptions(**{"access_log": "no", "item_fields": "title,genres", **options})
        first, *more = (
            ServiceConfig(spec, live, name, "sqlite:///none", live / "rules.json", redis=redis)
            for name in ("rankline", *others)
        )
        self.config = replace(first, others=tuple(more))
        self.folder = LiveFolder(live)
        self.services: list[Service] = []
        self.logs: list[InteractionLog] = []
        self.clients: list[httpx.AsyncClient] = []
        self.gates: list[Gate] = []
        for _ in range(n):
            self.runner.run(self._start())

    async def _start(self) -> None:
        service = Service.of(self.config, Metrics())
        log = InteractionLog.open(service.folder.interactions_path)
        service.use(log)
        for one in service.every:
            await one.model.look()
        if service.shared is not None:
            await service.shared.look()
        gate, self.app = make_app(service)
        self.gates.append(gate)
        self.services.append(service)
        self.logs.append(log)
        self.clients.append(
            httpx.AsyncClient(
                transport=httpx.ASGITransport(gate, raise_app_exceptions=True), base_url="http://localhost"
            )
        )

    def look(self) -> None:
        """Let each worker look at the folder."""
        for service in self.services:
            for one in service.every:
                self.runner.run(one.model.look())

    def ask(self, method: str, path: str, worker: int = 0, **more: Any) -> httpx.Response:
        return self.runner.run(self.clients[worker].request(method, path, **more))

    def get(self, path: str, worker: int = 0, **more: Any) -> httpx.Response:
        return self.ask("GET", path, worker, **more)

    def post(self, path: str, body: Any, worker: int = 0, **more: Any) -> httpx.Response:
        return self.ask("POST", path, worker, json=body, **more)

    def close(self) -> None:
        for service in self.services:
            if service.shared is not None:
                self.runner.run(service.shared.close())
            if service.writer is not None:
                service.writer.close()
        for log in self.logs:
            log.close()
        for client in self.clients:
            self.runner.run(client.aclose())
        self.runner.close()


def listed(answer: httpx.Response) -> list[tuple[int, float]]:
    """Items and scores of an answer with one list; the scores are float32."""
    assert answer.status_code == 200, answer.text
    return [(row["item_id"], np.float32(row["score"])) for row in answer.json()["recommendations"]]
