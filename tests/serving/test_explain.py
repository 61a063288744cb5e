"""Why an item, and what is like an item or a user, over HTTP: the exact parts of the score that is served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.served import Workers, put_copy, small_trained

from pipeline.ranking.neighbours import similar_items, similar_users


@pytest.fixture(scope="module")
def model():
    return small_trained()


@pytest.fixture
def workers(tmp_path: Path, model) -> Iterator[Workers]:
    made = served(tmp_path, model)
    yield made
    made.close()


def served(folder: Path, model) -> Workers:
    made = Workers(folder / "live", n=0)
    made.folder.make()
    made.folder.flip(put_copy(made.folder, model))
    made.runner.run(made._start())
    return made


def total(answer: dict) -> float:
    parts = answer["contributions"]
    return sum(part["part"] for part in parts["your_items"]) + parts["level"]


def test_the_parts_of_what_is_served_sum_to_its_score(workers: Workers, model) -> None:
    user = int(model.users.values[3])
    listed = workers.get(f"/api/v1/recommendations/{user}?k=3").json()["recommendations"]
    for entry in listed:
        why = workers.get(f"/api/v1/explain/{user}/{entry['item_id']}?parts=100").json()
        assert (why["score"], why["rank"], why["source"]) == (entry["score"], entry["rank"], "nmf")
        assert total(why) == pytest.approx(entry["score"], abs=1e-5)
        assert sum(part["part"] for part in why["contributions"]["factors"]) == pytest.approx(entry["score"], abs=1e-5)
        assert (why["movie_id"], why["movie_title"]) == (entry["item_id"], entry["title"])
        own = set(model.items.ids(model.seen[3].indices).tolist())
        assert {part["item_id"] for part in why["contributions"]["your_items"]} <= own
        assert {part["item_id"] for part in why["reasons"]["similar_movies"]} <= own
        assert why["reasons"]["genre_match"]["genres"]["All"] == 1
        assert 0 <= why["confidence"] <= 1
    item = listed[0]["item_id"]
    by_query = workers.get(f"/api/v1/explain?user_id={user}&item_id={item}&parts=100")
    assert by_query.json() == workers.get(f"/api/ml/explain/{user}/{item}?parts=100").json()


@pytest.mark.parametrize("known", [True, False])
def test_a_new_rating_is_among_the_parts(workers: Workers, model, known: bool) -> None:
    user = int(model.users.values[3]) if known else 99
    seen = set(model.items.ids(model.seen[3].indices).tolist())
    new, other = [item for item in model.items.values.tolist() if item not in seen][:2]
    workers.post("/api/v1/interactions", {"user_id": user, "item_id": new, "rating": 5})
    why = workers.get(f"/api/v1/explain/{user}/{other}?parts=100").json()
    predicted = workers.post("/api/v1/predict", {"user_id": user, "item_ids": [other]}).json()["predictions"][0]
    assert why["source"] == "fold_in"
    assert why["score"] == predicted["score"]
    row = model.items.values.tolist().index(other)
    assert why["n_interactions"] == int(np.count_nonzero(model.seen.indices == row)) > 0
    assert total(why) == pytest.approx(why["score"], abs=1e-5)
    ratings = {part["item_id"]: part["rating"] for part in why["contributions"]["your_items"]}
    assert ratings[new] == 5
    near = workers.get(f"/api/v1/users/{user}/similar?k=100").json()["users"]
    assert near
    assert user not in {entry["user_id"] for entry in near}
    assert why["reasons"]["similar_users"]["among"] == len(near)


def test_nobody_has_a_reason_too_and_an_unknown_item_has_none(workers: Workers, model) -> None:
    item = int(model.items.values[0])
    why = workers.get(f"/api/v1/explain/77/{item}").json()
    count = int(np.count_nonzero(model.seen.indices == 0))
    assert (why["source"], why["score"], why["n_interactions"]) == ("popular", None, count)
    assert why["reasons"]["popularity"] == count
    for path in ("/api/v1/explain/100/5", "/api/v1/items/5/similar"):
        refused = workers.get(path)
        assert (refused.status_code, refused.json()["code"]) == (404, "UNKNOWN_ITEM")
    refused = workers.get("/api/v1/users/77/similar")
    assert (refused.status_code, refused.json()["code"]) == (404, "UNKNOWN_USER")
    assert workers.get("/api/v1/explain/100/%00?parts=0").status_code == 422


def test_what_is_like_an_item_and_like_a_user(workers: Workers, model) -> None:
    item, user = int(model.items.values[7]), int(model.users.values[7])
    near = similar_items(model, 7, 4)
    answer = workers.get(f"/api/v1/items/{item}/similar?k=4")
    assert [entry["item_id"] for entry in answer.json()["items"]] == model.items.ids(near.rows).tolist()
    assert answer.json() == workers.get(f"/api/v1/items/similar?item_id={item}&k=4").json()
    near = similar_users(model, 7, 4)
    answer = workers.get(f"/api/v1/users/{user}/similar?k=4")
    assert [entry["user_id"] for entry in answer.json()["users"]] == model.users.ids(near.rows).tolist()
    assert answer.json() == workers.get(f"/api/v1/users/similar?user_id={user}&k=4").json()


@pytest.mark.parametrize("algorithm", ["item-knn", "ease", "popular"])
def test_every_kind_of_model_gives_its_reasons(tmp_path: Path, algorithm: str) -> None:
    model = small_trained(algorithm)
    workers = served(tmp_path, model)
    user = int(model.users.values[0])
    item = workers.get(f"/api/v1/recommendations/{user}").json()["recommendations"][0]["item_id"]
    why = workers.get(f"/api/v1/explain/{user}/{item}?parts=100").json()
    assert why["rank"] == 1
    assert why["contributions"]["factors"] == []
    if algorithm != "popular":
        assert total(why) == pytest.approx(why["score"], abs=1e-5)
    assert why["reasons"]["similar_users"]["count"] > 0
    workers.close()
