"""What other hosts' logs have is kept apart: each once, of nobody who was forgotten, while a version needs it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.interaction_log import Interaction, InteractionLog, Newest, PulledRow
from pipeline.interaction_log.copies import copy_log, learn_forgotten, opened_copy

AT = 1_769_817_600_000  # 2026-01-31


@pytest.fixture
def log(tmp_path: Path) -> Iterator[InteractionLog]:
    with InteractionLog.open(tmp_path / "interactions.db") as opened:
        yield opened


def row(seq: int, user: int = 1, rating: float | None = 4.0) -> PulledRow:
    return PulledRow(seq, user, 10 * seq, rating, AT + seq)


def seqs(log: InteractionLog, user: int = 1, **more: object) -> list[int]:
    return [one.seq for one in log.pulled_of_user(user, **more)]


def test_they_are_kept_once_and_apart_from_what_is_shipped(log: InteractionLog) -> None:
    log.append([Interaction(1, 5)])
    assert log.put_pulled("a", 0, 3, [row(1), row(2, user=2), row(3, rating=None)]) == 3
    assert log.put_pulled("a", 0, 3, [row(1), row(3)]) == 0
    assert log.put_pulled("b", 0, 1, [row(1)]) == 1
    found = log.pulled_of_user("1")
    assert [(one.seq, one.item_id, one.rating) for one in found] == [(1, 10, 4.0), (3, 30, None), (1, 10, 4.0)]
    assert found[0].at == datetime.fromtimestamp((AT + 1) / 1000, UTC)
    assert seqs(log, covered={"a": 1}) == [3, 1]
    assert (seqs(log, after=3), seqs(log, after=log.newest().pulled)) == ([1], [])
    assert (log.newest().own, log.users(), sorted(log.pulled_users())) == (1, [1, 2], [1, 2])
    assert (log.pending()[0], [one.item_id for one in log.of_user(1)], log.next_shipment().last_seq) == (1, [5], 1)


def test_the_next_pull_goes_on_and_starts_again_where_an_older_version_is_served(log: InteractionLog) -> None:
    assert log.pull_after("a", 7) == 7
    log.put_pulled("a", 7, 9, [row(8), row(9)])
    log.put_pulled("a", 9, 12, [])
    assert (log.pull_after("a", 7), log.pull_after("a", 10), log.pull_after("b", 0)) == (12, 12, 0)
    assert log.pull_after("a", 20) == 20, "the version has read what was never pulled"
    assert log.pull_after("a", 3) == 3, "it has read less than the one of before"
    log.put_pulled("a", 3, 8, [row(4), row(8)])
    assert (log.pull_after("a", 3), seqs(log)) == (8, [4, 8, 9])


def test_nothing_comes_or_stays_of_who_is_forgotten(log: InteractionLog, tmp_path: Path) -> None:
    log.put_pulled("a", 0, 2, [row(1), row(2, user=2)])
    copy_log(log.path, tmp_path / "copy")
    assert log.forget("1").n_rows == 1
    assert log.put_pulled("a", 0, 3, [row(1), row(3), row(2, user=2)]) == 0
    assert (seqs(log), seqs(log, 2)) == ([], [2])
    with opened_copy(tmp_path / "copy", log.path) as old:
        learn_forgotten(old, log.path)
        assert (seqs(old), seqs(old, 2)) == ([], [2]), "a copy that is put back does not bring them back"


def test_they_go_once_every_version_has_read_them_and_no_number_comes_twice(log: InteractionLog) -> None:
    log.put_pulled("a", 0, 5, [row(seq) for seq in range(1, 6)])
    log.put_pulled("b", 0, 1, [row(1)])
    assert log.drop_pulled(lambda: []) == 0
    assert log.drop_pulled(lambda: [{"a": 5}, {"a": 3, "b": 9}], most=2) == 3
    assert seqs(log) == [4, 5, 1]
    assert log.drop_pulled(lambda: [{"a": 5, "b": 1}]) == 3
    assert log.newest() == Newest(0, 6)
    log.put_pulled("b", 1, 2, [row(2)])
    assert (log.newest().pulled, seqs(log, after=6)) == (7, [2]), "whoever has seen up to 6 sees this one"


def test_a_log_of_before_gets_the_tables(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with InteractionLog.open(path) as log:
        log.append([Interaction(1, 5)])
    with sqlite3.connect(path) as database:
        database.executescript("DROP TABLE pulled; DROP TABLE pulls")
    with InteractionLog.open(path, create=False) as log:
        assert log.put_pulled("a", 0, 1, [row(1)]) == 1
        assert (len(log.of_user(1)), seqs(log)) == (1, [1])
