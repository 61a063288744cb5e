"""Lists over HTTP: as published for who did nothing new, folded in for who did, in any worker, at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.served import Workers, item_texts, listed, put_copy, small_trained

from pipeline.models.item_snapshot import ItemTexts
from pipeline.ranking.scorer import Scorer

LISTS = "/api/v1/recommendations"


@pytest.fixture(scope="module")
def model():
    return small_trained()


@pytest.fixture
def workers(tmp_path: Path, model) -> Iterator[Workers]:
    made = Workers(tmp_path / "live", n=0)
    made.folder.make()
    made.folder.flip(put_copy(made.folder, model))
    for _ in range(2):
        made.runner.run(made._start())
    yield made
    made.close()


def test_lists_are_those_of_the_batch_job_to_the_last_bit(workers: Workers, model) -> None:
    scorer = Scorer(model)
    for user in model.users.values.tolist():
        items, scores = scorer.recommend(user, 7)
        expected = list(zip(items.tolist(), scores.tolist(), strict=True))
        first = workers.get(f"{LISTS}/{user}?k=7")
        assert listed(first) == expected
        assert first.json()["source"] == "nmf"
        assert workers.get(f"{LISTS}/{user}?k=7").content == first.content  # from the cache
        assert workers.get(f"{LISTS}?user_id={user}&top_k=7").content == first.content
        assert workers.get(f"/api/ml/recommendations/{user}?k=7").content == first.content
    assert workers.services[0].metrics.process_hit._value.get() == len(model.users)


def test_a_rating_is_in_the_next_list_of_every_worker_and_in_nobody_elses(workers: Workers, model) -> None:
    user, other = model.users.values[:2].tolist()
    before = [workers.get(f"{LISTS}/{user}", worker) for worker in (0, 1)]
    others = [workers.get(f"{LISTS}/{other}", worker) for worker in (0, 1)]
    item = listed(before[0])[0][0]
    kept = workers.post("/api/v1/interactions", {"user_id": user, "item_id": item, "rating": 5}, 0)
    assert (kept.status_code, kept.json()) == (201, {"accepted": 1, "seq": 1, "duplicate": False})
    for worker in (0, 1):
        after = workers.get(f"{LISTS}/{user}", worker)
        assert after.json()["source"] == "fold_in"
        assert item not in dict(listed(after))
        assert workers.get(f"{LISTS}/{other}", worker).content == others[worker].content
    # As a training would have it: the row with this cell, folded in.
    own = model.seen[0].toarray()[0]
    cols = np.flatnonzero(own)
    ids = [*model.items.values[cols].tolist(), item]
    expected = Scorer(model).recommend_from(ids, [*own[cols].tolist(), 5.0], 10)
    assert listed(workers.get(f"{LISTS}/{user}", 1)) == list(
        zip(expected[0].tolist(), expected[1].tolist(), strict=True)
    )


@pytest.mark.parametrize("algorithm", ["item-knn", "popular", "ease"])
def test_every_kind_of_model_knows_a_new_rating(tmp_path: Path, algorithm: str) -> None:
    model = small_trained(algorithm)
    workers = Workers(tmp_path / "live", n=0)
    workers.folder.make()
    workers.folder.flip(put_copy(workers.folder, model))
    workers.runner.run(workers._start())
    user = model.users.values[0].item()
    before = listed(workers.get(f"{LISTS}/{user}"))
    items, scores = Scorer(model).recommend(user, 10)
    assert before == list(zip(items.tolist(), scores.tolist(), strict=True))
    workers.post("/api/v1/interactions", {"user_id": user, "item_id": before[0][0], "rating": 1})
    after = workers.get(f"{LISTS}/{user}")
    assert before[0][0] not in dict(listed(after))
    assert after.json()["source"] == "fold_in"
    workers.close()


def test_a_stranger_gets_what_is_popular_and_then_a_list_of_their_own(workers: Workers, model) -> None:
    stranger = workers.get(f"{LISTS}/999?k=3")
    assert stranger.json()["source"] == "popular"
    assert listed(stranger) == [
        tuple(pair) for pair in zip(*Scorer(model).recommend(999, 3, unknown="popular"), strict=True)
    ]
    missing = workers.get(f"{LISTS}/999?unknown=error")
    assert (missing.status_code, missing.json()["code"]) == (404, "UNKNOWN_USER")
    assert missing.headers["content-type"] == "application/problem+json"
    assert missing.json()["request_id"] == missing.headers["x-request-id"]
    popular = [row["item_id"] for row in workers.get("/api/v1/popular?k=3").json()["items"]]
    assert popular == [item for item, _ in listed(stranger)]
    workers.post("/api/v1/interactions", [{"user_id": 999, "item_id": popular[0], "rating": 5},
                                          {"user_id": 999, "item_id": 424242, "rating": 5}])  # fmt: skip
    after = workers.get(f"{LISTS}/999?unknown=error", 1)
    expected = Scorer(model).recommend_from([popular[0]], [5.0], 10)
    assert listed(after) == list(zip(expected[0].tolist(), expected[1].tolist(), strict=True))
    assert after.json()["unknown_items"] == [424242]


def test_only_items_of_a_genre(workers: Workers) -> None:
    for path, source in ((f"{LISTS}/100?genre=War", "nmf"), (f"{LISTS}/999?genre=War", "popular:War")):
        answer = workers.get(path).json()
        assert answer["source"] == source
        assert answer["recommendations"]
        assert all("War" in row["genres"] for row in answer["recommendations"])
    unknown = workers.get(f"{LISTS}/100?genre=Western")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "UNKNOWN_GENRE")
    assert "All, Comedy, Drama, War" in unknown.json()["detail"]


@pytest.mark.parametrize("user", [100, 999, 998])  # in the model, unknown, and folded in
def test_at_most_so_many_of_a_genre(workers: Workers, model, user: int) -> None:
    if user == 998:
        workers.post("/api/v1/interactions", {"user_id": user, "item_id": 1000, "rating": 5})
    everything = workers.get(f"{LISTS}/{user}?k=100").json()["recommendations"]
    expected, counts = [], dict.fromkeys(("War", "Comedy", "Drama"), 0)
    for row in everything:
        if counts[row["genres"][0]] < 2:
            counts[row["genres"][0]] += 1
            expected.append(row["item_id"])
    # Every item has the genre All besides.
    assert len(listed(workers.get(f"{LISTS}/{user}?k=100&max_per_genre=2"))) == 2
    titled = put_copy(workers.folder, model, "2", texts=ItemTexts(genres={
        item: of[:1] for item, of in item_texts(model).genres.items()
    }))  # fmt: skip
    workers.look()
    workers.folder.propose(titled)
    workers.look()
    workers.folder.flip(titled)
    got = [item for item, _ in listed(workers.get(f"{LISTS}/{user}?k=100&max_per_genre=2"))]
    assert got == expected
    (one,) = workers.post(LISTS, {"user_ids": [user], "k": 100, "max_per_genre": 2}).json()["lists"]
    assert [row["item_id"] for row in one["recommendations"]] == expected
    if user == 999:
        popular = workers.get("/api/v1/popular?k=100&max_per_genre=2").json()["items"]
        assert [row["item_id"] for row in popular] == expected


def test_a_limit_by_genre_needs_genres(workers: Workers, model) -> None:
    plain = put_copy(workers.folder, model, "2", texts=ItemTexts({"1000": "A title"}))
    workers.folder.propose(plain)
    workers.look()
    workers.folder.flip(plain)
    refused = workers.get(f"{LISTS}/100?max_per_genre=2")
    assert (refused.status_code, refused.json()["code"]) == (422, "INVALID_REQUEST")
    assert "no genres" in refused.json()["detail"]
    assert "no series" in workers.get(f"{LISTS}/100?max_per_series=1").json()["detail"]


def test_at_most_so_many_of_a_series(workers: Workers, model) -> None:
    before = [item for item, _ in listed(workers.get(f"{LISTS}/100?k=100"))]
    of_model = item_texts(model)
    saga = dict.fromkeys(map(str, before[:3]), "Saga")
    titled = put_copy(workers.folder, model, "2", texts=ItemTexts(of_model.titles, of_model.genres, series=saga))
    workers.folder.propose(titled)
    workers.look()
    workers.folder.flip(titled)
    for most in (1, 2):
        got = [item for item, _ in listed(workers.get(f"{LISTS}/100?k=100&max_per_series={most}"))]
        assert got == before[:most] + before[3:]
    body = {"user_ids": [100], "k": 100, "max_per_series": 1}
    (one,) = workers.post(LISTS, body).json()["lists"]
    assert [row["item_id"] for row in one["recommendations"]] == before[:1] + before[3:]


def test_a_session_and_several_users(workers: Workers, model) -> None:
    session = workers.post(LISTS, {"interactions": [{"item_id": 1003, "rating": 4}, {"item_id": 7}], "k": 4}).json()
    expected = Scorer(model).recommend_from([1003], [4.0], 4)[0].tolist()
    assert [row["item_id"] for row in session["lists"][0]["recommendations"]] == expected
    assert session["lists"][0]["unknown_items"] == [7]
    assert workers.logs[0].latest_seq() == 0
    users = model.users.values[:12].tolist()
    several = workers.post(LISTS, {"user_ids": [*users, 999], "k": 3, "deny": [1000, 1001]}).json()["lists"]
    assert [one["user_id"] for one in several] == [*users, 999]
    for one in several[:-1]:
        alone = Scorer(model).recommend(one["user_id"], 3, deny=[1000, 1001])[0].tolist()
        assert [row["item_id"] for row in one["recommendations"]] == alone
    assert several[-1]["source"] == "popular"
    assert workers.post(LISTS, {"user_ids": [100] * 100, "k": 100}).status_code == 422
    assert workers.post(LISTS, {"user_ids": [100], "interactions": [{"item_id": 1}]}).status_code == 422


def test_scores_of_given_items(workers: Workers, model) -> None:
    answer = workers.post("/api/v1/predict", {"user_id": 100, "item_ids": [1000, 1005]}).json()
    assert [np.float32(row["score"]) for row in answer["predictions"]] == Scorer(model).predict(
        100, [1000, 1005]
    ).tolist()
    assert all(0.5 <= row["predicted_rating"] <= 5 for row in answer["predictions"])
    assert answer["calibrated"] is False
    assert workers.post("/api/ml/predict", {"user_id": 999, "movie_id": 1000}).json()["predictions"][0]["score"] is None
    unknown = workers.post("/api/v1/predict", {"user_id": 100, "item_ids": [1000, 5]})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "UNKNOWN_ITEM")


def test_a_forgotten_user_is_a_stranger_at_once(workers: Workers) -> None:
    workers.post("/api/v1/interactions", {"user_id": 100, "item_id": 1000, "rating": 5})
    assert workers.get(f"{LISTS}/100").json()["source"] == "fold_in"
    workers.logs[1].forget(100)
    for worker in (0, 1):
        assert workers.get(f"{LISTS}/100", worker).json()["source"] == "popular"
    again = workers.post("/api/v1/interactions", {"user_id": 100, "item_id": 1000})
    assert (again.status_code, again.json()["code"]) == (409, "FORGOTTEN_USER")
    workers.logs[1].lift(100)
    assert workers.get(f"{LISTS}/100").json()["source"] == "nmf"


def test_a_batch_is_kept_once_under_its_key(workers: Workers) -> None:
    event, head = {"user_id": 100, "item_id": 1000, "rating": 3}, {"Idempotency-Key": "a"}
    first = workers.post("/api/v1/interactions", event, headers=head)
    again = workers.post("/api/v1/interactions", event, 1, headers=head)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {"accepted": 1, "seq": 1, "duplicate": True}
    other = workers.post("/api/v1/interactions", {**event, "rating": 4}, headers=head)
    assert (other.status_code, other.json()["code"]) == (409, "IDEMPOTENCY_CONFLICT")


@pytest.mark.parametrize(
    "event",
    [
        {"user_id": 100, "item_id": 1000, "rating": 5.5},
        {"user_id": 100, "item_id": 1000, "rating": True},
        {"user_id": True, "item_id": 1000},
        {"user_id": 2**63, "item_id": 1000},
        {"user_id": "somebody", "item_id": 1000},
        {"user_id": 100, "item_id": 1000, "timestamp": "2999-01-01T00:00:00Z"},
        {"user_id": 100, "item_id": 1000, "stars": 3},
        [],
    ],
)
def test_what_cannot_be_kept_is_refused(workers: Workers, event: object) -> None:
    answer = workers.post("/api/v1/interactions", event)
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_REQUEST")
    assert workers.logs[0].latest_seq() == 0


def test_items_are_found_by_words_of_their_title(workers: Workers) -> None:
    found = workers.get("/api/v1/items?q=1004%20THE").json()["items"]
    assert [item["item_id"] for item in found] == [1004]
    assert workers.get("/api/v1/items?q=nothing").json()["items"] == []
    bad = workers.get("/api/v1/items?k=0&x=1")
    assert {error["field"] for error in bad.json()["errors"]} == {"k", "x", "q"}
