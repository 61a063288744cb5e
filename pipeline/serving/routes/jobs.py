"""Jobs: what became of what was asked of the agent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipeline.errors import JobTableError
from pipeline.serving.gate import Scope
from pipeline.serving.job_table import JobTable
from pipeline.serving.problems import Code, Problem
from pipeline.serving.routes.get import Answer, Get, json_answer
from pipeline.serving.routes.job_schemas import JOB
from pipeline.serving.service import Service

__all__ = ["job_gets", "job_table"]


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
