"""The exposure log: numbered, shipped within bounds that stay, bounded in size, and with every loss counted."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.exposures import shown

from pipeline.errors import InteractionLogError
from pipeline.interaction_log import exposures as module
from pipeline.interaction_log.exposures import ExposureLog


def test_what_is_shown_waits_and_goes_when_it_is_shipped(tmp_path: Path) -> None:
    with ExposureLog.open(tmp_path / "exposures.db") as log:
        assert log.next_shipment() is None
        assert log.append([shown(user) for user in range(5)], "w") == 0
        first = log.next_shipment(3)
        assert (first.first_seq, first.last_seq) == (1, 3)
        log.append([shown(9)], "w")
        assert log.next_shipment(3) == first, "its bounds stay until it is marked"
        assert [row.user_id for row in log.rows(1, 3)] == ["0", "1", "2"]
        log.mark_shipped(first)
        assert log.rows(1, 3) == []
        assert (log.waiting(), log.latest_seq()) == (3, 6)
        assert log.forget(4) == 1
        with ExposureLog.open(tmp_path / "exposures.db") as other:
            assert [row.user_id for row in other.rows(1, 9)] == ["3", "9"]
            assert other.log_id == log.log_id


def test_a_log_of_before_there_were_manifests_opens_and_keeps_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "exposures.db"
    ExposureLog.open(path).close()
    with closing(sqlite3.connect(path)) as older, older:
        older.execute("ALTER TABLE exposures DROP COLUMN manifest")
        older.execute("INSERT INTO exposures VALUES (1, 'x', 'a', 'r', '7', '3', 'nmf', '[]', 200, 150, 5, 0)")
        older.execute("UPDATE log SET last_seq = 1")
    with ExposureLog.open(path, create=False) as log, ExposureLog.open(path) as other:
        log.append([shown(8)], "w", 2, "x")
        found = [(row.user_id, row.manifest, row.at, row.n_lost) for row in other.rows(1, 9)]
    assert found[:2] == [("7", "", 5, 0), ("8", "0f" * 8, 1_700_000_000_000, 0)]
    assert (found[2][1], found[2][3]) == ("", 2)


def test_a_log_that_is_full_loses_and_says_how_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 5)
    with ExposureLog.open(tmp_path / "exposures.db") as log:
        assert log.append([shown(user) for user in range(7)], "w") == 3, "one place is for the loss"
        assert log.append([shown(7)], "w", 3, "x") == 1
        log.mark_shipped(log.next_shipment())
        assert log.append([], "w", 4, "x") == 0
        (loss,) = log.rows(1, 99)
        assert (loss.experiment, loss.n_lost, loss.user_id) == ("x", 4, "")
        assert log.settle("w", 8, "x") == 0, "4 are there, and 4 are known to be lost"


def test_what_a_killed_writer_had_not_written_is_counted_once(tmp_path: Path) -> None:
    with ExposureLog.open(tmp_path / "exposures.db") as log:
        log.append([shown(1), shown(2)], "w")
        assert log.settle("w", 7, "x") == 5
        assert log.settle("w", 7, "x") == 0
        assert log.settle("never", 3, "x") == 3, "it was killed before it wrote anything"
        assert [row.n_lost for row in log.rows(1, 9)] == [0, 0, 5, 3]
        log.forget_writer("w")


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be one" * 30, b""])
def test_another_file_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "exposures.db"
    path.write_bytes(content)
    if content:
        with pytest.raises(InteractionLogError, match="The exposure log"):
            ExposureLog.open(path)
        assert path.read_bytes() == content
    else:
        ExposureLog.open(path).close()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InteractionLogError, match="can't be made"):
        ExposureLog.open(tmp_path / "no" / "exposures.db")
    with pytest.raises(InteractionLogError):
        ExposureLog.open(tmp_path / "exposures.db", create=False)
