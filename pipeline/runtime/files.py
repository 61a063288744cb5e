"""What the system's errors about files mean, and what to do."""

from __future__ import annotations

import errno

__all__ = ["advice_for", "reason_of"]

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
