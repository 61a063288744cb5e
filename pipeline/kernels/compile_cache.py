"""Where compiled kernels are cached: the first folder that can be written, else nowhere. Does not import numba.

The cache is numba's and holds pickles, so a folder is used only where nobody else can plant files in it: the folder
that `NUMBA_CACHE_DIR` names, the package's own ``__pycache__`` (as trusted as its ``.pyc`` files), the user's cache
folder, or a folder in the temporary directory that belongs to this user alone.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

__all__ = ["cache_folder", "sources"]


@cache
def cache_folder() -> Path | None:
    """The folder that compiled kernels are cached in, made if need be; None where no folder can be written.

    Looked for once a process. Without a cache the kernels work, and each process compiles them anew (some ten
    seconds for all).
    """
    return next((folder for folder in _candidates() if _writable(folder)), None)


def _candidates() -> Iterator[Path]:
    """In the order in which they are tried. The last part of each names the sources: see `sources`."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        yield Path(chosen) / f"rankline-{sources()}"
        return
    yield Path(__file__).parent / "__pycache__" / sources()
    user = _user_cache()
    if user is not None:
        yield user / "rankline" / "kernels" / sources()
    private = _private_temporary()
    if private is not None:
        yield private / sources()


@cache
def sources() -> str:
    """Twelve hexadecimal digits that stand for the sources of all kernels, and for the name they are imported under.

    numba itself looks at the age of one kernel's file, and would use code that was compiled from an older helper in
    another file. And its index names classes by their module: under another name it can't be read.
    """
    digest = hashlib.sha256(__name__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _user_cache() -> Path | None:
    """The user's cache folder by the platform's custom; None where the user has no home folder."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"])
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"


def _private_temporary() -> Path | None:
    """A folder in the temporary directory that this user owns and nobody else can enter; None where there is none."""
    try:
        folder = Path(tempfile.gettempdir()) / f"rankline-kernels-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    ours = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    return folder if ours and stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077 else None


def _writable(folder: Path) -> bool:
    """Whether a file can be made in the folder, which is made if need be: tried, since permissions alone don't tell."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
