"""What `rankline key` prints."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pipeline.cli.output.model import Output, Table
from pipeline.serving.keys import Key

__all__ = ["added_output", "listed_output", "revoked_output"]


def added_output(key: str, scopes: Sequence[str]) -> Output:
    """The key itself, which is never shown again."""
    lines = (key, f"it allows {', '.join(scopes)}; keep it now, since it can't be shown again")
    return Output("key made", {"key": key, "scopes": list(scopes)}, lines)


def listed_output(keys: Sequence[Key]) -> Output:
    """The keys by their ids."""
    rows = [(key.id, ", ".join(key.scopes), _day(key.made)) for key in keys]
    data = {"keys": [{"id": key.id, "scopes": list(key.scopes), "made": _day(key.made)} for key in keys]}
    if not rows:
        return Output("keys", data, ("there are no keys (rankline key add makes one)",))
    return Output("keys", data, (Table(("id", "scopes", "made"), rows, left=("id", "scopes", "made")),))


def revoked_output(key_id: str) -> Output:
    """That the key is refused from now on."""
    return Output("key revoked", {"id": key_id}, (f"{key_id} is revoked: it is refused from the next request on",))


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")
