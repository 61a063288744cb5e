"""The table of jobs: what workers ask, what the agent says, and what is left of it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipeline.errors import JobTableError
from pipeline.serving.job_table import CHAMPION_KINDS, JobTable


@pytest.fixture
def table(tmp_path: Path) -> JobTable:
    return JobTable(tmp_path / "jobs.db")


def test_a_job_from_the_request_to_its_end(table: JobTable) -> None:
    assert (table.get("none"), table.latest("train"), table.due(), table.running()) == (None, None, [], [])
    assert not table.path.exists()  # a question makes no file
    job, added = table.add("train", {"algorithm": "als"}, "shop")
    assert added
    assert table.path.stat().st_mode & 0o777 == 0o600
    assert table.get(job.job_id) == job == table.latest("train")
    assert table.due() == [job]
    table.start(job.job_id)
    table.has_process(job.job_id, "p")
    (running,) = table.running()
    assert (table.due(), running.process, running.request, running.key_id) == ([], "p", {"algorithm": "als"}, "shop")
    assert not running.ended
    table.finish(job.job_id, result={"version": "3"})
    done = table.get(job.job_id)
    assert (done.state, done.result, done.ended, table.running()) == ("done", {"version": "3"}, True, [])
    assert done.created <= done.started <= done.finished
    assert "request" not in done.answer
    assert "key_id" not in done.answer
    assert done.answer["created_at"].endswith("+00:00")
    second, _ = table.add("train", {})
    table.finish(second.job_id, "no data")
    failed = table.latest("train")
    assert (failed.job_id, failed.state, failed.reason) == (second.job_id, "failed", "no data")


def test_jobs_are_taken_in_order_and_a_postponed_one_waits(table: JobTable) -> None:
    first, second = table.add("activate", {})[0], table.add("forget", {"user": "7"})[0]
    assert [job.job_id for job in table.due()] == [first.job_id, second.job_id]
    table.start(first.job_id)
    table.postpone(first.job_id, "the warehouse is locked", 3600)
    assert [job.job_id for job in table.due()] == [second.job_id]
    waiting = table.get(first.job_id)
    assert (waiting.state, waiting.reason) == ("queued", "the warehouse is locked")
    table.postpone(first.job_id, "", 0)
    assert [job.job_id for job in table.due()] == [first.job_id, second.job_id]


def test_one_of_a_kind_at_a_time_however_many_ask_at_once(table: JobTable) -> None:
    answers = []

    def ask() -> None:
        answers.append(table.add("train", {}, unless=("train",)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(added for _, added in answers) == [False] * 7 + [True]
    assert len({job.job_id for job, _ in answers}) == 1
    running = answers[0][0]
    assert table.add("activate", {}, unless=CHAMPION_KINDS)[1]
    assert not table.add("rollback", {}, unless=CHAMPION_KINDS)[1]
    table.start(running.job_id)
    assert not table.add("train", {}, unless=("train",))[1]
    table.finish(running.job_id, "stopped")
    assert table.add("train", {}, unless=("train",))[1]


def test_nothing_of_a_forgotten_user_is_left_in_the_file(table: JobTable) -> None:
    job, _ = table.add("forget", {"user": "somebody@example.org"})
    assert b"somebody@example.org" in table.path.read_bytes()
    table.start(job.job_id)
    table.finish(job.job_id, result={"deleted": True})
    assert table.get(job.job_id).request == {}
    assert not [path for path in table.path.parent.iterdir() if b"somebody" in path.read_bytes()]


def test_old_jobs_go_and_those_that_wait_stay(table: JobTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.serving.job_table._KEPT", 3)
    waits = table.add("forget", {})[0]
    ended = []
    for _ in range(6):
        job, _ = table.add("compare", {})
        table.finish(job.job_id)
        ended.append(job.job_id)
    assert [job_id for job_id in ended if table.get(job_id) is not None] == ended[-3:]
    assert table.get(waits.job_id) is not None


def test_a_damaged_file_is_an_error_with_its_name(table: JobTable) -> None:
    table.path.write_bytes(b"no database, but long enough to be looked at " * 50)
    for call in (table.due, lambda: table.add("train", {}), lambda: table.finish("x")):
        with pytest.raises(JobTableError, match=r"jobs\.db can't be used"):
            call()
