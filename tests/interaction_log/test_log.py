"""The interaction log alone: what is acknowledged, what is seen, what is refused, and what is forgotten."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.errors import LockedError
from pipeline.interaction_log import (
    Batch,
    Columns,
    ForgottenUserError,
    IdempotencyConflictError,
    Interaction,
    InteractionLog,
    InteractionLogError,
    InvalidInteractionError,
)
from pipeline.interaction_log import log as log_module

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "live" / "interactions.db"


@pytest.fixture
def log(path: Path) -> Iterator[InteractionLog]:
    with InteractionLog.open(path) as opened:
        yield opened


def test_what_is_appended_is_read_in_order(log: InteractionLog) -> None:
    first = log.append([Interaction(7, 1, 4.0, AT), Interaction(8, 2)])
    second = log.append([Interaction(7, 1, 2.5, AT - timedelta(days=1))])
    assert (first.first_seq, first.last_seq, first.count, first.duplicate) == (1, 2, 2, False)
    assert (second.first_seq, second.last_seq) == (3, 3)
    assert [(entry.seq, entry.item_id, entry.rating, entry.at) for entry in log.of_user(7)] == [
        (1, 1, 4.0, AT),
        (3, 1, 2.5, AT - timedelta(days=1)),
    ]
    assert [entry.seq for entry in log.of_user("7", after=1)] == [3]
    assert log.of_user("x") == log.of_user(9) == []
    watched = log.of_user(8)[0]
    assert (watched.rating, watched.at) == (None, watched.received)
    assert sorted(log.users_after(0)) == [7, 8]
    assert log.users_after(2) == [7]
    assert log.latest_seq() == 3
    assert log.pending() == (3, log.of_user(7)[0].received)


def test_ids_are_of_the_columns_kind(path: Path) -> None:
    with InteractionLog.open(path, columns=Columns("String", "String")) as log:
        log.append([Interaction(7, "a"), Interaction("007", "b")])
        assert [entry.user_id for entry in log.of_user(7)] == ["7"]
        assert [entry.user_id for entry in log.of_user("007")] == ["007"]
    with InteractionLog.open(path) as log:
        assert log.columns == Columns("String", "String"), "the log keeps what it was told"


def test_an_idempotency_key_stores_a_batch_once(log: InteractionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [Interaction(7, 1, 4.0), Interaction(7, 2)]
    first = log.append(batch, key_id="a", idempotency_key="k")
    again = log.append(batch, key_id="a", idempotency_key="k")
    assert (again.first_seq, again.last_seq, again.count, again.duplicate) == (first.first_seq, first.last_seq, 2, True)
    for other in ([Interaction(7, 1, 4.5), Interaction(7, 2)], batch[:1], batch[::-1], [*batch, Interaction(7, 3)]):
        with pytest.raises(IdempotencyConflictError, match="new key"):
            log.append(other, key_id="a", idempotency_key="k")
    assert log.append(batch, key_id="b", idempotency_key="k").first_seq == 3, "a key is of one sender"
    assert log.append(batch).first_seq == 5, "without a key each batch counts"
    now = log_module._now_ms()
    monkeypatch.setattr(log_module, "_now_ms", lambda: now + 8 * 24 * 3600 * 1000)
    late = log.append(batch[:1], key_id="a", idempotency_key="k")
    assert (late.first_seq, late.duplicate) == (7, False), "it is kept for 7 days"


def test_several_batches_are_one_write_and_each_has_its_answer(log: InteractionLog) -> None:
    log.append([Interaction(1, 1)], idempotency_key="old")
    answers = log.append_many(
        [
            Batch([Interaction(1, 1)], "", "old"),
            Batch([Interaction("x", 1)]),
            ([Interaction(2, 1), Interaction(2, 2)], "", "new"),
            ([Interaction(2, 1), Interaction(2, 2)], "", "new"),
            Batch([Interaction(3, 1)], "", "new"),
            Batch([]),
            Batch([Interaction(3, 1)]),
        ]
    )
    assert [type(answer).__name__ for answer in answers] == [
        "Accepted", "InvalidInteractionError", "Accepted", "Accepted", "IdempotencyConflictError", "InputError",
        "Accepted",
    ]  # fmt: skip
    assert [
        (answer.first_seq, answer.last_seq, answer.duplicate) for answer in answers if hasattr(answer, "count")
    ] == [
        (1, 1, True),
        (2, 3, False),
        (2, 3, True),
        (4, 4, False),
    ]
    assert log.latest_seq() == len(log.rows(0, 100)) == 4


def test_a_batch_is_stored_whole_or_not_at_all(log: InteractionLog) -> None:
    with pytest.raises(InvalidInteractionError) as refused:
        log.append([Interaction(1, 1, 4.0), Interaction(1, 1, -1.0)])
    assert refused.value.position == 1
    assert log.latest_seq() == 0
    assert log.of_user(1) == []


def test_a_change_of_any_connection_is_seen_once(log: InteractionLog, path: Path) -> None:
    assert not log.changed()
    log.append([Interaction(1, 1)])
    assert log.changed()
    assert not log.changed()
    with InteractionLog.open(path) as other:
        assert not other.changed()
        other.append([Interaction(1, 2)])
        assert log.changed()
        assert [entry.item_id for entry in log.of_user(1)] == [1, 2]
        log.append([Interaction(1, 3)])
        assert other.changed()
        assert (other.log_id, other.latest_seq()) == (log.log_id, 3)


def test_a_forgotten_user_is_gone_and_does_not_come_back(path: Path) -> None:
    who = "zebra-4711-quagga"
    with InteractionLog.open(path, columns=Columns("String")) as log:
        log.append([Interaction(who, 1), Interaction("other", 1)], idempotency_key=f"of {who}")
        log.append([Interaction(who, 2)])
        assert who.encode() in b"".join(file.read_bytes() for file in path.parent.iterdir())
        assert log.forget(who) == (2, False, True)
        assert log.is_forgotten(who)
        assert who.encode() not in b"".join(file.read_bytes() for file in path.parent.iterdir())
        with pytest.raises(ForgottenUserError, match="Interaction 1 of the batch") as refused:
            log.append([Interaction("other", 1), Interaction(who, 1)])
        assert who not in str(refused.value)
        again = log.append([Interaction(who, 1), Interaction("other", 1)], idempotency_key=f"of {who}")
        assert (again.duplicate, log.of_user(who)) == (True, [])
    with InteractionLog.open(path) as log:
        assert log.is_forgotten(who), "it is durable"
        assert not log.is_forgotten("other")
        assert log.forget(who) == (0, True, True)
        assert log.lift(who)
        assert not log.lift(who)
        assert log.append([Interaction(who, 1)]).first_seq == 4, "a seq is never used again"


def test_preferences_are_durable_and_go_with_the_user(path: Path) -> None:
    with InteractionLog.open(path) as log, InteractionLog.open(path) as other:
        kept = log.set_preference("42", ["War", "Drama", "War"])
        assert (kept.user_id, kept.genres) == (42, ("War", "Drama"))
        assert other.changed()
        assert other.preference(42).genres == other.preference("42").genres == ("War", "Drama")
        log.set_preference(42, ["Comedy"])
        assert other.preference(42).genres == ("Comedy",)
        assert log.users() == [42]
        log.set_preference(7, [])
        assert log.preference(7) is None
        with pytest.raises(InvalidInteractionError, match="integers"):
            log.set_preference("somebody", ["War"])
        log.forget("42")
        assert log.preference(42) is None
        assert log.users() == []
        with pytest.raises(ForgottenUserError):
            log.set_preference(42, ["War"])
        assert b"Comedy" not in b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_a_log_of_before_there_were_preferences_gets_them(path: Path) -> None:
    InteractionLog.open(path).close()
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE preferences")
    with InteractionLog.open(path, create=False) as log:
        log.set_preference(1, ["War"])
    with InteractionLog.open(path) as log:
        assert log.preference(1).genres == ("War",)


def test_a_user_is_forgotten_by_the_text_of_the_id(log: InteractionLog) -> None:
    log.append([Interaction(42, 1), Interaction(4, 1)])
    assert log.forget("42").n_rows == 1
    assert log.is_forgotten(42)
    with pytest.raises(ForgottenUserError):
        log.append([Interaction(42, 1)])
    assert log.latest_seq() == 2


def test_shipments_have_bounds_that_stay(log: InteractionLog) -> None:
    assert log.next_shipment() is None
    log.append([Interaction(user, 1) for user in range(5)])
    shipment = log.next_shipment(most=3)
    assert shipment[1:] == (1, 3)
    log.append([Interaction(9, 1)])
    assert log.next_shipment(most=100) == shipment, "until it is marked"
    log.mark_shipped(shipment)
    log.mark_shipped(shipment)
    assert (log.shipped_seq(), log.pending()[0]) == (3, 3)
    rest = log.next_shipment()
    assert rest[1:] == (4, 6)
    log.forget(9)
    log.mark_shipped(rest)
    assert log.next_shipment() is None
    assert log.pending() == (0, None)


def test_trimming_takes_what_was_shipped_7_days_ago_and_is_covered(log: InteractionLog) -> None:
    log.append([Interaction(1, item) for item in range(4)], idempotency_key="k")
    log.mark_shipped(log.next_shipment(most=2))
    later = datetime.now(UTC) + timedelta(days=7, minutes=1)
    assert log.trim() == 0
    log.set_covered(1)
    assert log.trim(later) == 1
    log.set_covered(None)
    assert log.trim(later) == 1
    assert [entry.seq for entry in log.of_user(1)] == [3, 4], "what was not shipped stays"
    assert log.trim(later) == 0
    assert log.append([Interaction(1, 0)]).first_seq == 5
    assert log.next_shipment()[1:] == (3, 5)


# ---- faults --------------------------------------------------------------------------------------


def test_a_missing_log_is_made_only_where_that_is_asked(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InteractionLogError, match="unable to open"):
        InteractionLog.open(path, create=False)
    assert not path.parent.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InteractionLogError, match="RANKLINE_LIVE_DIR"):
        InteractionLog.open(tmp_path / "file" / "live" / "x.db")


def test_a_file_of_another_kind_is_refused_and_stays(path: Path, tmp_path: Path) -> None:
    text, other = tmp_path / "notes.db", tmp_path / "other.db"
    text.write_text("notes " * 200)
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE mine (x)")
    for file in (text, other):
        before = file.read_bytes()
        with pytest.raises(InteractionLogError, match="no interaction log"):
            InteractionLog.open(file)
        with pytest.raises(InteractionLogError, match="no interaction log"):
            InteractionLog.open(file, create=False)
        assert file.read_bytes() == before


def test_a_log_of_a_later_format_is_refused(path: Path) -> None:
    InteractionLog.open(path).close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE log SET format = 2")
    with pytest.raises(InteractionLogError, match="format 2"):
        InteractionLog.open(path)


def test_a_damaged_log_acknowledges_nothing(path: Path) -> None:
    with InteractionLog.open(path) as log:
        log.append([Interaction(user, item) for user in range(200) for item in range(20)])
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    with pytest.raises(InteractionLogError, match="failed"), InteractionLog.open(path) as log:
        log.append([Interaction(1, 1)])


def test_a_full_disk_acknowledges_nothing(log: InteractionLog, path: Path) -> None:
    log.append([Interaction(1, 1)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = sum(file.stat().st_size for file in path.parent.iterdir() if file.name.endswith("-wal"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096, limits[1]))
    try:
        with pytest.raises(InteractionLogError, match=r"interactions\.db failed"):
            log.append([Interaction(user, user) for user in range(2000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (log.latest_seq(), len(log.rows(0, 10_000))) == (1, 1)
    assert log.append([Interaction(2, 2)]).first_seq == 2, "there is room again"


def test_a_log_that_another_process_holds_is_named(
    log: InteractionLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    log._writer.execute("PRAGMA busy_timeout = 10")
    with pytest.raises(LockedError, match="held by another process"):
        log.append([Interaction(1, 1)])
    assert log.of_user(1) == [], "it can be read meanwhile"
    holder.close()
    assert log.append([Interaction(1, 1)]).first_seq == 1


_WRITER = """
import sys
from pipeline.interaction_log import Interaction, InteractionLog
log = InteractionLog.open(sys.argv[1])
for n in range(10**6):
    answer = log.append([Interaction(int(sys.argv[2]), n), Interaction(int(sys.argv[2]), n)], idempotency_key=f"{sys.argv[2]}-{n}")
    print(answer.last_seq, n, flush=True)
"""  # noqa: E501


@pytest.mark.slow
def test_what_killed_processes_were_told_is_there(path: Path) -> None:
    """Two processes write to one file and are killed at a moment of their own."""
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(path), str(user)], stdout=subprocess.PIPE, text=True)
        for user in (1, 2)
    ]
    for writer in writers:
        for _ in range(20):
            writer.stdout.readline()
    for writer in writers:
        writer.kill()
    told = {user: writer.communicate()[0].splitlines() for user, writer in zip((1, 2), writers, strict=True)}
    with InteractionLog.open(path) as log:
        everything = log.rows(0, log.latest_seq())
        assert [entry.seq for entry in everything] == list(range(1, log.latest_seq() + 1))
        for user, lines in told.items():
            there = [entry.item_id for entry in log.of_user(user)]
            assert there[::2] == there[1::2] == list(range(len(there) // 2)), "batches are whole, in order"
            *_, last = [line for line in lines if len(line.split()) == 2] or ["0 19"]
            assert len(there) // 2 > int(last.split()[1])
            # The client sends its last request again, as it does not know what became of it.
            n = len(there) // 2 - 1
            again = log.append([Interaction(user, n), Interaction(user, n)], idempotency_key=f"{user}-{n}")
            assert again.duplicate
