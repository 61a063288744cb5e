"""`MLModelManager` of the design: versions of models in a folder, each in Rankline's own form (docs/artifacts.md).

Rankline's registry is MLflow, with a gate before a version is used; this is for code that has no MLflow.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pandas as pd

from pipeline.compat.matrix_factorization import MatrixFactorizationModel
from pipeline.compat.neural_cf import NeuralCF
from pipeline.compat.rated_model import FACTS, RatedModel, texts_of
from pipeline.errors import ArtifactError, RanklineError, UsageError
from pipeline.models.baseline import popular_baseline
from pipeline.models.item_snapshot import ItemSnapshot
from pipeline.models.model_files import METADATA, ModelFolder
from pipeline.models.saved_model import load_item_snapshot, load_saved_model, with_meta
from pipeline.runtime.file_lock import FileLock

__all__ = ["MLModelManager", "PopularFilms"]

_LOG = logging.getLogger("rankline")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_WAIT = 30.0  # seconds, for another process that saves a version


class PopularFilms(RatedModel):
    """What is recommended where no version can be loaded: the same films for everybody."""

    model_type: ClassVar[str] = "popular"


_TYPES: Mapping[str, type[RatedModel]] = {
    of.model_type: of for of in (MatrixFactorizationModel, NeuralCF, PopularFilms)
}


class _Version(NamedTuple):
    folder: Path
    facts: dict[str, Any]


class MLModelManager:
    """Keeps versions in ``models_dir/<model type>/<version>``.

    models_dir : made with the first version
    """

    def __init__(self, models_dir: str | Path = "models") -> None:
        self.models_dir = Path(models_dir)

    def save_model(self, model: RatedModel, version: str, metadata: Mapping[str, Any]) -> str:
        """Save a fitted model as a version; returns its folder. Versions stay as they are.

        metadata : overrides what the model says of itself: `hyperparameters`, `metrics`, `training_data`, …

        Raises
        ------
        UsageError
            For a version that is there, or is no name: letters, digits and ``._+-``.
        NotFittedError, OSError
        """
        if not _VERSION.fullmatch(version) or version == "latest":
            raise UsageError(f"A version is named by letters, digits and ._+-, and not 'latest': got {version!r}")
        saved = model.saved
        self.models_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(self.models_dir / ".lock", _WAIT):
            there = self._versions()
            if any(known.facts["version"] == version for known in there):
                raise UsageError(f"Version {version} is there already: versions are never written over")
            # Later than every other, whatever the clock does.
            now = _now()
            if there:
                now = max(now, datetime.fromisoformat(there[0].facts["saved_at"]) + timedelta(milliseconds=1))
            facts = {**model.facts, "model_type": model.model_type, **metadata}
            facts |= {"version": version, "saved_at": now.isoformat(timespec="milliseconds")}
            incoming = self.models_dir / model.model_type / f".{version}"
            with_meta(saved, {**saved.meta, FACTS: facts}).save(incoming, texts_of(model.movies))
            return str(incoming.rename(incoming.with_name(version)))

    def load_model(self, version: str = "latest") -> RatedModel:
        """A version; where it can't be loaded, the one before it, and so on; at last the most popular films.

        Each step back is logged. Raises UsageError for a version that was never there, and ArtifactError where
        there is nothing that could be recommended.
        """
        versions = self._versions()
        if version != "latest":
            names = [known.facts["version"] for known in versions]
            if version not in names:
                raise UsageError(f"There is no version {version!r}: there are {', '.join(names[:20]) or 'none'}")
            versions = versions[names.index(version) :]
        for known in versions:
            try:
                return _loaded(known)
            except (RanklineError, OSError) as error:
                _LOG.warning(f"version {known.facts['version']} can't be loaded: {error}")
        return self._baseline(versions)

    def list_versions(self) -> list[dict[str, Any]]:
        """The metadata of each version that says what it is, the newest first."""
        return [dict(known.facts) for known in self._versions()]

    def get_best_model(self) -> RatedModel:
        """The version of least `metrics.rmse`, the newest of equals; without any RMSE the newest. Errors as above."""
        measured = [
            (float(metrics["rmse"]), place, known)
            for place, known in enumerate(self._versions())
            if isinstance(metrics := known.facts.get("metrics"), Mapping) and "rmse" in metrics
        ]
        if not measured:
            return self.load_model()
        return self.load_model(min(measured)[2].facts["version"])

    def _versions(self) -> list[_Version]:
        """Those whose metadata can be read, the newest first."""
        found = []
        for path in self.models_dir.glob(f"*/[!.]*/{METADATA}"):
            try:
                facts = ModelFolder(path.parent).meta.get(FACTS)
            except (RanklineError, OSError) as error:
                _LOG.warning(f"{path.parent} is no version: {error}")
                continue
            if isinstance(facts, dict) and {"version", "saved_at", "model_type"} <= set(facts):
                found.append(_Version(path.parent, facts))
        return sorted(found, key=lambda known: known.facts["saved_at"], reverse=True)

    def _baseline(self, versions: list[_Version]) -> RatedModel:
        for known in versions:
            try:
                snapshot = load_item_snapshot(known.folder)
            except (RanklineError, OSError):
                continue
            if snapshot is not None:
                _LOG.warning("no version can be loaded: the most popular films are recommended to everybody")
                made = PopularFilms.of_saved(popular_baseline(snapshot))
                made.movies = _movies(snapshot)
                return made
        raise ArtifactError(f"There is no version in {self.models_dir} that can be loaded: train a model and save it")


def _now() -> datetime:
    """To the millisecond, as it is written."""
    return datetime.fromisoformat(datetime.now(UTC).isoformat(timespec="milliseconds"))


def _loaded(known: _Version) -> RatedModel:
    kind = _TYPES.get(str(known.facts["model_type"]))
    if kind is None:
        raise ArtifactError(f"{known.folder} is of a type that is not known: {known.facts['model_type']!r:.60}")
    model = kind.of_saved(load_saved_model(known.folder))
    snapshot = load_item_snapshot(known.folder)
    model.movies = None if snapshot is None else _movies(snapshot)
    return model


def _movies(snapshot: ItemSnapshot) -> pd.DataFrame | None:
    if snapshot.titles is None and snapshot.genres is None:
        return None
    columns = {"title": snapshot.titles, "genres": snapshot.genres}
    given = {name: values.tolist() for name, values in columns.items() if values is not None}
    return pd.DataFrame({"movie_id": snapshot.ids.values.tolist(), **given})
