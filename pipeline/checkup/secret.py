"""Secrets of the environment, and texts without them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

__all__ = ["Mask"]

# Variables whose whole value is a secret, and those that may hold one before an @.
_SECRET = re.compile(r"PASSWORD|PASSWD|TOKEN|SECRET|CREDENTIAL|ACCESS_KEY|API_KEY|PRIVATE", re.IGNORECASE)
_ADDRESS = re.compile(r"URI|URL|DSN|WAREHOUSE|PROXY|ENDPOINT|DATABASE", re.IGNORECASE)
_USERINFO = re.compile(r"://(?!user:password@)[^/\s@'\"]*@")  # but what a message says is to be written
# A query string may hold a password too; so may an option on another program's command line.
_OPTION = re.compile(r"((?:pass\w*|pwd|token|secret|\w*key)(?:=|\s+))[^\s&'\"]+", re.IGNORECASE)
_LEAST = 3  # shorter ones would black out half a text, as would these
_WORDS = frozenset(("true", "false", "none", "yes", "user", "rankline", "mlflow", "default", "admin", "root"))


class Mask:
    """Takes the environment's secrets out of texts, whoever wrote those."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        found: set[str] = set()
        for name, value in environ.items():
            if _SECRET.search(name):
                found.add(value)
            elif _ADDRESS.search(name):
                before, at, _ = value.rpartition("@")
                if at:
                    userinfo = before.rpartition("://")[2]
                    found |= {userinfo, userinfo.partition(":")[0], userinfo.partition(":")[2]}
                found |= {one.partition("=")[2] for one in value.partition("?")[2].split("&")}
        found |= {unquote(one) for one in found}
        # The longest first: one may be part of another.
        self._secrets = sorted(
            (one for one in found if len(one) >= _LEAST and one.lower() not in _WORDS), key=len, reverse=True
        )

    def __call__(self, text: str) -> str:
        """The text with stars for secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _OPTION.sub(r"\1***", _USERINFO.sub("://***@", text))
