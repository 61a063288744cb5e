"""One training run in MLflow: what was made elsewhere is written down here."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import mlflow
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from pipeline import __version__
from pipeline.errors import ConnectionLostError, InputError, RanklineError, ServerError
from pipeline.owner import Owner
from pipeline.patience import Patience, repeated
from pipeline.store import as_server_error, impatient, is_file, locked_store, open_store, sqlite_path

__all__ = [
    "PROCESS_TAG",
    "Run",
    "as_server_error",
    "ending",
    "finish_parent",
    "git_commit",
    "is_file",
    "locked_store",
    "open_store",
    "resumed_run",
    "run_name",
    "run_of_mlflow",
    "start_run",
]

# Whose a run is, from its first moment: what a kill leaves as RUNNING is ended by a later job (`orphans`).
PROCESS_TAG = "rankline_process"

T = TypeVar("T")


def git_commit(project_root: Path) -> str | None:
    """The commit that is checked out, with "+" where the tree differs from it."""
    try:
        git = ["git", "-C", str(project_root)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if dirty else "")


def run_name(run_id: str) -> str:
    """The name of a run in the open store."""
    return str(mlflow.MlflowClient().get_run(run_id).info.run_name)


def _made_up(name: str) -> bool:
    """Whether MLflow made the name up, e.g. "bold-snake-123": nobody chose it, so ours may replace it."""
    from mlflow.utils import name_utils

    match = re.fullmatch(r"([a-z]+)-([a-z]+)-\d+", name)
    words = (name_utils._GENERATOR_PREDICATES, name_utils._GENERATOR_NOUNS)
    return match is not None and all(word in known for word, known in zip(match.groups(), words, strict=True))


class Run:
    """An active run. Methods raise ServerError where the store fails; done twice, each leaves the same.

    What can be helped by asking again is asked again, as `patience` says.
    """

    def __init__(self, run: Any, uri: str, patience: Patience | None = None) -> None:
        self.id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.name = str(run.info.run_name)
        self._uri = uri
        self._patience = patience or Patience()
        self._named_here = False
        self._client = mlflow.MlflowClient()

    def repeated(self, what: str, call: Callable[[], T]) -> T:
        """What the call gives; it leaves the same done twice."""

        def once() -> T:
            with as_server_error(self._uri):
                return call()

        return repeated(once, what, self._patience, (ConnectionLostError,))

    def name_for(self, name: str) -> str:
        """The name if ours may replace the run's; else the one that a person has given it."""
        return name if self._named_here or _made_up(self.name) else self.name

    def name_if_made_up(self, name: str) -> None:
        """Give the run a readable name, unless a person has given it one."""
        if self.name_for(name) == name != self.name:
            self.tags({"mlflow.runName": name})
            self.name, self._named_here = name, True

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters; one that `mlflow run` has logged already stays as it was typed."""

        def once() -> None:
            there = self._client.get_run(self.id).data.params
            new = [Param(key, str(value)[:6000]) for key, value in values.items() if key not in there]
            self._client.log_batch(self.id, params=new)

        self.repeated("logging parameters", once)

    def metrics(self, values: Mapping[str, float], at_ms: int | None = None) -> None:
        """Log metrics, of this moment or of milliseconds since 1970."""
        # mlflow.log_metrics writes each one once more for every model that the run has by then.
        now = _now_ms() if at_ms is None else at_ms
        points = [Metric(key, float(value), now, 0) for key, value in values.items()]
        self.repeated("logging metrics", lambda: self._client.log_batch(self.id, metrics=points))

    def curve(self, name: str, values: Sequence[float], at_ms: int | None = None) -> None:
        """Log a metric with a value a step, from step 1."""
        now = _now_ms() if at_ms is None else at_ms
        points = [Metric(name, float(value), now, step) for step, value in enumerate(values, start=1)]

        def once() -> None:
            for start in range(0, len(points), 1000):  # the most that one request may hold
                self._client.log_batch(self.id, metrics=points[start : start + 1000])

        self.repeated("logging metrics", once)

    def tags(self, values: Mapping[str, str | None]) -> None:
        """Set tags; None is passed over."""

        def once() -> None:
            for key, value in values.items():
                if value is not None:
                    self._client.set_tag(self.id, key, value[:5000])

        self.repeated("setting tags", once)

    def untag(self, key: str) -> None:
        """Take a tag away, if it is there."""

        def once() -> None:
            if key in self._client.get_run(self.id).data.tags:
                self._client.delete_tag(self.id, key)

        self.repeated("setting tags", once)

    def describe(self, markdown: str) -> None:
        """The text on the run's page."""
        self.tags({"mlflow.note.content": markdown})

    def folder(self, path: Path, under: str | None = None) -> None:
        """Log every file of the folder at the run's root, or under a folder there."""
        self.repeated("logging files", lambda: mlflow.log_artifacts(str(path), under, run_id=self.id))

    def text(self, name: str, content: str) -> None:
        """Log a text file."""
        self.repeated("logging a file", lambda: mlflow.log_text(content, name, run_id=self.id))

    def dataset(self, name: str, digest: str, source: str, tags: Mapping[str, str]) -> None:
        """Log the dataset by our own digest: MLflow's covers the first 10,000 rows alone."""
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset

        dataset = MetaDataset(  # type: ignore[abstract]
            CodeDatasetSource({"source": source, **tags}), name=name, digest=digest[:32]
        )
        self.repeated("logging the dataset", lambda: mlflow.log_input(dataset, context="training"))

    def finish(self) -> None:
        """Say that the run is FINISHED, now and not only when it is left: what was kept for it can go then."""
        self.repeated("ending the run", lambda: self._client.set_terminated(self.id, "FINISHED"))


def _now_ms() -> int:
    return int(time.time() * 1000)


@contextmanager
def start_run(uri: str, experiment: str, project_root: Path, patience: Patience | None = None) -> Iterator[Run]:
    """A run that ends FINISHED, or FAILED or KILLED with the reason in the tag ``failure``.

    With ``MLFLOW_RUN_ID`` set (as by `mlflow run`) that run is used as it is.
    """
    given = os.environ.get("MLFLOW_RUN_ID")
    mine = {PROCESS_TAG: Owner.me().text}
    with as_server_error(uri):
        if given is None:
            active = mlflow.start_run(experiment_id=_experiment(experiment, uri), tags=mine)
        else:
            active = mlflow.start_run(run_id=given, tags=mine)
    run = Run(active, uri, patience)
    with ending(run, uri):
        with as_server_error(uri):
            _mark_experiment(run.experiment_id)
        run.tags({"code_version": __version__, "git_commit": git_commit(project_root)})
        yield run


@contextmanager
def run_of_mlflow(uri: str, project_root: Path) -> Iterator[Run | None]:
    """The run that `mlflow run` has opened for this process, as `start_run` has it; None where there is none."""
    if "MLFLOW_RUN_ID" not in os.environ:
        yield None
        return
    with start_run(uri, "", project_root) as run:
        yield run


@contextmanager
def resumed_run(uri: str, run_id: str, patience: Patience | None = None) -> Iterator[Run]:
    """A run of before, taken up again; it ends as `start_run`'s does. Raises InputError where there is none."""
    with as_server_error(uri):
        try:
            client = mlflow.MlflowClient()
            if client.get_run(run_id).info.lifecycle_stage == "deleted":
                raise InputError(f"The run {run_id} was deleted from the MLflow store")
            # Before it is RUNNING again: whoever ends the runs of dead processes looks at both.
            client.set_tag(run_id, PROCESS_TAG, Owner.me().text)
            active = mlflow.start_run(run_id=run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise InputError(f"No run {run_id} in the MLflow store") from None
            raise
    run = Run(active, uri, patience)
    with ending(run, uri):
        yield run


def finish_parent(run: Run, version: str) -> None:
    """The search that the run is the winner of ended with it: it says so, and is no longer RUNNING or FAILED."""
    client = mlflow.MlflowClient()

    def once() -> None:
        parent = client.get_run(run.id).data.tags.get("mlflow.parentRunId")
        if parent is None or client.get_run(parent).info.status == "FINISHED":
            return
        for key, value in (("model_version", version), ("winner_run", run.id)):
            client.set_tag(parent, key, value)
        if "failure" in client.get_run(parent).data.tags:
            client.delete_tag(parent, "failure")
        client.set_terminated(parent, "FINISHED")

    run.repeated("ending the search's run", once)


@contextmanager
def ending(run: Run, uri: str) -> Iterator[None]:
    """Ends the run that was started last: FINISHED, or FAILED or KILLED with the reason in the tag ``failure``."""
    try:
        yield
    except KeyboardInterrupt:
        _end(run, "KILLED", "interrupted")
        raise
    except RanklineError as error:
        _end(run, "FAILED", str(error))
        raise
    except BaseException as error:
        _end(run, "FAILED", f"{type(error).__name__}: {error}")
        raise
    _end(run, "FINISHED", None)


def _end(run: Run, status: str, failure: str | None) -> None:
    if status == "FINISHED":
        run.finish()
        # It is no longer the active one; a second word to the store about it may be lost.
        with impatient(), suppress(MlflowException):
            mlflow.end_run(status)
        return
    # The store may be what failed: the error that led here is the one to show, and soon.
    client = mlflow.MlflowClient()
    with impatient():
        with suppress(Exception):
            client.set_tag(run.id, "failure", (failure or "")[:5000])
        with suppress(Exception):
            mlflow.end_run(status)


def _mark_experiment(experiment_id: str) -> None:
    """Have the UI open on runs and their metrics; it guesses at language models otherwise."""
    client = mlflow.MlflowClient()
    if "mlflow.experimentKind" not in client.get_experiment(experiment_id).tags:
        client.set_experiment_tag(experiment_id, "mlflow.experimentKind", "custom_model_development")


def _experiment(name: str, uri: str) -> str:
    found = mlflow.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            raise ServerError(
                f"The experiment {name!r} is deleted; restore it (mlflow experiments restore -x {found.experiment_id}) "
                "or give another --experiment-name"
            )
        return str(found.experiment_id)
    # Beside the store, wherever the command was typed; a server decides for itself.
    path = sqlite_path(uri)
    location = (path.parent / "mlruns" / name).as_uri() if path is not None else None
    with locked_store(uri):
        found = mlflow.get_experiment_by_name(name)  # another start may have made it since
        if found is not None:
            return str(found.experiment_id)
        return str(mlflow.create_experiment(name, artifact_location=location))
