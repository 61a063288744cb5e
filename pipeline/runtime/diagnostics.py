"""`Finding`, one result of a diagnostic check, and the checks that produce findings."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Check", "Finding", "Group", "Status", "fail", "ok", "warn", "writable"]

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """Attributes
    ----------
    name : what was checked
    status : ``warn`` is something to know; ``fail`` is something that makes a command fail
    detail : the result in words
    todo : how to fix it, "" where nothing needs fixing
    server : whether the cause is a server that can't be used (exit status 4 instead of 3)
    group : the group of the check; the runner fills it in
    seconds : how long the check took
    """

    name: str
    status: Status
    detail: str
    todo: str = ""
    server: bool = False
    group: str = ""
    seconds: float = 0.0


def ok(name: str, detail: str) -> Finding:
    """A finding without a problem."""
    return Finding(name, "ok", detail)


def warn(name: str, detail: str, todo: str) -> Finding:
    """A finding that a person should know."""
    return Finding(name, "warn", detail, todo)


def fail(name: str, detail: str, todo: str, server: bool = False) -> Finding:
    """A finding that makes a command fail."""
    return Finding(name, "fail", detail, todo, server)


@dataclass(frozen=True)
class Check:
    """Attributes
    ----------
    name : what it checks; names the finding where the check itself breaks
    look : runs the check and returns its findings
    """

    name: str
    look: Callable[[], Iterable[Finding]]


@dataclass(frozen=True)
class Group:
    """Checks that run one after another, since later checks use what earlier ones opened.

    `close` is called at the end. `server` is the advice for a check that hangs; it is "" where no server is involved.
    """

    name: str
    checks: Sequence[Check]
    close: Callable[[], None] = lambda: None
    server: str = ""


def writable(folder: Path) -> bool:
    """Whether a file can be created in the folder. It creates one, since permissions alone don't tell."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
