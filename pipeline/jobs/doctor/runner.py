"""Runs groups of checks in parallel with a time limit. A check that hangs is abandoned; an error is a finding."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pipeline.errors import ConnectionLostError, ServerError, UnreachableError
from pipeline.runtime.diagnostics import Finding, Group
from pipeline.runtime.redact import Mask

__all__ = ["LIMIT", "examine"]

LIMIT = 10.0  # seconds
_LOCAL = 60.0  # at least, where no server is asked: on a busy machine a check may be slow, and nothing is at fault


@dataclass
class _Worker:
    group: Group
    mask: Mask
    debug: Callable[[str], None]
    findings: list[Finding] = field(default_factory=list)
    current: str = ""
    since: float = field(default_factory=time.monotonic)
    over: bool = False
    abandoned: bool = False

    def work(self) -> None:
        for check in self.group.checks:
            self.current, self.since = check.name, time.monotonic()
            error: Exception | None = None
            try:
                results = list(check.look())
            except Exception as raised:  # noqa: BLE001  (any error of a check is a finding)
                error, results = raised, [_broken(check.name, raised)]
                self.debug(self.mask(traceback.format_exc()))
            if self.abandoned:
                break
            took = time.monotonic() - self.since
            self.findings += [replace(finding, seconds=round(took, 3)) for finding in results]
            if isinstance(error, UnreachableError | ConnectionLostError):
                break  # the server does not answer, so each other check would wait, too
        # Closing has a time limit, too.
        self.current, self.since = "closing", time.monotonic()
        try:
            self.group.close()
        except Exception:  # noqa: BLE001  (the findings are complete)
            self.debug(self.mask(traceback.format_exc()))
        self.over = True


def _broken(name: str, error: Exception) -> Finding:
    text = " ".join(str(error).split())[:300] or type(error).__name__
    if not isinstance(error, ServerError):
        text = f"{type(error).__name__}: {text}"
    return Finding(name, "fail", text, "", server=isinstance(error, ServerError))


def examine(
    groups: Sequence[Group],
    mask: Mask,
    limit: float = LIMIT,
    debug: Callable[[str], None] = lambda _: None,
) -> tuple[list[Finding], bool]:
    """Run the groups; returns the findings without secrets, and whether a check still hangs.

    If one hangs, the process must not join its threads.
    """
    workers = [_Worker(group, mask, debug) for group in groups]
    threads = [threading.Thread(target=worker.work, daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    while waiting := [worker for worker in workers if not (worker.over or worker.abandoned)]:
        for worker in waiting:
            patience = limit if worker.group.server else max(limit, _LOCAL)
            if time.monotonic() - worker.since > patience and not worker.over:
                worker.abandoned = True
                if worker.current != "closing":
                    advice = worker.group.server
                    detail = f"{'no answer' if advice else 'not done'} within {patience:.0f} s"
                    worker.findings.append(Finding(worker.current, "fail", detail, advice, bool(advice)))
        time.sleep(0.02)
    findings = [
        replace(finding, group=worker.group.name, detail=mask(finding.detail), todo=mask(finding.todo))
        for worker in workers
        for finding in worker.findings
    ]
    return findings, any(worker.abandoned for worker in workers)
