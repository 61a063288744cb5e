"""`ProcessIdentity` identifies a process, so that a later process can tell whether it has ended."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ProcessIdentity"]


@dataclass(frozen=True)
class ProcessIdentity:
    """A process on a machine.

    Attributes
    ----------
    host : machine, boot and PID namespace, within which a PID is unique; "" where unknown
    pid, process_started : the PID and the start time (the system reuses PIDs)
    """

    host: str
    pid: int
    process_started: str

    @classmethod
    def me(cls) -> ProcessIdentity:
        """This process."""
        return cls.with_pid(os.getpid())

    @classmethod
    def with_pid(cls, pid: int) -> ProcessIdentity:
        """The process of this number on this machine."""
        return cls(_host(), pid, _started(pid) or "")

    @classmethod
    def of(cls, text: str) -> ProcessIdentity | None:
        """Parse `text`; None where it is no process identity."""
        try:
            values = json.loads(text)
            return cls(str(values["host"]), int(values["pid"]), str(values["process_started"]))
        except (ValueError, TypeError, KeyError):
            return None

    @property
    def text(self) -> str:
        """The identity as JSON, for a tag."""
        return json.dumps(self.values)

    @property
    def dead(self) -> bool:
        """Whether the process is known to be gone.

        Of another machine's nothing is known, nor of one that /proc does not show while a signal could reach it: where
        /proc hides other users' processes (hidepid), one that lives looks like one that is gone.
        """
        if not self.host or self.host != _host():
            return False
        shown = _stat(self.pid)
        return not _answers(self.pid) if shown is None else shown != (True, self.process_started)

    @property
    def alive(self) -> bool:
        """Whether the process is known to be there still."""
        return bool(self.process_started) and self.host == _host() and _started(self.pid) == self.process_started

    @property
    def values(self) -> dict[str, Any]:
        """The identity as parameters for SQL."""
        return {"host": self.host, "pid": self.pid, "process_started": self.process_started}


def _host() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
    return f"{socket.gethostname()} {boot} {space}"


def _started(pid: int) -> str | None:
    """When the process began, in ticks since the boot; None where there is none, or it has ended, or is not shown."""
    shown = _stat(pid)
    return shown[1] if shown is not None and shown[0] else None


def _stat(pid: int) -> tuple[bool, str] | None:
    """Whether the process has not ended, and when it began; None where it is not shown."""
    try:
        # The name is in parentheses and may hold anything. After it, field 1 is the state and field 20 the start time.
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return after_name[0] not in "ZX", after_name[19]


def _answers(pid: int) -> bool:
    """Whether a signal could reach a process of this number, or is refused since it is another user's."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
