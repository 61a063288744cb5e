"""What the nightly job knows of its last night, in a file: a job that was killed is gone on with.

    {"format": 1, "night": "2026-01-31T02:00:00+00:00", "request": "…", "finished": false, "run_id": "…",
     "begun": {"train": 1}, "steps": [{"name": "data gate", "state": "done", …}, …]}

The file is replaced in one step after each step of the job. A lock beside it lets one job at a time be at work.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.errors import LockedError
from pipeline.runtime.file_lock import FileLock

__all__ = ["NightState", "night_state"]

_FORMAT = 1
# A night that did not end is gone on with for so long; the data has changed after that.
_SAME_NIGHT = timedelta(hours=12)


class NightState:
    """The file's content. Each method that changes it writes it.

    Attributes
    ----------
    continued : whether a night is gone on with that a killed job, or one without a server, left unfinished
    """

    def __init__(self, path: Path, request: str, now: datetime) -> None:
        self._path = path
        before = _read(path)
        night = _time(before.get("night"))
        self.continued = (
            before.get("finished") is False
            and before.get("request") == request
            and night is not None
            and timedelta(0) <= now - night < _SAME_NIGHT
        )
        self._content: dict[str, Any] = (
            dict(before)
            if self.continued
            else {
                "format": _FORMAT,
                "night": now.isoformat(),
                "request": request,
                "finished": False,
                "run_id": "",
                "begun": {},
                "steps": [],
            }
        )
        self._write()

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The steps that have ended, in order."""
        return list(self._content["steps"])

    @property
    def run_id(self) -> str:
        """The run of tonight's training, "" before it began."""
        return str(self._content["run_id"])

    def begin(self, step: str, run_id: str = "") -> int:
        """Write down that a step begins; returns how often it began before, tonight, without ending."""
        before = int(self._content["begun"].get(step, 0))
        self._content["begun"][step] = before + 1
        if run_id:
            self._content["run_id"] = run_id
        self._write()
        return before

    def forget(self, step: str) -> None:
        """A step ended in order, by an interrupt: it was not killed."""
        if self._content["begun"].pop(step, None) is not None:
            self._write()

    def end(self, step: Mapping[str, Any]) -> None:
        """Write down how a step ended."""
        self._content["begun"].pop(step["name"], None)
        self._content["steps"].append(dict(step))
        self._write()

    def drop(self, *steps: str) -> None:
        """Forget that these steps have ended: they are done again."""
        self._content["steps"] = [step for step in self._content["steps"] if step["name"] not in steps]
        self._write()

    def finish(self) -> None:
        """The night is over: the next job begins another one."""
        self._content["finished"] = True
        self._write()

    def _write(self) -> None:
        partial = self._path.with_name(self._path.name + ".partial")
        with partial.open("w", encoding="utf-8") as file:
            json.dump(self._content, file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)


@contextmanager
def night_state(path: Path, request: object, now: datetime) -> Iterator[NightState]:
    """The state, for the job that may change it.

    request : what is asked of the job; a night that was asked for otherwise is not gone on with

    Raises LockedError where another job is at work, OSError where the folder can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(path.with_name(path.name + ".lock"))
    except LockedError as error:
        raise LockedError(f"{error}: one nightly job at a time; wait for that one to end, or end it") from None
    with lock:
        yield NightState(path, hashlib.sha256(repr(request).encode()).hexdigest(), now)


def _read(path: Path) -> dict[str, Any]:
    """The content; {} where there is none, or none that can be used: then the night begins anew."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    kinds = {
        "night": str,
        "request": str,
        "finished": bool,
        "run_id": str,
        "begun": dict,
        "steps": list,
    }
    usable = isinstance(content, dict) and content.get("format") == _FORMAT
    usable = usable and all(isinstance(content.get(name), kind) for name, kind in kinds.items())
    return content if usable and all(isinstance(step, dict) for step in content["steps"]) else {}


def _time(text: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return at if at.tzinfo is not None else None
