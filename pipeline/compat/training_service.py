"""`TrainingService` of the design: prepares ratings, trains by type, and keeps the model before where a fit fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.compat.evaluation_service import EvaluationService
from pipeline.compat.matrix_factorization import MatrixFactorizationModel
from pipeline.compat.model_manager import MLModelManager
from pipeline.compat.neural_cf import NeuralCF
from pipeline.compat.rated_model import LEAST_RATINGS, RatedModel, ratings_of
from pipeline.data.interactions import Interactions
from pipeline.data.prepare import prepare_interactions
from pipeline.data.splits import make_split
from pipeline.errors import DivergedError, InputError, RanklineError, UsageError

__all__ = ["TrainingService"]

_LOG = logging.getLogger("rankline")
_SHARE, _SEED = 0.2, 42
_IGNORED = "batch_size"  # ours goes by the amount of data


class TrainingService:
    """Parameters
    ----------
    models_dir : where each new model is saved as a version (`MLModelManager`); None: nowhere

    Attributes
    ----------
    models : the last good model of each type
    train_data, test_data : as `prepare_data` parted them
    """

    def __init__(self, models_dir: str | Path | None = None) -> None:
        self.manager = None if models_dir is None else MLModelManager(models_dir)
        self.models: dict[str, RatedModel] = {}
        self.train_data: pd.DataFrame | None = None
        self.test_data: pd.DataFrame | None = None

    def prepare_data(self, ratings_df: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Hold out a fifth of each user's ratings, by the seed 42; a film's last rating of a user counts.

        Raises
        ------
        TooLittleDataError
            For fewer than 100 ratings.
        MissingColumnsError, BadRowsError
            For other columns, and for ratings outside 0.5 to 5.0.
        """
        x = prepare_interactions(ratings_of(ratings_df), min_data=LEAST_RATINGS).interactions
        split = make_split("random", x, share=_SHARE, seed=_SEED)
        self.train_data, self.test_data = _frame(split.train), _frame(split.test)
        return self.train_data, self.test_data

    def train_model(self, model_type: str, hyperparams: Mapping[str, Any]) -> RatedModel:
        """Train on the prepared data; where the fit diverges, the last good model of the type is returned, and logged.

        Parameters
        ----------
        model_type : ``matrix_factorization`` or ``neural_cf``
        hyperparams : `n_factors`, `learning_rate`, `regularization`, `epochs` of the first; `embedding_dim`,
            `hidden_layers`, `dropout`, `learning_rate`, `epochs` of the other. `batch_size` is taken and not used.

        Raises
        ------
        UsageError
            For a type or hyperparameters that are none: no default stands in for a wrong value. DivergedError where
            there is no good model to keep.
        InputError
            Where no data is prepared.
        """
        fit = _fitter(model_type, hyperparams)
        if self.train_data is None or self.test_data is None:
            raise InputError("There is no data to train on: call prepare_data first")
        try:
            model = fit(self.train_data)
        except DivergedError as error:
            previous = self.models.get(model_type)
            if previous is None:
                raise
            _LOG.warning(f"the training of {model_type} did not converge, and the model before stays: {error}")
            return previous
        model.facts["metrics"] = self.evaluate_model(model, self.test_data)
        self.models[model_type] = model
        if self.manager is not None:
            names = {known["version"] for known in self.manager.list_versions()}
            n = next(n for n in range(len(names) + 1) if f"v1.0.{n}" not in names)
            self.manager.save_model(model, f"v1.0.{n}", {})
        return model

    def evaluate_model(self, model: RatedModel, test_data: pd.DataFrame) -> dict[str, Any]:
        """As `EvaluationService.generate_report`."""
        return EvaluationService().generate_report(model, test_data)

    def retrain_all_models(self) -> dict[str, Any]:
        """Train each type with the hyperparameters of its last good model, else the defaults.

        Returns, by type, `status` (``trained``, ``kept`` or ``failed``), `metrics`, and `reason` where it was not
        trained. One that fails leaves the others.
        """
        results: dict[str, Any] = {}
        for model_type in _TYPES:
            before = self.models.get(model_type)
            known = before.facts["hyperparameters"] if before is not None else {}
            try:
                model = self.train_model(model_type, known)
            except RanklineError as error:
                results[model_type] = {"status": "failed", "metrics": {}, "reason": str(error)}
                continue
            kept = model is before
            results[model_type] = {"status": "kept" if kept else "trained", "metrics": dict(model.facts["metrics"])}
            if kept:
                results[model_type]["reason"] = "the training did not converge"
        return results


Fit = Callable[[pd.DataFrame], RatedModel]


def _factors(given: dict[str, Any]) -> Fit:
    model = MatrixFactorizationModel(given.get("n_factors", 50), given.get("learning_rate", 0.01))
    model.regularization = given.get("regularization")
    options = model.options(given.get("epochs", 20), min_data=0)

    def fit(frame: pd.DataFrame) -> RatedModel:
        model.fit_with(frame, options)
        return model

    return fit


def _neural(given: dict[str, Any]) -> Fit:
    model = NeuralCF(given.get("embedding_dim", 32), given.get("hidden_layers", (64, 32)))
    model.dropout, model.learning_rate = given.get("dropout"), given.get("learning_rate")
    options = model.options(given.get("epochs", 10), min_data=0)

    def fit(frame: pd.DataFrame) -> RatedModel:
        model.fit_with(frame, options)
        return model

    return fit


_TYPES: Mapping[str, tuple[Callable[[dict[str, Any]], Fit], frozenset[str]]] = {
    "matrix_factorization": (_factors, frozenset({"n_factors", "learning_rate", "regularization", "epochs"})),
    "neural_cf": (_neural, frozenset({"embedding_dim", "hidden_layers", "dropout", "learning_rate", "epochs"})),
}


def _fitter(model_type: str, hyperparams: Mapping[str, Any]) -> Fit:
    """What fits such a model, its values checked. Raises UsageError."""
    if model_type not in _TYPES:
        raise UsageError(f"model_type must be one of {', '.join(_TYPES)}, got {model_type!r}")
    make, names = _TYPES[model_type]
    if unknown := sorted(set(hyperparams) - names - {_IGNORED}):
        raise UsageError(f"{model_type} has no {', '.join(unknown)}; it has {', '.join(sorted(names))}")
    epochs = hyperparams.get("epochs", 1)
    if type(epochs) is not int or epochs < 1:
        raise UsageError(f"epochs must be a number from 1, got {epochs!r}")
    return make(dict(hyperparams))


def _frame(x: Interactions) -> pd.DataFrame:
    columns: dict[str, Any] = {"user_id": x.user_ids.ids(x.users), "movie_id": x.item_ids.ids(x.items)}
    frame = pd.DataFrame({**columns, "rating": x.scores.astype(np.float64)})
    if x.at is not None:
        frame["timestamp"] = x.at
    return frame
