"""The page without a browser: what it answers, to whom, and that it takes nothing that it has not asked for itself."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.served import Workers, put_copy, small_trained

from pipeline.models.saved_model import ItemTexts
from pipeline.serving.keys import KeyFile
from pipeline.serving.page.answers import STATIC
from pipeline.serving.sessions import COOKIE

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
HOSTILE = "<img src=x onerror=alert(1)>\"'{{ 7*7 }} film"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Two workers, over items whose titles are markup."""
    made = Workers(tmp_path_factory.mktemp("served") / "live", n=0)
    model = small_trained()
    ids = [str(value) for value in model.items.values.tolist()]
    titles = {**{item: f"{HOSTILE} {item}" for item in ids}, "99999": "Premiere film"}
    texts = ItemTexts(titles, dict.fromkeys([*ids, "99999"], ("<b>Drama",)))
    made.folder.flip(put_copy(made.folder, model, texts=texts))
    for _ in range(2):
        made.runner.run(made._start())
    yield made
    made.close()


@pytest.fixture
def keys(workers: Workers) -> Iterator[KeyFile]:
    yield KeyFile(workers.folder.keys_path)
    workers.folder.keys_path.unlink(missing_ok=True)
    for client in workers.clients:
        client.cookies.clear()


def token(page: httpx.Response) -> dict[str, str]:
    """The head that the page's own requests have."""
    found = re.search(r'"X-CSRF-Token":"(\w+)"', page.text)
    assert found is not None, page.text
    return {"X-CSRF-Token": found[1], "HX-Request": "true"}


def log_in(workers: Workers, key: str, worker: int = 0, **more: str) -> httpx.Response:
    page = workers.get("/", worker, headers=HTML)
    return workers.ask(
        "POST", "/page/log-in", worker, data={"key": key, "next": "/page/models", **more}, headers=token(page)
    )


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        (HTML["Accept"], True),
        ("text/html", True),
        ("*/*", False),
        ("application/json", False),
        ("", False),
        ("application/json, text/html", False),
        ("application/json;q=0.5, text/html", True),
        ("text/html;q=0.5, application/json", False),
        ("text/html;q=x", False),
    ],
)
def test_who_asks_for_html_gets_the_page_and_programs_get_json(workers: Workers, accept: str, is_page: bool) -> None:
    answer = workers.get("/", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["vary"] == "Accept"
    assert answer.headers["content-security-policy"] == CSP
    assert answer.headers["content-type"].startswith("text/html" if is_page else "application/json")


def test_titles_genres_and_what_is_asked_for_are_text(workers: Workers) -> None:
    for path in ("/", "/?user=101", "/page/search?q=film&user=<b>", "/page/why?user=100&item=1003", "/page/<i>no</i>"):
        for head in (HTML, {**HTML, "HX-Request": "true"}):
            text = workers.get(path, headers=head).text
            assert not re.search(r"<(img|i|b)\b(?! class)", text.replace("<b>New", "")), path
    assert "&lt;img src=x" in workers.get("/", headers=HTML).text
    assert "{{ 7*7 }}" in workers.get("/", headers=HTML).text


def test_a_rating_changes_the_list_in_both_workers_and_says_how(workers: Workers) -> None:
    page = workers.get("/?user=105", headers=HTML)
    first = re.findall(r"/page/why\?user=105&amp;item=(\d+)", page.text)
    assert len(first) == 10
    body = {"user": "105", "item": first[0], "rating": "4.5", "genre": ""}
    rated = workers.ask("POST", "/page/rate", data=body, headers=token(page))
    assert rated.status_code == 200
    assert f"{first[0]}: 4.5 is kept." in rated.text
    for worker in (0, 1):
        now = workers.get("/?user=105", worker, headers=HTML).text
        listed = re.findall(r"/page/why\?user=105&amp;item=(\d+)", now)
        assert first[0] not in listed
        assert listed == re.findall(r"/page/why\?user=105&amp;item=(\d+)", rated.text)
        assert re.search(rf"{first[0]}</bdi>.*?4\.5 ★", now)
        api = workers.get("/api/v1/recommendations/105", worker).json()
        assert [str(row["item_id"]) for row in api["recommendations"]] == listed
    came = set(listed) - set(first)
    assert rated.text.count('class="change up">new') == len(came) > 0
    assert "/page/why" not in workers.get("/page/search?q=film&user=105").text
    watched = workers.ask("POST", "/page/rate", data={**body, "rating": "watched"}, headers=token(page))
    assert "watched is kept" in watched.text


def test_an_item_that_the_model_has_not_yet_is_found_last_and_rated(workers: Workers) -> None:
    found = workers.get("/api/v1/items?q=film&k=100").json()["items"]
    assert [item["item_id"] for item in found if item.get("in_model") is False] == [found[-1]["item_id"]] == [99999]
    assert "not yet in the model" not in workers.get("/page/search?q=film&user=106").text  # the model's come first
    page = workers.get("/page/search?q=premiere&user=106", headers=HTML).text
    assert page.count('Premiere film</bdi></span> <span class="quiet">not yet in the model</span>') == 1
    head = token(workers.get("/", headers=HTML))
    body = {"user": "106", "item": "99999", "rating": "5", "genre": ""}
    kept = workers.ask("POST", "/page/rate", data=body, headers=head).text
    assert "Premiere film: 5 is kept. It is not yet in the model" in kept
    assert 'Premiere film</bdi> <span class="quiet">not yet in the model</span>' in kept


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"rating": "9"}, 422),
        ({"rating": "nan"}, 422),
        ({"rating": ""}, 422),
        ({"item": "7"}, 404),
        ({"user": ""}, 422),
        ({"user": "x" * 300}, 422),
        ({"user": "a\x00b"}, 422),
    ],
)
def test_what_cannot_be_kept_is_said_in_the_place_of_messages(
    workers: Workers, fields: dict[str, str], status: int
) -> None:
    page = workers.get("/", headers=HTML)
    body = {"user": "105", "item": "1003", "rating": "3", "genre": "", **fields}
    refused = workers.ask("POST", "/page/rate", data=body, headers=token(page))
    assert (refused.status_code, refused.headers["HX-Retarget"]) == (status, "#message")
    assert 'class="fault"' in refused.text


def test_what_another_page_sends_is_refused(workers: Workers) -> None:
    head = token(workers.get("/", headers=HTML))
    body = {"user": "105", "item": "1003", "rating": "3", "genre": ""}
    bad = [{}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "ä" * 3}, {**head, "Sec-Fetch-Site": "cross-site"},
           {**head, "Sec-Fetch-Site": "same-site"}, {**head, "Origin": "https://shop.example"}]  # fmt: skip
    for headers in bad:
        sent = {name: value.encode() for name, value in headers.items()}
        assert workers.ask("POST", "/page/rate", data=body, headers=sent).status_code == 403, headers
    assert workers.ask("POST", "/page/rate", data=body, headers=head).status_code == 200
    assert workers.ask("GET", "/page/rate").status_code == 405


def test_a_log_in_gives_a_session_and_never_the_key(workers: Workers, keys: KeyFile) -> None:
    key = keys.add(("read", "write"), "desk")
    assert "Log in" in workers.get("/", headers=HTML).text
    away = workers.get("/page/why?user=1", headers=HTML)
    assert (away.status_code, away.headers["location"]) == (303, "/?next=%2Fpage%2Fwhy%3Fuser%3D1")
    entered = log_in(workers, key)
    assert (entered.status_code, entered.headers["HX-Redirect"]) == (204, "/page/models")
    flags = entered.headers["set-cookie"]
    assert all(flag in flags for flag in ("HttpOnly", "SameSite=strict", "Max-Age=28800", "Path=/"))
    assert "Secure" not in flags
    session = workers.clients[0].cookies[COOKIE]
    assert key not in flags
    assert key.rpartition("_")[2] not in flags
    workers.clients[1].cookies.set(COOKIE, session)
    page = workers.get("/", 1, headers=HTML)  # the other worker
    assert "For user" in page.text
    assert session not in page.text
    # What the page of nobody had is of no use now.
    body = {"user": "105", "item": "1004", "rating": "3", "genre": ""}
    assert workers.ask("POST", "/page/rate", 1, data=body, headers=token(away_page(workers))).status_code == 403
    assert workers.ask("POST", "/page/rate", 1, data=body, headers=token(page)).status_code == 200
    assert workers.get("/api/v1/popular", 1).status_code == 401  # a cookie is no key
    left = workers.ask("POST", "/page/log-out", 1, headers=token(page))
    assert left.headers["HX-Redirect"] == "/"
    assert "Log in" in workers.get("/", headers=HTML).text


def away_page(workers: Workers) -> httpx.Response:
    """The page as somebody without a session gets it."""
    return workers.get("/", headers={**HTML, "Cookie": f"{COOKIE}=none"})


def test_a_revoked_key_ends_its_sessions_and_scripts_are_sent_to_the_log_in(workers: Workers, keys: KeyFile) -> None:
    log_in(workers, keys.add(("read",), "desk"))
    page = workers.get("/", headers=HTML)
    assert '<form class="rate"' not in page.text
    body = {"user": "105", "item": "1003", "rating": "3", "genre": ""}
    assert workers.ask("POST", "/page/rate", data=body, headers=token(page)).status_code == 403  # it may only read
    KeyFile(keys.path).revoke("desk")
    refused = workers.get("/page/search?q=film", headers={"HX-Request": "true"})
    assert (refused.status_code, refused.headers["HX-Refresh"]) == (401, "true")
    assert "www-authenticate" not in refused.headers
    assert "Log in" in workers.get("/", headers=HTML).text


def test_who_may_not_log_in(workers: Workers, keys: KeyFile) -> None:
    watcher = keys.add(("metrics",), "watcher")
    reader = keys.add(("read",), "reader")
    for wrong in ("", "rk_reader_" + "a" * 43, watcher, reader[:-1]):
        refused = log_in(workers, wrong)
        assert refused.status_code == 403
        assert "set-cookie" not in refused.headers
    assert log_in(workers, reader, next="//shop.example").headers["HX-Redirect"] == "/"
    workers.clients[0].cookies.clear()
    head = token(workers.get("/", headers=HTML))
    for n in range(20):
        last = workers.ask("POST", "/page/log-in", n % 2, data={"key": "no"}, headers=head)
    assert last.status_code == 429
    assert int(last.headers["Retry-After"]) > 0
    secure = {**head, "X-Forwarded-Proto": "https"}
    workers.folder.sessions_path.unlink()
    for service in workers.services:
        service.access.sessions.close()
    entered = workers.ask("POST", "/page/log-in", data={"key": reader}, headers=secure)
    assert "Secure" in entered.headers["set-cookie"]


def test_files_are_as_they_were_vendored_and_nothing_else_is_served() -> None:
    stated = dict(re.findall(r"^\| `([\w.]+)` .*`(\w{64})` \|$", (STATIC / "README.md").read_text(), re.MULTILINE))
    assert set(stated) == {"htmx.min.js", "uPlot.iife.min.js", "uPlot.min.css"}
    for name, digest in stated.items():
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == digest
    for mine in ("page.css", "page.js", "icon.svg"):
        assert "://" not in (STATIC / mine).read_text().replace("http://www.w3.org/2000/svg", "")


def test_static_files(workers: Workers) -> None:
    script = workers.get("/static/htmx.min.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert script.headers["cache-control"] == "no-cache"
    again = workers.get("/static/htmx.min.js", headers={"If-None-Match": script.headers["etag"]})
    assert again.status_code == 304
    for path in ("/static/no.js", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/", "/static/%00", "/static"):
        assert workers.get(path).status_code in (404, 405, 422), path


def test_users_who_were_forgotten_are_no_examples(workers: Workers) -> None:
    assert 'href="/?user=100"' in workers.get("/", headers=HTML).text
    workers.logs[0].forget(100)
    assert 'href="/?user=100"' not in workers.get("/", headers=HTML).text
    page = workers.get("/?user=100", headers=HTML)
    assert "nothing is known of the user" in page.text
    assert "Nothing yet" in page.text
    workers.logs[0].lift(100)


def test_without_a_model_the_page_says_so(tmp_path: Path) -> None:
    workers = Workers(tmp_path / "live", n=1)
    answer = workers.get("/", headers=HTML)
    assert answer.status_code == 503
    assert "There is no model to answer with" in answer.text
    workers.close()
