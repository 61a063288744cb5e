"""`Finding`: one line of a check-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Status", "fail", "ok", "warn"]

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """Attributes
    ----------
    name : what was looked at
    status : ``warn`` is for a person to know; ``fail`` is what a command would fail over
    detail : what was found
    todo : what to do about it, "" where nothing
    server : whether a server that can't be used is the cause (exit status 4 instead of 3)
    group : where it belongs; filled in by who runs the checks
    seconds : what the check took
    """

    name: str
    status: Status
    detail: str
    todo: str = ""
    server: bool = False
    group: str = ""
    seconds: float = 0.0


def ok(name: str, detail: str) -> Finding:
    """As it should be."""
    return Finding(name, "ok", detail)


def warn(name: str, detail: str, todo: str) -> Finding:
    """For a person to know."""
    return Finding(name, "warn", detail, todo)


def fail(name: str, detail: str, todo: str, server: bool = False) -> Finding:
    """What a command would fail over."""
    return Finding(name, "fail", detail, todo, server)
