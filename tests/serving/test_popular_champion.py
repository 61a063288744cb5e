"""A champion that ranks by popularity: who is in it gets the model's own list, which stands in for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.served import Workers, put_copy, small_trained

HTML = {"Accept": "text/html"}


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path / "live", n=0)
    made.folder.flip(put_copy(made.folder, small_trained("popular")))
    made.runner.run(made._start())
    yield made
    made.close()


def fallbacks(workers: Workers) -> float:
    return float(workers.services[0].metrics.fallback("popular")._value.get())


def test_it_counts_no_list_of_its_users_as_a_fallback(workers: Workers) -> None:
    for _ in range(2):  # anew, and from the cache
        assert workers.get("/api/v1/recommendations/100").json()["source"] == "popular"
    assert fallbacks(workers) == 0
    for count in (1, 2):
        assert workers.get("/api/v1/recommendations/999").json()["source"] == "popular"
        assert fallbacks(workers) == count
    workers.logs[0].forget(100)
    workers.get("/api/v1/recommendations/100")
    assert fallbacks(workers) == 3


def test_the_page_says_what_made_the_list(workers: Workers) -> None:
    def said(user: int) -> str:
        return workers.get(f"/?user={user}", headers=HTML).text

    assert "rankline/1, which lists what is most popular among what the user has not seen" in said(100)
    assert "what is most popular, since nothing is known of the user" in said(999)
    workers.post("/api/v1/interactions", {"user_id": 999, "item_id": 77, "rating": 5})
    assert "what is most popular, since the model has none of the user&#39;s items" in said(999)
