"""Who may ask: with a key of the right scope; without any keys, only this machine and nobody through it.

A page of another site can make a browser send requests to 127.0.0.1 (DNS rebinding), and a proxy on this machine makes
everybody look local. So without keys a request with a foreign Host or Origin, or that was forwarded, is refused.

The paths of the page take a session, which a log-in with a key has begun, in place of the key; the others take the key.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from pipeline.errors import ArtifactError
from pipeline.serving.keys import Key, KeyFile
from pipeline.serving.problems import Code, Problem
from pipeline.serving.sessions import COOKIE, Sessions

__all__ = ["Access", "is_loopback", "is_of_page", "scope_of", "session_id_of"]

_LOG = logging.getLogger("rankline")
# Everybody may ask these: balancers and people who look what this is.
_OPEN = frozenset(("/", "/ping", "/api/v1/health", "/api/v1/ready"))
# Requests that are no GET and need less than the scope `admin`.
_SCOPES: Mapping[tuple[str, str], str] = {
    ("POST", "/api/v1/recommendations"): "read",
    ("POST", "/api/v1/predict"): "read",
    ("POST", "/api/ml/predict"): "read",
    ("POST", "/api/v1/interactions"): "write",
    ("PUT", "/api/v1/users/preferences"): "write",
    ("POST", "/page/rate"): "write",
}
_OPEN_POSTS = frozenset(("/page/log-in", "/page/log-out"))
_PREFERENCES = re.compile(r"/api/v1/users/[^/]+/preferences")  # of a user in the path
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip")


@lru_cache(256)
def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def scope_of(method: str, path: str) -> str | None:
    """The scope that a request needs; None if everybody may ask. What is not listed needs `admin`."""
    if method in ("GET", "HEAD"):
        if path in _OPEN or path.startswith("/static/"):
            return None
        return "metrics" if path == "/metrics" else "read"
    if method == "POST" and path in _OPEN_POSTS:
        return None
    if method == "PUT" and _PREFERENCES.fullmatch(path):
        return "write"
    return _SCOPES.get((method, path), "admin")


def is_of_page(path: str) -> bool:
    """Whether the page is what answers the path."""
    return path in ("/", "/docs") or path.startswith(("/page/", "/static/"))


class Access:
    """Decides about requests.

    Parameters
    ----------
    keys : read again whenever they change
    host : the address that the service listens on; one that others can reach always needs keys
    sessions : of the page
    """

    def __init__(self, keys: KeyFile, host: str = "127.0.0.1", sessions: Sessions | None = None) -> None:
        self.keys, self.sessions = keys, sessions
        self._always = not is_loopback(host)
        self.has_no_keys = True  # at the last check
        self._fault = ""

    def check(
        self, method: str, path: str, headers: Collection[tuple[bytes, bytes]], client: str = "127.0.0.1"
    ) -> Key | None:
        """The key of the request; None without keys, or for what everybody may ask. Raises Problem."""
        needed = scope_of(method, path)
        try:
            self.has_no_keys = not (self._always or self.keys.needed())
            self._fault = ""
        except ArtifactError as error:
            if self._fault != str(error):
                self._fault = str(error)
                _LOG.error(f"all requests are refused: {error}")
            # Refused rather than open to all.
            raise Problem(Code.NOT_AUTHENTICATED, "The file of keys can't be read") from None
        if self.has_no_keys:
            self._refuse_foreign(headers, client)
            if needed == "admin":
                raise Problem(
                    Code.NOT_AUTHENTICATED, "This needs a key of the scope admin: rankline key add --scope admin"
                )
            return None
        if is_of_page(path):
            given, key = None, self._of_session(session_id_of(headers))
        else:
            given = _bearer(headers)
            key = None if given is None else self.keys.find(given)
        if needed is None:
            return key
        if key is None:
            said = "The key is not valid" if given is not None else "Send a key: Authorization: Bearer rk_…"
            said = "Log in with a key" if is_of_page(path) else said
            raise Problem(Code.NOT_AUTHENTICATED, said)
        if needed not in key.scopes:
            raise Problem(Code.NOT_ALLOWED, f"This needs the scope {needed}, and the key has {', '.join(key.scopes)}")
        return key

    def _of_session(self, session_id: str) -> Key | None:
        session = self.sessions.find(session_id) if self.sessions is not None and session_id else None
        return None if session is None else self.keys.of(session.key_id, session.key_sha256)

    def _refuse_foreign(self, headers: Collection[tuple[bytes, bytes]], client: str) -> None:
        if not is_loopback(client):
            raise Problem(Code.FOREIGN_REQUEST, "The request is not of this machine, and there are no keys")
        for name, value in headers:
            if name in _FORWARDED:
                raise Problem(
                    Code.FOREIGN_REQUEST,
                    "The request came through a proxy, and there are no keys: rankline key add makes one",
                )
            if name == b"host" and not self._is_here(value.decode("latin-1")):
                raise Problem(Code.FOREIGN_REQUEST, "The Host is not this machine, and there are no keys")
            if name == b"origin" and not self._is_here(urlsplit(value.decode("latin-1")).netloc):
                raise Problem(Code.FOREIGN_REQUEST, "The Origin is not this machine, and there are no keys")

    def _is_here(self, authority: str) -> bool:
        try:
            name = urlsplit(f"//{authority}").hostname or ""
        except ValueError:
            return False
        return is_loopback(name)


def _bearer(headers: Collection[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == b"authorization":
            kind, _, text = value.decode("latin-1").partition(" ")
            return text.strip() if kind.lower() == "bearer" else ""
    return None


def session_id_of(headers: Collection[tuple[bytes, bytes]]) -> str:
    """The id of the page's session in the cookies; "" without one."""
    for name, value in headers:
        if name == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                cookie, _, text = pair.strip().partition("=")
                if cookie == COOKIE:
                    return text
    return ""
