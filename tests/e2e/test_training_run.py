"""A training as it stands in MLflow, and what a fault or an interruption leaves."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest
from support.pickles import pickles_in
from support.processes import Home, end, free_port, wait_for

from pipeline.evaluation.metric_names import HEADLINE, holdout_name

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow

PARAMS = {
    "n_components": "auto",
    "max_iter": "30",
    "tol": "0.0001",
    "init": "random",
    "random_state": "42",
    "alpha_W": "0.0",
    "alpha_H": "same",
    "l1_ratio": "0.0",
    "transform": "none",
    "holdout": "0.2",
    "algorithm": "NMF",
    "algorithm_used": "nmf",
    "n_components_used": "10",
    "matrix_shape": "671x9066",
    "n_users": "671",
    "n_items": "9066",
    "n_interactions": "100004",
}
METRICS = {
    *("reconstruction_error", "rmse", "mae", "observed_rmse", "observed_mae", "sparsity", "n_iter", "loss"),
    *("holdout/rmse", "holdout/mae", "holdout/ndcg_at_10", "holdout/recall_at_10"),
    *("baseline/popular/ndcg_at_10", "baseline/popular/recall_at_10"),
    *("baseline/recent/ndcg_at_10", "baseline/item-knn/ndcg_at_10", "holdout/hit_rate_at_10", "holdout/coverage_at_10"),
    *("baseline/global-mean/rmse", "baseline/user-mean/rmse", "baseline/item-mean/mae", "segment/cold/ndcg_at_10"),
    *("segment/cold/rmse", "segment/hot/mae", "band/head/rmse", "band/tail/mae"),
    *(
        "lift_over_popular",
        "interval/lift_over_popular_low",
        "interval/lift_over_popular_high",
        "interval/ndcg_at_10_low",
    ),
    *("cost/seconds_read", "cost/seconds_matrix", "cost/seconds_fit", "cost/seconds_total", "cost/peak_memory_mb"),
}
ARTIFACTS = {"user_features.npy", "movie_features.npy", "metadata.json", "seen.npz"}


def artifacts(home: Home, run_id: str) -> Path:
    return home.folder / "artifacts" / run_id / "artifacts"


def test_params_metrics_tags_and_dataset(trained: Home) -> None:
    (run,) = trained.runs()
    assert run.info.status == "FINISHED"
    assert PARAMS.items() <= run.data.params.items()
    assert set(run.data.metrics) >= METRICS
    metrics = run.data.metrics
    assert metrics["rmse"] == pytest.approx(metrics["reconstruction_error"] / np.sqrt(671 * 9066))
    assert metrics["holdout/ndcg_at_10"] > metrics["baseline/popular/ndcg_at_10"] > 0
    tags = run.data.tags
    assert tags["source"] == "warehouse"
    assert tags["code_version"] == "0.1.0"
    assert re.fullmatch(r"[0-9a-f]{64}", tags["query_digest"])
    assert re.fullmatch(r"[0-9a-f]{64}", tags["data_digest"])
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.digest == tags["data_digest"][:32]
    assert run.info.run_name == "NMF k=10 · warehouse 671x9066"
    assert "most popular" in tags["mlflow.note.content"]
    losses = trained.client().get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in losses] == list(range(1, int(metrics["n_iter"]) + 1))
    values = [point.value for point in losses]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(metrics["reconstruction_error"], rel=1e-5)


def test_the_evaluation_of_the_run_can_be_read_back(trained: Home) -> None:
    import pyarrow.parquet as pq

    (run,) = trained.runs()
    tags, metrics = run.data.tags, run.data.metrics
    assert tags["split"] == "latest share=0.2"
    assert tags["better_than_popular"] == "yes"
    (version,) = trained.client().search_model_versions("name = 'rankline'")
    for name in ("split", "split_digest", "data_digest", "better_than_popular"):
        assert version.tags[name] == tags[name], name
    page = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/report.html"
    assert re.fullmatch(
        r"NDCG@10 0\.\d{3}, \+\d+ % \[\d+, \d+\] over most popular, item-kNN 0\.\d{3}, k = 10, 671 × 9,066, "
        + re.escape(f"report: [report.html]({page})"),
        version.description,
    )
    assert version.description in trained.client().get_registered_model("rankline").description
    assert list(metrics)[:11] == list(HEADLINE)  # as they were logged: what the UI shows
    ours = [name for name in tags if not name.startswith("mlflow.")]
    assert ours.index("better_than_popular") < min(ours.index(name) for name in ("data_digest", "git_commit"))
    assert ours[-1] == "rankline_process"
    folder = artifacts(trained, run.info.run_id) / "evaluation"
    assert {path.name for path in folder.iterdir()} >= {"per_user.parquet", "summary.json"}
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["split"]["digest"] == tags["split_digest"]
    assert summary["data_digest"] == tags["data_digest"]
    assert list(summary["candidates"]) == ["nmf", "popular", "recent", "item_knn"]
    table = pq.read_table(folder / "per_user.parquet")
    assert table.num_rows == metrics["holdout/n_users"] == 671
    for prefix in ("", "popular_", "recent_", "item_knn_"):
        name = summary["candidates"][prefix.rstrip("_") or "nmf"]
        for metric in ("ndcg_at_10", "recall_at_10"):
            mean = np.nanmean(table[prefix + metric].to_numpy())
            assert mean == pytest.approx(metrics[holdout_name(metric, baseline=prefix.rstrip("_"))], rel=1e-12)
            assert mean == pytest.approx(name[metric], rel=1e-12)
    model_ndcg, popular = (table[name].to_numpy() for name in ("ndcg_at_10", "popular_ndcg_at_10"))
    assert metrics["lift_over_popular"] == pytest.approx(model_ndcg.mean() / popular.mean() - 1)
    assert summary["lift_over_popular"][0] == metrics["lift_over_popular"]
    # Ten titles of the catalogue each, none of what the user has in training: they rank as the model does.
    items = table["items"].to_pylist()
    meta = json.loads((artifacts(trained, run.info.run_id) / "metadata.json").read_text())
    assert {len(row) for row in items} == {10}
    assert {item for row in items for item in row} <= set(meta["movie_ids"])
    assert "Better than most popular: yes, +" in tags["mlflow.note.content"]
    assert "| item-kNN |" in tags["mlflow.note.content"]


def test_the_end_of_a_training_is_a_short_table_with_the_verdict(home: Home) -> None:
    options = ("--max-iter", "5", "--split", "time", "--half-life-days", "365")
    done = home.rankline("train", *options)
    assert done.returncode == 0, done.stderr
    for said in ("this model", "most popular", "recently popular", "item-kNN", "better than most popular: "):
        assert said in done.stdout
    assert "holdout/precision_at_10" not in done.stdout
    assert "users with" in done.stderr  # who begin after the moment are counted
    (run,) = home.runs()
    assert run.data.params["split"] == "time"
    assert run.data.params["half_life_days"] == "365.0"
    assert run.data.tags["split"].startswith("time cutoff=")
    assert "holdout/rmse" not in run.data.metrics
    done = home.rankline("train", "--holdout", "0", "--max-iter", "5")
    assert done.returncode == 0, done.stderr
    assert "better than" not in done.stdout
    newest = home.runs()[0]
    assert not {"split", "split_digest", "better_than_popular"} & set(newest.data.tags)
    assert not (artifacts(home, newest.info.run_id) / "evaluation").exists()


def test_the_four_artifacts_say_what_the_metrics_say(trained: Home) -> None:
    (run,) = trained.runs()
    folder = artifacts(trained, run.info.run_id)
    assert {path.name for path in folder.iterdir() if path.is_file()} >= ARTIFACTS
    w = np.load(folder / "user_features.npy", allow_pickle=False)
    h = np.load(folder / "movie_features.npy", allow_pickle=False)
    assert (w.dtype, h.dtype) == (np.float32, np.float32)
    assert (w.shape, h.shape) == ((671, 10), (10, 9066))
    meta = json.loads((folder / "metadata.json").read_text())
    for name, digest in meta["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    seen = np.load(folder / "seen.npz", allow_pickle=False)
    assert set(seen.files) == {"indptr", "indices", "shape"}
    assert seen["indptr"][-1] == 100_004
    assert np.load(folder / "scores.npy", allow_pickle=False).shape == (100_004,)
    items = np.load(folder / "items.npz", allow_pickle=False)
    of_items = zip(items["title"].tolist(), items["genres"].tolist(), strict=True)
    named = dict(zip(items["item_id"].tolist(), of_items, strict=True))
    assert named[318] == ("Shawshank Redemption, The (1994)", "Crime|Drama")
    assert items["popularity"].sum() == 100_004
    # The matrix once more, dense (the sample is small), straight from the warehouse.
    statement = "SELECT user_id, movie_id, interaction_score AS s FROM analytics.mart_user_movie_matrix"
    rows = trained.sql(statement)
    table = np.array([line.split("\t") for line in rows], float)
    dense = np.zeros((671, 9066))
    dense[
        np.searchsorted(meta["user_ids"], table[:, 0].astype(int)),
        np.searchsorted(meta["movie_ids"], table[:, 1].astype(int)),
    ] = table[:, 2]
    residual = dense - w.astype(float) @ h.astype(float)
    observed = np.zeros(dense.shape, bool)
    observed[np.repeat(np.arange(671), np.diff(seen["indptr"])), seen["indices"]] = True
    metrics = run.data.metrics
    assert metrics["reconstruction_error"] == pytest.approx(np.linalg.norm(residual), rel=1e-9)
    assert metrics["mae"] == pytest.approx(np.abs(residual).mean(), rel=1e-9)
    assert metrics["observed_rmse"] == pytest.approx(np.sqrt((residual[observed] ** 2).mean()), rel=1e-9)
    assert metrics["sparsity"] == pytest.approx(1 - observed.mean())


def test_models_load_and_no_pickle_lies_anywhere(trained: Home) -> None:
    code = f"""
import mlflow, numpy as np, pandas as pd
mlflow.set_tracking_uri({trained.env["MLFLOW_TRACKING_URI"]!r})
client = mlflow.MlflowClient()
version = client.search_model_versions("name = 'rankline'")[0]
run = client.get_run(version.run_id)
model = mlflow.pyfunc.load_model("models:/rankline/1")
out = model.predict(pd.DataFrame({{"user_id": [1, 2]}}), params={{"k": 3}})
assert list(out.columns) == ["user_id", "rank", "item_id", "score", "source"], out
assert out["rank"].tolist() == [1, 2, 3, 1, 2, 3]
logged = mlflow.search_logged_models([run.info.experiment_id], output_format="list")
recommender = next(m for m in logged if m.name == "recommender")
assert {{m.key: m.value for m in recommender.metrics}}["holdout/ndcg_at_10"] == run.data.metrics["holdout/ndcg_at_10"]
nmf_uri = next(m.model_uri for m in logged if m.name == "nmf_model")
import skops.io
nmf = mlflow.sklearn.load_model(nmf_uri)
assert type(nmf).__module__.startswith("sklearn.decomposition")
h = np.load({str(trained.folder)!r} + f"/artifacts/{{version.run_id}}/artifacts/movie_features.npy")
assert (nmf.components_ == h).all()
print(out.to_json(orient="values"))
"""
    done = trained.python(code)
    assert done.returncode == 0, done.stderr
    ours = json.loads(done.stdout.splitlines()[-1])
    statement = (
        "SELECT user_id, rank, item_id, score, source FROM analytics.recommendations "
        "WHERE user_id IN (1, 2) AND rank <= 3 ORDER BY user_id, rank"
    )
    published = [line.split("\t") for line in trained.sql(statement)]
    assert [[row[0], row[1], row[2]] for row in ours] == [[int(x) for x in row[:3]] for row in published]
    assert sum(path.is_file() for path in (trained.folder / "artifacts").rglob("*")) > 10
    assert pickles_in(trained.folder / "artifacts") == []


def test_the_same_command_gives_the_same_bytes(trained: Home, home: Home) -> None:
    done = home.rankline("train", "--max-iter", "30")
    assert done.returncode == 0, done.stderr
    (ours,), (theirs,) = home.runs(), trained.runs()
    for name in ("user_features.npy", "movie_features.npy", "seen.npz"):
        first = (artifacts(home, ours.info.run_id) / name).read_bytes()
        assert first == (artifacts(trained, theirs.info.run_id) / name).read_bytes()
    assert ours.data.tags["data_digest"] == theirs.data.tags["data_digest"]


def test_the_table_leaves_out_everything_seen_and_is_complete(trained: Home) -> None:
    statement = (
        "SELECT count(), uniqExact(user_id), max(rank), countIf(s.movie_id != 0), uniqExact(run_id) "
        "FROM analytics.recommendations AS r LEFT ANY JOIN "
        "(SELECT user_id, movie_id FROM raw.ratings UNION DISTINCT "
        "SELECT user_id, movie_id FROM raw.watched_movies) AS s "
        "ON s.user_id = r.user_id AND s.movie_id = r.item_id"
    )
    assert trained.sql(statement) == ["6710\t671\t10\t0\t1"]


def test_show_and_recommend_for_people(trained: Home) -> None:
    done = trained.rankline("show")
    assert done.returncode == 0, done.stderr
    for said in ("holdout/ndcg_at_10", "most popular", "What user 1 liked best", "Recommended for user 1", "make ui"):
        assert said in done.stdout
    assert "Tron (1982)" in done.stdout
    done = trained.rankline("recommend", "42", "--k", "3")
    assert re.search(r"(?m)\s+3 +\d+ +\w", done.stdout)


def test_serve_answers_with_the_recommender(trained: Home) -> None:
    port = free_port()
    command = ("mlflow", "models", "serve", "-m", "models:/rankline/1", "--env-manager", "local", "-h", "127.0.0.1")
    process = trained.fork(*command, "-p", str(port), quiet=True, env={"MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": "60"})
    try:
        wait_for(port)
        body = {"dataframe_records": [{"user_id": 1}, {"user_id": 2}], "params": {"k": 3}}
        request = Request(
            f"http://127.0.0.1:{port}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urlopen(request, timeout=240) as response:
            answer = json.load(response)["predictions"]
    finally:
        end(process)
    assert [(row["user_id"], row["rank"]) for row in answer] == [(u, r) for u in (1, 2) for r in (1, 2, 3)]
    statement = "SELECT item_id FROM analytics.recommendations WHERE user_id = 1 AND rank <= 3 ORDER BY rank"
    published = trained.sql(statement)
    assert [str(row["item_id"]) for row in answer[:3]] == published


@pytest.mark.takes(30)
def test_a_tracking_server(home: Home) -> None:
    port = free_port()
    server = home.fork(
        *("mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *(
            "--backend-store-uri",
            home.env["MLFLOW_TRACKING_URI"],
            "--artifacts-destination",
            str(home.folder / "served"),
        ),
        quiet=True,
    )
    try:
        wait_for(port)
        uri = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
        done = home.rankline("train", "--max-iter", "5", "--experiment-name", "served", env=uri)
        assert done.returncode == 0, done.stderr
        done = home.rankline("score", "--k", "2", env=uri)
        assert done.returncode == 0, done.stderr
        assert "published 1,342 rows" in done.stdout
    finally:
        end(server)
    (run,) = home.runs("served")
    assert run.info.status == "FINISHED"


def test_git_commit_of_a_tree(tmp_path: Path) -> None:
    from pipeline.tracking.run import git_commit

    assert git_commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    (tmp_path / "a").write_text("1")
    for arguments in (["init", "-q"], ["add", "a"], ["commit", "-qm", "a"]):
        subprocess.run([*git, *arguments], check=True)
    head = git_commit(tmp_path)
    assert head is not None
    assert re.fullmatch(r"[0-9a-f]{40}", head)
    (tmp_path / "a").write_text("2")
    assert git_commit(tmp_path) == head + "+"
