"""X-Manifest is one id of all that decides an answer: another one whenever any of it changes, and only then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Protocol

import pytest
from support.served import Workers, item_texts, put_copy, small_trained

from pipeline.models.saved_model import ItemTexts, SavedModel
from pipeline.ranking.rules import Rule, Rules
from pipeline.serving.baseline import keep_items, load_baseline

PATH = "/api/v1/recommendations/101"


class Host(Protocol):
    def __call__(self, name: str, model: SavedModel, version: str = ..., **more: Any) -> Workers: ...


@pytest.fixture(scope="module")
def models() -> tuple[SavedModel, SavedModel]:
    return small_trained(), small_trained("item-knn")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A service of its own, which serves a model."""
    with ExitStack() as stack:

        def made(
            name: str,
            model: SavedModel,
            version: str = "1",
            at: int = 1,
            texts: ItemTexts | None = None,
            **options: str,
        ) -> Workers:
            workers = stack.enter_context(closing(Workers(tmp_path / name, n=0, **options)))
            workers.folder.flip(put_copy(workers.folder, model, version, at, texts))
            for _ in range(2):
                workers.runner.run(workers._start())
            return workers

        yield made


def manifests(workers: Workers) -> set[str]:
    """Of all workers, by three kinds of answer, from the cache too."""
    asked = [workers.get(path, n) for path in (PATH, PATH, "/api/v1/popular") for n in (0, 1)]
    asked += [workers.post("/api/v1/predict", {"user_id": 101, "item_id": 1001}, n) for n in (0, 1)]
    return {answer.headers["x-manifest"] for answer in asked}


def test_it_is_one_of_all_workers_and_hosts_and_another_for_other_inputs(host: Host, models) -> None:
    (given,) = manifests(host("first", models[0]))
    # Another host: fetched at another time, with another cache and other processes.
    assert manifests(host("second", models[0], at=99, cache_mb=1, workers=7, rate_limit=100_000)) == {given}
    retitled = item_texts(models[0])
    retitled.titles["1001"] = "Another title"
    others = [
        host("files", models[1]),
        host("items", models[0], texts=retitled),
        host("version", models[0], "2"),
        host("fields", models[0], item_fields="title"),
        host("scale", models[0], max_rating=10.0),
    ]
    found = [manifests(other) for other in others]
    assert [len(one) for one in found] == [1] * len(others)
    assert len({given}.union(*found)) == 1 + len(others)


def test_it_follows_the_rules_in_force(host: Host, models) -> None:
    workers, other = host("first", models[0]), host("second", models[0])
    (bare,) = manifests(workers)

    def under(*rules: Rule) -> str:
        both = set()
        for one in (workers, other):
            Rules(rules).write(one.config.rules)
            one.look()
            both |= manifests(one)
        (found,) = both
        return found

    denied = under(Rule("deny", "1001"))
    promoted = under(Rule("promote", "1001", label="spring"))
    assert len({bare, denied, promoted, under(Rule("promote", "1001", label="spring", quota=2))}) == 4
    assert under(Rule("deny", "1001", reason="licence")) == denied, "in force is the same"
    assert under(Rule("deny", "1002", valid_until=1)) == bare, "it has ended"
    assert under() == bare


def test_what_stands_in_for_a_model_has_the_same_on_all_hosts(host: Host, models) -> None:
    found = []
    for name, version in (("first", "1"), ("second", "1"), ("other", "2")):
        folder = host(name, models[0], version).folder
        keep_items(folder, folder.current())
        found.append(load_baseline(folder, "rankline", ("title",), 0).served_by.manifest)
    assert found[0] == found[1] != found[2]
