"""Pending runs: the results of a training, saved in a folder on this machine until MLflow accepts them.

    <root>/<run id>/
        kept.json          the parameters, metrics, tags, … to log, and the sha256 of every other file
        kept.json.sha256   the sha256 of kept.json, in sha256sum's format
        model/             the four artifacts of the saved model
        files/             all other files for the run's root

The folder holds no code and no secrets: all of it will be logged. It is written under a temporary name and renamed
when it is complete (`outbox_writer`). The process that logs it holds a lock on it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import ArtifactError, InputError, LockedError
from pipeline.options.base import types_of
from pipeline.options.names import DEFAULT_NAME, Names
from pipeline.runtime.file_lock import FileLock, can_lock

__all__ = ["PendingRun", "find_pending", "open_pending", "pending_in", "remove_pending"]

FORMAT = 1
FACTS, DIGEST, LOCK = "kept.json", "kept.json.sha256", ".lock"
SECTIONS = {
    "run_id": str,
    "store": str,
    "name": str,
    "at_ms": int,
    "params": dict,
    "metrics": dict,
    "late_metrics": dict,
    "tags": dict,
    "version_tags": dict,
    "curves": dict,
    "description": str,
    "files": dict,
}


class PendingRun:
    """A complete pending run, locked by this process. `facts` is the content of its ``kept.json``."""

    def __init__(self, folder: Path, facts: Mapping[str, Any], lock: FileLock) -> None:
        self.folder = folder
        self.facts = facts
        self._lock = lock

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return str(self.facts["run_id"])

    @property
    def registered_model(self) -> str:
        """The model that it becomes a version of; what was kept before there were several says none."""
        return str(self.facts.get("registered_model", DEFAULT_NAME))

    @property
    def model(self) -> Path:
        """The folder with the saved model."""
        return self.folder / "model"

    @property
    def files(self) -> Path:
        """The folder with the other files for the run's root."""
        return self.folder / "files"

    def close(self) -> None:
        """Release the lock."""
        self._lock.release()

    def remove(self) -> None:
        """Delete the folder, after its run has been logged."""
        # Rename it first, so that no process logs a half-deleted folder.
        removed = self.folder.with_name(f".{self.run_id}.partial")
        shutil.rmtree(removed, ignore_errors=True)
        with suppress(OSError):
            self.folder.rename(removed)
        for folder in (removed, self.folder):
            shutil.rmtree(folder, ignore_errors=True)
        self.close()


def pending_in(root: Path) -> list[Path]:
    """Folders of pending runs, the oldest first, without those that a process is logging now."""
    free = [folder for folder in _folders(root) if can_lock(folder / LOCK)]
    return sorted(free, key=lambda folder: (folder / FACTS).stat().st_mtime)


def _folders(root: Path) -> list[Path]:
    return [path.parent for path in root.glob(f"*/{FACTS}") if not path.parent.name.startswith(".")]


def find_pending(which: str, root: Path) -> Path:
    """The folder of the pending run named by a path or by the beginning of a run's id. Raises InputError."""
    if (Path(which) / FACTS).is_file():
        return Path(which).resolve()
    folders = [folder for folder in _folders(root) if len(which) >= 4 and folder.name.startswith(which)]
    if len(folders) != 1:
        what = f"{len(folders)} saved trainings begin with {which!r}" if folders else f"No saved training is {which!r}"
        raise InputError(
            f"{what} in {root}: give a folder, or the id of a run that was trained and not logged"
            + ("" if folders else " (an uploaded one is deleted here)")
        )
    return folders[0]


def remove_pending(folder: Path) -> bool:
    """Delete a pending run that nobody will upload, whole or damaged; False where another process has it open."""
    try:
        lock = FileLock(folder / LOCK)
    except LockedError:
        return False
    except FileNotFoundError:
        return True
    removed = folder.with_name(f".{folder.name}.partial")
    with lock:
        shutil.rmtree(removed, ignore_errors=True)
        folder.rename(removed)  # so that no process uploads a half-deleted one
        shutil.rmtree(removed, ignore_errors=True)
    return True


def open_pending(folder: Path) -> PendingRun:
    """Open a pending run: lock its folder and verify its checksums.

    Raises
    ------
    ArtifactError
        A file was changed, added or deleted.
    LockedError
        Another process is logging it.
    """
    try:
        lock = FileLock(folder / LOCK)
    except LockedError:
        raise LockedError(f"{folder} is being uploaded by another process: wait for it") from None
    except OSError as error:
        raise ArtifactError(f"{folder} can't be read ({error.strerror})") from None
    try:
        return PendingRun(folder, _verified(folder), lock)
    except BaseException:
        lock.release()
        raise


def _verified(folder: Path) -> dict[str, Any]:
    changed = f"{folder} was changed after it was written"
    advice = "it is not logged; train again, or bring back the files as they were"
    try:
        text = (folder / FACTS).read_bytes()
        if (folder / DIGEST).read_text().split()[:1] != [hashlib.sha256(text).hexdigest()]:
            raise ArtifactError(f"{changed} ({FACTS} has a wrong checksum): {advice}")
        facts: dict[str, Any] = json.loads(text)
        digests = digests_of(folder)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{changed} ({error}): {advice}") from None
    whole = isinstance(facts, dict) and facts.get("format") == FORMAT
    whole = whole and all(isinstance(facts.get(name), kind) for name, kind in SECTIONS.items())
    if not whole or types_of(Names)["name"].refusal(facts.get("registered_model", DEFAULT_NAME)):
        raise ArtifactError(f"{changed} ({FACTS} is of another format): {advice}")
    wrong = sorted(name for name in {*digests, *facts["files"]} if digests.get(name) != facts["files"].get(name))
    if wrong:
        raise ArtifactError(f"{changed} ({wrong[0]} has a wrong checksum, is missing, or was added): {advice}")
    return facts


def digests_of(folder: Path) -> dict[str, str]:
    """sha256 of every file to log, by its path in the folder. Raises OSError for a symbolic link."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise OSError(f"{name} is a link")
        if path.is_file() and name not in (FACTS, DIGEST, LOCK):
            with path.open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
