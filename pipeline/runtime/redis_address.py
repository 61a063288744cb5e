"""Where Redis is: the parts of an address such as ``redis://cache:6379/0``, its password kept apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from pipeline.errors import UsageError

__all__ = ["RedisAddress"]

_FORM = "redis://host:6379/0, rediss://… for TLS, or unix:///path/to/socket"
# What an address may say of TLS besides; everything else is the service's own business.
_QUERY = frozenset(
    ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
)


@dataclass(frozen=True)
class RedisAddress:
    """Attributes
    ----------
    url : without user and password
    db : number of the database
    username, password : "" for none
    """

    url: str
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, url: str, password: str = "", db: int | None = None) -> RedisAddress:
        """The address of a text, which may hold user and password.

        Parameters
        ----------
        password : counts before one in the text
        db : counts before one in the text

        Raises UsageError, whose message holds no part of the text.
        """
        try:
            parts = urlsplit(url)
            port, path = parts.port, parts.path
        except ValueError:
            raise UsageError(f"The address of Redis can't be read: write {_FORM}") from None
        is_socket = parts.scheme == "unix"
        if parts.scheme not in ("redis", "rediss", "unix") or not (path if is_socket else parts.hostname):
            raise UsageError(f"The address of Redis can't be used: write {_FORM}")
        query = dict(parse_qsl(parts.query))
        in_query = query.pop("db", "") if is_socket else ""
        if unknown := sorted(set(query) - _QUERY):
            raise UsageError(f"The address of Redis has options that don't count here: {len(unknown)} besides ssl_…")
        stated = in_query if is_socket else path.strip("/")
        if stated and not stated.isdecimal():
            raise UsageError(f"The database in the address of Redis is no number: write {_FORM}")
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        place = path if is_socket else f"{host}:{port or 6379}"
        rest = f"?{parts.query}" if query and not is_socket else ""
        return cls(
            f"{parts.scheme}://{place}{rest}",
            int(stated or 0) if db is None else db,
            unquote(parts.username or ""),
            password or unquote(parts.password or ""),
        )

    @classmethod
    def of_environment(cls, environ: Mapping[str, str], url: str = "", db: int | None = None) -> RedisAddress | None:
        """The address that is configured; None without Redis.

        ``RANKLINE_REDIS_…`` counts before ``REDIS_URL``, ``REDIS_PASSWORD`` and ``REDIS_DB``.

        Parameters
        ----------
        url, db : options, which count before the environment

        Raises UsageError.
        """

        def text(name: str) -> str:
            return environ.get(f"RANKLINE_{name}") or environ.get(name) or ""

        chosen = url or text("REDIS_URL")
        if not chosen:
            return None
        stated = text("REDIS_DB")
        if db is None and stated:
            if not stated.isdecimal():
                raise UsageError("REDIS_DB must be a number, at least 0")
            db = int(stated)
        return cls.of(chosen, text("REDIS_PASSWORD"), db)

    @property
    def shown(self) -> str:
        """For people: without user, password and options."""
        place = self.url.partition("?")[0]
        return f"{place}/{self.db}" if not place.startswith("unix:") else f"{place} (database {self.db})"
