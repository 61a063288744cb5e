"""What the pages of the MLflow UI say of the model, and where the list of runs is."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import mlflow
import pytest

from pipeline.tracking import model_page
from pipeline.tracking.run import PROCESS_TAG, start_run
from pipeline.tracking.store import open_or_make_store
from pipeline.tracking.ui_address import runs_address


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    open_or_make_store(uri, print)
    return uri


def test_the_address_of_the_runs_is_that_of_the_experiment_by_name(store: str, tmp_path: Path) -> None:
    assert runs_address("http://127.0.0.1:5000", store) == "http://127.0.0.1:5000/#/experiments"
    mlflow.create_experiment("another", artifact_location=tmp_path.as_uri())
    wanted = mlflow.create_experiment("rankline", artifact_location=tmp_path.as_uri())
    assert runs_address("http://127.0.0.1:5000/", store) == f"http://127.0.0.1:5000/#/experiments/{wanted}/runs"


def test_pages_of_a_version_and_of_the_model(store: str) -> None:
    client = mlflow.MlflowClient()
    client.create_registered_model("rankline")
    for text in ("NDCG@10 0.121, k = 20", "NDCG@10 0.113, k = 10"):
        made = client.create_model_version("rankline", "file:///nowhere")
        model_page.describe(made.version, text)
        model_page.describe(made.version, text)  # done twice, it leaves the same
        assert client.get_model_version("rankline", made.version).description == text
    page = client.get_registered_model("rankline").description
    assert "None is promoted yet." in page
    assert "**Newest**, version 2: NDCG@10 0.113, k = 10" in page

    client.set_registered_model_alias("rankline", "champion", "1")
    model_page.refresh()
    page = client.get_registered_model("rankline").description
    assert "**Champion**, version 1: NDCG@10 0.121, k = 20" in page
    assert "**Newest**, version 2" in page

    client.update_registered_model("rankline", "Ask Ada before you touch it.")
    client.update_model_version("rankline", "2", "by hand")
    model_page.describe("2", "NDCG@10 0.5")
    assert client.get_registered_model("rankline").description == "Ask Ada before you touch it."
    assert client.get_model_version("rankline", "2").description == "by hand"


def test_what_is_held_back_is_logged_last_and_never_lost(store: str, tmp_path: Path) -> None:
    with start_run(store, "rankline", None) as run:
        run.metrics_later({"cost/estimated_peak_mb": 5.0})
        run.tags_later({"query_digest": "abc"})
        run.metrics({"ndcg_at_10": 0.5})
        run.tags({"better_than_popular": "yes"})
    run_data = mlflow.get_run(run.id).data
    assert list(run_data.metrics) == ["ndcg_at_10", "cost/estimated_peak_mb"]
    ours = [name for name in run_data.tags if not name.startswith("mlflow.")]
    assert ours == ["better_than_popular", "code_version", "query_digest", PROCESS_TAG]

    with suppress(ValueError), start_run(store, "rankline", None) as run:
        run.metrics_later({"cost/estimated_peak_mb": 7.0})
        raise ValueError("no more")
    run_data = mlflow.get_run(run.id).data
    assert run_data.metrics == {"cost/estimated_peak_mb": 7.0}
    assert run_data.tags["code_version"]
    assert "no more" in run_data.tags["failure"]
