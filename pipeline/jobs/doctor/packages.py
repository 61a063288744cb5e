"""Checks of the installed packages against their pinned versions."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline import __version__
from pipeline.runtime.diagnostics import Finding, fail, ok, warn
from pipeline.runtime.installation import PACKAGE, PROJECT_ROOT

__all__ = ["python", "versions"]

_NEEDED = ("mlflow", "clickhouse-connect", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow")
# Optional packages, and what needs them.
_OPTIONAL = {
    "chdb": "the embedded warehouse needs it: pip install 'rankline[embedded]'",
    "numba": "the fast solver needs it; --solver sklearn does without",
    "optuna": "rankline tune needs it: pip install 'rankline[tune]'",
}
_LEAST_PYTHON = (3, 11)


def python(checkout: Path | None) -> Iterator[Finding]:
    """Check Rankline's installation, the location of its files, and the version of Python."""
    if checkout is not None:
        yield ok("rankline", f"{__version__}, the checkout {checkout}; its files lie there")
    else:
        yield ok("rankline", f"{__version__}, installed in {PACKAGE}; files lie in the working folder {PROJECT_ROOT}")
    installed = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _LEAST_PYTHON:
        yield fail("python", installed, "Python 3.11 or newer is needed")
    else:
        yield ok("python", f"{installed} ({sys.executable})")


def versions(lock: Path) -> Iterator[Finding]:
    """Check each package; `lock` is the file with the pinned versions, which an installed wheel does not have."""
    pins = _pins(lock)
    as_pinned = []
    for name in (*_NEEDED, *_OPTIONAL):
        try:
            installed = version(name)
        except PackageNotFoundError:
            if name in _NEEDED:
                yield fail(
                    name,
                    "not installed",
                    "make setup installs what is pinned" if pins else "pip install rankline again",
                )
            else:
                yield warn(name, "not installed", _OPTIONAL[name])
            continue
        pinned = pins.get(name)
        if pinned and installed not in pinned:
            yield warn(name, f"{installed}, and {' or '.join(pinned)} is pinned", "make setup installs what is pinned")
        else:
            as_pinned.append(f"{name} {installed}")
    if as_pinned:
        yield ok("packages", ", ".join(as_pinned) + (" (as pinned)" if pins else ""))


def _pins(lock: Path) -> dict[str, list[str]]:
    """Package → its pinned versions; each version of Python uses one of them."""
    try:
        text = lock.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    pins: dict[str, list[str]] = {}
    for name, pinned in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE):
        pins.setdefault(name, []).append(pinned)
    return pins
