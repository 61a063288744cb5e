"""The output of `doctor` and `check`: one finding a line, with what to do, and the number of each status."""

from __future__ import annotations

from collections import Counter

from pipeline.cli.output.model import Cell, Output, Styled, Table
from pipeline.jobs.doctor.job import DoctorResult

__all__ = ["doctor_output"]

_STYLE = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor_output(result: DoctorResult) -> Output:
    """The findings in the order of the checks; the exit status is that of the worst finding."""
    counts: Counter[str] = Counter(finding.status for finding in result.findings)
    total = ", ".join(f"{counts[status]} {status}" for status in _STYLE if counts[status])
    rows: list[list[Cell]] = []
    for finding in result.findings:
        todo = f" → {finding.todo}" if finding.todo else ""
        rows.append(
            [Styled(finding.status, _STYLE[finding.status]), f"{finding.group}: {finding.name}: {finding.detail}{todo}"]
        )
    table = Table(["status", "finding"], rows, left=("status", "finding"), header=False)
    return Output(
        f"doctor: {result.status}",
        result.as_json(),
        [table, total],
        exit_status=result.exit_status,
        abandon=result.hanging,
    )
