"""Signing keys of the tests."""

from __future__ import annotations

import base64

OLD, NEW, OTHER = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2, 3))
VARIABLE, FILE_VARIABLE = "RANKLINE_SIGNING_KEYS", "RANKLINE_SIGNING_KEYS_FILE"


def keys(**by_id: str) -> str:
    """The variable's value."""
    return ",".join(f"{name}:{key}" for name, key in by_id.items())
