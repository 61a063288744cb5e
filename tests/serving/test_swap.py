"""Another version: loaded beside the old one, served by all workers at the first request after the flip."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.agent_store import Store
from support.served import Workers, listed, put_copy, small_trained
from support.signing import NEW, OLD, OTHER, VARIABLE, keys

from pipeline.models.ensemble_model import EnsembleModel
from pipeline.models.saved_model import SavedModel
from pipeline.ranking.rules import Rule, Rules
from pipeline.ranking.scorer import Scorer
from pipeline.serving.agent import Agent
from pipeline.serving.baseline import load_baseline
from pipeline.serving.live_folder import LiveFolder, Pointer

pytest_plugins = ["support.homes"]
LIST = "/api/v1/recommendations/100?k=5"


@pytest.fixture(scope="module")
def models() -> list[SavedModel]:
    return [small_trained("popular"), small_trained("item-knn")]


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path / "live", poll_seconds=0.05)
    yield made
    made.close()


def sources(workers: Workers) -> list[str]:
    return [workers.get(LIST, worker).json().get("source", "none") for worker in range(len(workers.services))]


def test_all_workers_answer_by_the_new_version_from_the_flip_on(workers: Workers, models: list[SavedModel]) -> None:
    none = workers.get(LIST)
    assert (none.status_code, none.json()["code"], none.headers["retry-after"]) == (503, "NO_MODEL", "1")
    assert workers.get("/api/v1/ready").status_code == 503
    first, second = put_copy(workers.folder, models[0]), put_copy(workers.folder, models[1], "2")
    workers.folder.flip(first)
    workers.look()
    assert sources(workers) == ["popular", "popular"]
    workers.folder.propose(second)
    workers.look()
    assert sources(workers) == ["popular", "popular"]
    workers.folder.flip(second)
    assert sources(workers) == ["item-knn", "item-knn"]  # without another look
    assert workers.get(LIST).headers["x-model-version"] == "rankline/2"
    workers.folder.current_path.write_text("{")
    assert sources(workers) == ["item-knn", "item-knn"]
    workers.folder.current_path.unlink()
    workers.look()
    assert sources(workers) == ["item-knn", "item-knn"]


def test_a_flip_in_the_middle_of_a_look_drops_nothing(
    workers: Workers, models: list[SavedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = put_copy(workers.folder, models[0]), put_copy(workers.folder, models[1], "2")
    workers.folder.flip(first)
    workers.folder.propose(second)
    workers.look()

    def then_flip(read):
        def reading(folder: LiveFolder) -> object:
            found = read(folder)
            if folder.candidate_path.exists():
                workers.folder.flip(second)
            return found

        return reading

    monkeypatch.setattr(LiveFolder, "current", then_flip(LiveFolder.current))
    monkeypatch.setattr(LiveFolder, "candidate", then_flip(LiveFolder.candidate))
    workers.look()
    assert sources(workers) == ["item-knn", "item-knn"]


def test_a_version_of_the_same_files_is_another_version_in_ready_answers_too(
    workers: Workers, models: list[SavedModel]
) -> None:
    first = put_copy(workers.folder, models[0])
    workers.folder.flip(first)
    workers.look()
    assert workers.get(LIST).json()["model_version"] == "rankline/1"
    workers.folder.flip(replace(first, version="7"))
    answer = workers.get(LIST)
    assert (answer.headers["x-model-version"], answer.json()["model_version"]) == ("rankline/7", "rankline/7")


def test_what_a_worker_said_of_an_earlier_proposal_counts_no_more(workers: Workers, models: list[SavedModel]) -> None:
    first, second = put_copy(workers.folder, models[0]), put_copy(workers.folder, models[1], "2")
    workers.folder.flip(first)
    workers.folder.propose(second)
    workers.look()
    workers.folder.withdraw()  # another worker could not load it; this one drops it at its next look
    agent = Agent(replace(workers.config, options=replace(workers.config.options, workers=1)), threading.Event())
    swapping = threading.Thread(target=agent._swap, args=(second,))
    swapping.start()
    swapping.join(0.3)
    assert workers.folder.current() == first  # nobody has it in memory for sure
    while swapping.is_alive():
        workers.look()
        swapping.join(0.02)
    assert sources(workers) == ["item-knn", "item-knn"]


def test_a_version_that_could_not_be_loaded_is_tried_again_when_it_is_proposed_again(
    workers: Workers, models: list[SavedModel]
) -> None:
    second = put_copy(workers.folder, models[1], "2")
    scores = workers.folder.model_folder(second.digest) / "similarity.npz"
    whole = scores.read_bytes()
    scores.write_bytes(b"")
    workers.folder.propose(second)
    workers.look()
    scores.write_bytes(whole)
    workers.folder.propose(second)
    workers.look()
    (report,) = workers.folder.reports()
    assert (report.loaded, report.failed) == ((second.digest,), {})


def test_a_broken_candidate_is_reported_and_not_served(workers: Workers, models: list[SavedModel]) -> None:
    first, second = put_copy(workers.folder, models[0]), put_copy(workers.folder, models[1], "2")
    (workers.folder.model_folder(second.digest) / "similarity.npz").write_bytes(b"")
    workers.folder.flip(first)
    workers.folder.propose(second)
    workers.look()
    (report,) = workers.folder.reports()
    assert report.loaded == (first.digest,)
    assert "similarity.npz" in report.failed[second.digest]
    assert sources(workers) == ["popular", "popular"]


def test_rules_hold_for_the_next_list(workers: Workers, models: list[SavedModel]) -> None:
    workers.folder.flip(put_copy(workers.folder, models[0]))
    workers.look()
    answer = workers.get(LIST)
    before, manifest = listed(answer), answer.headers["x-manifest"]
    assert workers.get("/api/v1/ready", 1).headers["x-manifest"] == manifest  # the same in each worker
    Rules((Rule("deny", str(before[0][0])),)).write(workers.config.rules)
    workers.look()
    assert listed(workers.get(LIST))[:4] == before[1:]
    assert workers.get(LIST).headers["x-manifest"] != manifest
    workers.config.rules.write_text("{")
    workers.look()
    assert listed(workers.get(LIST))[:4] == before[1:]
    assert "rules" in workers.get("/api/v1/health").json()["model"]["fault"]


# ---- the agent, over a real store ----------------------------------------------------------------


def test_a_look_just_before_the_flip_drops_nothing(home, workers, models, monkeypatch: pytest.MonkeyPatch) -> None:
    flip, look, looks, loaded = LiveFolder.flip, Workers.look, [0], []

    def counted(self: Workers) -> None:
        look(self)
        looks[0] += 1

    def late(self: LiveFolder, pointer: Pointer) -> None:
        until = looks[0] + 2
        while looks[0] < until:
            time.sleep(0.01)
        loaded.extend(pointer.digest in report.loaded for report in self.reports())
        flip(self, pointer)

    monkeypatch.setattr(Workers, "look", counted)
    monkeypatch.setattr(LiveFolder, "flip", late)
    store = Store(home.env["MLFLOW_TRACKING_URI"], workers)
    store.promote(store.register(models[0]))
    assert (store.look(), store.version) == ("", "1")
    assert loaded == [True]
    assert not workers.folder.candidate_path.exists()


def test_the_agent_follows_the_champion_and_nothing_bad_replaces_it(home, workers, models) -> None:
    uri = home.env["MLFLOW_TRACKING_URI"]
    store = Store(uri, workers)
    assert "No version" in store.look()
    store.register(models[0])
    assert store.look() == ""
    assert store.version == "1"  # the newest, while none is promoted
    store.register(models[1])
    assert (store.look(), store.version) == ("", "2")
    store.promote("1")
    assert (store.look(), store.version) == ("", "1")
    assert sources(workers) == ["popular", "popular"]
    store.register(models[1], run_id="f" * 32)
    store.promote("3")
    assert "those of another run" in store.look()
    store.register(models[1], leave_out="scores.npy")
    store.promote("4")
    assert "scores.npy" in store.look()
    assert store.version == "1"
    assert workers.get("/api/v1/health").json()["status"] == "degraded"
    store.client.delete_registered_model_alias("rankline", "champion")
    assert (store.look(), store.version) == ("", "1")  # the last champion stays
    store.promote("2")
    assert (store.look(), store.version) == ("", "2")
    kept = load_baseline(workers.folder, "rankline", (), 0)  # for when no version can be loaded
    assert (kept.scorer.items, kept.snapshot.popularity.sum()) == (models[1].items, models[1].seen.nnz)
    (home.folder / "mlflow.db").rename(home.folder / "away.db")
    # A service that starts without MLflow has its copies.
    workers.folder.current_path.write_text("damaged")
    again = Store(uri, workers)
    assert "no store there" in again.look()
    assert again.version == "2"
    assert not list(workers.folder.models.glob(".incoming*"))
    items, _ = Scorer(models[1]).recommend(100, 5)
    assert [item for item, _ in listed(workers.get(LIST))] == items.tolist()


def test_an_agent_clears_what_one_left_that_was_killed(home, workers, models) -> None:
    kept = put_copy(workers.folder, models[0])
    lost = put_copy(workers.folder, models[1], "2")
    (workers.folder.models / f"{lost.digest}.json").unlink()
    (workers.folder.models / ".incoming-half").mkdir()
    workers.folder.propose(lost)
    Store(home.env["MLFLOW_TRACKING_URI"], workers).look()
    assert [path.name for path in workers.folder.models.iterdir() if path.is_dir()] == [kept.digest]
    assert not workers.folder.candidate_path.exists()


def test_with_signing_keys_only_signed_versions_are_served(home, workers, models, monkeypatch) -> None:
    store = Store(home.env["MLFLOW_TRACKING_URI"], workers)
    store.register(models[0])
    assert (store.look(), store.version) == ("", "1")
    monkeypatch.setenv(VARIABLE, keys(new=NEW, old=OLD))
    store.register(models[1])
    assert (store.look(), store.version) == ("", "2")
    monkeypatch.setenv(VARIABLE, keys(other=OTHER))
    store.register(models[0])  # signed with `other`
    monkeypatch.setenv(VARIABLE, keys(new=NEW))
    assert "rankline/3: " in (said := store.look())
    assert "signed with the key 'other'" in said
    assert store.version == "2"
    assert sources(workers) == ["item-knn", "item-knn"]
    # Neither the agent nor a worker that starts anew takes a copy that is not signed.
    copy = workers.folder.model_folder(workers.folder.current().digest)
    (copy / "metadata.json.sig").unlink()
    late = Workers(workers.config.live, 1)
    assert late.get(LIST).json()["model_version"] == "rankline/baseline"  # what the agent kept, and signed
    (workers.folder.baseline / "metadata.json.sig").unlink()
    later = Workers(workers.config.live, 1)
    assert later.get(LIST).json()["code"] == "NO_MODEL"
    assert "is not signed" in later.get(LIST).json()["detail"]
    later.close()
    late.close()
    again = Store(home.env["MLFLOW_TRACKING_URI"], workers)
    assert "signed with the key 'other'" in again.look()
    assert again.version == ""


def test_the_agent_fetches_the_members_of_an_ensemble(home, workers, models, monkeypatch) -> None:
    members = (models[1], small_trained("ease"))
    users, items, seen = models[1].users, models[1].items, models[1].seen
    ensemble = EnsembleModel(members, (0.25, 0.75), users, items, seen, {**models[1].meta, "model": "ensemble"})
    store = Store(home.env["MLFLOW_TRACKING_URI"], workers)
    monkeypatch.setenv(VARIABLE, keys(old=OLD))
    store.register(ensemble)
    assert store.look() == ""
    expected = Scorer(ensemble).recommend(100, 5)
    assert listed(workers.get(LIST)) == list(zip(expected[0].tolist(), expected[1].tolist(), strict=True))
    best = expected[0].tolist()[0]
    workers.post("/api/v1/interactions", {"user_id": 100, "item_id": best, "rating": 5})
    after = workers.get(LIST)
    assert after.json()["source"] == "fold_in"
    assert best not in dict(listed(after))
    why = workers.get(f"/api/v1/explain/101/{best}").json()
    assert {part["model"] for part in why["contributions"]["members"]} == {"item-knn", "ease"}
    # A member that is damaged keeps the version from being served.
    version = store.register(ensemble)
    source = Path(store.client.get_model_version("rankline", version).source)
    (source / "members" / "1" / "seen.npz").write_bytes(b"")
    assert "seen.npz" in store.look()
    assert store.version == "1"
