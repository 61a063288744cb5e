"""Genres that users like: kept durably, seen by every worker, and the list of somebody who has done nothing yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.served import Workers, listed, put_copy, small_trained

from pipeline.interaction_log import InteractionLog
from pipeline.serving.access import scope_of

LISTS, PATH = "/api/v1/recommendations", "/api/v1/users/999/preferences"


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path / "live", n=0)
    made.folder.make()
    made.folder.flip(put_copy(made.folder, small_trained("popular")))
    for _ in range(2):
        made.runner.run(made._start())
    yield made
    made.close()


def put(workers: Workers, genres: object, path: str = PATH, worker: int = 0):
    return workers.ask("PUT", path, worker, json={"genres": genres})


def test_a_stranger_gets_what_is_popular_of_what_they_like_in_every_worker(workers: Workers) -> None:
    everything = listed(workers.get(f"{LISTS}/999?k=100"))
    assert workers.get(f"{LISTS}/999", 1).json()["source"] == "popular"
    kept = put(workers, ["War"])
    assert (kept.status_code, kept.json()["user_id"], kept.json()["genres"]) == (200, 999, ["War"])
    for worker in (0, 1):
        answer = workers.get(f"{LISTS}/999?k=100", worker)
        assert answer.json()["source"] == "popular:War"
        assert all("War" in row["genres"] for row in answer.json()["recommendations"])
    put(workers, ["War", "Comedy"], worker=1)
    for worker in (0, 1):
        answer = workers.get(f"{LISTS}/999?k=100", worker)
        assert answer.json()["source"] == "popular:War|Comedy"
        of_both = {row["item_id"] for row in answer.json()["recommendations"]}
        assert listed(answer) == [(item, score) for item, score in everything if item in of_both]
        assert all({"War", "Comedy"} & set(row["genres"]) for row in answer.json()["recommendations"])
    assert workers.get(f"{LISTS}/999?genre=Drama").json()["source"] == "popular:Drama"
    assert workers.get(f"{LISTS}/999?unknown=error").status_code == 404
    several = workers.post(LISTS, {"user_ids": [999, 998]}).json()["lists"]
    assert [one["source"] for one in several] == ["popular:War|Comedy", "popular"]
    assert put(workers, []).json()["genres"] == []
    assert workers.get(f"{LISTS}/999", 1).json()["source"] == "popular"


def test_what_somebody_did_counts_more_than_what_they_said(workers: Workers) -> None:
    before = workers.get(f"{LISTS}/100").content
    put(workers, ["War"], "/api/v1/users/100/preferences")
    assert workers.get(f"{LISTS}/100").content == before
    put(workers, ["War"])
    assert workers.get(f"{LISTS}/999").json()["source"] == "popular:War"
    workers.post("/api/v1/interactions", {"user_id": 999, "item_id": 1000, "rating": 5})
    assert workers.get(f"{LISTS}/999").json()["source"] == "fold_in"


def test_they_are_read_by_path_and_by_query_and_outlive_the_workers(workers: Workers) -> None:
    assert workers.get(PATH).json() == {"user_id": 999, "genres": []}
    by_query = "/api/v1/users/preferences?user_id=999"
    kept = put(workers, ["Drama"], by_query).json()
    for worker in (0, 1):
        assert workers.get(PATH, worker).json() == workers.get(by_query, worker).json() == kept
    with InteractionLog.open(workers.folder.interactions_path) as log:
        assert log.preference(999).genres == ("Drama",)
        log.forget(999)
    assert workers.get(PATH).json()["genres"] == []
    assert workers.get(f"{LISTS}/999").json()["source"] == "popular"
    again = put(workers, ["Drama"])
    assert (again.status_code, again.json()["code"]) == (409, "FORGOTTEN_USER")


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        (PATH, {"genres": ["Western"]}, "UNKNOWN_GENRE"),
        (PATH, {"genres": "War"}, "INVALID_REQUEST"),
        (PATH, {"genres": [7]}, "INVALID_REQUEST"),
        (PATH, {"genres": ["War"] * 51}, "INVALID_REQUEST"),
        (PATH, {}, "INVALID_REQUEST"),
        ("/api/v1/users/somebody/preferences", {"genres": ["War"]}, "INVALID_REQUEST"),
        ("/api/v1/users/preferences", {"genres": ["War"]}, "INVALID_REQUEST"),
    ],
)
def test_what_cannot_be_kept_is_refused(workers: Workers, path: str, body: object, code: str) -> None:
    answer = workers.ask("PUT", path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (404 if code == "UNKNOWN_GENRE" else 422, code)
    with InteractionLog.open(workers.folder.interactions_path) as log:
        assert log.users() == []


def test_to_say_what_one_likes_needs_the_scope_write() -> None:
    assert scope_of("PUT", PATH) == scope_of("PUT", "/api/v1/users/preferences") == "write"
    assert scope_of("GET", PATH) == "read"
    assert scope_of("DELETE", "/api/v1/users/999") == "admin"
