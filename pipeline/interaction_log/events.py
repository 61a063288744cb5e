"""An interaction as it comes in, as the log holds it, and the answer to a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

__all__ = ["Accepted", "Batch", "Interaction", "Logged"]


class Interaction(NamedTuple):
    """A user did something with an item.

    Attributes
    ----------
    rating : of the item; None where it was only watched
    at : when, UTC (a time without a zone is UTC); None for the time at which the log receives it
    request_id : of the answer that showed the item, "" where none did
    """

    user_id: int | str
    item_id: int | str
    rating: float | None = None
    at: datetime | None = None
    request_id: str = ""


class Logged(NamedTuple):
    """An interaction in the log. Its `seq` is the order of all interactions; times are UTC, in milliseconds."""

    seq: int
    user_id: int | str
    item_id: int | str
    rating: float | None
    at: datetime
    received: datetime


class Batch(NamedTuple):
    """Interactions that are stored together or not at all.

    Attributes
    ----------
    key_id : who sends them; an idempotency key is of one sender
    idempotency_key : a name for the batch. With the same name it is stored once, however often it is sent.
    """

    interactions: Sequence[Interaction]
    key_id: str = ""
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A batch is on disk, as the interactions `first_seq` to `last_seq`.

    Attributes
    ----------
    duplicate : whether it had been stored before, under the same idempotency key
    """

    first_seq: int
    last_seq: int
    count: int
    duplicate: bool = False
