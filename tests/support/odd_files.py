"""Files of ratings that are odd in one way each: a training of one ends well, or in a line that says why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

__all__ = ["ODD", "REFUSED", "write_odd"]

Rows = list[tuple[object, object, object, object]]


def _usual(seed: int = 3) -> Rows:
    """Twelve users with six of ten items each, ratings 1 to 5, a day apart."""
    rng = np.random.default_rng(seed)
    return [
        (user, 100 + item, int(rng.integers(1, 6)), 1_600_000_000 + 86_400 * int(rng.integers(0, 400)))
        for user in range(1, 13)
        for item in rng.choice(10, 6, replace=False).tolist()
    ]


def _text_ids() -> Rows:
    return [(f"u{user}", f"ż {item}", score, at) for user, item, score, at in _usual()]


def _mixed_ids() -> Rows:
    return [(user if user % 2 else f"u{user}", item, score, at) for user, item, score, at in _usual()]  # type: ignore[operator]


def _nan() -> Rows:
    rows = _usual()
    rows[5] = (*rows[5][:2], "nan", rows[5][3])
    return rows


def _negative() -> Rows:
    return [
        (user, item, -float(str(score)) if n % 3 == 0 else score, at)
        for n, (user, item, score, at) in enumerate(_usual())
    ]


def _doubled() -> Rows:
    rows = _usual()
    return [*rows, *rows[:20], *((user, item, 1, at) for user, item, _, at in rows[:5])]


def _one_user() -> Rows:
    return [(1, 100 + item, 1 + item % 5, 1_600_000_000 + item) for item in range(8)]


def _one_item() -> Rows:
    return [(user, 100, 1 + user % 5, 1_600_000_000 + user) for user in range(1, 9)]


def _everything_seen() -> Rows:
    return [*_usual(), *((99, 100 + item, 4, 1_600_000_000 + item) for item in range(10))]


def _constant() -> Rows:
    return [(user, item, 3, at) for user, item, _, at in _usual()]


def _zeros() -> Rows:
    return [(user, item, 0, at) for user, item, _, at in _usual()]


def _one_moment() -> Rows:
    return [(user, item, score, 1_600_000_000) for user, item, score, _ in _usual()]


def _huge() -> Rows:
    return [(user, item, float(str(score)) * 1e30, at) for user, item, score, at in _usual()]


ODD: dict[str, Callable[[], Rows]] = {
    "usual": _usual, "text ids": _text_ids, "mixed ids": _mixed_ids, "nan": _nan, "negative": _negative,
    "doubled": _doubled, "one user": _one_user, "one item": _one_item, "everything seen": _everything_seen,
    "constant": _constant, "zeros": _zeros, "one moment": _one_moment, "huge": _huge,
}  # fmt: skip


# What the reader refuses, and the words of it.
REFUSED = {"nan": "rating nan is not finite", "negative": "is below 0"}


def write_odd(name: str, folder: Path) -> Path:
    """The file of that name, with a header."""
    path = folder / f"{name.replace(' ', '_')}.csv"
    lines = [",".join(map(str, row)) for row in ODD[name]()]
    path.write_text("user_id,item_id,rating,timestamp\n" + "\n".join(lines) + "\n")
    return path
