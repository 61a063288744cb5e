"""A line for each request, on stderr: what was asked and how it went; no user, no item, no key."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson

__all__ = ["RequestLog"]


class RequestLog:
    """Writes the lines.

    Parameters
    ----------
    log_format : ``json``: one object a line, as the other messages; ``text``
    """

    def __init__(self, log_format: str = "text", *, enabled: bool = True) -> None:
        self._json, self._enabled = log_format == "json", enabled

    def write(
        self,
        method: str,
        route: str,
        status: int,
        seconds: float,
        request_id: str,
        by: tuple[str, str],
        traceparent: str,
    ) -> None:
        """One request; `route` is the template of its path, `by` the version and the manifest that made the answer."""
        if not self._enabled:
            return
        if not self._json:
            line = f"{status} {method} {route} {seconds * 1000:.1f} ms {request_id}\n".encode()
        else:
            metadata: dict[str, Any] = {
                "request_id": request_id,
                "method": method,
                "route": route,
                "status": status,
                "duration_ms": round(seconds * 1000, 3),
                "model_version": by[0] or None,
                "manifest": by[1] or None,
            }
            if traceparent:
                metadata["traceparent"] = traceparent
            record = {
                "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "level": "error" if status >= 500 else "info",
                "service": "rankline",
                "message": "request",
                "metadata": metadata,
            }
            line = orjson.dumps(record) + b"\n"
        with suppress(OSError, ValueError):  # nobody reads it any more
            os.write(sys.stderr.fileno(), line)
