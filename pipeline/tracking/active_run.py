"""The active run: what is logged to it, held until its end, and retried."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import mlflow
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from pipeline.errors import ConnectionLostError
from pipeline.runtime.process import ProcessIdentity
from pipeline.runtime.retry import RetryPolicy, retry
from pipeline.tracking.store import as_server_error, impatient

__all__ = ["PROCESS_TAG", "Run", "now_ms", "points"]

# The process of a run. A killed process leaves its run RUNNING; a later job ends that run (`stale_runs`).
PROCESS_TAG = "rankline_process"


T = TypeVar("T")


class Run:
    """An active run. Its methods are idempotent and raise ServerError where the store fails.

    A request that fails for a passing reason is retried as `retry_policy` says.
    """

    def __init__(self, run: Any, uri: str, retry_policy: RetryPolicy | None = None) -> None:
        self.id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.name = str(run.info.run_name)
        self.artifacts = str(run.info.artifact_uri)
        self._uri = uri
        self._retry_policy = retry_policy or RetryPolicy()
        self._named_here = False
        self._held: dict[str, float] = {}
        self._held_tags: dict[str, str] = {}
        self._finished = False
        self._client = mlflow.MlflowClient()

    def retry(self, what: str, call: Callable[[], T]) -> T:
        """The result of an idempotent call, retried where it fails for a passing reason."""

        def once() -> T:
            with as_server_error(self._uri):
                return call()

        return retry(once, what, self._retry_policy, (ConnectionLostError,))

    def name_for(self, name: str) -> str:
        """`name` where MLflow generated the run's present name; else the name that a person gave the run."""
        return name if self._named_here or _made_up(self.name) else self.name

    def name_if_made_up(self, name: str) -> None:
        """Give the run this name, unless a person has named it."""
        if self.name_for(name) == name != self.name:
            self.tags({"mlflow.runName": name})
            self.name, self._named_here = name, True

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters. One that `mlflow run` has already logged keeps its value."""

        def once() -> None:
            logged = self._client.get_run(self.id).data.params
            new = [Param(key, str(value)[:6000]) for key, value in values.items() if key not in logged]
            self._client.log_batch(self.id, params=new)

        self.retry("logging parameters", once)

    def metrics(self, values: Mapping[str, float], at_ms: int | None = None, model_id: str | None = None) -> None:
        """Log metrics, of a logged model too if it is named, with the time `at_ms` (ms since 1970), by default now."""
        # Not mlflow.log_metrics: it writes each metric again for every model that the run has logged.
        now = now_ms() if at_ms is None else at_ms
        self.retry("logging metrics", lambda: self._client.log_batch(self.id, metrics=points(values, now, model_id)))

    def metrics_later(self, values: Mapping[str, float]) -> None:
        """Log metrics when the run ends, since the UI shows metrics in the order of logging.

        `held` returns them to a caller that logs them earlier.
        """
        self._held |= values

    def held(self) -> dict[str, float]:
        """Take the metrics of `metrics_later`. The caller logs them."""
        values, self._held = self._held, {}
        return values

    def curve(self, name: str, values: Sequence[float], at_ms: int | None = None) -> None:
        """Log a metric with one value per step, from step 1."""
        now = now_ms() if at_ms is None else at_ms
        points = [Metric(name, float(value), now, step) for step, value in enumerate(values, start=1)]

        def once() -> None:
            for start in range(0, len(points), 1000):  # the maximum per request
                self._client.log_batch(self.id, metrics=points[start : start + 1000])

        self.retry("logging metrics", once)

    def tags(self, values: Mapping[str, str | None]) -> None:
        """Set tags; a value of None is skipped."""

        def once() -> None:
            for key, value in values.items():
                if value is not None:
                    self._client.set_tag(self.id, key, value[:5000])

        self.retry("setting tags", once)

    def tags_later(self, values: Mapping[str, str | None]) -> None:
        """Set tags when the run ends, since the UI shows tags in the order of setting."""
        self._held_tags |= {key: value[:5000] for key, value in values.items() if value is not None}

    def held_tags(self) -> dict[str, str]:
        """Take the tags of `tags_later`. The caller sets them."""
        values, self._held_tags = self._held_tags, {}
        return values

    def untag(self, key: str) -> None:
        """Delete a tag if it exists."""

        def once() -> None:
            if key in self._client.get_run(self.id).data.tags:
                self._client.delete_tag(self.id, key)

        self.retry("setting tags", once)

    def describe(self, markdown: str) -> None:
        """Set the text on the run's page."""
        self.tags({"mlflow.note.content": markdown})

    def folder(self, path: Path, under: str | None = None) -> None:
        """Log every file of the folder at the run's root, or in the folder `under` there."""
        self.retry("logging files", lambda: mlflow.log_artifacts(str(path), under, run_id=self.id))

    def text(self, name: str, content: str) -> None:
        """Log a text file."""
        self.retry("logging a file", lambda: mlflow.log_text(content, name, run_id=self.id))

    def dataset(self, name: str, digest: str, source: str, tags: Mapping[str, str]) -> None:
        """Log the dataset with a digest of all rows: MLflow's own digest covers only the first 10,000."""
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset

        dataset = MetaDataset(  # type: ignore[abstract]
            CodeDatasetSource({"source": source, **tags}), name=name, digest=digest[:32]
        )
        self.retry("logging the dataset", lambda: mlflow.log_input(dataset, context="training"))

    def finish(self) -> None:
        """Set the run FINISHED now, before its context ends, so that its pending copy can be deleted."""
        self.retry("ending the run", lambda: self._client.set_terminated(self.id, "FINISHED"))
        if not self._finished:
            self._finished = True
            # The process no longer matters. Setting its tag again moves it to the end of the tags in the UI.
            with impatient(), suppress(MlflowException):
                self._client.delete_tag(self.id, PROCESS_TAG)
                self._client.set_tag(self.id, PROCESS_TAG, ProcessIdentity.me().text)


def _made_up(name: str) -> bool:
    """Whether MLflow generated the name, e.g. "bold-snake-123": no person chose it, so it may be replaced."""
    from mlflow.utils import name_utils

    match = re.fullmatch(r"([a-z]+)-([a-z]+)-\d+", name)
    words = (name_utils._GENERATOR_PREDICATES, name_utils._GENERATOR_NOUNS)
    return match is not None and all(word in known for word, known in zip(match.groups(), words, strict=True))


def points(values: Mapping[str, float], at_ms: int, model_id: str | None = None) -> list[Metric]:
    """Metrics of one moment, without steps."""
    return [Metric(key, float(value), at_ms, 0, model_id=model_id) for key, value in values.items()]


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
