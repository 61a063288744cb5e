"""Several models in one service: each under its name, with the interactions, keys and limits of all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.served import Workers, listed, put_copy, small_trained

from pipeline.errors import UsageError
from pipeline.ranking.scorer import Scorer
from pipeline.serving.keys import KeyFile
from pipeline.serving.live_folder import LiveFolder
from pipeline.serving.names import FOLDERS, WORDS, check_names


@pytest.fixture(scope="module")
def models():
    return {"rankline": small_trained("popular"), "films": small_trained("ease")}


@pytest.fixture
def workers(tmp_path: Path, models) -> Iterator[Workers]:
    made = Workers(tmp_path / "live", n=0, others=("films",))
    for name, model in models.items():
        folder = LiveFolder(made.config.live, name)
        folder.make()
        folder.flip(replace(put_copy(folder, model), name=name))
    for _ in range(2):
        made.runner.run(made._start())
    yield made
    made.close()


def test_each_model_answers_under_its_name_and_the_first_without_one_too(workers: Workers, models) -> None:
    for prefix, name in (("", "rankline"), ("rankline/", "rankline"), ("films/", "films")):
        items, scores = Scorer(models[name]).recommend(100, 5)
        for _ in range(2):  # made, and from the cache
            answer = workers.get(f"/api/v1/{prefix}recommendations/100?k=5")
            assert listed(answer) == list(zip(items.tolist(), scores.tolist(), strict=True))
        several = workers.post(f"/api/v1/{prefix}recommendations", {"user_ids": [100], "k": 5}).json()["lists"][0]
        assert [row["item_id"] for row in several["recommendations"]] == items.tolist()
        assert several["source"] == {"rankline": "popular", "films": "ease"}[name]
    for path in ("/api/v1/books/recommendations/100", "/api/v1/films", "/api/v1/films/", "/api/v1/films/ping"):
        assert workers.get(path).status_code == 404
    assert workers.get("/api/v1/films/ready").json()["status"] == "ready"
    assert b'version="films/1"' in (scraped := workers.get("/metrics").content)
    assert b'version="rankline/1"' in scraped


def test_a_rating_is_one_for_all_models(workers: Workers) -> None:
    item = listed(workers.get("/api/v1/films/recommendations/100"))[0][0]
    kept = workers.post("/api/v1/films/interactions", {"user_id": 100, "item_id": item, "rating": 5})
    assert kept.status_code == 201
    for path in ("/api/v1/films/recommendations/100?k=100", "/api/v1/recommendations/100?k=100"):
        after = workers.get(path, 1)
        assert after.json()["source"] == "fold_in"
        assert item not in dict(listed(after))


def test_keys_have_the_same_scopes_under_a_name(workers: Workers) -> None:
    head = {"Authorization": f"Bearer {KeyFile(workers.folder.keys_path).add(('read',))}"}
    assert workers.get("/api/v1/films/recommendations/100").status_code == 401
    assert workers.get("/api/v1/films/recommendations/100", headers=head).status_code == 200
    refused = workers.post("/api/v1/films/interactions", {"user_id": 100, "item_id": 1000}, headers=head)
    assert refused.status_code == 403
    assert workers.get("/api/v1/films/health").json().keys() == {"status"}


def test_the_document_has_the_paths_of_each_name(workers: Workers) -> None:
    paths = workers.get("/openapi.json").json()["paths"]
    own = {path for path in paths if not path.startswith(("/api/v1/films/", "/api/v1/rankline/"))}
    for name in ("films", "rankline"):
        of_name = {path for path in paths if path.startswith(f"/api/v1/{name}/")}
        assert of_name == {path.replace("/api/v1/", f"/api/v1/{name}/") for path in own if path.startswith("/api/v1/")}
    ids = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(ids) == len(set(ids))
    # A model of such a name would hide these paths, or its folder would be another thing's.
    assert {path.split("/")[3] for path in own if path.startswith("/api/v1/")} <= WORDS
    assert {path.name for path in workers.folder.root.iterdir() if path.is_dir()} - {"films"} <= FOLDERS


def test_each_model_has_a_page_and_the_others_are_linked(workers: Workers) -> None:
    html = {"Accept": "text/html"}
    first, films = (workers.get(path, headers=html).text for path in ("/?user=100", "/page/of/films?user=100"))
    assert ["By films/1 (ease)" in page for page in (first, films)] == [False, True]
    for page, here in ((first, "/?user=100"), (films, "/page/of/films?user=100")):
        of_models = page.split("Models of this service")[1].split("</nav>")[0]
        assert set(re.findall(r'href="(\S+?)"', of_models)) == {"/?user=100", "/page/of/films?user=100"}
        assert f'"{here}" aria-current="true"' in of_models
    links = set(re.findall(r'(?:href|hx-get|hx-post|action)="(/[^"?]*)', films.split("</nav>", 2)[2]))
    assert links == {f"/page/of/films{rest}" for rest in ("", "/why", "/search")}
    assert workers.get("/page/of/books", headers=html).status_code == 404
    KeyFile(workers.folder.keys_path).add(("read",))
    asked = workers.get("/page/of/films/health?a=1", headers=html, follow_redirects=False)
    assert (asked.status_code, asked.headers["location"]) == (303, "/?next=%2Fpage%2Fof%2Ffilms%2Fhealth%3Fa%3D1")


@pytest.mark.parametrize("names", [["users"], ["rankline", "workers"], ["a", "b", "a"]])
def test_names_that_cannot_be_served(names: list[str]) -> None:
    with pytest.raises(UsageError):
        check_names(names)
    check_names(["a", "b"])
