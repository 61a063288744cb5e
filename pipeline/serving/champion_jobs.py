"""The jobs that change which version is champion, or take a version away. They run in the agent."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from pipeline.config import ConfigFile, options_from
from pipeline.errors import InputError, NotPromotedError
from pipeline.options import Names, PromotionLimits
from pipeline.runtime.progress import Reporter, silent
from pipeline.serving.job_table import Job
from pipeline.serving.live_folder import LiveFolder
from pipeline.serving.service import ServiceConfig
from pipeline.settings import Settings
from pipeline.tracking import versions

__all__ = ["ChampionJobs", "settings_of"]

_LOG = logging.getLogger("rankline")


def settings_of(config: ServiceConfig) -> Settings:
    """The settings of the service's environment and its rankline.yaml, for its model. Raises UsageError."""
    file = None if config.config_file is None else ConfigFile.read(config.config_file)
    return Settings.with_config(file).named(Names(config.model))


class ChampionJobs:
    """Runs one job after the other. `look` has the agent serve the champion; it returns why it could not, or ""."""

    def __init__(self, config: ServiceConfig, folder: LiveFolder, look: Callable[[], str]) -> None:
        self._config, self._folder, self._look = config, folder, look
        self._reporter = Reporter(_LOG.info, silent)

    def run(self, job: Job) -> Mapping[str, Any]:
        """The result. Raises RanklineError where it is not done."""
        kinds = {"activate": self._activate, "rollback": self._roll_back, "delete_version": self._delete}
        if job.kind not in kinds:
            raise InputError(f"This version of Rankline has no jobs of the kind {job.kind!r}")
        return kinds[job.kind](job.request)

    def _activate(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        # Imported with the first job: the gate brings scipy's statistics.
        from pipeline.evaluation.gate_checks import Gate
        from pipeline.jobs.promote import promote_job

        settings = settings_of(self._config)
        gate = Gate(**asdict(options_from(PromotionLimits, settings.config, os.environ)))
        version = f"{self._config.model}/{request['version']}"
        reason = request.get("reason") or None
        done = promote_job(version, gate, bool(request.get("force")), reason, settings, self._reporter)
        if done.outcome == "refused":
            raise NotPromotedError(
                f"{version} is not promoted: {'; '.join(check.summary for check in done.decision.failed)}"
            )
        result = {"version": done.version, "before": done.before, "outcome": done.outcome}
        checks = [check._asdict() for check in done.decision.checks]
        return {**result, "checks": checks, **self._served(done.version)}

    def _roll_back(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        from pipeline.jobs.rollback import rollback_job

        done = rollback_job(request.get("reason") or None, settings_of(self._config), self._reporter)
        return {"version": done.version, "before": done.before, **self._served(done.version)}

    def _served(self, label: str) -> Mapping[str, Any]:
        fault = self._look()
        current = self._folder.current()
        if current is None or current.label != label:
            raise InputError(f"{label} is the champion, and is not served: {fault or 'the service stops'}")
        return {"served": True}

    def _delete(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        version, current = str(request["version"]), self._folder.current()
        if current is not None and current.version == version:
            raise InputError(f"{current.label} is served")
        versions.delete_version(version, self._config.model)
        return {"version": f"{self._config.model}/{version}"}
