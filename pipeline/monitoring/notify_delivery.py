"""`deliver`: sends one letter to each target, all at once, each within its time.

A server may accept a connection and say nothing, or a byte a second: a time-out of a socket never ends that. So each
target has a thread, and when its time is over the connection is cut, or the program is killed.
"""

from __future__ import annotations

import json
import os
import signal
import smtplib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline import __version__
from pipeline.monitoring.notify_mail import send_mail
from pipeline.monitoring.notify_targets import Target
from pipeline.monitoring.notify_webhook import WebhookError, post
from pipeline.runtime.redact import Mask, without_secrets

__all__ = ["Deadline", "Letter", "deliver"]

_GRACE = 1.0  # seconds that a thread gets to end once its connection is cut


@dataclass(frozen=True)
class Letter:
    """What a target is told, with the secrets of the environment masked.

    Attributes
    ----------
    at : when
    alerts : kind, subject, message and facts of each
    """

    at: datetime
    alerts: Sequence[Mapping[str, object]]

    @classmethod
    def of(cls, alerts: Sequence[Mapping[str, object]], at: datetime) -> Letter:
        """Mask what should not be there in the first place: a table or a source may be named after a password."""
        mask = Mask(dict(os.environ))

        def masked(value: Any) -> Any:
            if isinstance(value, str):
                return mask(without_secrets(value))
            if isinstance(value, Mapping):
                return {name: masked(one) for name, one in value.items()}
            return value

        return cls(at, [masked(alert) for alert in alerts])

    @property
    def json(self) -> bytes:
        """For a webhook of one's own and for a command."""
        letter = {"service": "rankline", "version": __version__, "at": self.at.isoformat(), "alerts": self.alerts}
        return json.dumps(letter, ensure_ascii=False).encode()

    @property
    def title(self) -> str:
        """One line."""
        first = self.alerts[0]
        if len(self.alerts) == 1:
            return f"Rankline: {first['kind']} ({first['subject']})"
        return f"Rankline: {len(self.alerts)} alerts"

    @property
    def lines(self) -> list[str]:
        """One for each alert."""
        return [f"{alert['kind']}: {alert['message']}" for alert in self.alerts]


class Deadline:
    """When the time of a target is over, and how its connection is then cut."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._cuts: list[Callable[[], object]] = []
        self.over = False

    @property
    def left(self) -> float:
        """Seconds."""
        return max(0.0, self._until - time.monotonic())

    @property
    def patience(self) -> float:
        """Seconds that a socket may wait: it is cut before, and then it is known why."""
        return self.left + _GRACE

    def on_end(self, cut: Callable[[], object]) -> None:
        """Is to be called when the time is over; at once if it is."""
        with self._lock:
            self._cuts.append(cut)
            over = self.over
        if over:
            _quietly(cut)

    def end(self) -> None:
        """The time is over."""
        with self._lock:
            self.over = True
            cuts = list(self._cuts)
        for cut in cuts:
            _quietly(cut)

    def connect(
        self, address: tuple[str, int], timeout: object = None, source_address: tuple[str, int] | None = None
    ) -> socket.socket:
        """A connection that is cut when the time is over, as `socket.create_connection` makes one."""
        connection = socket.create_connection(address, self.patience, source_address)
        # TLS takes the socket over, and this name of it is then the only one left to cut the connection by.
        other = connection.dup()
        self.on_end(lambda: _cut(other))
        return connection


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    finally:
        connection.close()


def _quietly(cut: Callable[[], object]) -> None:
    with suppress(OSError):
        cut()


class _Delivery(threading.Thread):
    """One letter on its way; `reason` says why it did not arrive, "" if it did."""

    def __init__(self, target: Target, letter: Letter, seconds: float) -> None:
        super().__init__(daemon=True, name="rankline-notify")
        self._target, self._letter, self._seconds = target, letter, seconds
        self._deadline = Deadline(seconds)
        self.reason = "it was not tried"

    def run(self) -> None:
        """Send it. Never raises."""
        try:
            self._send()
            # A head that is cut reads like one that has ended.
            self.reason = self._late if self._deadline.over else ""
        except Exception as error:  # noqa: BLE001  # whatever a server makes a library raise is a target that is down
            self.reason = self._late if self._deadline.over else _why(error)

    def _send(self) -> None:
        target, deadline = self._target, self._deadline
        if target.mail is not None:
            send_mail(target.mail, self._letter.title, self._letter.lines, self._letter.at, deadline)
        elif target.kind == "command":
            _run(target.arguments, self._letter.json, deadline)
        else:
            body = self._letter.json if target.kind == "webhook" else _for_slack(self._letter)
            post(target.url, body, deadline)

    @property
    def _late(self) -> str:
        return f"no answer within {self._seconds:g} s"

    def result(self) -> str:
        """Wait for it as long as it may take."""
        self.join(self._deadline.left)
        if self.is_alive():
            self._deadline.end()
            self.join(_GRACE)
            if self.is_alive():  # a name that is looked up for minutes can't be cut
                return self._late
        else:
            self._deadline.end()
        return self.reason


def deliver(letters: Sequence[tuple[Target, Letter]], seconds: float) -> list[str]:
    """Send each letter; returns for each why it did not arrive, "" if it did. Never raises."""
    deliveries = [_Delivery(target, letter, seconds) for target, letter in letters]
    for delivery in deliveries:
        delivery.start()
    return [delivery.result() for delivery in deliveries]


def _for_slack(letter: Letter) -> bytes:
    text = "\n".join([f"*{letter.title}*", *(f"• {line}" for line in letter.lines)])
    # Slack reads these three as markup: <!channel> would wake everybody up.
    for mark, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(mark, entity)
    return json.dumps({"text": text}, ensure_ascii=False).encode()


def _run(arguments: Sequence[str], letter: bytes, deadline: Deadline) -> None:
    """Run the program with the letter on its stdin; its stderr is this process's, its stdout is nobody's."""
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        deadline.on_end(lambda: _kill(process))
        with suppress(BrokenPipeError):  # a program need not read it
            process.communicate(letter)
    if process.returncode:
        raise _CommandError(process.returncode)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With what it started, which is in its group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


class _CommandError(Exception):
    pass


def _why(error: Exception) -> str:
    """In words, without what the server said and without the address: either may repeat a secret."""
    if isinstance(error, _CommandError):
        status = error.args[0]
        return f"the program was ended by signal {-status}" if status < 0 else f"the program ended with status {status}"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the mail server refused ({error.smtp_code})"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return "the mail server refused an address"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return str(error)  # smtplib's own words, or ours
    if isinstance(error, smtplib.SMTPException):
        return f"the mail server does not do what is needed ({type(error).__name__})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or type(error).__name__})"
    cause = getattr(error, "reason", None)  # of an URLError
    if isinstance(cause, OSError):
        return _why(cause)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) if isinstance(error, WebhookError) else f"no sensible answer ({type(error).__name__})"
