"""API keys: ``rk_<id>_<43 characters>``, of which the file keeps the sha256 alone.

A key has 256 random bits, so that a fast hash is enough. The file is read again whenever it has changed: a revoked
key is refused at the next request.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import ArtifactError, InputError, UsageError
from pipeline.runtime.file_lock import FileLock
from pipeline.serving.live_folder import read_json, write_json

__all__ = ["SCOPES", "Key", "KeyFile", "scopes_of"]

SCOPES = ("read", "write", "admin", "metrics")
_FORMAT = 1
_ID = re.compile(r"[a-z0-9-]{1,32}")
_KEY = re.compile(r"rk_([a-z0-9-]{1,32})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class Key:
    """A key as it is kept. `sha256` is of the whole key; `made` is in milliseconds since 1970."""

    id: str
    sha256: str
    scopes: tuple[str, ...]
    made: int


def scopes_of(text: str) -> tuple[str, ...]:
    """The scopes of ``read,write``. Raises UsageError."""
    asked = [name.strip() for name in text.split(",") if name.strip()]
    if not asked or set(asked) - set(SCOPES):
        raise UsageError(f"--scope is one or more of {', '.join(SCOPES)}, separated by commas, got {text!r}")
    return tuple(name for name in SCOPES if name in asked)


class KeyFile:
    """The keys in a file. A missing file has none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None
        self._keys: dict[str, Key] = {}

    def keys(self) -> Sequence[Key]:
        """The keys that there are now. Raises ArtifactError for a file that is damaged."""
        self._look()
        return list(self._keys.values())

    def needed(self) -> bool:
        """Whether requests need a key: from the first key on, also when all are revoked. Raises ArtifactError."""
        self._look()
        return self._stamp is not None

    def find(self, text: str) -> Key | None:
        """The key of that text; None for one that is not valid. Raises ArtifactError."""
        self._look()
        match = _KEY.fullmatch(text)
        if match is None:
            return None
        digest = hashlib.sha256(text.encode()).hexdigest()
        key = self._keys.get(match[1])
        # Compared for an unknown id, too, so that an answer takes as long.
        same = hmac.compare_digest(digest, key.sha256 if key is not None else "0" * 64)
        return key if same else None

    def of(self, key_id: str, sha256: str) -> Key | None:
        """The key of that id, if it has this sha256 and is not revoked. Raises ArtifactError."""
        self._look()
        key = self._keys.get(key_id)
        return key if key is not None and hmac.compare_digest(key.sha256, sha256) else None

    def add(self, scopes: Sequence[str], name: str | None = None) -> str:
        """Make a key and return it: it can't be shown again. Raises UsageError for a name that is none or taken."""
        key_id = secrets.token_hex(4) if name is None else name
        _refuse_key(key_id)
        if not _ID.fullmatch(key_id):
            raise UsageError(f"The ID of a key is 1 to 32 lower-case letters, digits and -, got {key_id!r}")
        text = f"rk_{key_id}_{secrets.token_urlsafe(32)}"
        made = Key(key_id, hashlib.sha256(text.encode()).hexdigest(), tuple(scopes), time.time_ns() // 1_000_000)
        with self._changing() as keys:
            if any(key.id == key_id for key in keys.list):
                raise UsageError(f"There is a key {key_id!r}: revoke it first, or choose another name")
            keys.list.append(made)
        return text

    def revoke(self, key_id: str) -> None:
        """Remove a key. Raises InputError if there is none of that id, UsageError for a key instead of its id."""
        _refuse_key(key_id)
        with self._changing() as keys:
            left = [key for key in keys.list if key.id != key_id]
            if len(left) == len(keys.list):
                raise InputError(f"There is no key {key_id!r}; rankline key list shows those that there are")
            keys.list = left

    def _look(self) -> None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._stamp, self._keys = None, {}
            return
        if status.st_mode & 0o077:
            # Whoever may write it could add a key. That it can't be read by others is asked for as of any such file.
            raise ArtifactError(f"{self.path} is open to other users of this machine: chmod 600 {self.path}")
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp != self._stamp:
            self._keys = {key.id: key for key in self._read()}
            self._stamp = stamp

    def _read(self) -> list[Key]:
        try:
            content = read_json(self.path)
        except FileNotFoundError:
            return []
        try:
            keys = [Key(**{**key, "scopes": tuple(key["scopes"])}) for key in content["keys"]]
            whole = content["format"] == _FORMAT and all(set(key.scopes) <= set(SCOPES) for key in keys)
        except (KeyError, TypeError):
            whole = False
        if not whole:
            raise ArtifactError(f"{self.path} is no file of keys: restore it, or delete it and make new keys")
        return keys

    def _changing(self) -> _Change:
        return _Change(self)


def _refuse_key(text: str) -> None:
    """Raise UsageError, which does not repeat it, for a key where its id is meant."""
    if (match := _KEY.fullmatch(text.strip())) is not None:
        raise UsageError(f"That is a key itself; its ID is {match[1]}")


class _Change:
    """The keys of the file, to be changed under a lock; they are written if the block ends without an error."""

    def __init__(self, file: KeyFile) -> None:
        self._file = file
        self.list: list[Key] = []

    def __enter__(self) -> _Change:
        self._file.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = FileLock(self._file.path.with_name(self._file.path.name + ".lock"), 10.0)
        self.list = self._file._read()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                write_json(self._file.path, {"format": _FORMAT, "keys": [asdict(key) for key in self.list]})
        finally:
            self._lock.release()
