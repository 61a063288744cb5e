"""What the agent reads in MLflow for the workers."""

from __future__ import annotations

from pathlib import Path

import mlflow
from support.agent_store import Store
from support.served import Workers, small_trained

from pipeline.serving.live_folder import read_json
from pipeline.serving.model_snapshot import ModelSnapshot
from pipeline.tracking import champion

pytest_plugins = ["support.homes"]


def test_versions_with_their_gates_metrics_and_who_was_champion(home, tmp_path: Path) -> None:
    uri = home.env["MLFLOW_TRACKING_URI"]
    workers = Workers(tmp_path / "live", n=0)
    workers.folder.make()
    store, model = Store(uri, workers), small_trained("popular")
    mlflow.set_tracking_uri(uri)
    path = workers.folder.models_snapshot
    snapshot = ModelSnapshot(workers.folder, "rankline")
    snapshot.refresh(now=True)
    assert (read_json(path)["models"], read_json(path)["former"]) == ([], "")
    assert {"nmf", "als", "auto"} <= set(read_json(path)["algorithms"])
    run_ids = []
    for n in range(4):
        store.register(model)
        run_ids.append(store.client.get_model_version("rankline", str(n + 1)).run_id)
    store.client.log_param(run_ids[0], "algorithm_used", "ALS")
    for name, value in (("ndcg_at_10", 0.5), ("baseline/popular/ndcg_at_10", 0.25), ("segment/cold/rmse", 1.0)):
        store.client.log_metric(run_ids[0], name, value)
    store.client.log_metric(run_ids[0], "loss", float("nan"))
    for run_id, watermark in zip(run_ids, ('{"log": 7}', "no JSON", "[1]"), strict=False):
        store.client.set_tag(run_id, "data_watermark", watermark)
    for version, before in (("1", ""), ("2", "1"), ("3", "2")):
        assert champion.promote(version, instead_of=before, how="promoted")
    champion.tag("3", {"promotion": "forced", "promotion_reason": "new films", "promotion_reasons": "NO · worse"})
    champion.tag("4", {"promotion": "refused", "promotion_reasons": "NO · worse"})
    snapshot.refresh(now=True)
    value = read_json(path)
    assert [row["version"] for row in value["models"]] == ["4", "3", "2", "1"]
    assert [row["champion"] for row in value["models"]] == [False, True, False, False]
    assert (value["former"], value["good"]) == ("2", ["3", "2", "1"])
    assert value["watermarks"] == [{}, {}, {}, {"log": 7}]
    four, three, two, one = value["models"]
    assert (one["algorithm"], one["metrics"]) == ("als", {"ndcg_at_10": 0.5})
    assert one["baselines"] == {"popular": {"ndcg_at_10": 0.25}}
    assert one["created_at"].startswith("20")
    assert four["gate"] == {"decision": "refused", "reason": "NO · worse"}
    assert three["gate"] == {"decision": "promoted", "reason": "against the gate: new films\nNO · worse"}
    assert (two["gate"]["decision"], two["label"]) == ("none", "rankline/2")
    champion.roll_back("complaints")
    champion.tag("3", {"promotion": "rolled back", "rolled_back_at": "2026", "rollback_reason": "complaints"})
    snapshot.refresh()  # too soon after the last one
    assert read_json(path) == value
    snapshot.refresh(now=True)
    after = read_json(path)
    assert (after["former"], after["good"]) == ("1", ["2", "1"])
    assert after["models"][1]["gate"] == {"decision": "refused", "reason": "rolled back at 2026: complaints"}
    stamp = path.stat().st_mtime_ns
    snapshot.refresh(now=True)
    assert path.stat().st_mtime_ns == stamp  # nothing has changed
    store.client.delete_model_version("rankline", "1")  # by hand: nothing is left to go back to
    snapshot.refresh(now=True)
    after = read_json(path)
    assert (after["former"], [row["version"] for row in after["models"]]) == ("", ["4", "3", "2"])
    (home.folder / "mlflow.db").rename(home.folder / "away.db")
    snapshot.refresh(now=True)
    assert read_json(path) == after
    workers.close()
