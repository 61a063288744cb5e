"""`LiveFolder`: the folder that workers and agent share.

current.json       the version that is served: a `Pointer`; replaced in one step
candidate.json     the version that workers are to load beside it: a `Proposal`
models/<digest>/   verified copies of versions, named by the digest of their metadata.json
models/<digest>.json   the pointer of each copy
baseline/          the items of the version that was served last (`pipeline.serving.baseline`)
workers/<pid>.json     what each worker has loaded, or could not load, and why
agent.json         what the agent saw at its last look
warehouse.json     what it saw at its last visit to a warehouse that is a server
jobs.db            what workers ask of the agent: `JobTable`
jobs/              what the processes of jobs print
snapshots/         what the agent has read for the workers: models.json, training.json, drift.json, comparisons
interactions.db    new interactions, and beside it a copy of who was forgotten
keys.json          hashes of API keys
sessions.db        hashes of the page's sessions
metrics/           counters of all processes
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import ArtifactError
from pipeline.options.names import DEFAULT_NAME

__all__ = ["LiveFolder", "Pointer", "Proposal", "WorkerReport", "read_json", "write_json"]


@dataclass(frozen=True)
class Pointer:
    """A version that is served, or is to be.

    Attributes
    ----------
    digest : of its files; the name of its folder
    name, version, run_id : in MLflow
    champion : whether it was the champion; otherwise the newest version, while none is promoted
    at : when it was fetched, milliseconds since 1970
    watermark : log id → the last interaction of that log that its training has read
    experiment : what is tested, and the versions of its arms (`pipeline.serving.arms`); empty where nothing is
    """

    digest: str
    name: str
    version: str
    run_id: str
    champion: bool
    at: int
    watermark: Mapping[str, int] = field(default_factory=dict)
    experiment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """``rankline/3``."""
        return f"{self.name}/{self.version}"

    @classmethod
    def of(cls, value: Any, path: Path | str) -> Pointer:
        """The pointer of a parsed file. Raises ArtifactError."""
        try:
            pointer = cls(**value)
        except TypeError:
            raise ArtifactError(f"{path} names no version") from None
        texts = (pointer.digest, pointer.name, pointer.version, pointer.run_id)
        digest_is_one = len(str(pointer.digest)) == 64 and str(pointer.digest).isalnum()
        if (
            not all(isinstance(text, str) for text in texts)
            or not digest_is_one
            or not isinstance(pointer.watermark, dict)
            or not isinstance(pointer.experiment, dict)
        ):
            raise ArtifactError(f"{path} names no version")
        return pointer


class Proposal(NamedTuple):
    """A version that workers are to load. Each proposal has an id of its own, also one of the same version again."""

    id: str
    pointer: Pointer


@dataclass(frozen=True)
class WorkerReport:
    """Attributes
    ----------
    loaded : digests of the models in the worker's memory
    failed : digest → why it could not be loaded
    serving : label of the version that the worker answers with; "" while there is none
    proposal : id of the last proposal that the worker has dealt with. What an older report says of a version counts
        no more: the worker may have dropped it since
    """

    loaded: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    serving: str = ""
    proposal: str = ""


class LiveFolder:
    """The paths in the folder, and its small files.

    Parameters
    ----------
    host : the folder of this host, which has the interactions and the keys
    name : the registered model; another than the default has a folder of its own in it for the rest
    """

    def __init__(self, host: Path, name: str = DEFAULT_NAME) -> None:
        self._host = host
        self.root = root = host if name == DEFAULT_NAME else host / name
        self.current_path, self.candidate_path = root / "current.json", root / "candidate.json"
        self.models, self.workers = root / "models", root / "workers"
        self.warehouse_path = root / "warehouse.json"
        self.name, self.baseline = name, root / "baseline"
        self.agent_path, self.metrics = root / "agent.json", root / "metrics"
        self.jobs_path, self.jobs, self.snapshots = root / "jobs.db", root / "jobs", root / "snapshots"
        self.models_snapshot, self.training_snapshot = self.snapshots / "models.json", self.snapshots / "training.json"
        self.drift_snapshot = self.snapshots / "drift.json"
        self.interactions_path, self.keys_path = host / "interactions.db", host / "keys.json"
        self.sessions_path = host / "sessions.db"
        self.exposures_path, self.exposure_counters = host / "exposures.db", root / "exposures"

    def make(self) -> None:
        """Make the folders that are missing."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.models, self.workers, self.metrics, self.jobs, self.snapshots):
            folder.mkdir(exist_ok=True)

    def model_folder(self, digest: str) -> Path:
        """The folder of a version's copy."""
        return self.models / digest

    def comparison(self, run_a: str, run_b: str) -> Path:
        """The file of a comparison of two runs, whose evaluations never change."""
        return self.snapshots / f"comparison-{hashlib.sha256(f'{run_a} {run_b}'.encode()).hexdigest()[:32]}.json"

    def current(self) -> Pointer | None:
        """The version that is served; None before the first. Raises ArtifactError for a file that is damaged."""
        return _pointer(self.current_path)

    def candidate(self) -> Proposal | None:
        """The version that workers are to load; None if there is none. Raises ArtifactError."""
        try:
            value = read_json(self.candidate_path)
        except FileNotFoundError:
            return None
        if not isinstance(value, dict) or set(value) != {"id", "pointer"}:
            raise ArtifactError(f"{self.candidate_path} proposes no version")
        return Proposal(str(value["id"]), Pointer.of(value["pointer"], self.candidate_path))

    def current_of_all_names(self) -> list[Pointer]:
        """The versions that this host serves, of every name. Raises ArtifactError for a file that is damaged."""
        paths = (self._host / "current.json", *self._host.glob("*/current.json"))
        return [pointer for path in paths if (pointer := _pointer(path)) is not None]

    def copies(self) -> list[Pointer]:
        """The verified copies that are there, the one fetched last first."""
        return sorted(_copies(self.models), key=lambda pointer: -pointer.at)

    def copies_of_all_names(self) -> list[Pointer]:
        """The copies of this host's models of every name."""
        folders = [self._host / "models", *self._host.glob("*/models")]
        return [pointer for folder in folders for pointer in _copies(folder)]

    def watermarks_of_all_names(self) -> list[Mapping[str, int]]:
        """Those of the copies, and of the versions that the agents have seen in MLflow: any of them may be served."""
        found = [pointer.watermark for pointer in self.copies_of_all_names()]
        for path in (self._host / "snapshots/models.json", *self._host.glob("*/snapshots/models.json")):
            with suppress(FileNotFoundError, ArtifactError, KeyError, TypeError):
                found += [dict(watermark) for watermark in read_json(path)["watermarks"]]
        return found

    def propose(self, pointer: Pointer) -> str:
        """Ask the workers to load a version; the id by which their reports name this proposal."""
        proposal = secrets.token_hex(8)
        write_json(self.candidate_path, {"id": proposal, "pointer": asdict(pointer)})
        return proposal

    def withdraw(self) -> None:
        """Take the candidate back."""
        self.candidate_path.unlink(missing_ok=True)

    def flip(self, pointer: Pointer) -> None:
        """Serve the version from now on: all workers see it at their next request."""
        try:
            write_json(self.current_path, asdict(pointer))
        finally:
            self.withdraw()

    # ---- workers ----------------------------------------------------------------------------

    def report(self, report: WorkerReport) -> None:
        """Say what this worker has loaded."""
        write_json(self.workers / f"{os.getpid()}.json", asdict(report), durable=False)

    def reports(self) -> Iterator[WorkerReport]:
        """The reports of the workers that are running."""
        for path in self.workers.glob("*.json"):
            try:
                os.kill(int(path.stem), 0)
                value = read_json(path)
                yield WorkerReport(
                    tuple(value["loaded"]), dict(value["failed"]), value.get("serving", ""), value.get("proposal", "")
                )
            except (OSError, ValueError, KeyError, TypeError, ArtifactError):
                continue

    def forget_worker(self, pid: int) -> None:
        """Remove the report of a worker that has ended."""
        (self.workers / f"{pid}.json").unlink(missing_ok=True)


def _copies(folder: Path) -> Iterator[Pointer]:
    for path in folder.glob("*.json"):
        with suppress(ArtifactError):
            pointer = _pointer(path)
            if pointer is not None and (folder / pointer.digest).is_dir():
                yield pointer


def _pointer(path: Path) -> Pointer | None:
    try:
        value = read_json(path)
    except FileNotFoundError:
        return None
    return Pointer.of(value, path)


def read_json(path: Path) -> Any:
    """The value of a small file. Raises FileNotFoundError, ArtifactError."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ArtifactError(f"{path} can't be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise ArtifactError(f"{path} is no JSON: it is damaged") from None


def write_json(path: Path, value: Any, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace a file in one step. `durable`: it is on disk when this returns."""
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(value, file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        Path(partial).chmod(mode)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
