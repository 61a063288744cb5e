"""Which arm of an experiment a user is in: by a salted hash, the same here and in SQL.

The hash is the first 8 bytes of the SHA-256 of ``salt:id``, big-endian; an id is text as ClickHouse's ``toString``
writes it. `sql/queries/experiment_buckets.sql` states it for the warehouse. A user stays in their arm in every process,
on every host and in the published table, and nothing has to be stored for each user.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError

__all__ = ["BUCKETS", "arms_of", "bucket", "buckets", "split_of"]

BUCKETS = 10_000  # a split is in hundredths of a percent


def bucket(salt: str, user_id: int | str) -> int:
    """The user's bucket, from 0 to 9,999: each is as likely as any other, and independent of other salts' buckets."""
    text = f"{salt}:{user_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") % BUCKETS


def buckets(salt: str, user_ids: Iterable[int | str]) -> NDArray[np.int16]:
    """`bucket` of each user, (n,)."""
    begun = hashlib.sha256(f"{salt}:".encode())
    found = []
    for user in user_ids:
        whole = begun.copy()
        whole.update(str(user).encode("utf-8", "surrogatepass"))
        found.append(int.from_bytes(whole.digest()[:8], "big") % BUCKETS)
    return np.array(found, np.int16)


def arms_of(salt: str, user_ids: Sequence[Any] | NDArray[Any], split: Sequence[int]) -> NDArray[np.intp]:
    """The arm of each user, (n,), from 0.

    split : buckets of each arm, which add up to `BUCKETS`
    """
    ids = user_ids.tolist() if isinstance(user_ids, np.ndarray) else user_ids
    return np.searchsorted(np.cumsum(split), buckets(salt, ids), side="right")


def split_of(text: str, n: int) -> tuple[int, ...]:
    """The buckets of each arm for percentages such as ``"50,50"`` or ``"99.5,0.5"``. Raises UsageError."""
    wrong = f"--split must be {n} percentages that add up to 100, such as {','.join(['50'] * n)}; got {text!r}"
    try:
        shares = [float(part) * BUCKETS / 100 for part in text.split(",")]
    except ValueError:
        raise UsageError(wrong) from None
    whole = [round(share) for share in shares if -1 <= share <= 2 * BUCKETS]
    if len(shares) != n or len(whole) != n or sum(whole) != BUCKETS or min(whole) < 1:
        raise UsageError(wrong)
    if any(abs(share - rounded) > 1e-6 for share, rounded in zip(shares, whole, strict=True)):
        raise UsageError(f"--split has at most two digits after the point, got {text!r}")
    return tuple(whole)
