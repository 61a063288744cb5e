"""What a 422 says of a body: the field as the client wrote it, plain words, and nothing of how we check."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from support.served import Workers, put_copy, small_trained

POSTS = "/api/v1/interactions", "/api/v1/recommendations", "/api/v1/predict"


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    made = Workers(tmp_path_factory.mktemp("served") / "live", n=0)
    made.folder.make()
    made.folder.flip(put_copy(made.folder, small_trained("popular")))
    made.runner.run(made._start())
    yield made
    made.close()


def faults(workers: Workers, path: str, body: object, **head: str) -> dict[str, str]:
    answer = workers.post(path, body, headers={name.replace("_", "-"): value for name, value in head.items()})
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_REQUEST"), answer.text
    # Neither a class of ours nor a type of pydantic's.
    assert not re.search(r"[A-Z][a-z]+[A-Z]|constrained|Strict|list\[|Input should|Value error|pydantic", answer.text)
    return {fault["field"]: fault["message"] for fault in answer.json()["errors"]}


ONE, MANY = {"user_id": 1, "item_id": 1}, [{"user_id": 1, "item_id": 1}]
NO_TYPE = "must be an integer or text"


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (POSTS[0], {}, {"user_id": "is missing", "item_id": "is missing"}),
        (POSTS[0], {**ONE, "user_id": True}, {"user_id": NO_TYPE}),
        (POSTS[0], {**ONE, "user_id": None}, {"user_id": NO_TYPE}),
        (POSTS[0], {**ONE, "user_id": 1.5}, {"user_id": NO_TYPE}),
        (POSTS[0], {**ONE, "user_id": {"user_id": 1}}, {"user_id": NO_TYPE}),
        (POSTS[0], {**ONE, "user_id": ""}, {"user_id": "must have at least 1 character(s)"}),
        (POSTS[0], {**ONE, "user_id": "a\nb"}, {"user_id": "must be text without control characters, and not blank"}),
        (POSTS[0], {**ONE, "user_id": 2**63}, {"user_id": "must be at most 9223372036854775807"}),
        (POSTS[0], {**ONE, "rating": "5"}, {"rating": "must be a number or an integer"}),
        (POSTS[0], {**ONE, "rating": -1}, {"rating": "must be at least 0"}),
        (POSTS[0], {**ONE, "timestamp": "now"}, {"timestamp": "must be a time: ISO 8601, or seconds since 1970"}),
        (POSTS[0], {**ONE, "NewInteraction": 1}, None),
        (POSTS[0], [*MANY, {"user_id": 1, "item": 2}], {"[1].item_id": "is missing", "[1].item": "is no field here"}),
        (POSTS[0], [*MANY, 5], {"[1]": "must be an object"}),
        (POSTS[0], [], {"": "must have at least 1 element(s)"}),
        (POSTS[0], "x", {"": "must be an object or a list"}),
        (POSTS[1], {"user_ids": [1, True]}, {"user_ids[1]": NO_TYPE}),
        (POSTS[1], {"user_ids": 1}, {"user_ids": "must be a list"}),
        (POSTS[1], {"interactions": [{"item_id": 1, "rating": True}]},
         {"interactions[0].rating": "must be a number or an integer"}),
        (POSTS[1], {}, {"": "give user_ids, or the interactions of a session"}),
        (POSTS[1], {"user_ids": [1], "k": 101, "genre": 5}, {"k": "must be at most 100", "genre": "must be text"}),
        (POSTS[1], {"user_ids": [1], "exclude_seen": 1}, {"exclude_seen": "must be true or false"}),
        (POSTS[2], [], {"": "must be an object"}),
        (POSTS[2], {"user_id": 1}, {"": "give one of item_ids, item_id and movie_id"}),
    ],
)  # fmt: skip
def test_a_fault_is_said_at_its_field(
    workers: Workers, path: str, body: object, expected: dict[str, str] | None
) -> None:
    if expected is None:  # a field that is called as a class of ours
        answer = workers.post(path, body)
        assert [fault["field"] for fault in answer.json()["errors"]] == ["NewInteraction"]
        return
    assert faults(workers, path, body) == expected


def test_a_header_is_named(workers: Workers) -> None:
    assert faults(workers, POSTS[0], ONE, Idempotency_Key="x" * 257) == {
        "idempotency-key": "must have at most 256 character(s)"
    }


def test_a_body_that_is_missing_or_no_json_by_its_type(workers: Workers) -> None:
    for more in ({}, {"content": b"{}", "headers": {"Content-Type": "text/plain"}}):
        answer = workers.ask("POST", POSTS[0], **more)
        assert answer.json()["code"] == "INVALID_REQUEST"
        assert "odel" not in answer.text


def test_a_rating_outside_the_scale_is_said_at_its_place(workers: Workers) -> None:
    answer = workers.post(POSTS[0], [ONE, {**ONE, "rating": 9}])
    assert answer.json()["detail"] == "[1].rating must be from 0.5 to 5, got 9"
    answer = workers.post(POSTS[0], {**ONE, "rating": 9})
    assert answer.json()["detail"] == "rating must be from 0.5 to 5, got 9"
