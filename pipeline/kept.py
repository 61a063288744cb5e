"""What a training leaves, as a folder on this machine first: so that a store that goes away loses none of it.

    <root>/<run id>/
        kept.json          what is to be logged: parameters, metrics, tags, …, and the sha256 of every other file
        kept.json.sha256   of that, in sha256sum's form
        model/             the four artifacts
        files/             everything else that goes to the run's root

Nothing in it runs code, and nothing in it is secret: all of it is meant for the run. It is made under another name
and renamed when it is whole; who logs it holds a lock on it, so that nobody else does.
"""

from __future__ import annotations

import fcntl
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
from typing import IO, Any

from pipeline.errors import ArtifactError, InputError, LockedError, RanklineError

__all__ = ["Draft", "Kept", "find_kept", "kept_in", "open_kept"]

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


class Kept:
    """A folder that is whole, and this process's to log. Its `facts` are what `Draft` was given."""

    def __init__(self, folder: Path, facts: Mapping[str, Any], lock: IO[str]) -> None:
        self.folder = folder
        self.facts = facts
        self._lock = lock

    @property
    def run_id(self) -> str:
        """The run it is of."""
        return str(self.facts["run_id"])

    @property
    def model(self) -> Path:
        """The folder of the four artifacts."""
        return self.folder / "model"

    @property
    def files(self) -> Path:
        """The folder of what else goes to the run's root."""
        return self.folder / "files"

    def close(self) -> None:
        """Leave it to others."""
        self._lock.close()

    def remove(self) -> None:
        """It is logged: take it away."""
        # First the name: what is half removed is nothing that anybody would log.
        gone = self.folder.with_name(f".{self.run_id}.partial")
        shutil.rmtree(gone, ignore_errors=True)
        with suppress(OSError):
            self.folder.rename(gone)
        for folder in (gone, self.folder):
            shutil.rmtree(folder, ignore_errors=True)
        self.close()


class Draft:
    """Takes what a run takes, and writes it down here; `keep` makes it a `Kept`. Use as a context manager.

    Parameters
    ----------
    root : where such folders are; another place is taken where it can't be written
    run_id, name : the run's
    store : its store's address, without a password
    at_ms : when the values were measured, milliseconds since 1970: logged twice, they are the same
    """

    def __init__(self, root: Path, run_id: str, name: str, store: str, at_ms: int) -> None:
        self.id, self.name = run_id, name
        self._facts: dict[str, Any] = {"format": FORMAT, "run_id": run_id, "store": store, "name": name, "at_ms": at_ms}
        self._facts |= {section: {} for section, kind in _SECTIONS.items() if kind is dict}
        self._facts |= {"description": "", "dataset": None, "estimator": None, "rename": False}
        self._root = _writable(root)
        _sweep(self._root)
        self._partial = self._root / f".{run_id}.partial"
        self._lock: IO[str] | None = None

    def __enter__(self) -> Draft:
        self._partial.mkdir()
        self._lock = (self._partial / _LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.model.mkdir()
        (self._partial / "files").mkdir()
        return self

    def __exit__(self, _kind: type | None, error: BaseException | None, _trace: TracebackType | None) -> None:
        if self._partial.exists():
            shutil.rmtree(self._partial, ignore_errors=True)
            if self._lock is not None:
                self._lock.close()
        if isinstance(error, OSError):
            raise RanklineError(
                f"What was trained can't be written to {self._root} ({error.strerror or error}): make room, train again"
            ) from None

    @property
    def model(self) -> Path:
        """Where the four artifacts are to be saved."""
        return self._partial / "model"

    def folder(self, path: Path, under: str | None = None) -> None:
        """Every file of the folder, for the run's root or for a folder there."""
        target = self._partial / "files" / (under or "")
        shutil.copytree(path, target, dirs_exist_ok=True)

    def rename(self) -> None:
        """The run gets the draft's name."""
        self._facts["rename"] = True

    def params(self, values: Mapping[str, Any]) -> None:
        """Parameters."""
        self._facts["params"] |= {key: str(value) for key, value in values.items()}

    def metrics(self, values: Mapping[str, float], late: bool = False) -> None:
        """Metrics; `late` ones are logged only where it comes to logging later."""
        self._facts["late_metrics" if late else "metrics"] |= {key: float(value) for key, value in values.items()}

    def curve(self, name: str, values: Sequence[float]) -> None:
        """A metric with a value a step, from step 1."""
        self._facts["curves"][name] = [float(value) for value in values]

    def tags(self, values: Mapping[str, str | None], of_the_version: bool = False) -> None:
        """Tags of the run, or of the version that is registered; None is passed over."""
        section = "version_tags" if of_the_version else "tags"
        self._facts[section] |= {key: value for key, value in values.items() if value is not None}

    def dataset(self, name: str, digest: str, source: str, tags: Mapping[str, str]) -> None:
        """The dataset."""
        self._facts["dataset"] = {"name": name, "digest": digest, "source": source, "tags": dict(tags)}

    def estimator(self, params: Mapping[str, Any], converged: bool, error: float) -> None:
        """What, beside the factors and the curve of the loss, makes the scikit-learn estimator."""
        self._facts["estimator"] = {"params": dict(params), "converged": bool(converged), "error": float(error)}

    def describe(self, markdown: str) -> None:
        """The text on the run's page."""
        self._facts["description"] = markdown

    def keep(self) -> Kept:
        """Digest and name it; from here on it outlives this process."""
        assert self._lock is not None  # noqa: S101 (entered)
        self._facts["files"] = _digests(self._partial)
        # JSON writes a metric that is no number as NaN, and reads it back.
        text = json.dumps(self._facts, indent=1, ensure_ascii=False).encode()
        (self._partial / _FACTS).write_bytes(text)
        (self._partial / _DIGEST).write_text(f"{hashlib.sha256(text).hexdigest()}  {_FACTS}\n")
        folder = self._root / self.id
        if folder.exists():
            shutil.rmtree(folder)
        self._partial.rename(folder)
        return Kept(folder, self._facts, self._lock)


def kept_in(root: Path) -> list[Path]:
    """Folders of runs that are kept, in order of time, without those that are being logged now."""
    free = []
    for folder in _folders(root):
        try:
            with (folder / _LOCK).open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        free.append(folder)
    return sorted(free, key=lambda folder: (folder / _FACTS).stat().st_mtime)


def _folders(root: Path) -> list[Path]:
    return [path.parent for path in root.glob(f"*/{_FACTS}") if not path.parent.name.startswith(".")]


def find_kept(which: str, root: Path) -> Path:
    """The folder that a path, or the beginning of a run's id, names. Raises InputError."""
    if (Path(which) / _FACTS).is_file():
        return Path(which).resolve()
    found = [folder for folder in _folders(root) if len(which) >= 4 and folder.name.startswith(which)]
    if len(found) != 1:
        what = f"{len(found)} runs are kept that begin with {which!r}" if found else f"Nothing is kept as {which!r}"
        raise InputError(
            f"{what} in {root}: give a folder, or the id of a run that was trained and not logged"
            + ("" if found else " (one that is logged is not kept any more)")
        )
    return found[0]


def open_kept(folder: Path) -> Kept:
    """A kept folder, verified and locked.

    Raises
    ------
    ArtifactError
        Something in it is not as it was written.
    LockedError
        Another process logs it.
    """
    try:
        lock = (folder / _LOCK).open("a")
    except OSError as error:
        raise ArtifactError(f"What is kept in {folder} can't be read ({error.strerror})") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LockedError(f"What is kept in {folder} is being logged by another process: wait for it") from None
        return Kept(folder, _verified(folder), lock)
    except BaseException:
        lock.close()
        raise


def _verified(folder: Path) -> dict[str, Any]:
    changed = f"What is kept in {folder} is not as it was written"
    advice = "it is not logged; train again, or bring back the files as they were"
    try:
        text = (folder / _FACTS).read_bytes()
        if (folder / _DIGEST).read_text().split()[:1] != [hashlib.sha256(text).hexdigest()]:
            raise ArtifactError(f"{changed} ({_FACTS} has a wrong checksum): {advice}")
        facts: dict[str, Any] = json.loads(text)
        there = _digests(folder)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{changed} ({error}): {advice}") from None
    whole = isinstance(facts, dict) and facts.get("format") == FORMAT
    if not (whole and all(isinstance(facts.get(name), kind) for name, kind in _SECTIONS.items())):
        raise ArtifactError(f"{changed} ({_FACTS} is of another format): {advice}")
    wrong = sorted(name for name in {*there, *facts["files"]} if there.get(name) != facts["files"].get(name))
    if wrong:
        raise ArtifactError(f"{changed} ({wrong[0]} has a wrong checksum, is missing, or was added): {advice}")
    return facts


def _digests(folder: Path) -> dict[str, str]:
    """sha256 of every file that is to be logged, by its path in the folder. Raises OSError where one is a link."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise OSError(f"{name} is a link")
        if path.is_file() and name not in (_FACTS, _DIGEST, _LOCK):
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _writable(root: Path) -> Path:
    try:
        root.mkdir(parents=True, exist_ok=True)
        if os.access(root, os.W_OK | os.X_OK):
            return root
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="rankline-unlogged-"))


def _sweep(root: Path) -> None:
    """Take away what was never whole and whose process is gone."""
    for partial in root.glob(".*.partial"):
        # Just begun, it may have no lock yet.
        with suppress(OSError):
            if time.time() - partial.stat().st_mtime < _YOUNG:
                continue
            if (partial / _LOCK).exists():
                with (partial / _LOCK).open("a") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(partial, ignore_errors=True)
