"""How a run's model is logged."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from pipeline.tracking import upload
from pipeline.tracking.run import start_run
from pipeline.tracking.store import open_or_make_store


def test_a_model_is_logged_once_with_its_example_and_is_not_loaded_to_try_it(
    make_model, rng, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    tried: list[object] = []
    monkeypatch.setattr("mlflow.models.utils._validate_serving_input", lambda **given: tried.append(given))
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    open_or_make_store(store, print)
    model = make_model(rng, 5, 4)
    model.save(tmp_path / "model")
    with start_run(store, "rankline", None) as run:
        uri = upload._log_recommender(run, tmp_path / "model", model)
        assert upload._log_recommender(run, tmp_path / "model", model) == uri
    assert not tried
    (logged,) = mlflow.MlflowClient().search_logged_models([run.experiment_id])
    assert (logged.model_uri, logged.name, str(logged.status)) == (uri, "recommender", "READY")
    loaded = mlflow.pyfunc.load_model(uri)
    assert loaded.input_example["user_id"].tolist() == model.users.values[:1].tolist()
    assert len(loaded.predict(loaded.input_example))
