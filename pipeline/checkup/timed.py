"""Checks run side by side, none for longer than its time: what hangs is left behind, what breaks is a finding."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from pipeline.checkup.finding import Finding
from pipeline.checkup.secret import Mask
from pipeline.errors import ConnectionLostError, ServerError, UnreachableError

__all__ = ["LIMIT", "Check", "Group", "examine"]

LIMIT = 10.0  # seconds


@dataclass(frozen=True)
class Check:
    """Attributes
    ----------
    name : what it looks at, for where it says nothing itself
    look : the findings
    """

    name: str
    look: Callable[[], Iterable[Finding]]


@dataclass(frozen=True)
class Group:
    """Checks that are run one after another, since later ones use what earlier ones opened.

    `close` is called at the end; `server` says whose silence a hanging check is.
    """

    name: str
    checks: Sequence[Check]
    close: Callable[[], None] = lambda: None
    server: str = ""


@dataclass
class _Worker:
    group: Group
    mask: Mask
    debug: Callable[[str], None]
    found: list[Finding] = field(default_factory=list)
    current: str = ""
    since: float = field(default_factory=time.monotonic)
    over: bool = False
    abandoned: bool = False

    def work(self) -> None:
        for check in self.group.checks:
            self.current, self.since = check.name, time.monotonic()
            error: Exception | None = None
            try:
                found = list(check.look())
            except Exception as raised:  # noqa: BLE001  (whatever breaks here is what the doctor is asked for)
                error, found = raised, [_broken(check.name, raised)]
                self.debug(self.mask(traceback.format_exc()))
            if self.abandoned:
                break
            took = time.monotonic() - self.since
            self.found += [replace(one, seconds=round(took, 3)) for one in found]
            if isinstance(error, UnreachableError | ConnectionLostError):
                break  # each of the others would wait for the same silence
        # Closing has its time as well.
        self.current, self.since = "closing", time.monotonic()
        try:
            self.group.close()
        except Exception:  # noqa: BLE001  (nothing is lost with it)
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
    """All findings, group by group, without secrets; and whether something still hangs, so that a process must not
    wait for its threads.
    """
    workers = [_Worker(group, mask, debug) for group in groups]
    threads = [threading.Thread(target=one.work, daemon=True) for one in workers]
    for thread in threads:
        thread.start()
    while waiting := [one for one in workers if not (one.over or one.abandoned)]:
        for one in waiting:
            if time.monotonic() - one.since > limit and not one.over:
                one.abandoned = True
                if one.current != "closing":
                    detail = f"no answer within {limit:.0f} s" if one.group.server else f"not done within {limit:.0f} s"
                    one.found.append(Finding(one.current, "fail", detail, one.group.server, bool(one.group.server)))
        time.sleep(0.02)
    found = [
        replace(finding, group=one.group.name, detail=mask(finding.detail), todo=mask(finding.todo))
        for one in workers
        for finding in one.found
    ]
    return found, any(one.abandoned for one in workers)
