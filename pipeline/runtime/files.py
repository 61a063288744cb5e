"""What the system's errors about files mean, and what to do."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

__all__ = ["advice_for", "reason_of", "replace_text"]

_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)


def reason_of(error: OSError) -> str:
    """The system's words, with the file where it names one."""
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename else reason


def advice_for(error: OSError) -> str:
    """The next step."""
    if error.errno in _NO_DESCRIPTORS:
        return "this process has used up the files that it may open: raise the limit (ulimit -n 1024)"
    if error.errno in _NO_ROOM:
        return "make room there (TMPDIR names the folder for temporary files)"
    if error.errno in _NO_RIGHT:
        return "let this user write there, or name another place"
    return "is the folder there, and may this user write to it?"


def replace_text(path: Path, text: str) -> None:
    """Replace a file in one step: readers see all of the old text or all of the new. Raises OSError."""
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).chmod(0o644)
        Path(partial).replace(path)
    except BaseException:  # Ctrl-C, too: no half file stays
        Path(partial).unlink(missing_ok=True)
        raise
