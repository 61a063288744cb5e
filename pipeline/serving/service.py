"""`Service`: what the routes of one worker share."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.interaction_log import InteractionLog
from pipeline.options.serve import ServeOptions
from pipeline.runtime.redis_address import RedisAddress
from pipeline.serving.access import Access
from pipeline.serving.current_model import CurrentModel
from pipeline.serving.interactions import InteractionReader, InteractionWriter
from pipeline.serving.job_table import JobTable
from pipeline.serving.keys import KeyFile
from pipeline.serving.live_folder import LiveFolder
from pipeline.serving.metrics import Metrics
from pipeline.serving.shared_cache.tier import SharedCache
from pipeline.serving.snapshots import Snapshots

__all__ = ["Service", "ServiceConfig"]


@dataclass(frozen=True)
class ServiceConfig:
    """What a worker and the agent are told.

    Attributes
    ----------
    live : folder of the service
    model : name of the registered model
    tracking_uri : MLflow's store, which the agent alone opens
    rules : the snapshot of the rules about items
    log_format : ``text`` or ``json``
    redis : where Redis is, as the second cache; None without it
    """

    options: ServeOptions
    live: Path
    model: str
    tracking_uri: str
    rules: Path | None = None
    log_format: str = "text"
    redis: RedisAddress | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of items in answers."""
        return tuple(name.strip() for name in self.options.item_fields.split(",") if name.strip())


@dataclass
class Service:
    """Attributes
    ----------
    model : the model to answer with
    log, reader, writer : of new interactions; None where the log can't be opened, which `log_fault` explains
    access : who may ask
    shared : the cache in Redis; None without it
    jobs : what is asked of the agent
    snapshots : what the agent has read for the workers
    draining : whether the process is about to stop
    """

    config: ServiceConfig
    folder: LiveFolder
    model: CurrentModel
    access: Access
    metrics: Metrics
    jobs: JobTable
    snapshots: Snapshots
    log: InteractionLog | None = None
    reader: InteractionReader | None = None
    writer: InteractionWriter | None = None
    log_fault: str = ""
    shared: SharedCache | None = None
    draining: bool = False
    started: float = field(default_factory=time.time)

    @classmethod
    def of(cls, config: ServiceConfig, metrics: Metrics) -> Service:
        """A service without a model and without a log yet."""
        folder = LiveFolder(config.live, config.model)
        folder.make()
        cache_bytes = config.options.cache_mb << 20
        model = CurrentModel(folder, config.fields, cache_bytes, config.rules, metrics.active_models.set)
        access = Access(KeyFile(folder.keys_path), config.options.host)
        redis, shared = config.redis, None
        if redis is not None:
            shared = SharedCache(redis, config.options.redis_timeout_ms / 1000)
        jobs, snapshots = JobTable(folder.jobs_path), Snapshots(folder)
        return cls(config, folder, model, access, metrics, jobs, snapshots, shared=shared)

    @property
    def uptime(self) -> float:
        """Seconds since this worker began."""
        return time.time() - self.started

    @property
    def load(self) -> float:
        """Processes that want to run, the mean of a minute."""
        return os.getloadavg()[0]
