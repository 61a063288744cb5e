"""Who may ask: with a key of the right scope; without any keys, only this machine and nobody through it.

A page of another site can make a browser send requests to 127.0.0.1 (DNS rebinding), and a proxy on this machine makes
everybody look local. So without keys a request with a foreign Host or Origin, or that was forwarded, is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from pipeline.errors import ArtifactError
from pipeline.serving.keys import Key, KeyFile
from pipeline.serving.problems import Code, Problem

__all__ = ["Access", "is_loopback", "scope_of"]

# Everybody may ask these: balancers and people who look what this is.
_OPEN = frozenset(("/", "/ping", "/api/v1/health", "/api/v1/ready"))
# Requests that are no GET and need less than the scope `admin`.
_SCOPES: Mapping[tuple[str, str], str] = {
    ("POST", "/api/v1/recommendations"): "read",
    ("POST", "/api/v1/predict"): "read",
    ("POST", "/api/ml/predict"): "read",
    ("POST", "/api/v1/interactions"): "write",
    ("PUT", "/api/v1/users/preferences"): "write",
}
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
        if path in _OPEN:
            return None
        return "metrics" if path == "/metrics" else "read"
    if method == "PUT" and _PREFERENCES.fullmatch(path):
        return "write"
    return _SCOPES.get((method, path), "admin")


class Access:
    """Decides about requests.

    Parameters
    ----------
    keys : read again whenever they change
    host : the address that the service listens on; one that others can reach always needs keys
    """

    def __init__(self, keys: KeyFile, host: str = "127.0.0.1") -> None:
        self._keys = keys
        self._always = not is_loopback(host)
        self.has_no_keys = True  # at the last check

    def check(
        self, method: str, path: str, headers: Collection[tuple[bytes, bytes]], client: str = "127.0.0.1"
    ) -> Key | None:
        """The key of the request; None without keys, or for what everybody may ask. Raises Problem."""
        needed = scope_of(method, path)
        try:
            self.has_no_keys = not (self._always or self._keys.needed())
        except ArtifactError:
            # Refused rather than open to all.
            raise Problem(Code.NOT_AUTHENTICATED, "The file of keys can't be read") from None
        if self.has_no_keys:
            self._refuse_foreign(headers, client)
            if needed == "admin":
                raise Problem(
                    Code.NOT_AUTHENTICATED, "This needs a key of the scope admin: rankline key add --scope admin"
                )
            return None
        given = _bearer(headers)
        key = None if given is None else self._keys.find(given)
        if needed is None:
            return key
        if key is None:
            said = "The key is not valid" if given is not None else "Send a key: Authorization: Bearer rk_…"
            raise Problem(Code.NOT_AUTHENTICATED, said)
        if needed not in key.scopes:
            raise Problem(Code.NOT_ALLOWED, f"This needs the scope {needed}, and the key has {', '.join(key.scopes)}")
        return key

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
