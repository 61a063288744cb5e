"""Parses the grants of the warehouse's user. SHOW GRANTS is always allowed."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["missing"]

# The privileges that each command needs, as (privilege, database or table).
NEEDS = {
    "train": (("SELECT", "raw"), ("SELECT", "analytics")),
    "score": (
        ("SELECT", "analytics"), ("INSERT", "analytics"), ("CREATE TABLE", "analytics"), ("DROP TABLE", "analytics"),
    ),
    "ship": (("SELECT", "raw"), *(("INSERT", f"raw.{table}") for table in ("ratings", "watched_movies", "shipments"))),
    "forget": (("ALTER DELETE", "raw"), ("ALTER DELETE", "analytics"), ("ALTER UPDATE", "analytics")),
}  # fmt: skip
_RAW = ("users", "movies", "ratings", "watched_movies")
# The broader privileges that include a privilege; ALL includes every one.
_ABOVE = {
    "ALTER DELETE": ("ALTER", "ALTER TABLE"),
    "ALTER UPDATE": ("ALTER", "ALTER TABLE"),
    "CREATE TABLE": ("CREATE",),
    "DROP TABLE": ("DROP",),
}
_GRANT = re.compile(r"GRANT (?P<what>.+?) ON (?P<where>\S+) TO ", re.IGNORECASE)
_REVOKE = re.compile(r"REVOKE (?P<what>.+?) ON (?P<where>\S+) FROM ", re.IGNORECASE)


def missing(grants: Sequence[str]) -> dict[str, list[str]]:
    """Command → the privileges that it needs but does not have, e.g. ``INSERT ON analytics.*``."""
    given = _parsed(_GRANT, grants)
    taken = _parsed(_REVOKE, grants)
    return {
        command: [
            f"{what} ON {where if '.' in where else f'{where}.*'}"
            for what, where in needs
            if not _has(given, what, where, taken)
        ]
        for command, needs in NEEDS.items()
    }


def _parsed(pattern: re.Pattern[str], lines: Sequence[str]) -> list[tuple[set[str], str]]:
    parsed = []
    for line in lines:
        match = pattern.match(line)
        if match:
            # SELECT(user_id) covers some columns only, so it does not count as SELECT.
            names = {privilege.strip().upper() for privilege in re.split(r",(?![^(]*\))", match["what"])}
            parsed.append((names, match["where"].replace("`", "")))
    return parsed


def _has(given: list[tuple[set[str], str]], what: str, where: str, taken: list[tuple[set[str], str]]) -> bool:
    names = {what, "ALL", "ALL PRIVILEGES", *_ABOVE.get(what, ())}
    whole = f"{where.split('.', 1)[0]}.*"
    wanted = where if "." in where else whole

    def covers(lines: list[tuple[set[str], str]], scope: str) -> bool:
        return any(names & privileges and on in ("*.*", whole, scope) for privileges, on in lines)

    if covers(taken, wanted):
        return False
    if covers(given, wanted):
        return True
    # A grant on each raw table is enough, too.
    return where == "raw" and all(covers(given, f"raw.{table}") for table in _RAW)
