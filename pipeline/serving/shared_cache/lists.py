"""Lists in Redis: their keys, and the check of what comes back.

A key names everything that decides a list: the version and its files, the rules in force, what was asked, and what
the log has of the user. So a list that a rating, a swap or a rule has made old is never asked for again, and nothing
needs to be deleted in time. Who can write to Redis can still put a wrong list under a right key; what is read is
therefore checked to be a list of this user by this version, of items that the model has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

from pipeline.serving.interactions import Known
from pipeline.serving.lists import FOLD_IN, ListOptions
from pipeline.serving.overlay import Interaction
from pipeline.serving.served_model import ServedModel

__all__ = ["key_of", "keys_of_user", "source_of"]

_FORMAT = b"1"  # of the value: another one needs other keys
_MEMBERS = frozenset(("user_id", "model_version", "run_id", "source", "recommendations", "unknown_items"))


def key_of(served: ServedModel, user: int | str, options: ListOptions, known: Known) -> str:
    """``recommendations:user:{id}:v{version}:{digest}``."""
    asked = (tuple(options), known.forgotten, tuple(known.genres), _overlay(known.new))
    digest = hashlib.blake2b(_FORMAT + served.identity, digest_size=16)
    digest.update(repr(asked).encode("utf-8", "surrogatepass"))
    return f"recommendations:user:{user}:v{served.pointer.version}:{digest.hexdigest()}"


def keys_of_user(user: int | str) -> str:
    """A pattern of Redis that all keys of the user match."""
    escaped = "".join(f"\\{letter}" if letter in r"*?[]\^-" else letter for letter in str(user))
    return f"recommendations:user:{escaped}:v*"


def _overlay(new: Sequence[Interaction]) -> list[tuple[int | str, float | None, str]]:
    # Without their numbers in the log: another host's log has other ones for the same interactions.
    return [(event.item_id, event.rating, event.at.isoformat()) for event in new]


def source_of(body: bytes, served: ServedModel, user: int | str, options: ListOptions) -> str | None:
    """What made the list in `body`; None where it is no list of this user by this version."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict) or not value.keys() <= _MEMBERS:
        return None
    pointer, source, listed = served.pointer, value.get("source"), value.get("recommendations")
    same = (value.get("user_id"), value.get("model_version"), value.get("run_id")) == (
        user, pointer.label, pointer.run_id
    )  # fmt: skip
    if not same or source not in (served.scorer.source, FOLD_IN) or not isinstance(listed, list):
        return None
    return str(source) if len(listed) <= options.k and _are_items(listed, served) else None


def _are_items(listed: list[Any], served: ServedModel) -> bool:
    fields = {"rank", "item_id", "score", *served.fields}
    ids = []
    for place, entry in enumerate(listed, 1):
        if not isinstance(entry, dict) or entry.keys() - {"source"} != fields:
            return False
        item, score = entry["item_id"], entry["score"]
        if entry["rank"] != place or not isinstance(item, int | str) or not isinstance(score, int | float):
            return False
        ids.append(item)
    return len(set(ids)) == len(ids) and all(served.scorer.items.row(item) >= 0 for item in ids)
