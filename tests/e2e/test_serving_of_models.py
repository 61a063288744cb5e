"""`mlflow models serve` as a real process, for models that have no factors."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.request import Request, urlopen

import mlflow
import pytest
from support.made_up_ratings import ratings
from support.processes import Home, end, free_port, wait_for

from pipeline.options import TrainOptions
from pipeline.ranking.scorer import Scorer
from pipeline.tracking.upload import recommender_parts
from pipeline.training.train import train

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow


def saved(name: str, folder: Path) -> tuple[Path, Scorer]:
    """The recommender of a small model, as MLflow saves it, and its scorer."""
    model = train(ratings(), TrainOptions(algorithm=name, holdout=0)).model
    artifacts = model.save(folder / "artifacts")
    mlflow.pyfunc.save_model(str(folder / "model"), **recommender_parts(artifacts, model, folder / "scratch"))
    return folder / "model", Scorer.load(artifacts)


@pytest.mark.takes(30)
def test_item_knn_and_popular_answer_with_their_lists(home: Home) -> None:
    served = {}
    try:
        for name in ("item-knn", "popular"):
            model, scorer = saved(name, home.folder / name)
            port = free_port()
            command = ("mlflow", "models", "serve", "-m", str(model), "--env-manager", "local", "-h", "127.0.0.1")
            served[name] = home.fork(*command, "-p", str(port), quiet=True), port, scorer
        for name, (_, port, scorer) in served.items():
            wait_for(port)
            user = scorer.users.values[3].item()
            body = {"dataframe_records": [{"user_id": user}], "params": {"k": 4}}
            address, head = f"http://127.0.0.1:{port}/invocations", {"Content-Type": "application/json"}
            with urlopen(Request(address, json.dumps(body).encode(), head), timeout=240) as response:
                rows = json.load(response)["predictions"]
            expected = scorer.recommend(user, 4)
            assert [row["item_id"] for row in rows] == expected.items.tolist()
            assert [row["score"] for row in rows] == pytest.approx(expected.scores.tolist())
            assert {row["source"] for row in rows} == {name}
    finally:
        for process, *_ in served.values():
            end(process)
