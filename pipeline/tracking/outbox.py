"""Pending runs: the results of a training, saved in a folder on this machine until MLflow accepts them.

    <root>/<run id>/
        kept.json          the parameters, metrics, tags, … to log, and the sha256 of every other file
        kept.json.sha256   the sha256 of kept.json, in sha256sum's format
        model/             the four artifacts of the saved model
        files/             all other files for the run's root

The folder holds no code and no secrets: all of it will be logged. It is written under a temporary name and renamed
when it is complete. The process that logs it holds a lock on it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.errors import ArtifactError, InputError, LockedError, RanklineError
from pipeline.options.base import types_of
from pipeline.options.names import DEFAULT_NAME, Names
from pipeline.runtime.file_lock import FileLock, can_lock

__all__ = ["PendingRun", "PendingRunWriter", "find_pending", "open_pending", "pending_in"]

FORMAT = 1
_YOUNG = 3600  # seconds
_FACTS, _DIGEST, _LOCK = "kept.json", "kept.json.sha256", ".lock"
_SECTIONS = {
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


class PendingRunWriter:
    """Writes a pending run; `keep` completes it. Use it as a context manager. Its methods mirror those of `Run`.

    Parameters
    ----------
    root : the folder of pending runs; a temporary folder is used where it can't be written
    run_id, name : id and name of the run
    store : the address of its MLflow store, without a password
    at_ms : time of the metrics in milliseconds since 1970; it is fixed, so that logging twice leaves one value
    registered_model : the model that the run registers a version of
    """

    def __init__(
        self, root: Path, run_id: str, name: str, store: str, at_ms: int, registered_model: str = DEFAULT_NAME
    ) -> None:
        self.id, self.name = run_id, name
        self._facts: dict[str, Any] = {"format": FORMAT, "run_id": run_id, "store": store, "name": name, "at_ms": at_ms}
        self._facts |= {section: {} for section, kind in _SECTIONS.items() if kind is dict}
        self._facts |= {
            "description": "",
            "version_description": "",
            "dataset": None,
            "estimator": None,
            "rename": False,
            "registered_model": registered_model,
        }
        self._root = _writable(root)
        _sweep(self._root)
        self._partial = self._root / f".{run_id}.partial"
        self._lock: FileLock | None = None

    def __enter__(self) -> PendingRunWriter:
        self._partial.mkdir()
        self._lock = FileLock(self._partial / _LOCK)
        self.model.mkdir()
        (self._partial / "files").mkdir()
        return self

    def __exit__(self, _kind: type | None, error: BaseException | None, _trace: TracebackType | None) -> None:
        if self._partial.exists():
            shutil.rmtree(self._partial, ignore_errors=True)
            if self._lock is not None:
                self._lock.release()
        if isinstance(error, OSError):
            raise RanklineError(
                f"What was trained can't be written to {self._root} ({error.strerror or error}): make room, train again"
            ) from None

    @property
    def model(self) -> Path:
        """The folder to save the model in."""
        return self._partial / "model"

    def folder(self, path: Path, under: str | None = None) -> None:
        """Add every file of the folder, for the run's root or for the folder `under` there."""
        target = self._partial / "files" / (under or "")
        shutil.copytree(path, target, dirs_exist_ok=True)

    def text(self, name: str, text: str) -> None:
        """Add a text file for the run's root."""
        (self._partial / "files" / name).write_text(text, encoding="utf-8")

    def rename(self) -> None:
        """Give the run this writer's name when it is logged."""
        self._facts["rename"] = True

    def params(self, values: Mapping[str, Any]) -> None:
        """Add parameters."""
        self._facts["params"] |= {key: str(value) for key, value in values.items()}

    def metrics(self, values: Mapping[str, float], late: bool = False) -> None:
        """Add metrics. `late` ones are logged only by `rankline resume`."""
        self._facts["late_metrics" if late else "metrics"] |= {key: float(value) for key, value in values.items()}

    def curve(self, name: str, values: Sequence[float]) -> None:
        """Add a metric with one value per step, from step 1."""
        self._facts["curves"][name] = [float(value) for value in values]

    def tags(self, values: Mapping[str, str | None], of_the_version: bool = False) -> None:
        """Add tags of the run, or of the registered version; a value of None is skipped."""
        section = "version_tags" if of_the_version else "tags"
        self._facts[section] |= {key: value for key, value in values.items() if value is not None}

    def dataset(self, name: str, digest: str, source: str, tags: Mapping[str, str]) -> None:
        """Set the dataset."""
        self._facts["dataset"] = {"name": name, "digest": digest, "source": source, "tags": dict(tags)}

    def estimator(self, params: Mapping[str, Any], converged: bool, error: float) -> None:
        """Set what rebuilds the scikit-learn estimator, besides the factors and the loss curve."""
        self._facts["estimator"] = {"params": dict(params), "converged": bool(converged), "error": float(error)}

    def describe(self, markdown: str, of_the_version: str = "") -> None:
        """Set the texts on the pages of the run and of the version."""
        self._facts |= {"description": markdown, "version_description": of_the_version}

    def keep(self) -> PendingRun:
        """Write checksums and give the folder its final name. It then survives the end of this process."""
        assert self._lock is not None  # noqa: S101 (entered)
        self._facts["files"] = _digests(self._partial)
        # A metric may be NaN: Python's JSON writes and reads it as NaN.
        text = json.dumps(self._facts, indent=1, ensure_ascii=False).encode()
        (self._partial / _FACTS).write_bytes(text)
        (self._partial / _DIGEST).write_text(f"{hashlib.sha256(text).hexdigest()}  {_FACTS}\n")
        folder = self._root / self.id
        if folder.exists():
            shutil.rmtree(folder)
        self._partial.rename(folder)
        return PendingRun(folder, self._facts, self._lock)


def pending_in(root: Path) -> list[Path]:
    """Folders of pending runs, the oldest first, without those that a process is logging now."""
    free = [folder for folder in _folders(root) if can_lock(folder / _LOCK)]
    return sorted(free, key=lambda folder: (folder / _FACTS).stat().st_mtime)


def _folders(root: Path) -> list[Path]:
    return [path.parent for path in root.glob(f"*/{_FACTS}") if not path.parent.name.startswith(".")]


def find_pending(which: str, root: Path) -> Path:
    """The folder of the pending run named by a path or by the beginning of a run's id. Raises InputError."""
    if (Path(which) / _FACTS).is_file():
        return Path(which).resolve()
    folders = [folder for folder in _folders(root) if len(which) >= 4 and folder.name.startswith(which)]
    if len(folders) != 1:
        what = f"{len(folders)} saved trainings begin with {which!r}" if folders else f"No saved training is {which!r}"
        raise InputError(
            f"{what} in {root}: give a folder, or the id of a run that was trained and not logged"
            + ("" if folders else " (an uploaded one is deleted here)")
        )
    return folders[0]


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
        lock = FileLock(folder / _LOCK)
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
        text = (folder / _FACTS).read_bytes()
        if (folder / _DIGEST).read_text().split()[:1] != [hashlib.sha256(text).hexdigest()]:
            raise ArtifactError(f"{changed} ({_FACTS} has a wrong checksum): {advice}")
        facts: dict[str, Any] = json.loads(text)
        digests = _digests(folder)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{changed} ({error}): {advice}") from None
    whole = isinstance(facts, dict) and facts.get("format") == FORMAT
    whole = whole and all(isinstance(facts.get(name), kind) for name, kind in _SECTIONS.items())
    if not whole or types_of(Names)["name"].refusal(facts.get("registered_model", DEFAULT_NAME)):
        raise ArtifactError(f"{changed} ({_FACTS} is of another format): {advice}")
    wrong = sorted(name for name in {*digests, *facts["files"]} if digests.get(name) != facts["files"].get(name))
    if wrong:
        raise ArtifactError(f"{changed} ({wrong[0]} has a wrong checksum, is missing, or was added): {advice}")
    return facts


def _digests(folder: Path) -> dict[str, str]:
    """sha256 of every file to log, by its path in the folder. Raises OSError for a symbolic link."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise OSError(f"{name} is a link")
        if path.is_file() and name not in (_FACTS, _DIGEST, _LOCK):
            with path.open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _writable(root: Path) -> Path:
    try:
        root.mkdir(parents=True, exist_ok=True)
        if os.access(root, os.W_OK | os.X_OK):
            return root
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="rankline-unlogged-"))


def _sweep(root: Path) -> None:
    """Delete incomplete folders whose process has ended."""
    for partial in root.glob(".*.partial"):
        # A new folder may have no lock yet.
        with suppress(OSError):
            if time.time() - partial.stat().st_mtime < _YOUNG:
                continue
            if (partial / _LOCK).exists() and not can_lock(partial / _LOCK):
                continue
            shutil.rmtree(partial, ignore_errors=True)
