"""`parse_target`: where alerts are sent. A target may hold secrets, which are never shown.

| target | what happens |
|---|---|
| ``https://host/path`` (or ``http://``) | POST, the alerts as JSON |
| ``slack+https://hooks.slack.com/…`` | POST, ``{"text": …}``: Slack's form, which Mattermost and others take, too |
| ``smtp://user:password@host:587?from=…&to=…,…`` | a mail; TLS by STARTTLS where the server offers it |
| ``smtps://…`` | a mail; TLS from the first byte |
| ``command:/path/to/program --option`` | the program, without a shell; it reads the JSON on stdin |
"""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from pipeline.errors import UsageError

__all__ = ["MailBox", "Target", "parse_target"]

_MAIL = re.compile(r"[^\s<>,;:\"\\@\x00-\x1f]+@[^\s<>,;:\"\\@\x00-\x1f]+")
_FORMS = "https://…, slack+https://…, smtp://host:587?from=…&to=…, or command:PROGRAM"


@dataclass(frozen=True)
class MailBox:
    """Where mail is handed in, and from and to whom."""

    host: str
    port: int
    tls: bool
    user: str
    password: str = field(repr=False)
    sender: str
    recipients: tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """Attributes
    ----------
    kind : how it is told
    shown : what may be shown of it
    name : what tells it from the others of this program; it holds no secret
    url : of a webhook, with the secrets in it
    """

    kind: Literal["webhook", "slack", "mail", "command"]
    shown: str
    name: str = ""
    url: str = field(default="", repr=False)
    arguments: tuple[str, ...] = field(default=(), repr=False)
    mail: MailBox | None = field(default=None, repr=False)

    def numbered(self, n_same: int) -> Target:
        """The same, by a name of its own among those that are shown alike."""
        return replace(self, name=f"{self.shown} {n_same + 1}" if n_same else self.shown)


def parse_target(text: str) -> Target:
    """The target of a text. Raises UsageError, which shows nothing of it."""
    scheme, separator, rest = text.strip().partition(":")
    scheme = scheme.lower()
    if scheme == "command" and separator:
        return _command(rest)
    if scheme in ("https", "http", "slack+https", "slack+http"):
        return _webhook(scheme, text.strip())
    if scheme in ("smtp", "smtps"):
        return _mail(text.strip())
    raise UsageError(f"--notify takes {_FORMS}")


def _split(text: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise UsageError("--notify has an address that is none: write https://host:port/path") from None
    if not parts.hostname or any(not character.isprintable() or character == " " for character in text):
        raise UsageError(f"--notify has an address without a host, or with blanks: write {_FORMS}")
    return parts, port


def _host(parts: SplitResult, port: int | None) -> str:
    host = str(parts.hostname)
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{port}" if port is not None else host


def _webhook(scheme: str, text: str) -> Target:
    slack, _, plain = scheme.rpartition("+")
    url = plain + text[len(scheme) :]
    parts, port = _split(url)
    if parts.username is not None:
        raise UsageError("--notify takes no user and password in the address of a webhook: put a token into its path")
    hidden = "/…" if parts.path.strip("/") or parts.query else ""
    shown = f"{scheme}://{_host(parts, port)}{hidden}"
    return Target("slack" if slack else "webhook", shown, shown, url)


def _mail(text: str) -> Target:
    parts, port = _split(text)
    tls = parts.scheme == "smtps"
    try:
        asked = parse_qs(parts.query.replace("+", "%2B"), strict_parsing=True) if parts.query else {}
    except ValueError:
        asked = {}
    senders, recipients = asked.pop("from", []), [one for many in asked.pop("to", []) for one in many.split(",")]
    if len(senders) != 1 or not recipients or asked or parts.path.strip("/"):
        raise UsageError("--notify of mail needs ?from=ADDRESS&to=ADDRESS,ADDRESS after the host, and nothing else")
    if not all(_MAIL.fullmatch(address) for address in (*senders, *recipients)):
        raise UsageError("--notify of mail: from and to hold addresses such as ops@example.org")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    box = MailBox(str(parts.hostname), port or (465 if tls else 25), tls, user, password, senders[0], tuple(recipients))
    shown = f"{parts.scheme}://{_host(parts, port)} to {len(recipients)} address(es)"
    return Target("mail", shown, shown, mail=box)


def _command(rest: str) -> Target:
    try:
        arguments = tuple(shlex.split(rest))
    except ValueError:
        raise UsageError("--notify command: has a quotation mark without its other half") from None
    if not arguments:
        raise UsageError("--notify command: names no program; write command:/path/to/program")
    name = arguments[0].rpartition("/")[2]
    if shutil.which(arguments[0]) is None:
        raise UsageError(f"--notify command:{name} can't be run: there is no such program, or it is not executable")
    return Target("command", f"command:{name}", f"command:{name}", arguments=arguments)
