"""Who was forgotten, in the file beside the log; and times that have not come."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.interaction_log import (
    Interaction,
    InteractionLog,
    InteractionLogError,
    InvalidInteractionError,
    Tombstones,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "interactions.db"


def test_who_was_forgotten_is_known_without_the_log(path: Path) -> None:
    assert not Tombstones(path).has(7), "there never was a log"
    with InteractionLog.open(path) as log:
        beside = Tombstones(path)
        assert not beside.has(7)
        log.forget(7)
        log.forget("somebody")
        assert beside.has(7)
        assert beside.has("7")
        assert beside.has("somebody")
        assert not beside.has(8)
        assert b"somebody" not in beside.path.read_bytes()
        log.lift(7)
        assert not beside.has(7)
        assert beside.has("somebody")
    assert beside.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [None, "", "{}", '{"format": 2, "salt": "", "forgotten": []}'])
def test_without_the_copy_everybody_may_have_been_forgotten_and_opening_mends_it(
    path: Path, content: str | None
) -> None:
    with InteractionLog.open(path) as log:
        log.forget(7)
    beside = Tombstones(path)
    beside.path.unlink() if content is None else beside.path.write_text(content)
    assert Tombstones(path).has(8)
    InteractionLog.open(path, create=False).close()
    assert Tombstones(path).has(8), "a job that only reads leaves it"
    InteractionLog.open(path).close()
    assert (beside.has(7), beside.has(8)) == (True, False)


def test_nobody_is_forgotten_where_the_copy_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with InteractionLog.open(path) as log:
        log.append([Interaction(7, 1)])
        monkeypatch.setattr(Tombstones, "write", refuse)
        with pytest.raises(InteractionLogError):
            log.forget(7)
        assert (log.is_forgotten(7), len(log.of_user(7))) == (False, 1)


def refuse(self: Tombstones, *_: object) -> None:
    raise InteractionLogError("no room")


def test_a_time_more_than_a_day_ahead_is_refused_and_in_an_old_log_a_day_ahead(path: Path) -> None:
    now = datetime.now(UTC)
    with InteractionLog.open(path) as log:
        log.append([Interaction(7, 1, 4.0, now + timedelta(hours=23))])
        with pytest.raises(InvalidInteractionError, match="Interaction 1: at has not come yet"):
            log.append([Interaction(7, 1), Interaction(7, 1, 4.0, now + timedelta(hours=25))])
        assert log.latest_seq() == 1
        with sqlite3.connect(path) as database:
            database.execute("UPDATE interactions SET at = 10413791999999")
        (old,) = log.of_user(7)
        assert old.at == old.received + timedelta(days=1)
