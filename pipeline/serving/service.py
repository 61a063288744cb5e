"""`Service`: what the routes of one worker share."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.interaction_log import InteractionLog, Tombstones
from pipeline.options.names import DEFAULT_NAME
from pipeline.options.serve import ServeOptions
from pipeline.runtime.redis_address import RedisAddress
from pipeline.serving.access import Access
from pipeline.serving.current_model import CurrentModel
from pipeline.serving.exposures import Exposures
from pipeline.serving.interactions import InteractionReader, InteractionWriter
from pipeline.serving.job_table import JobTable
from pipeline.serving.keys import KeyFile
from pipeline.serving.live_folder import LiveFolder
from pipeline.serving.metrics import Metrics
from pipeline.serving.sessions import Sessions
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
    config_file : the rankline.yaml that the service was started with
    environment : the variables that it was started with; it may hold passwords
    redis : where Redis is, as the second cache; None without it
    others : of further models, which the same processes serve
    notify : targets of alerts, which may hold secrets; `alerts` is the folder of what was sent
    notify_hours, max_log_age_hours, max_table_age_hours : as the options of these names
    """

    options: ServeOptions
    live: Path
    model: str
    tracking_uri: str
    rules: Path | None = None
    log_format: str = "text"
    config_file: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    redis: RedisAddress | None = None
    others: tuple[ServiceConfig, ...] = ()
    notify: tuple[str, ...] = field(default=(), repr=False)
    alerts: Path | None = None
    notify_hours: float = 20.0
    max_log_age_hours: float | None = None
    max_table_age_hours: float | None = None

    @property
    def every(self) -> tuple[ServiceConfig, ...]:
        """Of all models, this first."""
        return (self, *self.others)

    @property
    def names(self) -> tuple[str, ...]:
        """The models that are served under ``/api/v1/NAME`` besides."""
        if not self.others and self.model == DEFAULT_NAME:
            return ()
        return tuple(config.model for config in self.every)

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
    tombstones : who was forgotten, for when the log can't be read
    exposures : what is shown in experiments
    draining : whether the process is about to stop
    others : those of further models
    """

    config: ServiceConfig
    folder: LiveFolder
    model: CurrentModel
    access: Access
    metrics: Metrics
    jobs: JobTable
    snapshots: Snapshots
    tombstones: Tombstones
    exposures: Exposures
    log: InteractionLog | None = None
    reader: InteractionReader | None = None
    writer: InteractionWriter | None = None
    log_fault: str = ""
    shared: SharedCache | None = None
    draining: bool = False
    started: float = field(default_factory=time.time)
    others: Sequence[Service] = ()

    @classmethod
    def of(cls, config: ServiceConfig, metrics: Metrics) -> Service:
        """A service without a model and without a log yet."""
        folder = LiveFolder(config.live, config.model)
        folder.make()
        cache_bytes = config.options.cache_mb << 20
        scale = (config.options.min_rating, config.options.max_rating)
        told = metrics.loaded(config.model)
        model = CurrentModel(folder, config.fields, cache_bytes, config.rules, told, scale)
        access = Access(KeyFile(folder.keys_path), config.options.host, Sessions(folder.sessions_path))
        redis, shared = config.redis, None
        if redis is not None:
            shared = SharedCache(redis, config.options.redis_timeout_ms / 1000)
        tombstones = Tombstones(folder.interactions_path)
        exposures = Exposures(folder.exposures_path, folder.exposure_counters, metrics.exposed)
        jobs, snapshots = JobTable(folder.jobs_path), Snapshots(folder)
        others = [cls.of(other, metrics) for other in config.others]
        for other in others:
            other.shared = shared  # keys name the version
        return cls(
            config, folder, model, access, metrics, jobs, snapshots, tombstones, exposures, shared=shared, others=others
        )

    @property
    def every(self) -> list[Service]:
        """Those of all models, this first."""
        return [self, *self.others]

    def use(self, log: InteractionLog) -> None:
        """Read and write the log, which is one for all models. Needs a running event loop."""
        reader, writer = InteractionReader(log), InteractionWriter(log)
        for service in self.every:
            service.log, service.reader, service.writer = log, reader, writer
            service.log_fault = ""

    @property
    def uptime(self) -> float:
        """Seconds since this worker began."""
        return time.time() - self.started

    @property
    def load(self) -> float:
        """Processes that want to run, the mean of a minute."""
        return os.getloadavg()[0]
