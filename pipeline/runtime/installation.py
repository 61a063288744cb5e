"""Whether this is a checkout or an installed wheel, and where its files are."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CHECKOUT", "PACKAGE", "PROJECT_ROOT", "SQL"]

PACKAGE = Path(__file__).resolve().parents[1]

# The build copies the repository's sql/ into the package (setup.py): only a wheel has this folder.
_IN_WHEEL = PACKAGE / "sql"
# The repository (an editable installation has one, too); None for an installed wheel.
CHECKOUT = None if _IN_WHEEL.is_dir() else PACKAGE.parent
# The folder of warehouse, store, runs and pending runs: the checkout, else the working folder.
PROJECT_ROOT = CHECKOUT or Path.cwd()
SQL = _IN_WHEEL if CHECKOUT is None else CHECKOUT / "sql"
