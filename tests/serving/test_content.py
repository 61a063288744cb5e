"""Items that the model has not, over HTTP: scored and explained by genres and tags, and 404 only for no item at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.served import Workers, item_texts, put_copy, small_trained

from pipeline.models.item_snapshot import ItemTexts

NEW, PLAIN = 5000, 5001


@pytest.fixture(scope="module")
def model():
    return small_trained()


@pytest.fixture
def workers(tmp_path: Path, model) -> Iterator[Workers]:
    of_model = item_texts(model)
    texts = ItemTexts(
        {**of_model.titles, str(NEW): "A new war"},
        {**of_model.genres, str(NEW): ("War",), str(PLAIN): ("Opera",)},
        {str(NEW): ("slow",)},
    )
    made = Workers(tmp_path / "live", n=0)
    made.folder.make()
    made.folder.flip(put_copy(made.folder, model, texts=texts))
    made.runner.run(made._start())
    yield made
    made.close()


def test_an_item_outside_the_model_is_scored_by_its_content(workers: Workers, model) -> None:
    user = int(model.users.values[3])
    asked = {"user_id": user, "item_ids": [1000, NEW, PLAIN]}
    answer = workers.post("/api/v1/predict", asked).json()
    assert answer["source"] == "nmf"
    own, new, plain = answer["predictions"]
    assert "source" not in own
    assert (new["item_id"], new["title"], new["genres"], new["source"]) == (NEW, "A new war", ["War"], "content")
    assert 0 < new["score"] < 1
    assert 0.5 <= new["predicted_rating"] <= 5
    assert plain["score"] == 0
    alone = workers.post("/api/ml/predict", {"user_id": user, "movie_id": NEW}).json()
    assert (alone["source"], alone["calibrated"], alone["predictions"]) == ("content", False, [new])
    nobody = workers.post("/api/v1/predict", {"user_id": 999, "item_ids": [NEW]}).json()
    assert [entry["score"] for entry in nobody["predictions"]] == [None]
    missing = workers.post("/api/v1/predict", {"user_id": user, "item_ids": [NEW, 6000]})
    assert (missing.status_code, missing.json()["code"]) == (404, "UNKNOWN_ITEM")


@pytest.mark.parametrize("known", [True, False])
def test_its_parts_are_of_the_history_as_it_is_now(workers: Workers, model, known: bool) -> None:
    user = int(model.users.values[3]) if known else 999
    seen = {int(item) for item in model.items.ids(model.seen[3].indices)} if known else set()
    war = next(item for item in model.items.values.tolist() if (item - 1000) % 3 == 2 and item not in seen)
    workers.post("/api/v1/interactions", {"user_id": user, "item_id": war, "rating": 4.5})
    why = workers.get(f"/api/v1/explain/{user}/{NEW}?parts=100").json()
    assert (why["source"], why["movie_title"], why["rank"], why["n_interactions"]) == ("content", "A new war", None, 0)
    predicted = workers.post("/api/v1/predict", {"user_id": user, "item_ids": [NEW]}).json()["predictions"][0]
    assert (why["score"], why["predicted_rating"]) == (predicted["score"], predicted["predicted_rating"])
    parts = {part["item_id"]: part for part in why["contributions"]["your_items"]}
    assert sum(part["part"] for part in parts.values()) == pytest.approx(why["score"])
    assert parts[war]["rating"] == 4.5
    assert {entry["item_id"] for entry in why["reasons"]["similar_movies"]} <= seen | {war}
    assert why["reasons"]["content"] == {"genres": ["War"], "tags": ["slow"]}
    assert why["reasons"]["genre_match"]["score"] > 0
    if not known:
        # War and All, of length 1 each, with War.
        assert why["score"] == pytest.approx(0.5**0.5)
        assert (why["predicted_rating"], why["confidence"]) == (4.5, pytest.approx(27 / 39))


def test_a_stranger_has_a_reason_too_and_no_item_has_none(workers: Workers) -> None:
    why = workers.get(f"/api/v1/explain/777/{NEW}").json()
    assert (why["score"], why["source"]) == (None, "content")
    assert why["reasons"]["content"]["genres"] == ["War"]
    assert workers.get("/api/v1/explain/777/6000").json()["code"] == "UNKNOWN_ITEM"


def test_what_is_like_an_item_outside_the_model(workers: Workers) -> None:
    like = workers.get(f"/api/v1/items/{NEW}/similar?k=100").json()
    assert like["source"] == "content"
    assert like["items"]
    assert all("War" in item["genres"] for item in like["items"])
    assert "source" not in workers.get("/api/v1/items/1000/similar").json()
