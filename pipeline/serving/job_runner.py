"""`JobRunner`: the agent's side of the table of jobs.

What moves the champion runs in the agent, which has MLflow in memory: it is served within seconds. Trainings, and the
warehouse's part of a forgetting, are processes of their own. The service itself never opens an embedded warehouse.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from pipeline.errors import InputError, JobTableError, RanklineError, ServerError, UsageError, WarehouseInUseError
from pipeline.serving.champion_jobs import ChampionJobs
from pipeline.serving.job_process import JobProcess, Outcome, end_orphan
from pipeline.serving.job_table import CHAMPION_KINDS, Job, JobTable
from pipeline.serving.live_folder import LiveFolder
from pipeline.serving.model_snapshot import ModelSnapshot
from pipeline.serving.service import ServiceConfig
from pipeline.serving.training_request import arguments
from pipeline.serving.version_comparison import compare_versions
from pipeline.tracking import store

__all__ = ["JobRunner"]

_LOG = logging.getLogger("rankline")
_AGENT_ENDED = "the agent ended while it ran"
_FIRST_PAUSE, _LONGEST_PAUSE = 15.0, 300.0  # until a forgetting asks the warehouse again
_TRAINING_PAUSE = 60.0  # at most, until a training does: a try costs some seconds of CPU
_KEPT_LOGS = 20
_TOGETHER = 10.0  # seconds that the end of all processes may take


class JobRunner:
    """Runs the jobs of one folder.

    Parameters
    ----------
    look : has the agent look at the champion now, and serve it; returns what it could not do, "" for nothing
    snapshot : is written again when a job has ended
    stopping : set when the service stops
    """

    def __init__(
        self,
        config: ServiceConfig,
        folder: LiveFolder,
        look: Callable[[], str],
        snapshot: ModelSnapshot,
        stopping: threading.Event,
    ) -> None:
        self._config, self._folder, self._stopping = config, folder, stopping
        self._snapshot = snapshot
        self._table = JobTable(folder.jobs_path)
        self._champions = ChampionJobs(config, folder, look)
        self._processes: dict[str, tuple[Job, JobProcess]] = {}
        self._pauses: dict[str, float] = {}
        self._comparing: threading.Thread | None = None
        self._fault = ""

    def begin(self) -> None:
        """Once, at the start: what an agent that was killed left running is ended, and runs no more. Never raises."""
        with self._guarded():
            for job in self._table.running():
                if job.process:
                    end_orphan(job.process)
                if job.kind == "forget":  # it may be repeated
                    self._table.postpone(job.job_id, _AGENT_ENDED, 0)
                else:
                    also = "; GET /api/v1/models says which version is champion" if job.kind in CHAMPION_KINDS else ""
                    self._table.finish(job.job_id, _AGENT_ENDED + also)
            logs = sorted(self._folder.jobs.iterdir(), key=lambda path: -path.stat().st_mtime)
            for path in logs[2 * _KEPT_LOGS :]:
                path.unlink(missing_ok=True)

    def visit(self) -> None:
        """Begin what waits and finish what has ended. Never raises."""
        with self._guarded():
            self._collect()
            for job in self._table.due():
                if self._stopping.is_set():
                    return
                if job.kind in ("train", "forget"):
                    self._begin_process(job)
                elif job.kind == "compare":
                    self._compare(job)
                else:
                    self._run_here(job)

    def close(self) -> None:
        """When the service stops: wait for processes to end, which are told by their threads, and note it."""
        until = time.monotonic() + _TOGETHER
        for _, process in self._processes.values():
            process.wait(max(0.0, until - time.monotonic()))
        with self._guarded():
            self._collect()

    def _guarded(self) -> suppress:
        return _Guarded(self._say)

    def _say(self, fault: str) -> None:
        if fault and fault != self._fault:
            _LOG.warning(f"jobs wait: {fault}")
        self._fault = fault

    # ---- in the agent ----------------------------------------------------------------------------

    def _run_here(self, job: Job) -> None:
        self._table.start(job.job_id)
        reason, result = _tried(lambda: self._champions.run(job))
        self._snapshot.refresh(now=True)  # whoever sees the job ended sees what it did
        self._finish(job, reason, result)

    def _compare(self, job: Job) -> None:
        """In a thread: with many users it takes seconds, and the champion is to be followed meanwhile."""
        if self._comparing is not None and self._comparing.is_alive():
            return

        def compare() -> None:
            reason, result = _tried(lambda: compare_versions(self._folder, job.request))
            with suppress(JobTableError):
                self._table.finish(job.job_id, reason, result)

        # Here and not in the thread: it sets variables of the environment for a moment.
        reason, _ = _tried(self._open_store)
        if reason:
            self._finish(job, reason, {})
            return
        self._table.start(job.job_id)
        self._comparing = threading.Thread(target=compare, name="compare", daemon=True)
        self._comparing.start()

    def _open_store(self) -> Mapping[str, Any]:
        store.open_store(self._config.tracking_uri)
        return {}

    def _finish(self, job: Job, reason: str, result: Mapping[str, Any]) -> None:
        self._table.finish(job.job_id, reason, result)
        if reason:
            _LOG.warning(f"job {job.job_id} ({job.kind}) failed: {reason}")
        else:
            _LOG.info(f"job {job.job_id} ({job.kind}) is done")

    # ---- in processes ----------------------------------------------------------------------------

    def _begin_process(self, job: Job) -> None:
        if any(other.kind == job.kind for other, _ in self._processes.values()):
            return  # one at a time
        if job.kind == "train" and self._processes:
            return  # a forgetting holds an embedded warehouse for some seconds
        model, output = self._config.model, ["--log-format", "json"]
        try:
            if job.kind == "train":
                command = ["train", "--name", model, *output, "--on-interrupt=stop", *arguments(job.request["options"])]
                shown = self._folder.training_snapshot
            else:
                command, shown = ["forget", "--yes", *output, "--", str(job.request["user"])], None
        except (KeyError, UsageError) as error:  # of another version of this program
            self._finish(job, f"the request can't be read ({error})", {})
            return
        self._table.start(job.job_id)
        try:
            process = JobProcess(job.job_id, command, self._config, self._folder, self._stopping, shown)
        except OSError as error:
            self._finish(job, f"its process could not begin ({error})", {})
            return
        self._processes[job.job_id] = job, process
        self._table.has_process(job.job_id, process.identity)

    def _collect(self) -> None:
        for job, process in list(self._processes.values()):
            if process.outcome is None:
                continue
            if not self._stopping.is_set():
                self._snapshot.refresh(now=job.kind == "train")
            if job.kind == "forget":
                self._forgotten(job, process, process.outcome)
            elif process.outcome.error == WarehouseInUseError.__name__ and not process.outcome.stopped:
                process.forget_output()
                self._wait(job, process.outcome.reason, _TRAINING_PAUSE)
            else:
                self._pauses.pop(job.job_id, None)
                self._finish(job, process.outcome.reason, process.outcome.result)
            del self._processes[job.job_id]

    def _forgotten(self, job: Job, process: JobProcess, outcome: Outcome) -> None:
        """Done, or the warehouse or MLflow could not be used: then it is tried again until it is done."""
        process.forget_output()
        if outcome.stopped:
            self._table.postpone(job.job_id, outcome.reason, 0)
        elif outcome.status == ServerError.exit_status or outcome.status < 0:
            self._wait(job, outcome.reason, _LONGEST_PAUSE)
        else:
            self._pauses.pop(job.job_id, None)
            # Commands hold the store's address, and are for who has a shell here.
            shown = {name: outcome.result[name] for name in ("rows", "left", "runs") if name in outcome.result}
            self._finish(job, outcome.reason, shown)

    def _wait(self, job: Job, reason: str, longest: float) -> None:
        """Have it tried again: in 15 seconds, then in twice as many each time."""
        last = self._pauses.get(job.job_id, 0.0)
        self._pauses[job.job_id] = pause = min(longest, max(_FIRST_PAUSE, 2 * last))
        self._table.postpone(job.job_id, reason, pause)
        if not last:
            _LOG.warning(f"job {job.job_id} ({job.kind}) waits: {reason}")


class _Guarded(suppress):
    """Says what goes wrong with the table, the folder, or a process, and goes on."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(RanklineError, OSError)
        self._say = say

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        known = super().__exit__(kind, error, trace)
        self._say(str(error) if known else "")
        return known


def _tried(run: Callable[[], Mapping[str, Any]]) -> tuple[str, Mapping[str, Any]]:
    """Why it failed, "" where it did not, and the result."""
    try:
        return "", run()
    except (RanklineError, OSError) as error:
        return str(error) or type(error).__name__, {"refused": isinstance(error, InputError)}
    except Exception as error:  # noqa: BLE001  # MLflow raises what it likes, and the agent is to go on
        _LOG.exception("a job failed")
        return f"{type(error).__name__}: {error}", {"refused": False}
