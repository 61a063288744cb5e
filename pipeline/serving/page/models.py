"""The page's second part: versions with their gates and metrics, activate, roll back, compare."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from pipeline.serving.page.answers import form, html, parameter
from pipeline.serving.page.charts import history_chart
from pipeline.serving.page.figures import compared, figures
from pipeline.serving.problems import Code, Problem
from pipeline.serving.routes.job_bodies import ActivateRequest, RollbackRequest
from pipeline.serving.routes.jobs import job_table
from pipeline.serving.routes.models import ask_to_activate, ask_to_roll_back, comparison, served_version
from pipeline.serving.service import Service

__all__ = ["activate", "compare", "job", "rollback", "show"]


async def show(request: Request, service: Service) -> Response:
    """All versions."""
    try:
        values = _versions(service)
    except Problem as problem:
        if problem.code != Code.NOT_KNOWN_YET:
            raise
        return html(request, "models_wait.html.j2", said=problem.detail)
    older = values["models"][1:]
    against = next((model for model in older if model["champion"]), older[0] if older else {"version": ""})
    chart = history_chart(values["models"])
    return html(request, "models.html.j2", **values, chart=chart, compare_a=against["version"])


async def compare(request: Request, service: Service) -> Response:
    """Two versions, metric by metric."""
    a, b = (parameter(request.query_params.get(name), name) for name in "ab")
    found = await comparison(service, a, b)
    rows = compared(found["difference"])
    return html(request, "compared.html.j2", a=found["a"], b=found["b"], rows=rows, reason=found["reason"])


async def activate(request: Request, service: Service) -> Response:
    """Ask for a version to be made the champion, by the gate; or by force, for a reason."""
    given = await form(request)
    reason = parameter(given.get("reason"), "reason")
    try:
        asked = ActivateRequest(force=given.get("force") == "yes", reason=reason or None)
    except ValidationError as error:
        raise Problem(Code.INVALID_REQUEST, str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from None
    version = parameter(given.get("version"), "version")
    return await _taken(request, service, await asyncio.to_thread(ask_to_activate, service, request, version, asked))


async def rollback(request: Request, service: Service) -> Response:
    """Ask for the champion before to be the champion again."""
    return await _taken(
        request, service, await asyncio.to_thread(ask_to_roll_back, service, request, RollbackRequest())
    )


async def job(request: Request, service: Service) -> Response:
    """How a job goes; with the versions when it has ended."""
    return _job(request, service, parameter(request.query_params.get("id"), "id"))


async def _taken(request: Request, service: Service, taken: Response) -> Response:
    return _job(request, service, taken.headers["location"].rpartition("/")[2])


def _job(request: Request, service: Service, job_id: str) -> Response:
    with job_table(service) as table:
        found = table.get(job_id)
    if found is None:
        raise Problem(Code.UNKNOWN_JOB, f"There is no job {job_id[:40]!r}")
    values = {**_versions(service), "oob": True} if found.ended else {"models": None}
    what = f"{found.kind} {found.request.get('version', '')}".strip()
    return html(request, "job.html.j2", job=found.answer, ended=found.ended, what=what, **values)


def _versions(service: Service) -> dict[str, Any]:
    snapshots = service.snapshots
    models = [_with_figures(model) for model in snapshots.models(served_version(service))]
    return {"models": models, "former": snapshots.former, "oob": False}


def _with_figures(model: Mapping[str, Any]) -> dict[str, Any]:
    return {**model, "figures": figures(model["metrics"], model["baselines"])}
