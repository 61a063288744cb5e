"""Every route asks for its scope: those of the document and of the page. What is not listed here needs `admin`."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from support.served import Workers, put_copy, small_trained

from pipeline.serving.access import scope_of
from pipeline.serving.keys import SCOPES, KeyFile
from pipeline.serving.page.app import _ROUTES

OPEN = {("GET", path) for path in ("/", "/ping", "/api/v1/health", "/api/v1/ready", "/static/page.css")}
OPEN |= {("POST", "/page/log-in"), ("POST", "/page/log-out")}
LESS_THAN_ADMIN = {
    ("POST", "/api/v1/recommendations"): "read",
    ("POST", "/api/v1/predict"): "read",
    ("POST", "/api/ml/predict"): "read",
    ("POST", "/api/v1/interactions"): "write",
    ("PUT", "/api/v1/users/preferences"): "write",
    ("PUT", "/api/v1/users/{user_id}/preferences"): "write",
    ("POST", "/page/rate"): "write",
}


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    made = Workers(tmp_path_factory.mktemp("served") / "live", n=0)
    made.folder.make()
    made.folder.flip(put_copy(made.folder, small_trained("popular")))
    made.runner.run(made._start())
    made.paths = made.get("/openapi.json").json()["paths"]
    file = KeyFile(made.folder.keys_path)
    made.keys = {scope: file.add((scope,)) for scope in SCOPES}
    yield made
    made.close()


def expected(method: str, path: str) -> str | None:
    if (method, path) in OPEN:
        return None
    if method == "GET":
        return "metrics" if path == "/metrics" else "read"
    return LESS_THAN_ADMIN.get((method, path), "admin")


def test_every_route_of_the_document_asks_for_its_scope(workers: Workers) -> None:
    tried = 0
    for path, operations in workers.paths.items():
        there = re.sub(r"{\w+}", "100", path)
        for method in map(str.upper, operations):
            needed = expected(method, path)
            assert scope_of(method, there) == needed == operations[method.lower()]["x-scope"], (method, path)
            if needed is None:
                continue
            # An empty body and no parameters: refused for that alone, or answered, where the scope is right.
            assert workers.ask(method, there).status_code == 401, (method, path)
            for scope, key in workers.keys.items():
                if scope == needed == "admin":
                    continue  # it would do it
                status = workers.ask(method, there, headers={"Authorization": f"Bearer {key}"}).status_code
                assert (status == 403) == (scope != needed), (method, path, scope, status)
                assert status != 401
            tried += 1
    assert tried > 20
    assert {path for _, path in LESS_THAN_ADMIN if not path.startswith("/page")} <= set(workers.paths)


def test_every_route_of_the_page_asks_for_its_scope_and_takes_no_key_in_a_header(workers: Workers) -> None:
    for method, path, _ in _ROUTES:
        assert scope_of(method, path) == expected(method, path), (method, path)
        if expected(method, path) is None:
            continue
        for head in (
            {},
            {"Authorization": f"Bearer {workers.keys['admin']}"},
            {"Cookie": "rankline_session=" + "A" * 43},
        ):
            answer = workers.ask(method, path, headers=head)
            assert answer.status_code in (401, 303), (method, path)
            if answer.status_code == 303:
                assert answer.headers["location"].startswith("/?next=%2Fpage%2F")
