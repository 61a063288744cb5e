"""Versions: which there are, how good they are, and which is to be the champion."""

from __future__ import annotations

import asyncio
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Path, Request, Response

from pipeline.errors import RanklineError
from pipeline.serving.gate import Scope
from pipeline.serving.job_table import CHAMPION_KINDS, Job
from pipeline.serving.live_folder import read_json
from pipeline.serving.problems import Code, Problem
from pipeline.serving.routes.get import Answer, Get, WaitingGet, json_answer
from pipeline.serving.routes.job_bodies import ActivateRequest, RollbackRequest
from pipeline.serving.routes.job_schemas import COMPARISON, HISTORY, MODELS, OF_CHAMPION, TAKEN
from pipeline.serving.routes.jobs import job_table, take
from pipeline.serving.routes.openapi import answers
from pipeline.serving.routes.parameters import Parameter
from pipeline.serving.service import Service

__all__ = ["ask_to_activate", "ask_to_roll_back", "comparison", "model_changes", "model_gets", "served_version"]

_WAIT_SECONDS, _BETWEEN = 10.0, 0.1  # for the agent, in a request that answers with what it did
_WAITING = 20  # comparisons that wait, at most
_VERSION = r"^[0-9]{1,9}$"
_A = Parameter("a", str, "A version.", None, 1, 20, required=True)
_B = Parameter("b", str, "The version to compare with it.", None, 1, 20, required=True)


def model_gets(service: Service) -> list[Get]:
    """What is read of versions, and the aliases."""

    def models(scope: Scope, values: Mapping[str, Any]) -> Answer:
        return json_answer({"models": service.snapshots.models(served_version(service))})

    def metrics(scope: Scope, values: Mapping[str, Any]) -> Answer:
        return json_answer(_of_champion(service))

    def history(scope: Scope, values: Mapping[str, Any]) -> Answer:
        names = ("version", "created_at", "metrics", "baselines")
        found = reversed(service.snapshots.models())
        return json_answer({"history": [{name: model[name] for name in names} for model in found]})

    async def compare(scope: Scope, values: Mapping[str, Any]) -> Answer:
        return json_answer(await comparison(service, values["a"], values["b"]))

    codes = (Code.NOT_KNOWN_YET,)
    waiting = [
        WaitingGet(f"{base}/models/compare", "Two versions, metric by metric, with the interval user by user.",
                   models, COMPARISON, (_A, _B), (Code.UNKNOWN_VERSION, Code.JOBS_UNAVAILABLE, *codes), waiting=compare)
        for base in ("/api/v1", "/api/ml")
    ]  # fmt: skip
    return [
        *waiting,
        *(
            Get(base + path, summary, answer, schema, (), codes)
            for path, summary, answer, schema in (
                ("/models", "All versions, the newest first.", models, MODELS),
                ("/metrics", "The champion's metrics beside its baselines'.", metrics, OF_CHAMPION),
                ("/metrics/history", "Metrics of all versions, the oldest first.", history, HISTORY),
            )
            for base in ("/api/v1", "/api/ml")
        ),
    ]


def served_version(service: Service) -> str:
    """The version that this worker answers with; "" without one."""
    try:
        return service.model.served().pointer.version
    except Problem:
        return ""


def _of_champion(service: Service) -> dict[str, Any]:
    """The champion's metrics; while none is promoted, those of what is served, else of the newest."""
    found = service.snapshots.models(served_version(service))
    if not found:
        raise Problem(Code.NOT_KNOWN_YET, "No version is registered in MLflow yet")
    best = max(found, key=lambda model: (model["champion"], model["served"], int(model["version"])))
    return {name: best[name] for name in ("version", "metrics", "baselines")}


# ---- comparing -----------------------------------------------------------------------------------


async def comparison(service: Service, version_a: str, version_b: str) -> dict[str, Any]:
    """Two versions, `difference` by metric and the `reason` why there are no intervals. Raises Problem."""
    served = served_version(service)
    a, b = (service.snapshots.model(version, served) for version in (version_a, version_b))
    return {"a": a, "b": b, **_with_means(a, b, await _compared(service, a, b))}


async def _compared(service: Service, a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """`difference` and `reason` of two versions, which the agent finds out once. Raises Problem."""
    path = service.folder.comparison(a["run_id"], b["run_id"])
    asked = {name: {"run_id": of["run_id"], "label": of["label"]} for name, of in (("a", a), ("b", b))}
    job: Job | None = None
    until = time.monotonic() + _WAIT_SECONDS
    while True:
        if (compared := _written(path)) is not None:
            return compared
        job = _asked_for(service, asked, path) if job is None else _now(service, job)
        if job is not None and job.state == "failed":
            raise Problem(Code.NOT_KNOWN_YET, f"They could not be compared: {job.reason}")
        if time.monotonic() > until:
            raise Problem(Code.NOT_KNOWN_YET, "The agent has not compared them yet: ask again")
        await asyncio.sleep(_BETWEEN)


def _written(path: pathlib.Path) -> dict[str, Any] | None:
    try:
        return dict(read_json(path))
    except (FileNotFoundError, RanklineError):
        return None  # not yet; a damaged one is written anew


def _asked_for(service: Service, asked: Mapping[str, Any], path: pathlib.Path) -> Job | None:
    """The job that compares them: one that is there already, else a new one; None where it has just ended."""
    with job_table(service) as table:
        waiting = [job for job in (*table.due(), *table.running()) if job.kind == "compare"]
        for job in waiting:
            if job.request == asked:
                return job
        if len(waiting) >= _WAITING:
            raise Problem(Code.TOO_BUSY, "Too many versions are being compared")
        if _written(path) is not None:  # since it was looked for
            return None
        return table.add("compare", asked)[0]


def _now(service: Service, job: Job) -> Job | None:
    with job_table(service) as table:
        return table.get(job.job_id)


def _with_means(a: dict[str, Any], b: dict[str, Any], compared: dict[str, Any]) -> dict[str, Any]:
    """The paired differences, and for the other metrics that both have the difference alone."""
    difference = dict(compared["difference"])
    for name, value in a["metrics"].items():
        if name in b["metrics"] and name not in difference and not name.startswith(("cost/", "interval/")):
            other = b["metrics"][name]
            difference[name] = {"a": value, "b": other, "difference": other - value, "low": None, "high": None}
    return {"difference": difference, "reason": str(compared["reason"])}


# ---- changing ------------------------------------------------------------------------------------


def ask_to_activate(service: Service, request: Request, version: str, asked: ActivateRequest) -> Response:
    """Put it into the queue. Raises Problem where it can't be."""
    if service.snapshots.model(version)["champion"]:
        raise Problem(Code.IS_CHAMPION, f"Version {version} is the champion already")
    values = {"version": version, "force": asked.force, "reason": asked.reason}
    return take(service, request, "activate", values, CHAMPION_KINDS)


def ask_to_roll_back(service: Service, request: Request, asked: RollbackRequest) -> Response:
    """Put it into the queue. Raises Problem where there is no version to go back to."""
    if not service.snapshots.former:
        raise Problem(Code.NO_FORMER_CHAMPION, "No version was champion before this one")
    return take(service, request, "rollback", {"reason": asked.reason}, CHAMPION_KINDS)


def model_changes(service: Service) -> APIRouter:
    """To activate, roll back, and delete, and the aliases."""
    router = APIRouter()
    version_path = Path(pattern=_VERSION, description="The version's number.")
    codes = (Code.UNKNOWN_VERSION, Code.JOB_RUNS, Code.NOT_KNOWN_YET, Code.JOBS_UNAVAILABLE)

    def activate(request: Request, version: str = version_path, body: ActivateRequest | None = None) -> Response:
        return ask_to_activate(service, request, version, body or ActivateRequest())

    def rollback(request: Request, body: RollbackRequest | None = None) -> Response:
        return ask_to_roll_back(service, request, body or RollbackRequest())

    async def delete(request: Request, version: str = version_path) -> Response:
        served = served_version(service)
        if service.snapshots.model(version, served)["champion"] or version == served:
            raise Problem(Code.VERSION_IN_USE, f"Version {version} is the champion, or is served")
        if version in service.snapshots.good:
            raise Problem(Code.VERSION_IN_USE, f"Version {version} was one of the last champions: a rollback needs it")
        asked = {"version": version}
        taken = await asyncio.to_thread(take, service, request, "delete_version", asked, CHAMPION_KINDS)
        return await _deleted(service, taken)

    for base in ("/api/v1", "/api/ml"):
        name = base.strip("/").replace("/", "_")
        router.add_api_route(
            f"{base}/models/activate/{{version}}",
            activate,
            methods=["POST"],
            status_code=202,
            summary="Make a version the champion, if it passes the gate; it is served when the job is done.",
            responses=answers(TAKEN, (*codes, Code.IS_CHAMPION), 202),
            operation_id=f"{name}_activate",
        )
        router.add_api_route(
            f"{base}/models/{{version}}",
            delete,
            methods=["DELETE"],
            status_code=204,
            summary="Delete a version; 202 where the agent has not done it within some seconds.",
            responses={204: {"description": "Done"}, **answers(TAKEN, (*codes, Code.VERSION_IN_USE), 202)},
            operation_id=f"{name}_delete_version",
        )
    router.add_api_route(
        "/api/v1/models/rollback",
        rollback,
        methods=["POST"],
        status_code=202,
        summary="Make the champion before the champion again.",
        responses=answers(TAKEN, (*codes[1:], Code.NO_FORMER_CHAMPION), 202),
        operation_id="rollback",
    )
    return router


async def _deleted(service: Service, taken: Response) -> Response:
    """204 when the agent has done it; 202 where it takes its time. Raises Problem where it refuses."""
    job_id = taken.headers["location"].rpartition("/")[2]
    until = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < until:
        with job_table(service) as table:
            job = table.get(job_id)
        if job is not None and job.state == "done":
            return Response(status_code=204)
        if job is not None and job.state == "failed":
            refused = bool(job.result.get("refused"))
            raise Problem(Code.VERSION_IN_USE if refused else Code.JOBS_UNAVAILABLE, job.reason)
        await asyncio.sleep(_BETWEEN)
    return taken
