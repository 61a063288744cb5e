"""Versions of what is installed, beside the pins."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline import __version__
from pipeline.checkup.finding import Finding, fail, ok, warn

__all__ = ["python", "versions"]

_NEEDED = ("mlflow", "clickhouse-connect", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow")
# Those that one can do without, and what for.
_OPTIONAL = {
    "chdb": "the embedded warehouse needs it: pip install 'rankline[embedded]'",
    "numba": "the fast solver needs it; --solver sklearn does without",
    "optuna": "rankline tune needs it: pip install 'rankline[tune]'",
}
_LEAST_PYTHON = (3, 11)


def python(root: Path) -> Iterator[Finding]:
    """Rankline and Python."""
    yield ok("rankline", f"{__version__} in {root}")
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _LEAST_PYTHON:
        yield fail("python", found, "Python 3.11 or newer is needed")
    else:
        yield ok("python", f"{found} ({sys.executable})")


def versions(lock: Path) -> Iterator[Finding]:
    """Each package; `lock` is the file of pins, which an installation elsewhere may not have."""
    pins = _pins(lock)
    as_pinned = []
    for name in (*_NEEDED, *_OPTIONAL):
        try:
            found = version(name)
        except PackageNotFoundError:
            if name in _NEEDED:
                yield fail(name, "not installed", "make setup installs what is pinned")
            else:
                yield warn(name, "not installed", _OPTIONAL[name])
            continue
        pinned = pins.get(name)
        if pinned and found not in pinned:
            yield warn(name, f"{found}, and {' or '.join(pinned)} is pinned", "make setup installs what is pinned")
        else:
            as_pinned.append(f"{name} {found}")
    if as_pinned:
        yield ok("packages", ", ".join(as_pinned) + (" (as pinned)" if pins else ""))


def _pins(lock: Path) -> dict[str, list[str]]:
    """Package → the versions that are pinned, of which a Python takes one."""
    try:
        text = lock.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    found: dict[str, list[str]] = {}
    for name, one in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE):
        found.setdefault(name, []).append(one)
    return found
