"""Writes a pending run, the folder that `pipeline.tracking.outbox` describes and reads."""

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

from pipeline.errors import RanklineError
from pipeline.options.names import DEFAULT_NAME
from pipeline.runtime.file_lock import FileLock, can_lock
from pipeline.tracking.outbox import DIGEST, FACTS, FORMAT, LOCK, SECTIONS, PendingRun, digests_of

__all__ = ["PendingRunWriter"]

_YOUNG = 3600  # seconds


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
        self._facts |= {section: {} for section, kind in SECTIONS.items() if kind is dict}
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
        self._lock = FileLock(self._partial / LOCK)
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
        self._facts["files"] = digests_of(self._partial)
        # A metric may be NaN: Python's JSON writes and reads it as NaN.
        text = json.dumps(self._facts, indent=1, ensure_ascii=False).encode()
        (self._partial / FACTS).write_bytes(text)
        (self._partial / DIGEST).write_text(f"{hashlib.sha256(text).hexdigest()}  {FACTS}\n")
        folder = self._root / self.id
        if folder.exists():
            shutil.rmtree(folder)
        self._partial.rename(folder)
        return PendingRun(folder, self._facts, self._lock)


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
            if (partial / LOCK).exists() and not can_lock(partial / LOCK):
                continue
            shutil.rmtree(partial, ignore_errors=True)
