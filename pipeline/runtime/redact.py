"""Removes passwords from addresses, messages and configuration."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, unquote, urlsplit

from pipeline.errors import RanklineError, UsageError

__all__ = ["Mask", "address_of_store", "store_shown", "without_secrets"]

# Names of variables whose whole value is a secret, and of variables with an address that may hold one before the @.
_SECRET = re.compile(r"PASSWORD|PASSWD|TOKEN|SECRET|CREDENTIAL|ACCESS_KEY|API_KEY|PRIVATE", re.IGNORECASE)
# Targets of alerts: a webhook's path is its secret.
_TARGETS = re.compile(r"NOTIFY$", re.IGNORECASE)
# id:key,id:key
_KEYS = re.compile(r"SIGNING_KEYS$", re.IGNORECASE)
_ADDRESS = re.compile(r"URI|URL|DSN|WAREHOUSE|PROXY|ENDPOINT|DATABASE", re.IGNORECASE)
_USERINFO = re.compile(r"://(?!user:password@)[^/\s@'\"]*@")  # user:password@ is the example in messages
# A password in a query string, or in an option on another program's command line.
_OPTION = re.compile(r"((?:pass\w*|pwd|token|secret|\w*key)(?:=|\s+))[^\s&'\"]+", re.IGNORECASE)
_STORES = ("http", "https", "sqlite", "file", "postgresql", "mysql", "mssql", "databricks")
_SECRET_PATH = 8  # characters; a shorter path of a webhook is a word
_LEAST = 3  # a shorter secret would mask half a text; so would these words
_WORDS = frozenset(("true", "false", "none", "yes", "user", "rankline", "mlflow", "default", "admin", "root"))


class Mask:
    """Masks the secrets of an environment in any text."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        secrets: set[str] = set()
        for name, value in environ.items():
            if _SECRET.search(name):
                secrets.add(value)
            elif _KEYS.search(name):
                secrets |= {part.rpartition(":")[2] for part in re.split(r"[,\s]+", value)}
            elif _TARGETS.search(name):
                secrets |= set(_of_targets(value))
            elif _ADDRESS.search(name):
                before, separator, _ = value.rpartition("@")
                if separator:
                    userinfo = before.rpartition("://")[2]
                    secrets |= {userinfo, userinfo.partition(":")[0], userinfo.partition(":")[2]}
                secrets |= {option.partition("=")[2] for option in value.partition("?")[2].split("&")}
        secrets |= {unquote(secret) for secret in secrets}
        # The longest first: a secret may be part of another.
        self._secrets = sorted(
            (secret for secret in secrets if len(secret) >= _LEAST and secret.lower() not in _WORDS),
            key=len,
            reverse=True,
        )

    def __call__(self, text: str) -> str:
        """The text with each secret replaced by stars."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _OPTION.sub(r"\1***", _USERINFO.sub("://***@", text))


def _of_targets(text: str) -> Iterator[str]:
    """User, password, path and query of each address of a text."""
    for address in text.split():
        after = address.partition("://")[2]
        host = re.split(r"[/?]", after, maxsplit=1)[0]
        userinfo = host.rpartition("@")[0]
        yield from (userinfo, userinfo.partition(":")[2])
        if address.lower().startswith(("http", "slack")):
            path = after[len(host) :].strip("/?")
            yield from (part for part in (path, path.rpartition("/")[2]) if len(part) >= _SECRET_PATH)


def address_of_store(uri: str) -> str:
    """MLflow's tracking URI without user and password. Raises UsageError, whose message holds no part of the URI."""
    try:
        parts = urlsplit(uri)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise UsageError(
            "MLFLOW_TRACKING_URI is no valid address; write http://host:5000, and %2F for a / in a password"
        ) from None
    if not parts.hostname:
        # A file, a mistyped address, or an address with the password among its options.
        address = uri.partition("?")[0]
        return address if parts.scheme in ("sqlite", "file") else re.sub(r":.*@", ":…@", address)
    if "@" in parts.path + parts.query + parts.fragment:
        # The part before the / would be read as host and port, and shown.
        raise UsageError("MLFLOW_TRACKING_URI: write / ? # and @ in a user or password as %2F %3F %23 and %40")
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def without_secrets(text: str) -> str:
    """The text without the passwords of the environment, which a server or a proxy may repeat in its answer."""
    for user, secret in _secrets():
        basic = base64.b64encode(f"{user}:{secret}".encode()).decode().rstrip("=")
        for spelling in (basic, secret, quote(secret, safe="")):
            text = text.replace(spelling, "…")
    return text


def _secrets() -> Iterator[tuple[str, str]]:
    """(user, password), the longest first. Passwords under four characters are left out: they would match any text."""
    pairs = {(os.environ.get("MLFLOW_TRACKING_USERNAME", ""), os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))}
    pairs.add(("", os.environ.get("MLFLOW_TRACKING_TOKEN", "")))
    for name in ("MLFLOW_TRACKING_URI", "RANKLINE_WAREHOUSE"):
        if match := re.search(r"//([^/@:]*):(.*)@", os.environ.get(name, "")):
            pairs |= {(match[1], match[2]), (unquote(match[1]), unquote(match[2]))}
    yield from sorted((pair for pair in pairs if len(pair[1]) > 3), key=lambda pair: -len(pair[1]))


def store_shown(uri: str) -> str | None:
    """The tracking URI without user, password and options.

    None where it is no address: any part of it may then be a secret.
    """
    try:
        scheme = urlsplit(uri).scheme.partition("+")[0]
        shown = address_of_store(uri).partition("?")[0]
    except (RanklineError, ValueError):
        return None
    return shown if scheme in _STORES and "@" not in shown else None
