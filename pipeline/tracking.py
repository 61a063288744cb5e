"""One training run in MLflow: what was made elsewhere is written down here."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from pipeline import __version__
from pipeline.errors import RanklineError, RefusedError, ServerError, UnreachableError, UsageError
from pipeline.settings import address_of_store, without_secrets

__all__ = [
    "Run",
    "as_server_error",
    "ending",
    "git_commit",
    "locked_store",
    "open_store",
    "run_name",
    "start_run",
    "versions",
]

_HINT = "MLFLOW_TRACKING_URI names it"


def open_store(uri: str) -> None:
    """Point MLflow at its store, and see that it is there: a server that is down is refused at once.

    Raises
    ------
    UnreachableError, RefusedError
        A tracking server that does not answer, or answers otherwise than MLflow.
    """
    # The client would try for minutes; a job that is scheduled again tomorrow had better say so now.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # it draws where no terminal is, too
    address_of_store(uri)
    if uri.startswith(("http://", "https://")):
        _ping(uri)
    try:
        with as_server_error(uri), locked_store(uri):
            mlflow.set_tracking_uri(uri)
            mlflow.MlflowClient().search_experiments(max_results=1)
    except ModuleNotFoundError as error:  # of a database's driver
        raise RefusedError(
            f"MLflow's store at {address_of_store(uri)} needs the package {error.name}: pip install it. {_HINT}"
        ) from None


@contextmanager
def locked_store(uri: str) -> Iterator[None]:
    """One at a time for a store in a file: its first use makes the tables, and two at once break each other."""
    import logging

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    path = _sqlite_path(uri)
    if path is None or not path.parent.is_dir():
        yield
        return
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sqlite_path(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else None


def _ping(uri: str) -> None:
    import requests

    address = address_of_store(uri)
    try:
        response = requests.get(uri.rstrip("/") + "/health", timeout=10, **_credentials())
    except requests.ConnectionError as error:
        raise UnreachableError(f"No MLflow server answers at {address} ({_system_reason(error)}). {_HINT}") from None
    except requests.Timeout:
        raise UnreachableError(f"The MLflow server at {address} does not answer in time. {_HINT}") from None
    except requests.RequestException as error:
        raise UsageError(f"MLFLOW_TRACKING_URI is no valid address ({type(error).__name__})") from None
    if response.status_code in (401, 403):
        raise RefusedError(
            f"The MLflow server at {address} refused (HTTP {response.status_code}). "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD name the user"
        )
    if response.status_code >= 400:
        raise RefusedError(f"What answers at {address} is no MLflow server (HTTP {response.status_code}). {_HINT}")


def _credentials() -> dict[str, Any]:
    """MLflow's own settings of who asks, and whom to trust."""
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    insecure = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("1", "true")
    return {
        "auth": (user, password or "") if user else None,
        "headers": {"Authorization": f"Bearer {token}"} if token and not user else None,
        "verify": os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or not insecure,
    }


def _system_reason(error: BaseException | None) -> str:
    """The deepest system error in a chain, in its own words."""
    reason, seen = "no connection", set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror.lower()
        inner = [arg for arg in error.args if isinstance(arg, BaseException)]
        error = getattr(error, "reason", None) or error.__cause__ or error.__context__ or next(iter(inner), None)
        error = error if isinstance(error, BaseException) else None
    return reason


@contextmanager
def as_server_error(uri: str) -> Iterator[None]:
    """MLflow's errors as ours: its address without the password, in one line."""
    import requests

    try:
        yield
    except (MlflowException, requests.RequestException) as error:
        text = re.sub(r"\s+", " ", without_secrets(str(error)))[:300]
        text = re.sub(r"://[^@/\s]*@", "://", text)
        raise ServerError(f"MLflow at {address_of_store(uri)} failed: {text}. {_HINT}") from None


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


def versions(*packages: str) -> list[str]:
    """Installed versions as pip requirements."""
    from importlib.metadata import version

    return [f"{package}=={version(package)}" for package in packages]


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
    """An active run. Methods raise ServerError where the store fails."""

    def __init__(self, run: Any, uri: str) -> None:
        self.id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self._uri = uri
        self._named_here = False
        self._client = mlflow.MlflowClient()

    @property
    def name(self) -> str:
        """The run's name as it stands in the store."""
        return str(self._client.get_run(self.id).info.run_name)

    def name_if_made_up(self, name: str) -> None:
        """Give the run a readable name, unless a person has given it one."""
        with as_server_error(self._uri):
            self._named_here = self._named_here or _made_up(self.name)
            if self._named_here:
                self._client.set_tag(self.id, "mlflow.runName", name)

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters; one that `mlflow run` has logged already stays as it was typed."""
        with as_server_error(self._uri):
            there = self._client.get_run(self.id).data.params
            new = [Param(key, str(value)[:6000]) for key, value in values.items() if key not in there]
            self._client.log_batch(self.id, params=new)

    def metrics(self, values: Mapping[str, float]) -> None:
        """Log metrics."""
        import time

        # mlflow.log_metrics writes each one once more for every model that the run has by then.
        now = int(time.time() * 1000)
        points = [Metric(key, float(value), now, 0) for key, value in values.items()]
        with as_server_error(self._uri):
            self._client.log_batch(self.id, metrics=points)

    def curve(self, name: str, values: Sequence[float]) -> None:
        """Log a metric with a value a step, from step 1."""
        import time

        now = int(time.time() * 1000)
        points = [Metric(name, float(value), now, step) for step, value in enumerate(values, start=1)]
        with as_server_error(self._uri):
            for start in range(0, len(points), 1000):  # the most that one request may hold
                self._client.log_batch(self.id, metrics=points[start : start + 1000])

    def tags(self, values: Mapping[str, str | None]) -> None:
        """Set tags; None is passed over."""
        with as_server_error(self._uri):
            for key, value in values.items():
                if value is not None:
                    self._client.set_tag(self.id, key, value[:5000])

    def describe(self, markdown: str) -> None:
        """The text on the run's page."""
        self.tags({"mlflow.note.content": markdown})

    def folder(self, path: Path, under: str | None = None) -> None:
        """Log every file of the folder at the run's root, or under a folder there."""
        with as_server_error(self._uri):
            mlflow.log_artifacts(str(path), under, run_id=self.id)

    def text(self, name: str, content: str) -> None:
        """Log a text file."""
        with as_server_error(self._uri):
            mlflow.log_text(content, name, run_id=self.id)

    def dataset(self, name: str, digest: str, source: str, tags: Mapping[str, str]) -> None:
        """Log the dataset by our own digest: MLflow's covers the first 10,000 rows alone."""
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset

        dataset = MetaDataset(  # type: ignore[abstract]
            CodeDatasetSource({"source": source, **tags}), name=name, digest=digest[:32]
        )
        with as_server_error(self._uri):
            mlflow.log_input(dataset, context="training")

    def sklearn_model(self, estimator: Any, name: str = "nmf_model") -> None:
        """Log a scikit-learn estimator in skops format (never pickle)."""
        import mlflow.sklearn

        with as_server_error(self._uri), _quiet("mlflow"):
            mlflow.sklearn.log_model(
                estimator,
                name=name,
                serialization_format="skops",
                pip_requirements=versions("mlflow", "scikit-learn", "skops", "numpy", "scipy"),
            )

    def pyfunc_model(self, code: Path, package: Path, artifacts: Path, example: Any, signature: Any) -> str:
        """Log the recommender from code; returns the model's URI."""
        import mlflow.pyfunc

        with as_server_error(self._uri), _quiet("mlflow"):
            info = mlflow.pyfunc.log_model(
                name="recommender",
                python_model=str(code),
                artifacts={"model": str(artifacts)},
                code_paths=[str(package)],
                signature=signature,
                input_example=example,
                pip_requirements=versions("mlflow", "numpy", "scipy", "pandas"),
            )
        return str(info.model_uri)


@contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Warnings of a library that speak to its developers, not to who trains a model."""
    import logging

    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


@contextmanager
def start_run(uri: str, experiment: str, project_root: Path) -> Iterator[Run]:
    """A run that ends FINISHED, or FAILED or KILLED with the reason in the tag ``failure``.

    With ``MLFLOW_RUN_ID`` set (as by `mlflow run`) that run is used as it is.
    """
    given = os.environ.get("MLFLOW_RUN_ID")
    with as_server_error(uri):
        if given is None:
            active = mlflow.start_run(experiment_id=_experiment(experiment, uri))
        else:
            active = mlflow.start_run(run_id=given)
    run = Run(active, uri)
    with ending(run, uri):
        with as_server_error(uri):
            _mark_experiment(run.experiment_id)
        run.tags({"code_version": __version__, "git_commit": git_commit(project_root)})
        yield run


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
    try:
        run.tags({"failure": failure})
        mlflow.end_run(status)
    except (RanklineError, MlflowException):
        # The store is gone: the error that led here is the one to show.
        if status == "FINISHED":
            raise


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
    path = _sqlite_path(uri)
    location = (path.parent / "mlruns" / name).as_uri() if path is not None else None
    with locked_store(uri):
        found = mlflow.get_experiment_by_name(name)  # another start may have made it since
        if found is not None:
            return str(found.experiment_id)
        return str(mlflow.create_experiment(name, artifact_location=location))
