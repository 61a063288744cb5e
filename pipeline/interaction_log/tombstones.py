"""Who was forgotten, in a second file beside the log: for a service whose log can't be read.

Without it a service could not tell, and would show a model's list to somebody who was forgotten. The file has digests
alone, and never fewer than the log.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Collection
from pathlib import Path

from pipeline.errors import InteractionLogError
from pipeline.interaction_log.appending import digest

__all__ = ["Tombstones"]

_FORMAT = 1
_Stamp = tuple[int, int, int]


class Tombstones:
    """The file of a log.

    Parameters
    ----------
    log : the log's path
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self.path = log.with_name(f"{log.name}.forgotten")
        self._stamp: _Stamp | None = None
        self._salt = b""
        self._digests: frozenset[bytes] = frozenset()

    def lack(self, digests: Collection[bytes], salt: bytes) -> bool:
        """Whether the file has to be written: it is missing, damaged, of another log, or lacks one of these."""
        try:
            self._look()
        except (OSError, ValueError, KeyError, TypeError):
            return True
        return self._salt != salt or not self._digests.issuperset(digests)

    def write(self, digests: Collection[bytes], salt: bytes) -> None:
        """Replace the file; it is on disk when this returns. Raises InteractionLogError."""
        content = {"format": _FORMAT, "salt": salt.hex(), "forgotten": [one.hex() for one in digests]}
        try:
            handle, partial = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
            try:
                with os.fdopen(handle, "w", encoding="ascii") as file:
                    json.dump(content, file)
                    file.flush()
                    os.fsync(file.fileno())
                Path(partial).replace(self.path)
                _sync_folder(self.path.parent)
            except BaseException:  # Ctrl-C, too: no half file stays
                Path(partial).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise InteractionLogError(f"{self.path} can't be written ({error.strerror}): make room there") from None

    def known(self) -> tuple[bytes, frozenset[bytes]]:
        """The log's salt and the digests; nothing where the file is missing or damaged."""
        try:
            self._look()
        except (OSError, ValueError, KeyError, TypeError):
            return b"", frozenset()
        return self._salt, self._digests

    def has(self, user_id: int | str) -> bool:
        """Whether the user was forgotten, or nobody can tell: there is a log, and the file is missing or damaged."""
        try:
            self._look()
        except FileNotFoundError:
            return self._log.exists()
        except (OSError, ValueError, KeyError, TypeError):
            return True
        return digest(self._salt, ("user", str(user_id))) in self._digests

    def _look(self) -> None:
        """Read the file, if it has changed. Raises OSError, ValueError, KeyError, TypeError."""
        status = self.path.stat()
        stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        if stamp != self._stamp:
            content = json.loads(self.path.read_bytes())
            if content["format"] != _FORMAT:
                raise ValueError(content["format"])
            self._salt = bytes.fromhex(content["salt"])
            self._digests = frozenset(bytes.fromhex(one) for one in content["forgotten"])
            self._stamp = stamp


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
