"""Escapes text from files and servers for a terminal: control characters and marks of the writing direction."""

from __future__ import annotations

import re

__all__ = ["printable", "printable_json"]

# Control characters of ASCII and Latin-1, lone surrogates, line separators, and marks of the writing direction.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""The text with unsafe characters escaped, such as ``\x1b`` and ``\u202e``; tabs and line breaks become spaces."""
    return _UNSAFE.sub(_escaped, text)


def printable_json(text: str) -> str:
    r"""A line of JSON with the same value, and with unsafe characters as JSON escapes such as ``\u202e``."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if character in "\t\n\r":
        return " "
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
