"""Forgotten users: the digests of their ids in analytics.forgotten. Every batch leaves these users out.

A model that was trained earlier still has such a user and would publish a list for them again. The table does not hold
the ids, only the sha256 of a salt and the id: it can answer whether a given id is in it, and can't list the ids.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.warehouse import Warehouse, sql

__all__ = ["FORGOTTEN", "SuppressedUsers", "add", "lift", "read_suppressed_users"]

FORGOTTEN = "analytics.forgotten"


@dataclass(frozen=True)
class SuppressedUsers:
    """Attributes
    ----------
    digests : salt → digests (hexadecimal sha256 of the salt and the id as text). There is one salt; there are two
        if the first two users were forgotten at the same moment.
    """

    digests: Mapping[str, frozenset[str]]

    @classmethod
    def just(cls, user: str, like: SuppressedUsers | None = None) -> SuppressedUsers:
        """One user, with the salts of `like`, or with a new salt."""
        salts = list(like.digests) if like is not None else []
        return cls({salt: frozenset({_digest(salt, user)}) for salt in salts or [secrets.token_hex(16)]})

    def __len__(self) -> int:
        return sum(map(len, self.digests.values()))

    def __contains__(self, user: object) -> bool:
        return any(_digest(salt, str(user)) in digests for salt, digests in self.digests.items())

    def mask(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        """(n,) whether each id, an integer or text, is a user who was forgotten."""
        suppressed = np.zeros(ids.size, np.bool_)
        for salt, digests in self.digests.items():
            begun = hashlib.sha256(salt.encode())
            for i, user in enumerate(ids.tolist()):
                full = begun.copy()
                full.update(str(user).encode())
                suppressed[i] |= full.hexdigest() in digests
        return suppressed

    def parameters(self, at_once: int = 100) -> list[dict[str, Any]]:
        """Parameters for SQL statements: `salt` and at most `at_once` digests each."""
        return [
            {"salt": salt, "digests": some[start : start + at_once]}
            for salt, digests in self.digests.items()
            for some in [sorted(digests)]
            for start in range(0, len(some), at_once)
        ]


def _digest(salt: str, user: str) -> str:
    return hashlib.sha256((salt + user).encode()).hexdigest()


def read_suppressed_users(warehouse: Warehouse) -> SuppressedUsers:
    """All users in the table; none if the table does not exist."""
    if warehouse.engine(FORGOTTEN) is None:
        return SuppressedUsers({})
    digests: dict[str, set[str]] = {}
    for row in warehouse.rows(sql.load("queries/forgotten").text):
        digests.setdefault(str(row["salt"]), set()).add(str(row["digest"]))
    return SuppressedUsers({salt: frozenset(of_salt) for salt, of_salt in digests.items()})


def add(warehouse: Warehouse, user: str) -> SuppressedUsers:
    """Add the user if they are not in the table yet. Returns the user with the table's salts.

    The caller holds the publishing locks, because the first call makes the salt.
    """
    for name in ("ddl/02_analytics", "ddl/forgotten"):
        warehouse.ddl(sql.load(name).text)
    listed = read_suppressed_users(warehouse)
    just_user = SuppressedUsers.just(user, listed)
    if user not in listed:
        salt, digests = next(iter(just_user.digests.items()))
        warehouse.insert(FORGOTTEN, pa.table({"salt": [salt], "digest": sorted(digests)}))
    return just_user


def lift(warehouse: Warehouse, user: str) -> bool:
    """Remove the user; returns whether they were in the table."""
    listed = read_suppressed_users(warehouse)
    if user not in listed:
        return False
    for parameters in SuppressedUsers.just(user, listed).parameters():
        text = sql.load("queries/lift_forgotten").text
        warehouse.command(text, {"digests": parameters["digests"]}, mutations_sync=2)
    return True
