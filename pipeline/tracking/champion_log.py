"""What the tags of a registered model say of its champion: the log of all changes, and moves that came too late.

A change is a tag ``champion.TIME.ID``, which is never rewritten. A process that stood still for so long that its lock
was given to another may still move the alias when it wakes up, as MLflow has no compare-and-set. Whoever takes such a
lock over writes the version that the process was about to make champion into a tag ``champion_late.ID``. An alias at
that version does not count where the log ends with another version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["LATE", "PREFIX", "ChampionChange", "champion_in", "changes_in", "key_of"]

PREFIX = "champion."
LATE = "champion_late."
_STAMP = "%Y%m%dT%H%M%S.%fZ"


@dataclass(frozen=True, order=True)
class ChampionChange:
    """A change of the champion: `at` (UTC, in microseconds), from `before` ("" for none) to `version`, how and why."""

    at: datetime
    version: str
    before: str
    how: str
    reason: str = ""


def key_of(at: datetime, unique: str) -> str:
    """The name of a change's tag. `unique` keeps changes of the same microsecond apart."""
    return f"{PREFIX}{at.strftime(_STAMP)}.{unique}"


def changes_in(tags: Mapping[str, str]) -> list[ChampionChange]:
    """The changes, in order; `reason` is left out."""
    changes = []
    for key, value in tags.items():
        if not key.startswith(PREFIX):
            continue
        try:
            fields = json.loads(value)
            at = datetime.strptime(key.removeprefix(PREFIX).rsplit(".", 1)[0], _STAMP).replace(tzinfo=UTC)
            changes.append(ChampionChange(at, str(fields["version"]), str(fields["before"]), str(fields["how"])))
        except (ValueError, KeyError, TypeError):
            continue  # another tag with this prefix
    return sorted(changes)


def champion_in(tags: Mapping[str, str], alias: str) -> str:
    """The version that is champion, where the alias is at `alias` ("" for none)."""
    if alias not in {value for key, value in tags.items() if key.startswith(LATE)}:
        return alias
    changes = changes_in(tags)
    return changes[-1].version if changes else ""
