"""The alias and its history, on MLflow's own store: who was champion, and who is to go back to."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException

from pipeline.errors import InputError, LockedError
from pipeline.tracking import champion, champion_lock
from pipeline.tracking.registry import MODEL_NAME, resolve

pytest_plugins = ["support.homes"]

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path, store_template: Path) -> Iterator[mlflow.MlflowClient]:
    """An empty store in a file, as the one in use."""
    path = tmp_path / "mlflow.db"
    path.write_bytes((store_template / "mlflow.db").read_bytes())
    with sqlite3.connect(path) as db:
        db.execute("UPDATE experiments SET artifact_location = ?", ((tmp_path / "artifacts").as_uri(),))
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(before)


def versions(client: mlflow.MlflowClient, n: int) -> None:
    client.create_registered_model(MODEL_NAME)
    for _ in range(n):
        client.create_model_version(MODEL_NAME, "file:///nowhere")


def crown(version: str, instead_of: str, how: str = "promoted") -> datetime | None:
    return champion.promote(version, instead_of=instead_of, how=how)


def current() -> str:
    now = champion.champion()
    return now.version if now else ""


def test_up_and_back_and_up_again(store: mlflow.MlflowClient) -> None:
    versions(store, 4)
    assert (champion.champion(), champion.history()) == (None, [])
    assert crown("1", "") is not None
    assert crown("2", "1") is not None
    assert crown("3", "2", "forced") is not None
    assert champion.history() == ["1", "2", "3"]
    change, gone = champion.roll_back("complaints")
    assert (change.version, change.before, change.reason, gone) == ("2", "3", "complaints", [])
    assert champion.history() == ["1", "2"]
    crown("4", "2")
    assert champion.history() == ["1", "2", "4"]
    assert [champion.roll_back()[0].version for _ in range(2)] == ["2", "1"]
    with pytest.raises(InputError, match="rankline/1 is the first champion there is a record of"):
        champion.roll_back()
    assert current() == "1"
    # Nothing is rewritten: a line for each move, in the order they were made.
    log = [key for key in store.get_registered_model(MODEL_NAME).tags if key.startswith("champion.")]
    assert len(log) == 7


def test_an_earlier_champion_again_does_not_go_round_in_circles(store: mlflow.MlflowClient) -> None:
    versions(store, 3)
    for version, before in (("1", ""), ("3", "1"), ("1", "3")):
        crown(version, before)
    assert champion.history() == ["1", "3", "1"]
    assert [champion.roll_back()[0].version for _ in range(2)] == ["3", "1"]
    with pytest.raises(InputError, match="none to go back to"):
        champion.roll_back()


def test_nothing_to_go_back_from(store: mlflow.MlflowClient) -> None:
    with pytest.raises(InputError, match="No version is champion"):
        champion.roll_back()
    versions(store, 1)
    with pytest.raises(InputError, match="No version is champion"):
        champion.roll_back()


def test_an_alias_that_a_person_moved_is_believed(store: mlflow.MlflowClient) -> None:
    versions(store, 4)
    store.set_registered_model_alias(MODEL_NAME, "champion", "1")
    assert champion.history() == ["1"]
    crown("2", "1")
    store.set_registered_model_alias(MODEL_NAME, "champion", "4")
    assert champion.history() == ["1", "2", "4"]
    assert champion.roll_back()[0].version == "2"
    store.set_registered_model_tag(MODEL_NAME, "champion.of.the.world", "me")
    assert champion.history() == ["1", "2"]


def test_a_deleted_version_is_passed_over_and_named(store: mlflow.MlflowClient) -> None:
    versions(store, 3)
    for version, before in (("1", ""), ("2", "1"), ("3", "2")):
        crown(version, before)
    store.delete_model_version(MODEL_NAME, "2")
    change, gone = champion.roll_back()
    assert (change.version, gone) == ("1", ["2"])


def test_going_back_never_ends_where_it_began(store: mlflow.MlflowClient) -> None:
    versions(store, 2)
    for version, before in (("1", ""), ("2", "1"), ("1", "2")):
        crown(version, before)
    store.delete_model_version(MODEL_NAME, "2")
    with pytest.raises(InputError, match=r"none to go back to \(version 2 is deleted\)"):
        champion.roll_back()


def test_what_the_check_refuses_changes_nothing(store: mlflow.MlflowClient) -> None:
    versions(store, 2)
    crown("1", "")
    crown("2", "1")

    def refuse(version: str) -> None:
        raise InputError(f"{version} is damaged")

    with pytest.raises(InputError, match="1 is damaged"):
        champion.roll_back("", refuse)
    assert champion.history() == ["1", "2"]


def test_who_comes_too_late_changes_nothing(store: mlflow.MlflowClient) -> None:
    versions(store, 3)
    crown("1", "")
    crown("2", "1")
    assert crown("3", "1") is None
    assert champion.history() == ["1", "2"]


def test_many_at_once_leave_one_champion_and_a_whole_history(store: mlflow.MlflowClient) -> None:
    versions(store, 6)
    crown("1", "")
    at = threading.Barrier(5)
    taken: list[str] = []

    def promote(version: str) -> None:
        at.wait()
        if crown(version, "1") is not None:
            taken.append(version)

    threads = [threading.Thread(target=promote, args=(str(v),)) for v in range(2, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1
    assert champion.history() == ["1", *taken]
    assert current() == taken[0]


def test_many_at_once_where_only_claims_keep_them_apart(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a server: nothing locks the store. Each that moved the alias read it first, alone."""
    monkeypatch.setattr(champion, "locked_store", lambda uri: contextlib.nullcontext())
    monkeypatch.setattr(champion, "is_file", lambda uri: False)
    versions(store, 6)
    crown("1", "")
    taken: list[str] = []
    inside: set[str] = set()
    crowds: list[set[str]] = []
    read = champion._current

    def slow(model: str) -> str:
        # Two between the reading and the writing are what must not be.
        inside.add(threading.current_thread().name)
        result = read(model)
        time.sleep(0.02)
        crowds.append(set(inside))
        inside.discard(threading.current_thread().name)
        return result

    monkeypatch.setattr(champion, "_current", slow)
    at = threading.Barrier(4)

    def promote(version: str) -> None:
        at.wait()
        if crown(version, "1") is not None:
            taken.append(version)

    threads = [threading.Thread(target=promote, args=(str(v),)) for v in range(2, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.setattr(champion, "_current", read)
    assert all(len(crowd) == 1 for crowd in crowds)
    assert len(taken) == 1
    assert champion.history() == ["1", *taken]
    assert current() == taken[0]
    assert not [key for key in store.get_registered_model(MODEL_NAME).tags if key.startswith(champion_lock.PREFIX)]


@pytest.mark.parametrize("kind", ["promote", "roll back"])
@pytest.mark.parametrize("dies", [False, True])
def test_who_stands_still_past_the_lock_moves_nothing_any_more(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, kind: str, dies: bool
) -> None:
    """As on a server. It stops right before it moves the alias; when it wakes up, another champion stays."""
    monkeypatch.setattr(champion, "locked_store", lambda uri: contextlib.nullcontext())
    monkeypatch.setattr(champion, "is_file", lambda uri: False)
    monkeypatch.setattr(champion_lock, "EXPIRY", 0.3)
    versions(store, 4)
    crown("1", "")
    crown("2", "1")
    late = "3" if kind == "promote" else "1"
    asleep, awake = threading.Event(), threading.Event()

    def alias() -> str:
        return str(store.get_registered_model(MODEL_NAME).aliases["champion"])

    move = mlflow.MlflowClient.set_registered_model_alias

    def slow(client: mlflow.MlflowClient, name: str, alias: str, version: str) -> None:
        if version == late and not asleep.is_set():
            asleep.set()
            assert awake.wait(60)
        move(client, name, alias, version)
        if version == late and dies:
            raise SystemExit

    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", slow)
    outcome: list[object] = []

    def job() -> None:
        with contextlib.suppress(SystemExit, LockedError):
            outcome.append(crown("3", "2") if kind == "promote" else champion.roll_back()[0].version)

    thread = threading.Thread(target=job)
    thread.start()
    assert asleep.wait(60)
    assert crown("4", "2") is not None  # takes the lock over
    awake.set()
    thread.join()
    assert outcome == ([None] if kind == "promote" and not dies else [])
    assert current() == "4"
    assert (alias() == late) == dies
    assert crown("2", "4") is not None  # whoever moves the champion next goes on from there
    assert current() == alias() == "2"
    assert champion.history()[-2:] == ["4", "2"]


def test_a_dead_claim_is_waited_for_and_cleared_away(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with champion_lock.champion_lock() as claim:  # no model: nothing to claim
        claim.check()
    versions(store, 1)
    dead = champion_lock.PREFIX + "dead"
    store.set_registered_model_tag(MODEL_NAME, dead, "")
    monkeypatch.setattr(champion_lock, "PATIENCE", 0.0)
    with pytest.raises(LockedError, match="run the command again"), champion_lock.champion_lock():
        pass
    monkeypatch.setattr(champion_lock, "PATIENCE", 60.0)
    monkeypatch.setattr(champion_lock, "EXPIRY", 0.5)
    with champion_lock.champion_lock() as claim:
        assert dead not in champion_lock._claims(MODEL_NAME)
        claim.check()
        (claims,) = champion_lock._claims(MODEL_NAME)
        store.delete_registered_model_tag(MODEL_NAME, claims)  # somebody took us for dead
        with pytest.raises(LockedError, match="nothing was moved"):
            claim.check()
    assert not champion_lock._claims(MODEL_NAME)


def test_who_moves_the_alias_by_hand_in_that_very_moment_is_believed(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions(store, 3)
    crown("1", "")
    move = mlflow.MlflowClient.set_registered_model_alias

    def twice(self: mlflow.MlflowClient, name: str, alias: str, version: str) -> None:
        move(self, name, alias, version)
        move(self, name, alias, "3")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "set_registered_model_alias", twice)
        assert crown("2", "1") is None
    assert champion.history() == ["1", "3"]


def test_dying_between_the_two_writes_leaves_a_history_that_holds(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions(store, 3)
    crown("1", "")
    crown("2", "1")

    def die(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "set_registered_model_tag", die)
        with pytest.raises(KeyboardInterrupt):
            crown("3", "2")
    assert champion.history() == ["1", "2", "3"]
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "set_registered_model_alias", die)
        with pytest.raises(KeyboardInterrupt):
            champion.roll_back()
    assert current() == "3"
    assert champion.roll_back()[0].version == "2"
    assert champion.roll_back()[0].version == "1"


def test_a_clock_that_was_set_back_does_not_reorder_the_history(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Back(datetime):
        hour_now = 12

        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            cls.hour_now -= 1
            return datetime(2026, 1, 1, cls.hour_now, tzinfo=UTC)

    versions(store, 3)
    monkeypatch.setattr(champion, "datetime", Back)
    times = [crown(version, before) for version, before in (("1", ""), ("2", "1"), ("3", "2"))]
    assert times == sorted(times)
    assert champion.history() == ["1", "2", "3"]


@given(st.lists(st.sampled_from(["register", "crown", "back"]), min_size=1, max_size=3))
def test_newer_versions_have_later_times(emptied: mlflow.MlflowClient, moves: list[str]) -> None:
    """Of registration, whatever happens in between; and each change of champion is later than the one before."""
    client = emptied
    with contextlib.suppress(MlflowException):
        client.delete_registered_model(MODEL_NAME)
    versions(client, 1)
    for move in moves:
        changes = champion.changes()
        if move == "register":
            client.create_model_version(MODEL_NAME, "file:///nowhere")
        elif move == "crown":
            newest = resolve(MODEL_NAME).version
            if newest != (reigning := current()):
                at = crown(newest, reigning)
                assert at is not None
                assert all(change.at < at for change in changes)
        elif len(changes) > 1 and len(champion.history()) > 1:
            assert champion.roll_back()[0].at > changes[-1].at
    result = client.search_model_versions(f"name = '{MODEL_NAME}'")
    times = [version.creation_timestamp for version in sorted(result, key=lambda version: int(version.version))]
    assert times == sorted(set(times))


@pytest.fixture(scope="module")
def emptied(tmp_path_factory: pytest.TempPathFactory, store_template: Path) -> Iterator[mlflow.MlflowClient]:
    path = tmp_path_factory.mktemp("emptied") / "mlflow.db"
    path.write_bytes((store_template / "mlflow.db").read_bytes())
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(before)
