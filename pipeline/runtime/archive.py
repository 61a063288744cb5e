"""A backup's folder: files with their digests, replaced as a whole.

backup.json        the manifest: format, time, facts, the sha256 and the size of each file, and its own sha256
backup-TIME-ID/    the files
.lock              held by who writes

A new backup is written beside the old one. Then the manifest is replaced in one step, and the old files are deleted.
A process that is killed before that step leaves the old backup, or none; the next one deletes what it left.

The digests show damage and a file that was changed. They are no signature: who may write to the folder can write new
digests, too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from pipeline.errors import BackupError, InputError, LockedError, RanklineError
from pipeline.runtime.file_lock import FileLock
from pipeline.runtime.files import advice_for, reason_of

__all__ = ["FORMAT", "MANIFEST", "Archive", "ArchiveFile", "ArchiveWriter"]

FORMAT = 1
MANIFEST = "backup.json"
_LOCK = ".lock"
_CONTENT = re.compile(r"backup-\d{8}T\d{6}Z-[0-9a-f]{8}")
_MOST_BYTES = 1 << 28  # of a manifest


@dataclass(frozen=True)
class ArchiveFile:
    """What the manifest says of a file: its sha256 in hexadecimal, and its size in bytes."""

    sha256: str
    n_bytes: int


@dataclass(frozen=True)
class Archive:
    """A backup whose files were all read and found whole.

    Attributes
    ----------
    root : the folder that `rankline backup` was given
    content : the folder in it with the files
    at : when the backup was begun, in ISO form, UTC
    facts : what the writer says of the files
    files : name (with slashes) → what it is
    """

    root: Path
    content: Path
    at: str
    facts: Mapping[str, Any]
    files: Mapping[str, ArchiveFile]

    @property
    def n_bytes(self) -> int:
        """The size of all files."""
        return sum(file.n_bytes for file in self.files.values())

    @classmethod
    def open(cls, root: Path, progress: Callable[[int, int], None] = lambda _done, _total: None) -> Archive:
        """Read the manifest and every file.

        Raises
        ------
        InputError
            There is no backup in the folder.
        BackupError
            A file is missing, was changed or is no regular file; the manifest is damaged or of another format. The
            message names the file.
        """
        archive = read_manifest(root)
        for done, (name, file) in enumerate(archive.files.items()):
            progress(done, len(archive.files))
            archive.check(name, file)
        progress(len(archive.files), len(archive.files))
        return archive

    def path(self, name: str) -> Path:
        """The path of a file. Raises BackupError where the manifest does not list it."""
        if name not in self.files:
            raise BackupError(f"{self.root / MANIFEST} lists no {name}: the backup is not whole")
        return self.content / name

    def names(self, folder: str) -> list[str]:
        """The files in a folder of the backup, with the folder's name in front."""
        return [name for name in self.files if name.startswith(f"{folder}/")]

    def check(self, name: str, file: ArchiveFile) -> None:
        """Raise BackupError unless the file is the one that was written."""
        path = self.content / name
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):
                raise BackupError(f"{path} is no regular file: it is not of this backup. {_NOTHING_DONE}")
            whole = status.st_size == file.n_bytes and sha256_of(path) == file.sha256
        except FileNotFoundError:
            raise BackupError(f"{path} is missing: the backup is not whole. {_NOTHING_DONE}") from None
        except OSError as error:
            raise BackupError(f"{path} can't be read ({reason_of(error)}). {_NOTHING_DONE}") from None
        if not whole:
            raise BackupError(f"{path} has a wrong checksum: it is damaged or was changed. {_NOTHING_DONE}")


_NOTHING_DONE = "Nothing was restored; take another backup"


def read_manifest(root: Path) -> Archive:
    """The backup in the folder, its files not read yet. Raises InputError and BackupError, as `Archive.open`."""
    path = root / MANIFEST
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES)
    except FileNotFoundError:
        left = " (one that was not finished is there)" if _contents(root) else ""
        raise InputError(f"There is no backup in {root}{left}: it has no {MANIFEST}") from None
    except OSError as error:
        raise BackupError(f"{path} can't be read ({reason_of(error)}). {_NOTHING_DONE}") from None
    try:
        manifest = json.loads(text)
        digest = manifest.pop("sha256")
        number = manifest["format"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BackupError(f"{path} is no manifest of a backup: it is damaged. {_NOTHING_DONE}") from None
    if digest != _digest(manifest):
        raise BackupError(f"{path} has a wrong checksum: it is damaged or was changed. {_NOTHING_DONE}")
    if number != FORMAT:
        raise BackupError(f"{path} has format {number!r:.20}; this version of Rankline reads format {FORMAT}")
    try:
        files = {str(name): ArchiveFile(str(f["sha256"]), int(f["bytes"])) for name, f in manifest["files"].items()}
        content, facts = str(manifest["content"]), dict(manifest["facts"])
        archive = Archive(root, root / content, str(manifest["at"]), facts, files)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BackupError(f"{path} is no manifest of a backup: it is damaged. {_NOTHING_DONE}") from None
    for name in (content, *files):
        if not _is_inside(name):
            raise BackupError(f"{path} names {name!r:.80}, which is not in the backup. {_NOTHING_DONE}")
    return archive


class ArchiveWriter:
    """Writes a backup; `keep` completes it. Use it as a context manager.

    Parameters
    ----------
    root : the folder; made where it is missing
    at : when the backup is begun, UTC

    Raises
    ------
    InputError
        The folder holds other files: a backup has a folder of its own.
    LockedError
        Another process writes a backup there.
    RanklineError
        Nothing can be written there.
    """

    def __init__(self, root: Path, at: datetime) -> None:
        self._root, self._at = root, at
        self._content = root / f"backup-{at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        self._lock: FileLock | None = None

    def __enter__(self) -> Self:
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            own = {MANIFEST, _LOCK}
            others = [path.name for path in self._root.iterdir() if path.name not in own]
            if strange := sorted(name for name in others if not _CONTENT.fullmatch(name)):
                raise InputError(
                    f"{self._root} holds other files ({', '.join(strange[:3])}{', …' if len(strange) > 3 else ''}): "
                    "name an empty folder, or the one of a backup"
                )
            self._lock = FileLock(self._root / _LOCK)
            before = read_manifest(self._root).content if (self._root / MANIFEST).exists() else None
            _delete_others(self._root, before)
            self._content.mkdir(mode=0o700)
        except LockedError as error:
            raise LockedError(f"{error}: another backup is being written there; wait for it to end") from None
        except OSError as error:
            raise self._unwritable(error) from None
        return self

    def __exit__(self, _kind: type | None, error: BaseException | None, _trace: TracebackType | None) -> None:
        if error is not None:
            shutil.rmtree(self._content, ignore_errors=True)
        if self._lock is not None:
            self._lock.release()
        if isinstance(error, OSError):
            raise self._unwritable(error) from None

    @property
    def folder(self) -> Path:
        """Where the files are written."""
        return self._content

    def keep(self, facts: Mapping[str, Any]) -> Archive:
        """Write the manifest with these facts (as JSON), and delete the backup before. All is on disk then."""
        files = {}
        for path in sorted(self._content.rglob("*")):
            if path.is_file() and not path.is_symlink():
                _sync(path)
                name = path.relative_to(self._content).as_posix()
                files[name] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        for folder in (*(path for path in self._content.rglob("*") if path.is_dir()), self._content, self._root):
            _sync(folder)
        manifest: dict[str, Any] = {"format": FORMAT, "at": f"{self._at:%Y-%m-%dT%H:%M:%SZ}"}
        manifest |= {"content": self._content.name, "facts": facts, "files": files}
        partial = self._content / f".{MANIFEST}"
        partial.write_text(json.dumps(manifest | {"sha256": _digest(manifest)}, indent=1), encoding="ascii")
        _sync(partial)
        partial.replace(self._root / MANIFEST)
        _sync(self._root)
        _delete_others(self._root, self._content)
        return read_manifest(self._root)

    def _unwritable(self, error: OSError) -> RanklineError:
        return RanklineError(f"The backup can't be written to {self._root} ({reason_of(error)}); {advice_for(error)}")


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _contents(root: Path) -> list[Path]:
    with suppress(OSError):
        return [path for path in root.iterdir() if _CONTENT.fullmatch(path.name)]
    return []


def _delete_others(root: Path, content: Path | None) -> None:
    for path in _contents(root):
        if content is None or path.name != content.name:
            shutil.rmtree(path, ignore_errors=True)


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
