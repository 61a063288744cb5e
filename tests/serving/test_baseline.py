"""Without any model: what is popular, from the items of the version that was served last; and health says so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.served import Workers, listed, put_copy, small_trained

from pipeline.errors import ArtifactError
from pipeline.ranking.scorer import Scorer
from pipeline.serving.baseline import keep_items, load_baseline
from pipeline.serving.live_folder import Pointer

LIST = "/api/v1/recommendations"


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path / "live", n=0)
    made.folder.make()
    yield made
    made.close()


@pytest.fixture
def model():
    return small_trained()


def damaged(workers: Workers, model) -> Pointer:
    """A version that was served, whose factors are broken by now."""
    pointer = put_copy(workers.folder, model)
    workers.folder.flip(pointer)
    keep_items(workers.folder, pointer)
    factors = workers.folder.model_folder(pointer.digest) / "user_features.npy"
    shutil.copy(factors, factors.with_suffix(".good"))
    factors.write_bytes(b"broken")
    return pointer


def test_without_items_there_is_no_answer(workers: Workers) -> None:
    workers.runner.run(workers._start())
    assert workers.get(f"{LIST}/100").json()["code"] == "NO_MODEL"
    assert workers.get("/api/v1/ready").status_code == workers.get("/api/v1/health").status_code == 503


def test_what_is_popular_is_served_and_health_is_degraded(workers: Workers, model) -> None:
    damaged(workers, model)
    workers.runner.run(workers._start())
    answer = workers.get(f"{LIST}/100?k=7").json()
    assert (answer["source"], answer["model_version"], answer["run_id"]) == ("popular", "rankline/baseline", "")
    popular = Scorer(model).recommend(999, 7, unknown="popular")
    assert listed(workers.get(f"{LIST}/100?k=7")) == list(
        zip(popular.items.tolist(), popular.scores.tolist(), strict=True)
    )
    assert answer["recommendations"][0]["title"].startswith("The ")
    health = workers.get("/api/v1/health").json()
    assert health["status"] == "degraded"
    assert health["model"]["fault"] == "no model can be loaded: what is popular is served"
    assert workers.get("/api/v1/ready").status_code == 200
    assert workers.get(f"{LIST}/100?unknown=error").json()["code"] == "UNKNOWN_USER"


def test_genres_ratings_scores_and_reasons_work_without_a_model(workers: Workers, model) -> None:
    damaged(workers, model)
    workers.runner.run(workers._start())
    war = workers.get(f"{LIST}/100?genre=War&k=4").json()
    assert war["source"] == "popular:War"
    assert all("War" in row["genres"] for row in war["recommendations"])
    assert [row["item_id"] for row in workers.get("/api/v1/popular?genre=War&k=4").json()["items"]] == [
        row["item_id"] for row in war["recommendations"]
    ]
    first = listed(workers.get(f"{LIST}/100"))[0][0]
    kept = workers.post("/api/v1/interactions", {"user_id": 100, "item_id": first, "rating": 5})
    assert kept.status_code == 201
    after = workers.get(f"{LIST}/100")
    assert after.json()["source"] == "popular"
    assert first not in dict(listed(after))
    count = int(np.count_nonzero(model.seen.indices == model.items.row(first)))
    told = workers.get(f"/api/v1/explain/7/{first}").json()
    assert (told["source"], told["n_interactions"], told["reasons"]["popularity"]) == ("popular", count, count)
    scored = workers.post("/api/v1/predict", {"user_id": 7, "item_ids": [first]}).json()
    assert (scored["source"], scored["predictions"][0]["score"]) == ("popular", None)
    assert workers.get("/api/v1/items?q=1004").json()["items"][0]["item_id"] == 1004


def test_a_model_that_can_be_loaded_takes_over(workers: Workers, model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.serving.current_model._AGAIN_SECONDS", 0.0)
    pointer = damaged(workers, model)
    workers.runner.run(workers._start())
    assert workers.get(f"{LIST}/100").json()["source"] == "popular"
    factors = workers.folder.model_folder(pointer.digest) / "user_features.npy"
    shutil.copy(factors.with_suffix(".good"), factors)
    workers.look()
    workers.look()
    items, scores = Scorer(model).recommend(100, 10)
    answer = workers.get(f"{LIST}/100")
    assert answer.json()["model_version"] == "rankline/1"
    assert listed(answer) == list(zip(items.tolist(), scores.tolist(), strict=True))
    assert workers.get("/api/v1/health").json()["model"]["fault"] == ""
    assert list(workers.services[0].model._loaded) == [pointer.digest]


def test_items_are_kept_once_a_version_and_damage_is_no_answer(workers: Workers, model) -> None:
    pointer = put_copy(workers.folder, model)
    keep_items(workers.folder, pointer)
    file = workers.folder.baseline / "metadata.json"
    before = file.stat().st_mtime_ns
    keep_items(workers.folder, pointer)
    assert file.stat().st_mtime_ns == before
    other = put_copy(workers.folder, small_trained("popular"), "2")
    keep_items(workers.folder, other)
    assert file.stat().st_mtime_ns != before
    kept = load_baseline(workers.folder, "rankline", ("title",), 0)
    own = kept.snapshot.popular_in("War")
    assert (np.diff(kept.snapshot.popularity[own]) <= 0).all()
    assert kept.snapshot.popularity.sum() == model.seen.nnz
    (workers.folder.baseline / "item_scores.npy").write_bytes(b"x")
    with pytest.raises(ArtifactError):
        load_baseline(workers.folder, "rankline", (), 0)
    keep_items(workers.folder, other)
    assert load_baseline(workers.folder, "rankline", (), 0).is_baseline
    small_trained("popular").save(workers.folder.baseline)  # a model, and no baseline
    with pytest.raises(ArtifactError, match="no items"):
        load_baseline(workers.folder, "rankline", (), 0)
