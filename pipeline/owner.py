"""`Owner`: a process by what tells it from every other, so that a later one can tell whether it is gone."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Owner"]


@dataclass(frozen=True)
class Owner:
    """A process.

    Attributes
    ----------
    host : machine, boot and process space, within which a number names one process; "" where that can't be told
    pid, process_started : the process, and when it began (a number is given again)
    """

    host: str
    pid: int
    process_started: str

    @classmethod
    def me(cls) -> Owner:
        """This process."""
        return cls(_host(), os.getpid(), _started(os.getpid()) or "")

    @classmethod
    def of(cls, text: str) -> Owner | None:
        """The one that `text` was made of; None where it was made of none."""
        try:
            found = json.loads(text)
            return cls(str(found["host"]), int(found["pid"]), str(found["process_started"]))
        except (ValueError, TypeError, KeyError):
            return None

    @property
    def text(self) -> str:
        """For a tag."""
        return json.dumps(self.values)

    @property
    def dead(self) -> bool:
        """Whether the process is known to be gone; of another machine's nothing is known."""
        return bool(self.host) and self.host == _host() and _started(self.pid) != self.process_started

    @property
    def values(self) -> dict[str, Any]:
        """For SQL."""
        return {"host": self.host, "pid": self.pid, "process_started": self.process_started}


def _host() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
    return f"{socket.gethostname()} {boot} {space}"


def _started(pid: int) -> str | None:
    """When the process began, in ticks since the boot; None where there is none, or it has ended."""
    try:
        # After the name, which may hold anything, in brackets: state is the first field, the start the 20th.
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if after_name[0] in "ZX" else after_name[19]
