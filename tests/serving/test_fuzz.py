"""Whatever is asked, the answer is one that the document has: no fault of the service, and a problem has a code."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.served import Workers, put_copy, small_trained

from pipeline.serving.problems import Code

IDS = st.one_of(
    st.integers(90, 140),
    st.sampled_from(
        [0, -1, 2**63, -(2**63) - 1, 10**29, True, None, 1.5, "007", "1e3", "", "..", "a/b", "%2F", "\x00"]
    ),
    st.text(max_size=12),
)
ITEM = st.one_of(st.integers(995, 1045), IDS)
RATING = st.one_of(st.none(), st.sampled_from([0.5, 5, 5.01, -1, 1e308, "4", True]))
JSON = st.recursive(st.one_of(IDS, RATING), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.sampled_from(["user_id", "item_id", "k", "x"]), inner, max_size=3), max_leaves=8)  # fmt: skip
EVENT = st.fixed_dictionaries(
    {"user_id": IDS, "item_id": ITEM},
    optional={"rating": RATING, "timestamp": st.sampled_from([0, 1e9, -1, 10**20, "2026-01-31", "now", None])},
)
BODIES = {
    "/api/v1/interactions": st.one_of(EVENT, st.lists(EVENT, max_size=3), JSON),
    "/api/v1/predict": st.one_of(
        st.fixed_dictionaries({"user_id": IDS, "item_ids": st.lists(ITEM, max_size=3)}),
        st.fixed_dictionaries({"user_id": IDS, "movie_id": ITEM}),
        JSON,
    ),
    "/api/v1/recommendations": st.one_of(
        st.fixed_dictionaries(
            {"user_ids": st.lists(IDS, max_size=3)},
            optional={"k": st.sampled_from([1, 0, 100, 101, "3"]), "deny": st.lists(ITEM, max_size=2),
                      "genre": st.sampled_from(["War", "", "Nothing"])},
        ),
        st.fixed_dictionaries({"interactions": st.lists(st.fixed_dictionaries({"item_id": ITEM}), max_size=3)}),
        JSON,
    ),
}  # fmt: skip
QUERY = st.lists(
    st.tuples(
        st.sampled_from(["k", "top_k", "genre", "exclude_seen", "unknown", "user_id", "q", "x"]),
        st.one_of(st.sampled_from(["1", "5", "0", "true", "popular", "error", "War"]), st.text(max_size=6)),
    ),
    max_size=4,
)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    made = Workers(tmp_path_factory.mktemp("served") / "live", n=0)
    made.folder.make()
    made.folder.flip(put_copy(made.folder, small_trained("item-knn")))
    made.runner.run(made._start())
    made.document = made.get("/openapi.json").json()["paths"]
    yield made
    made.close()


def check(workers: Workers, path: str, method: str, answer) -> None:
    documented = workers.document[path][method]["responses"]
    assert str(answer.status_code) in {*documented, "404"}, (answer.status_code, answer.text)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.json()["code"] in set(Code)
        assert answer.headers["content-type"] == "application/problem+json"


@settings(max_examples=60)
@given(user=IDS, query=QUERY)
@example(user=10**29, query=[])
@example(user=2**63, query=[("k", "1")])
@example(user="", query=[])
def test_gets(workers: Workers, user: object, query: list[tuple[str, str]]) -> None:
    text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query)
    path = "/api/v1/recommendations/{user_id}"
    check(workers, path, "get", workers.get(path.replace("{user_id}", quote(str(user), safe="")) + "?" + text))
    for path in ("/api/v1/recommendations", "/api/v1/popular", "/api/v1/items"):
        check(workers, path, "get", workers.get(f"{path}?{text}"))


@pytest.mark.parametrize("path", list(BODIES))
def test_posts(workers: Workers, path: str) -> None:
    @settings(max_examples=60)
    @given(body=BODIES[path])
    def ask(body: object) -> None:
        check(workers, path, "post", workers.post(path, body))

    ask()
