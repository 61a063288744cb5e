"""The agent: one process that follows the champion in MLflow and hands its versions to the workers.

Whatever fails leaves the version that is served: MLflow away, a version that is broken, half written, or of another
run. It says why, and tries again after a while.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from pipeline.errors import ArtifactError, RanklineError
from pipeline.interaction_log import InteractionLog
from pipeline.models.members import copy_saved_model
from pipeline.models.model_files import METADATA
from pipeline.models.saved_model import SavedModel, load_item_snapshot, load_saved_model
from pipeline.ranking.rules import now_ms
from pipeline.runtime.memory import give_back
from pipeline.serving.baseline import keep_items
from pipeline.serving.compiling import compile_for
from pipeline.serving.drift_snapshot import DriftSnapshot
from pipeline.serving.experiments import ExperimentFollower, digests_of
from pipeline.serving.job_runner import JobRunner
from pipeline.serving.live_folder import LiveFolder, Pointer, write_json
from pipeline.serving.metrics import metrics
from pipeline.serving.model_snapshot import ModelSnapshot
from pipeline.serving.service import ServiceConfig
from pipeline.tracking import registry, store

__all__ = ["Agent"]

_LOG = logging.getLogger("rankline")
_WORKER_SECONDS = 180.0  # for the workers to load a version; compiling the kernels takes some 15 s
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0  # seconds until a version that was refused is tried again
_JOB_SECONDS = 0.2  # between two looks at the table of jobs
_KEPT = 3  # copies besides the current one


class Agent:
    """Follows one registered model.

    Parameters
    ----------
    stopping : ends all waiting
    """

    def __init__(self, config: ServiceConfig, stopping: threading.Event) -> None:
        self._config, self._stopping = config, stopping
        self._folder = LiveFolder(config.live, config.model)
        self._snapshot = ModelSnapshot(self._folder, config.model, self._keep_uncovered)
        self._drift = DriftSnapshot(self._folder, config.model)
        self._jobs = JobRunner(config, self._folder, self._look_again, self._snapshot, stopping)
        self._experiments = ExperimentFollower(
            self._folder, config.model, lambda version: self._fetched(version, False), self._load, _is_good
        )
        self._opened = self._checked = False
        self._fault = ""
        # (version, run) → when to try it again, the pause before that
        self._refused: dict[tuple[str, str], tuple[float, float]] = {}

    def run(self) -> None:
        """Look at MLflow every few seconds, and for jobs more often, until it is to stop."""
        self._jobs.begin()
        while not self._stopping.is_set():
            self.look()
            if self._opened:
                self._snapshot.refresh()
                self._drift.refresh()
            until = time.monotonic() + self._config.options.poll_seconds
            self._jobs.visit()
            while (left := until - time.monotonic()) > 0 and not self._stopping.wait(min(_JOB_SECONDS, left)):
                self._jobs.visit()
        self._jobs.close()

    def _look_again(self) -> str:
        """A look after a change of the champion; what it could not do."""
        self._refused.clear()  # whoever asks for a version again has a reason
        self.look()
        return self._fault

    def look(self) -> None:
        """One look at the champion, and a swap if it is another one than is served. Never raises."""
        fault = ""
        try:
            self._check_current()
            self._follow()
            self._experiments.follow()
        except (RanklineError, OSError) as error:
            fault = str(error) or type(error).__name__
            self._serve_copy()
        except Exception as error:  # noqa: BLE001  # MLflow raises what it likes, and the agent is to go on
            fault = f"{type(error).__name__}: {error}"
            _LOG.exception("the agent failed")
        if fault != self._fault:
            if fault:
                _LOG.warning(f"{fault}; what is served stays")
            elif self._fault:
                _LOG.info("MLflow answers again")
            self._fault = fault
        with suppress(OSError):  # a full disk; after a while health says that nothing was written
            write_json(self._folder.agent_path, {"at": now_ms(), "fault": fault}, durable=False)

    # ---- what is to be served ---------------------------------------------------------------

    def _follow(self) -> None:
        if not self._opened:
            store.open_store(self._config.tracking_uri)
            self._opened = True
        version = registry.resolve(None, self._config.model)
        champion = version.how == f"the {registry.CHAMPION}"
        current = self._current()
        if current is not None and current.champion and not champion:
            return  # the alias was taken away: the last champion stays
        if current is not None and (current.version, current.run_id) == (version.version, version.made_by):
            if current.champion != champion:
                self._folder.flip(replace(current, champion=champion))
            return
        key = version.version, version.run_id
        again, pause = self._refused.get(key, (0.0, 0.0))
        if time.monotonic() < again:
            raise RanklineError(self._fault or f"{version.label} can't be served")
        try:
            kept = {} if current is None else current.experiment
            self._swap(replace(self._fetched(version, champion), experiment=kept))
        except (RanklineError, OSError):
            pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * pause))
            self._refused[key] = time.monotonic() + pause, pause
            metrics().swap("refused").inc()
            raise
        self._refused.pop(key, None)

    def _current(self) -> Pointer | None:
        try:
            return self._folder.current()
        except ArtifactError as error:
            _LOG.warning(f"{error}; it is written anew")
            return None

    def _check_current(self) -> None:
        """Once, at the start: without a good copy of the current version there is no current version."""
        if self._checked:
            return
        self._checked = True
        current = self._current()
        self._clear(current)
        if current is not None:
            try:
                _verify(self._folder.model_folder(current.digest))
            except (RanklineError, OSError) as error:
                _LOG.warning(f"the copy of {current.label} can't be served and is fetched anew ({error})")
                self._folder.current_path.unlink(missing_ok=True)
                self._remove(current)
            else:
                self._keep_items(current)

    def _clear(self, current: Pointer | None) -> None:
        """Remove what an agent left that was killed: a proposal, half a copy, a copy whose pointer was not written."""
        self._folder.withdraw()
        kept = {pointer.digest for pointer in self._folder.copies()} | digests_of(current)
        for path in self._folder.models.glob("*"):
            if path.is_dir() and path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)

    def _serve_copy(self) -> None:
        """Where nothing is served and MLflow has nothing either: the copy that was fetched last."""
        if self._current() is not None:
            return
        for pointer in self._folder.copies():
            try:
                _verify(self._folder.model_folder(pointer.digest))
                self._swap(pointer)
            except (RanklineError, OSError) as error:
                _LOG.warning(f"the copy of {pointer.label} can't be served ({error})")
            else:
                return

    # ---- fetch and swap ---------------------------------------------------------------------

    def _fetched(self, version: registry.ModelVersion, champion: bool) -> Pointer:
        """A verified copy of the version's files, in a folder named by their digest. Raises RanklineError, OSError."""
        incoming = Path(tempfile.mkdtemp(prefix=".incoming-", dir=self._folder.models))
        try:
            with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
                copy_saved_model(registry.download(version, Path(scratch)), incoming)
            with registry.signature_named(version):
                model = _verify(incoming)
            registry.check_run(model, version)
            watermark = model.meta.get("data_watermark") or {}
            digest = hashlib.sha256((incoming / METADATA).read_bytes()).hexdigest()
            pointer = Pointer(digest, version.name, version.version, version.made_by, champion, now_ms(), watermark)
            target = self._folder.model_folder(digest)
            if not _is_good(target):
                shutil.rmtree(target, ignore_errors=True)
                incoming.rename(target)
            write_json(target.with_name(f"{digest}.json"), asdict(pointer))
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        return pointer

    def _load(self, pointer: Pointer) -> bool:
        """Have the workers load the version, and those of its experiment; False where the agent is to stop.

        Raises ArtifactError if one of them can't.
        """
        needed = digests_of(pointer)
        for digest in needed:
            compile_for(self._folder.model_folder(digest), self._stopping)
        proposal = self._folder.propose(pointer)
        loaded = False
        try:
            until = time.monotonic() + _WORKER_SECONDS
            while not loaded and not self._stopping.wait(0.05):
                reports = [report for report in self._folder.reports() if report.proposal == proposal]
                for digest in needed:
                    why = next((report.failed[digest] for report in reports if digest in report.failed), None)
                    if why is not None:
                        raise ArtifactError(f"{pointer.label}: {why}")
                loaded = sum(needed.issubset(report.loaded) for report in reports) >= self._config.options.workers
                if not loaded and time.monotonic() > until:
                    raise ArtifactError(f"{pointer.label} was not loaded by all workers in {_WORKER_SECONDS:.0f} s")
            return loaded
        finally:
            if not loaded:  # else workers would drop it before the flip, which withdraws it
                self._folder.withdraw()

    def _swap(self, pointer: Pointer) -> None:
        """Have the workers load the version, then serve it. Raises ArtifactError if one of them can't."""
        if not self._load(pointer):
            return
        self._folder.flip(pointer)
        metrics().swap("done").inc()
        how = "the champion" if pointer.champion else "the newest version; none is promoted yet"
        _LOG.info(f"{pointer.label} is served ({how}), run {pointer.run_id or 'unknown'}")
        self._keep_items(pointer)
        self._prune(pointer)
        self._keep_uncovered()
        give_back()  # what reading, checking and comparing the version took

    def _keep_items(self, pointer: Pointer) -> None:
        """Keep what is served where no version can be loaded."""
        try:
            keep_items(self._folder, pointer)
        except (RanklineError, OSError) as error:
            _LOG.warning(f"the items of {pointer.label} are not kept ({error})")

    def _keep_uncovered(self) -> None:
        """Let the log keep what a version that can be served has not read."""
        path = self._folder.interactions_path
        if not path.exists():
            return
        try:
            with InteractionLog.open(path, create=False) as log:
                known = self._folder.watermarks_of_all_names  # the log is theirs together
                log.set_covered(lambda: min((watermark.get(log.log_id, 0) for watermark in known()), default=0))
                log.drop_pulled(known)
        except RanklineError as error:
            _LOG.warning(f"{error}")

    def _prune(self, current: Pointer) -> None:
        for pointer in [copy for copy in self._folder.copies() if copy.digest not in digests_of(current)][_KEPT:]:
            self._remove(pointer)

    def _remove(self, pointer: Pointer) -> None:
        folder = self._folder.model_folder(pointer.digest)
        folder.with_name(f"{pointer.digest}.json").unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _verify(folder: Path) -> SavedModel:
    """Read the model and its items as a worker does. Raises ArtifactError."""
    model = load_saved_model(folder, mapped=True)
    load_item_snapshot(folder)
    return model


def _is_good(folder: Path) -> bool:
    try:
        _verify(folder)
    except (RanklineError, OSError):
        return False
    return True
