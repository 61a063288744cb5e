"""Prints the pins of requirements.lock, with their hashes, that a part of the project needs.

    python pins.py serve,redis             # the project and these extras of pyproject.toml
    python pins.py --package setuptools    # one package, and what it needs

The lock says of each package which others it is there for (``# via``), so no index is asked.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[^]]*\])?==")
VIA = re.compile(r"    #(?: via)? +(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)")


def normal(name: str) -> str:
    """The name as an index compares it: ``PyYAML`` is ``pyyaml``, ``a.b_c`` is ``a-b-c``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def blocks(lock: str) -> dict[str, str]:
    """Package → its lines in the lock; several pins, where versions of Python differ in theirs, one after the other."""
    starts = [match.start() for match in re.finditer(rf"^{PIN.pattern}", lock, re.MULTILINE)]
    of: dict[str, str] = {}
    for start, end in pairwise([*starts, len(lock)]):
        match = PIN.match(lock, start)
        assert match is not None
        name = normal(match["name"])
        of[name] = of.get(name, "") + lock[start:end]
    return of


def roots(pyproject: Mapping[str, object], extras: Iterable[str]) -> set[str]:
    """What the project and its extras ask for by name. Exits with a message for an unknown extra."""
    project = pyproject["project"]
    assert isinstance(project, dict)
    optional = project["optional-dependencies"]
    if unknown := sorted(set(extras) - set(optional)):
        sys.exit(f"There is no extra {', '.join(unknown)}; pyproject.toml has {', '.join(sorted(optional))}")
    asked = [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    return {normal(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]) for line in asked}


def needed(of: Mapping[str, str], wanted: set[str]) -> list[str]:
    """The wanted packages and, as the lock tells, all that they need. Exits with a message for one without a pin."""
    if missing := sorted(wanted - set(of)):
        sys.exit(f"requirements.lock has no pin of {', '.join(missing)}: make it anew")
    via = {name: {normal(match["name"]) for match in VIA.finditer(text)} for name, text in of.items()}
    taken, before = set(wanted), 0
    while len(taken) > before:
        before = len(taken)
        taken |= {name for name, users in via.items() if users & taken}
    return sorted(taken)


def main(arguments: list[str], folder: Path) -> None:
    """Print the pins that the arguments ask for."""
    of = blocks((folder / "requirements.lock").read_text(encoding="utf-8"))
    if arguments[:1] == ["--package"]:
        wanted = {normal(name) for name in arguments[1:]}
    else:
        extras = [name for name in ",".join(arguments).split(",") if name]
        wanted = roots(tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8")), extras)
    for name in needed(of, wanted):
        print(of[name], end="")


if __name__ == "__main__":
    main(sys.argv[1:], Path.cwd())
