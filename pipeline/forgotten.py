"""Who was forgotten: digests of their ids in analytics.forgotten, which every batch leaves out.

A model that was trained before still has the user, and would publish a list for them again. The ids themselves are
not kept: sha256 of a salt and the id as text tells whether an id that is at hand is among them.
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

from pipeline import sql
from pipeline.warehouse import Warehouse

__all__ = ["FORGOTTEN", "Forgotten", "add", "lift", "read_forgotten"]

FORGOTTEN = "analytics.forgotten"


@dataclass(frozen=True)
class Forgotten:
    """Attributes
    ----------
    digests : salt → digests (hexadecimal sha256 of the salt and the id as text). There is one salt, but where two
        who were the first at once each made one.
    """

    digests: Mapping[str, frozenset[str]]

    @classmethod
    def just(cls, user: str, like: Forgotten | None = None) -> Forgotten:
        """This one user, under the salts of `like`, or a new one."""
        salts = list(like.digests) if like is not None else []
        return cls({salt: frozenset({_digest(salt, user)}) for salt in salts or [secrets.token_hex(16)]})

    def __len__(self) -> int:
        return sum(map(len, self.digests.values()))

    def __contains__(self, user: object) -> bool:
        return any(_digest(salt, str(user)) in digests for salt, digests in self.digests.items())

    def mask(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        """(n,) whether each id, an integer or text, is a user who was forgotten."""
        found = np.zeros(ids.size, np.bool_)
        for salt, digests in self.digests.items():
            begun = hashlib.sha256(salt.encode())
            for i, one in enumerate(ids.tolist()):
                full = begun.copy()
                full.update(str(one).encode())
                found[i] |= full.hexdigest() in digests
        return found

    def parameters(self, at_once: int = 100) -> list[dict[str, Any]]:
        """For SQL: `salt` and `digests`, at most so many in one statement."""
        return [
            {"salt": salt, "digests": some[start : start + at_once]}
            for salt, digests in self.digests.items()
            for some in [sorted(digests)]
            for start in range(0, len(some), at_once)
        ]


def _digest(salt: str, user: str) -> str:
    return hashlib.sha256((salt + user).encode()).hexdigest()


def read_forgotten(warehouse: Warehouse) -> Forgotten:
    """Everybody on the list; nobody, where there is none."""
    if warehouse.engine(FORGOTTEN) is None:
        return Forgotten({})
    digests: dict[str, set[str]] = {}
    for row in warehouse.rows(sql.load("queries/forgotten").text):
        digests.setdefault(str(row["salt"]), set()).add(str(row["digest"]))
    return Forgotten({salt: frozenset(found) for salt, found in digests.items()})


def add(warehouse: Warehouse, user: str) -> Forgotten:
    """Put the user on the list, where they are not yet; returns them as they stand there.

    To be called by one at a time: the first makes the salt.
    """
    for name in ("ddl/02_analytics", "ddl/forgotten"):
        warehouse.ddl(sql.load(name).text)
    there = read_forgotten(warehouse)
    one = Forgotten.just(user, there)
    if user not in there:
        salt, digests = next(iter(one.digests.items()))
        warehouse.insert(FORGOTTEN, pa.table({"salt": [salt], "digest": sorted(digests)}))
    return one


def lift(warehouse: Warehouse, user: str) -> bool:
    """Take the user off the list; whether they were on it."""
    there = read_forgotten(warehouse)
    if user not in there:
        return False
    for parameters in Forgotten.just(user, there).parameters():
        text = sql.load("queries/lift_forgotten").text
        warehouse.command(text, {"digests": parameters["digests"]}, mutations_sync=2)
    return True
