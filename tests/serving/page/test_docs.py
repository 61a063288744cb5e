"""The API as a page: only where it is asked for, from the document alone, and from no other address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.served import Workers, put_copy, small_trained

from pipeline.serving.keys import KeyFile
from pipeline.serving.page.docs import operations

HTML = {"Accept": "text/html"}


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path / "live", n=0, docs="yes", others=("films",))
    for folder in (made.folder, type(made.folder)(tmp_path / "live", "films")):
        folder.flip(put_copy(folder, small_trained("popular")))
    made.runner.run(made._start())
    yield made
    made.close()


def test_it_has_every_operation_once_and_asks_no_other_address(workers: Workers) -> None:
    document = workers.get("/openapi.json").json()
    shown = operations(document, ("rankline", "films"))
    paths = {path for one in shown for path in (one.path, *one.aliases)}
    assert paths == {path for path in document["paths"] if not path.startswith(("/api/v1/films/", "/api/v1/rankline/"))}
    lists = next(one for one in shown if one.path == "/api/v1/recommendations/{user_id}")
    others = ("/api/v1/recommendations", "/api/ml/recommendations/{user_id}")
    assert (lists.method, lists.scope, lists.aliases) == ("GET", "read", others)
    by_name = {field.name: field for field in lists.fields}
    assert by_name["k"].kind == "integer, from 1, to 100, else 10"
    assert by_name["user_id"].required
    events = next(one for one in shown if one.path == "/api/v1/interactions")
    assert {"user_id", "item_id", "rating", "timestamp"} <= {field.name for field in events.fields}
    assert events.answers["409"] == "IDEMPOTENCY_CONFLICT, FORGOTTEN_USER"
    page = workers.get("/docs", headers=HTML)
    assert page.status_code == 200
    assert page.text.count("<h2>") == len(shown)
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert not re.search(r"""(?:src|href)=["'](?!/|#)""", page.text)
    assert 'href="/docs"' in workers.get("/page/health", headers=HTML).text


def test_with_keys_it_needs_a_log_in_with_the_scope_read(workers: Workers) -> None:
    KeyFile(workers.folder.keys_path).add(("read",))
    answer = workers.get("/docs", headers=HTML)
    assert (answer.status_code, answer.headers["location"]) == (303, "/?next=%2Fdocs")


def test_it_is_off_by_default(tmp_path: Path) -> None:
    made = Workers(tmp_path / "live", n=1)
    made.folder.flip(put_copy(made.folder, small_trained("popular")))
    assert made.get("/docs").status_code == 404
    assert 'href="/docs"' not in made.get("/page/health", headers=HTML).text
    made.close()
