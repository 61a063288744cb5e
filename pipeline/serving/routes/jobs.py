"""Jobs: what became of what was asked of the agent."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fastapi import Request, Response

from pipeline.errors import JobTableError
from pipeline.serving.gate import Scope, key_of
from pipeline.serving.job_table import JobTable
from pipeline.serving.problems import Code, Problem
from pipeline.serving.routes.get import Answer, Get, json_answer
from pipeline.serving.routes.job_schemas import JOB
from pipeline.serving.service import Service

__all__ = ["job_gets", "job_table", "take"]


@contextmanager
def job_table(service: Service) -> Iterator[JobTable]:
    """The table of jobs. Raises Problem where it can't be used."""
    try:
        yield service.jobs
    except JobTableError as error:
        raise Problem(Code.JOBS_UNAVAILABLE, str(error)) from None


def job_gets(service: Service) -> list[Get]:
    """A job by its id."""

    def job(scope: Scope, values: Mapping[str, Any]) -> Answer:
        job_id = scope["path_params"]["job_id"]
        with job_table(service) as table:
            found = table.get(job_id)
        if found is None:
            raise Problem(Code.UNKNOWN_JOB, f"There is no job {job_id[:40]!r}")
        return json_answer(found.answer)

    return [
        Get("/api/v1/jobs/{job_id}", "What became of a job.", job, JOB, (), (Code.UNKNOWN_JOB, Code.JOBS_UNAVAILABLE),
            path_parameters={"job_id": "The id that the request was answered with."})
    ]  # fmt: skip


def take(
    service: Service, request: Request, kind: str, asked: Mapping[str, Any], unless: Collection[str] = ()
) -> Response:
    """Put a job into the queue and answer 202 with its id. Raises Problem where one of the kinds `unless` runs."""
    with job_table(service) as table:
        job, added = table.add(kind, asked, key_of(request.scope), unless)
    if not added:
        raise Problem(Code.JOB_RUNS, f"The {job.kind} {job.job_id} has not ended yet", job_id=job.job_id)
    body = {"job_id": job.job_id, "kind": kind, "state": job.state}
    return Response(json_answer(body).body, 202, {"Location": f"/api/v1/jobs/{job.job_id}"}, "application/json")
