"""Sessions: hashes in a file that workers share; they end with their time, their key, and a log-out."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pipeline.serving.access import Access, session_id_of
from pipeline.serving.keys import KeyFile
from pipeline.serving.problems import Code, Problem
from pipeline.serving.sessions import COOKIE, LIFE_SECONDS, Sessions, csrf_token


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def workers(tmp_path: Path, clock: Clock) -> tuple[Access, Access]:
    """Two workers over one folder."""
    one, two = (
        Access(KeyFile(tmp_path / "keys.json"), sessions=Sessions(tmp_path / "sessions.db", clock)) for _ in range(2)
    )
    return one, two


def cookie(session_id: str) -> list[tuple[bytes, bytes]]:
    return [(b"cookie", f"other=1; {COOKIE}={session_id}".encode())]


def asks(access: Access, session_id: str, method: str = "GET", path: str = "/page/models") -> str:
    """The id of the key, or the code of the problem."""
    try:
        key = access.check(method, path, cookie(session_id))
    except Problem as problem:
        return problem.code.value
    return "" if key is None else key.id


def test_a_session_holds_in_all_workers_until_it_expires(workers: tuple[Access, Access], clock: Clock) -> None:
    one, two = workers
    key = one.keys.find(one.keys.add(("read",), "desk"))
    assert key is not None
    session_id = one.sessions.begin(key)
    assert asks(one, session_id) == asks(two, session_id) == "desk"
    assert asks(two, session_id, "POST", "/page/rate") == "NOT_ALLOWED"
    assert asks(two, session_id[:-1] + "!") == asks(two, "") == "NOT_AUTHENTICATED"
    clock.now += LIFE_SECONDS
    assert asks(two, session_id) == "NOT_AUTHENTICATED"


def test_it_ends_at_log_out_and_with_its_key_whose_name_alone_does_not_revive_it(
    workers: tuple[Access, Access],
) -> None:
    one, two = workers
    keys = one.keys
    key = keys.find(keys.add(("read", "admin"), "desk"))
    assert key is not None
    first, second = one.sessions.begin(key), one.sessions.begin(key)
    two.sessions.end(first)
    assert (asks(one, first), asks(one, second)) == ("NOT_AUTHENTICATED", "desk")
    KeyFile(keys.path).revoke("desk")
    assert asks(one, second) == asks(two, second) == "NOT_AUTHENTICATED"
    KeyFile(keys.path).add(("read", "admin"), "desk")
    assert asks(one, second) == "NOT_AUTHENTICATED"


def test_a_session_is_for_the_page_and_a_key_for_the_rest(workers: tuple[Access, Access]) -> None:
    one, _ = workers
    text = one.keys.add(("read",), "desk")
    key = one.keys.find(text)
    assert key is not None
    session_id = one.sessions.begin(key)
    assert asks(one, session_id, path="/api/v1/popular") == "NOT_AUTHENTICATED"
    with pytest.raises(Problem) as refused:
        one.check("GET", "/page/models", [(b"authorization", f"Bearer {text}".encode())])
    assert refused.value.code == Code.NOT_AUTHENTICATED


def test_the_file_has_hashes_alone_and_is_its_owners(workers: tuple[Access, Access], tmp_path: Path) -> None:
    one, _ = workers
    assert one.sessions.find("a" * 43) is None
    assert not (tmp_path / "sessions.db").exists()  # the first log-in makes it
    text = one.keys.add(("read",), "desk")
    key = one.keys.find(text)
    assert key is not None
    session_id = one.sessions.begin(key)
    one.sessions.close()
    files = list(tmp_path.glob("sessions.db*"))
    assert files
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert session_id.encode() not in file.read_bytes()
        assert text.rpartition("_")[2].encode() not in file.read_bytes()
    assert csrf_token(session_id) != csrf_token("")
    assert session_id not in csrf_token(session_id)


def test_log_ins_that_fail_are_limited_by_address_in_all_workers(workers: tuple[Access, Access], clock: Clock) -> None:
    for n in range(10):
        workers[n % 2].sessions.count_try("2001:db8::1")
    for access in workers:
        with pytest.raises(Problem) as refused:
            access.sessions.count_try("2001:db8::ffff")  # of the same subscriber
        assert refused.value.status == 429
        assert refused.value.headers["Retry-After"] == "60"
    workers[0].sessions.count_try("2001:db8:0:1::1")
    for _ in range(30):  # what did not fail does not count
        workers[0].sessions.count_try("192.0.2.1")
        workers[1].sessions.forgive("192.0.2.1")
    clock.now += 60
    workers[1].sessions.count_try("2001:db8::1")


def test_a_file_that_is_none_lets_nobody_in(workers: tuple[Access, Access], tmp_path: Path) -> None:
    one, _ = workers
    key = one.keys.find(one.keys.add(("read",), "desk"))
    assert key is not None
    (tmp_path / "sessions.db").write_text("no database " * 100)
    assert asks(one, "a" * 43) == "NOT_AUTHENTICATED"
    for act in (lambda: one.sessions.begin(key), lambda: one.sessions.count_try("192.0.2.1")):
        with pytest.raises(Problem) as refused:
            act()
        assert refused.value.status == 503


def test_the_key_is_read_from_cookies_as_browsers_send_them() -> None:
    assert session_id_of([(b"cookie", b"a=b"), (b"cookie", b"x=y;rankline_session=abc; z=1")]) == "abc"
    assert session_id_of([(b"cookie", b"xrankline_session=abc")]) == ""
    assert session_id_of([]) == ""
