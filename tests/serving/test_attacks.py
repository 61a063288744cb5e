"""Requests of somebody who means harm: wrong keys, odd paths, methods, queries and bodies. None gets more by it."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support import served as support
from support.served import Workers, put_copy, small_trained

from pipeline.models.saved_model import ItemTexts
from pipeline.serving import keys as keys_module
from pipeline.serving.access import Access
from pipeline.serving.keys import KeyFile
from pipeline.serving.problems import Problem

JSON = {"Content-Type": "application/json"}
MARKUP = '<script>alert("x")</script> & \' " </title>'
LIST = "/api/v1/recommendations/100"


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    made = Workers(tmp_path_factory.mktemp("served") / "live", n=0)
    made.folder.make()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(support, "item_texts", lambda model: ItemTexts({str(n): MARKUP for n in model.items.values}, {}))
        made.folder.flip(put_copy(made.folder, replace(small_trained("popular"))))
    made.runner.run(made._start())
    yield made
    made.close()


def code(answer) -> str:
    assert answer.status_code < 500, answer.text
    return answer.json()["code"] if answer.status_code >= 400 else ""


# ---- keys ----------------------------------------------------------------------------------------


def test_ten_thousand_wrong_keys_leave_nothing_behind(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    right = file.add(("read",), "shop")
    access = Access(file)

    def ask(key: str) -> str:
        try:
            found = access.check("GET", LIST, [(b"authorization", f"Bearer {key}".encode())])
        except Problem as problem:
            return str(problem.code)
        return "" if found is None else found.id

    for n in range(100):
        ask(f"rk_k{n}_{n:043d}")
    tracemalloc.start()
    for n in range(10_000):
        assert ask(f"rk_{'shop' if n % 2 else f'k{n}'}_{n:043d}") == "NOT_AUTHENTICATED"
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 20_000
    assert ask(right) == "shop"
    wrong = (
        right[:-1],
        right + "A",
        right.replace("shop", "shop2"),
        "",
        "rk_",
        "\xff" * 50,
        "rk_shop_" + "A" * 100_000,
    )
    assert [ask(text) for text in wrong] == ["NOT_AUTHENTICATED"] * len(wrong)


def test_an_unknown_id_takes_a_comparison_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, compared = KeyFile(tmp_path / "keys.json"), []
    file.add(("read",), "shop")
    monkeypatch.setattr(keys_module.hmac, "compare_digest", lambda a, b: compared.append((len(a), len(b))))
    for name in ("shop", "nobody"):
        assert file.find(f"rk_{name}_{'A' * 43}") is None
    assert compared == [(64, 64), (64, 64)]


# ---- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/recommendations/..%2F..%2Fetc%2Fpasswd",
        "/api/v1/recommendations/../../../etc/passwd",
        "/api/v1/recommendations/%2e%2e",
        "/api/v1/recommendations/%00",
        "/api/v1/recommendations/1%0d%0aX-Evil:%201",
        "/api/v1/recommendations/" + "9" * 6000,
        "/api/v1/recommendations/" + "%F0%9F%8E%AC" * 300,
        "/api/v1/recommendations/%c0%ae%c0%ae",  # overlong
        "/api/v1/recommendations/%ed%a0%80",  # a surrogate
        "/api/v1/recommendations/%E2%80%AE",
        "/api/v1/recommendations/;a=b",
        "/api/v1/items/%2F%2Fevil.example/similar",
        "/api/v1/explain/%00/%00",
        "/api/v1/explain/1/-9223372036854775809",  # past what JSON is written with
        "/api/v1/items/-9223372036854775809/similar",
        "/api/v1/jobs/..%2f..%2fkeys.json",
        "//api/v1/popular",
        "/api/v1/popular/",
        "/API/V1/popular",
        "/static/..%2f..%2fkeys.json",
        "/api/v1//popular",
    ],
)
def test_odd_paths_are_ids_that_nobody_has_or_no_paths(workers: Workers, path: str) -> None:
    answer = workers.get(path)
    assert code(answer) in ("", "NOT_FOUND", "UNKNOWN_ITEM", "UNKNOWN_USER", "UNKNOWN_JOB", "INVALID_REQUEST")
    assert "location" not in answer.headers
    assert "x-evil" not in answer.headers
    if answer.status_code == 200:
        assert answer.json()["source"] == "popular"


def test_a_line_feed_at_the_end_of_a_path_lowers_no_scope(tmp_path: Path) -> None:
    workers = Workers(tmp_path / "live", n=1)
    key = KeyFile(workers.folder.keys_path).add(("read",))
    for path in ("/metrics", "/metrics%0A", "/metrics%0D", "/metrics%00"):
        answer = workers.get(path, headers={"Authorization": f"Bearer {key}"})
        assert code(answer) in ("NOT_ALLOWED", "INVALID_REQUEST"), path
    workers.close()


# ---- methods and queries -------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT", "PATCH", "DELETE", "CONNECT", "PROPFIND"])
@pytest.mark.parametrize("path", [LIST, "/api/v1/interactions", "/", "/metrics", "/nothing"])
def test_other_methods_tell_nothing_without_a_key(workers: Workers, method: str, path: str) -> None:
    answer = workers.ask(method, path, headers={"Origin": "http://localhost", "X-Secret": "s3cret"})
    assert code(answer) == "NOT_AUTHENTICATED"
    assert "s3cret" not in answer.text
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_head_is_get_without_a_body_and_needs_what_get_needs(tmp_path: Path) -> None:
    workers = Workers(tmp_path / "live", n=1)
    assert workers.ask("HEAD", "/ping").status_code == 200
    KeyFile(workers.folder.keys_path).add(("read",))
    assert workers.ask("HEAD", "/ping").status_code == 200
    assert workers.ask("HEAD", LIST).status_code == 401
    assert workers.ask("HEAD", "/metrics").status_code == 401
    workers.close()


@pytest.mark.parametrize(
    "query",
    ["k=1&k=2", "k=1&top_k=2", "k=101", "k=1e9", "k=" + "9" * 5000, "k=-1", "k=٣", "k=0x10", "k=1;genre=War", "k[]=1",
     "K=1", "k=1%00", "genre=" + "a" * 60_000, "&" * 1000, "a=b&" * 5000, "k=%ZZ", "unknown=drop%20table"],
)  # fmt: skip
def test_odd_queries_are_refused(workers: Workers, query: str) -> None:
    answer = workers.get(f"{LIST}?{query}")
    assert code(answer) == "INVALID_REQUEST"
    assert len(answer.content) < 20_000


# ---- bodies --------------------------------------------------------------------------------------

EVENT = '{"user_id": 1, "item_id": 1000, "rating": %s}'


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        (EVENT % "NaN", {"INVALID_REQUEST", "INVALID_JSON"}),
        (EVENT % "Infinity", {"INVALID_REQUEST", "INVALID_JSON"}),
        (EVENT % "-Infinity", {"INVALID_REQUEST", "INVALID_JSON"}),
        (EVENT % "1e400", {"INVALID_REQUEST", "INVALID_JSON"}),
        (EVENT % ("9" * 5000), {"INVALID_REQUEST", "INVALID_JSON"}),
        (EVENT % ("[" * 500 + "]" * 500), {"INVALID_REQUEST"}),
        (EVENT % ("[" * 30_000 + "]" * 30_000), {"INVALID_JSON"}),
        ('{"a":' * 10_000 + "1" + "}" * 10_000, {"INVALID_JSON"}),
        ('{"user_id": "\\ud800", "item_id": 1}', {"INVALID_REQUEST"}),
        ('{"user_id": "a\\u0000b", "item_id": 1}', {"INVALID_REQUEST"}),
        ('{"user_id": 1, "item_id": 1, "__proto__": {}, "constructor": 1}', {"INVALID_REQUEST"}),
        ('{"user_id": {"$gt": ""}, "item_id": 1}', {"INVALID_REQUEST"}),
        ('{"user_id": 1, "item_id": 1} trailing', {"INVALID_JSON"}),
        ("\ufeff{}", {"INVALID_REQUEST", "INVALID_JSON"}),
        ("", {"INVALID_REQUEST"}),
        ("null", {"INVALID_REQUEST"}),
        (json.dumps([{"user_id": 1, "item_id": 1}] * 1001), {"INVALID_REQUEST"}),
        (json.dumps({f"k{n}": 1 for n in range(5000)}), {"INVALID_REQUEST"}),
    ],
)  # fmt: skip
def test_odd_bodies_are_refused_and_nothing_is_kept(workers: Workers, body: str, codes: set[str]) -> None:
    before = workers.logs[0].latest_seq()
    answer = workers.ask("POST", "/api/v1/interactions", content=body.encode(), headers=JSON)
    assert code(answer) in codes, answer.text[:300]
    assert len(answer.content) < 20_000  # an error is no echo
    assert workers.logs[0].latest_seq() == before


def test_of_a_name_that_comes_twice_the_last_is_checked_and_kept(workers: Workers) -> None:
    body = '{"user_id": 1, "item_id": 1000, "rating": 99, "user_id": 77, "rating": 4}'
    assert code(workers.ask("POST", "/api/v1/interactions", content=body, headers=JSON)) == ""
    (kept,) = workers.logs[0].of_user(77)
    assert (kept.item_id, kept.rating) == (1000, 4)
    body = body.replace('"rating": 4', '"rating": 99')
    assert code(workers.ask("POST", "/api/v1/interactions", content=body, headers=JSON)) == "INVALID_REQUEST"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_what_a_form_of_another_site_can_send_is_no_json(workers: Workers, kind: str) -> None:
    head = {"Content-Type": kind} if kind else {}
    answer = workers.ask("POST", "/api/v1/interactions", content=b'{"user_id": 1, "item_id": 1}', headers=head)
    assert code(answer) == "INVALID_REQUEST"


def test_idempotency_keys_are_bounded_and_bound_to_their_content(workers: Workers) -> None:
    def send(key: str | bytes, item: int = 1000) -> tuple[int, str]:
        answer = workers.post("/api/v1/interactions", {"user_id": 5, "item_id": item}, headers={"Idempotency-Key": key})
        return answer.status_code, code(answer)

    assert [send("a"), send("a"), send("a", 1001)] == [(201, ""), (200, ""), (409, "IDEMPOTENCY_CONFLICT")]
    assert [send("A"), send("a' OR 1=1 --"), send("%"), send("é".encode()), send("x" * 256)] == [(201, "")] * 5
    assert send("x" * 257) == (422, "INVALID_REQUEST")
    assert send("") == (422, "INVALID_REQUEST")
    assert send("%", 1001)[0] == 409  # no wildcard
    assert send("%") == (200, "")


# ---- answers -------------------------------------------------------------------------------------


def test_markup_in_titles_is_text(workers: Workers) -> None:
    answer = workers.get(LIST)
    assert {row["title"] for row in answer.json()["recommendations"]} == {MARKUP}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    answer = workers.get("/api/v1/popular?genre=%3Cimg%20src=x%20onerror=alert(1)%3E")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
