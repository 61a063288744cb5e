"""`mlflow.pyfunc.spark_udf` of the registered recommender: the block of docs/spark-scoring.md, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mlflow
import pytest
from support.processes import ROOT

from pipeline.ranking.scorer import Scorer
from pipeline.tracking.registry import register
from pipeline.tracking.upload import recommender_parts

pytest_plugins = ["support.spark_session", "support.homes"]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("spark")]


def test_the_udf_gives_the_lists_of_the_scorer(
    spark: Any, here: Any, make_model: Any, rng: Any, tmp_path: Path
) -> None:
    mlflow.set_tracking_uri(here.env["MLFLOW_TRACKING_URI"])
    model = make_model(rng, density=0.3)
    model.save(tmp_path / "model")
    logged = mlflow.pyfunc.log_model(
        name="recommender", **recommender_parts(tmp_path / "model", model, tmp_path / "own")
    )
    assert register(logged.model_uri) == "1"
    users = model.users.values[[3, 0, 29]].tolist()
    table = spark.createDataFrame([(user,) for user in users], "user_id long").repartition(1)
    (block,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "spark-scoring.md").read_text(), re.MULTILINE | re.DOTALL
    )
    names = {"spark": spark, "users": table}
    exec(block, names)
    rows = {row["user_id"]: row for row in names["lists"].collect()}
    assert set(rows) == set(users)
    scorer = Scorer(model)
    for user in users:
        ranking = scorer.recommend(user, 10)
        assert rows[user]["items"] == ranking.items.tolist()
        assert rows[user]["scores"] == ranking.scores.tolist()
        assert rows[user]["sources"] == ["nmf"] * len(ranking.items)
