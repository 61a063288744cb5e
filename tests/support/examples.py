"""How many examples of a property are tried: a number for the usual profile, and in others its share of theirs."""

from __future__ import annotations

from hypothesis import settings

__all__ = ["examples"]


def examples(n: int) -> int:
    """`n` where a property without a number of its own gets 100; a twentieth of it in `make test-fast`."""
    usual = settings.default.max_examples if settings.default is not None else 100
    return max(1, n * usual // 100)
