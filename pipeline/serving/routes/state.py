"""GET what the service is and how it is: information, ping, ready, health, metrics."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from typing import Any

from pipeline import __version__
from pipeline.errors import RanklineError
from pipeline.runtime.memory import resident_memory
from pipeline.serving.drift_report import drift_report
from pipeline.serving.gate import Scope, may_see_details
from pipeline.serving.live_folder import read_json
from pipeline.serving.metrics import exposition
from pipeline.serving.problems import Code, Problem
from pipeline.serving.routes.get import Answer, Get, json_answer
from pipeline.serving.routes.schemas import HEALTH, INFORMATION, READY, STATUS
from pipeline.serving.served_model import ServedModel
from pipeline.serving.service import Service

__all__ = ["health_details", "state_routes"]

_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_NO_MODEL = "no model can be loaded: what is popular is served"
_AGENT_SILENT = 60.0  # seconds, besides those between two looks


def state_routes(service: Service) -> list[Get]:
    """The routes."""

    def information(scope: Scope, values: Mapping[str, Any]) -> Answer:
        paths = ["/api/v1/recommendations/{user_id}", "/api/v1/popular", "/api/v1/health", "/openapi.json"]
        return json_answer({"service": "rankline", "version": __version__, "paths": paths})

    def ping(scope: Scope, values: Mapping[str, Any]) -> Answer:
        return Answer(b'{"status":"ok"}')

    def ready(scope: Scope, values: Mapping[str, Any]) -> Answer:
        if service.draining:
            raise Problem(Code.DRAINING, "The service is stopping: ask another", {"Connection": "close"})
        served = service.model.served()
        pointer = served.pointer
        body = {"status": "ready", "model_version": pointer.label, "run_id": pointer.run_id}
        return json_answer(body, served.served_by)

    def health(scope: Scope, values: Mapping[str, Any]) -> Answer:
        served = service.model.served()  # 503 without a model
        details = health_details(service, served)
        degraded = any(part.get("fault") for part in details.values())
        status = {"status": "degraded" if degraded else "ok"}
        return json_answer({**status, **details} if may_see_details(scope) else status, served.served_by)

    def metrics(scope: Scope, values: Mapping[str, Any]) -> Answer:
        return Answer(_exposition(service), media_type=_TEXT.encode())

    return [
        Get("/ping", "Whether a worker answers.", ping, STATUS),
        Get("/api/v1/ready", "Whether lists can be asked for.", ready, READY, (), (Code.NO_MODEL, Code.DRAINING)),
        Get("/api/v1/health", "What works and what does not.", health, HEALTH, (), (Code.NO_MODEL,)),
        Get("/metrics", "For Prometheus.", metrics, {"type": "string"}, media_type="text/plain"),
        Get("/", "What this is.", information, INFORMATION),
    ]


def health_details(service: Service, served: ServedModel) -> dict[str, dict[str, Any]]:
    """Each part, with its `fault`: "" where it works. A `warning` is no fault: the service itself works."""
    return {
        "application": {
            "version": __version__,
            "uptime_seconds": round(service.uptime),
            "fault": _agent_fault(service),
        },
        "model": {
            "version": served.pointer.label,
            "run_id": served.pointer.run_id,
            "champion": served.pointer.champion,
            "users": len(served.scorer.users),
            "items": len(served.scorer.items),
            "fault": _NO_MODEL * served.is_baseline or _model_fault(service),
        },
        "cache": {"answers": len(served.cache), **_shared_details(service)},
        "interaction_log": _log_details(service),
        "warehouse": _warehouse_details(service),
        "drift": _drift_details(service),
        **_experiment_details(service),
        "system": _system_details(service),
    }


def _model_fault(service: Service) -> str:
    return service.model.fault or service.model.rules_fault or service.model.report_fault


def _shared_details(service: Service) -> dict[str, Any]:
    shared = service.shared
    if shared is None:
        return {"fault": ""}
    return {"redis": shared.address.shown, "fault": shared.fault}


def _agent_fault(service: Service) -> str:
    """What the agent could not do at its last look; "" if it could."""
    try:
        seen = read_json(service.folder.agent_path)
        silent = time.time() - seen["at"] / 1000 - service.config.options.poll_seconds
        if silent > _AGENT_SILENT:
            return f"the agent has not looked at MLflow for {silent:.0f} s"
        return str(seen["fault"])
    except (FileNotFoundError, RanklineError, KeyError, TypeError):
        return "the agent has not looked at MLflow yet"


def _log_details(service: Service) -> dict[str, Any]:
    if service.reader is None:
        return {"fault": service.log_fault or "there is no interaction log"}
    try:
        count, seconds = service.reader.pending()
    except RanklineError as error:
        return {"fault": str(error)}
    writing = service.writer.failed if service.writer is not None else ""
    return {"pending": count, "oldest_seconds": round(seconds, 1), "fault": writing}


def _warehouse_details(service: Service) -> dict[str, Any]:
    """What the agent's last visit to the warehouse came to; an embedded one is never visited."""
    try:
        return {"fault": str(read_json(service.folder.warehouse_path)["fault"])}
    except (FileNotFoundError, RanklineError, KeyError, TypeError):
        return {"fault": ""}


def _experiment_details(service: Service) -> dict[str, Any]:
    """The experiment that is served, or why it is not; nothing where there is none."""
    arms, fault = service.model.arms, service.model.arms_fault or service.exposures.fault
    if arms is None:
        return {"experiment": {"fault": fault}} if fault else {}
    versions = {arm.name: arm.served.pointer.label for arm in arms.arms}
    return {"experiment": {"name": arms.experiment.name, **versions, "fault": fault}}


def _drift_details(service: Service) -> dict[str, Any]:
    """What was measured last, and what of it is past a limit."""
    report = drift_report(service.folder)
    if report is None:
        return {"measured_at": None, "fault": ""}
    past = ", ".join(f"{row.name} {row.value:.4g}" for row in report.past)
    return {
        "champion": report.champion,
        "measured_at": report.at.isoformat(timespec="seconds"),
        "warning": f"past a limit: {past}" if past else "",
        "measures": {row.name: row.value for row in report.rows if row.value is not None},
        "fault": "",
    }


def _system_details(service: Service) -> dict[str, Any]:
    disk = shutil.disk_usage(service.folder.root)
    full = disk.free < 64 << 20
    return {
        "load": round(service.load, 2),
        "memory_mb": resident_memory() >> 20,
        "disk_free_mb": disk.free >> 20,
        "fault": f"the disk of {service.folder.root} is full" if full else "",
    }


def _exposition(service: Service) -> bytes:
    extra: dict[str, tuple[str, float]] = {}
    infos = []
    for one in service.every:
        try:
            served = one.model.served()
        except Problem:
            continue
        pointer = served.pointer
        infos.append({"version": pointer.label, "run_id": pointer.run_id, "kind": served.scorer.model.kind})
        if one is service:
            extra |= _measured(service, pointer.version)
    details = _log_details(service)
    if "pending" in details:
        extra["rankline_interactions_pending"] = ("Interactions that wait to be shipped.", details["pending"])
        extra["rankline_interactions_oldest_seconds"] = ("Age of the oldest of them.", details["oldest_seconds"])
    return exposition(extra, infos, _drift_statistics(service))


def _drift_statistics(service: Service) -> dict[str, tuple[str, dict[str, float]]]:
    report = drift_report(service.folder)
    if report is None:
        return {}
    past = {row.name: float(row.past) for row in report.rows if row.limit is not None and row.value is not None}
    return {
        "rankline_drift": ("What was measured of drift last; docs/monitoring.md says what each is.", report.statistics),
        "rankline_drift_past_limit": ("1 where it is past its limit.", past),
    }


def _measured(service: Service, version: str) -> dict[str, tuple[str, float]]:
    """What the training of the served version was measured at, as far as the agent has read it."""
    try:
        metrics = service.snapshots.model(version)["metrics"]
    except (Problem, KeyError):
        return {}
    said = {
        "rankline_training_seconds": ("cost/seconds_total", "Time of the training of the served model."),
        "rankline_model_rmse": ("holdout/rmse", "RMSE of the served model on its held-out interactions."),
    }
    return {name: (text, float(metrics[key])) for name, (key, text) in said.items() if key in metrics}
