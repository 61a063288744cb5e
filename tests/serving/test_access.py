"""Who may ask, what a request may be, and what every answer carries."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.served import Workers, put_copy, small_trained

from pipeline.errors import ArtifactError, InputError, UsageError
from pipeline.options import ServeOptions
from pipeline.serving.access import Access, is_loopback, scope_of
from pipeline.serving.keys import KeyFile, scopes_of
from pipeline.serving.problems import Code, Problem
from pipeline.serving.service import ServiceConfig
from pipeline.serving.supervisor import serve

LIST = "/api/v1/recommendations/100"


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    made = Workers(tmp_path_factory.mktemp("served") / "live", n=0)
    made.folder.make()
    made.folder.flip(put_copy(made.folder, small_trained("popular")))
    made.runner.run(made._start())
    yield made
    made.close()


@pytest.fixture
def keys(workers: Workers) -> Iterator[KeyFile]:
    yield KeyFile(workers.folder.keys_path)
    workers.folder.keys_path.unlink(missing_ok=True)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ({"Host": "127.0.0.1:8001"}, 200),
        ({"Host": "[::1]:8001"}, 200),
        ({"Host": "localhost", "Origin": "http://localhost:8001"}, 200),
        ({"Host": "shop.example"}, 403),
        ({"Host": "127.0.0.1.shop.example"}, 403),
        ({"Host": "localhost@shop.example"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost", "Origin": "https://shop.example"}, 403),
        ({"Host": "localhost", "Origin": "null"}, 403),
        ({"Host": "localhost", "X-Forwarded-For": "127.0.0.1"}, 403),
        ({"Host": "localhost", "Forwarded": "for=127.0.0.1"}, 403),
    ],
)
def test_without_keys_only_this_machine_may_ask(workers: Workers, head: dict[str, str], status: int) -> None:
    answer = workers.get(LIST, headers=head)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["code"] == "FOREIGN_REQUEST"


def test_with_keys_a_request_needs_one_of_the_scope(workers: Workers, keys: KeyFile) -> None:
    reader, writer = keys.add(("read",), "reader"), keys.add(("write",))
    event = {"user_id": 1, "item_id": 1}
    assert workers.get(LIST).status_code == 401
    assert workers.get(LIST).headers["www-authenticate"] == "Bearer"
    assert (
        workers.get(LIST, headers={**bearer(reader), "Host": "shop.example", "Forwarded": "for=x"}).status_code == 200
    )
    assert workers.post("/api/v1/interactions", event, headers=bearer(reader)).json()["code"] == "NOT_ALLOWED"
    assert workers.post("/api/v1/interactions", event, headers=bearer(writer)).status_code == 201
    assert workers.get("/metrics", headers=bearer(reader)).status_code == 403
    for wrong in (reader[:-1] + "x", reader.replace("reader", "other"), "rk_reader_", reader.upper(), "a b"):
        assert workers.get(LIST, headers=bearer(wrong)).status_code == 401
    assert "model" not in workers.get("/api/v1/health").json()
    assert "model" in workers.get("/api/v1/health", headers=bearer(reader)).json()
    for key in list(keys.keys()):
        keys.revoke(key.id)
    assert workers.get(LIST, headers=bearer(reader)).status_code == 401
    assert workers.get(LIST).status_code == 401  # the last key revoked opens nothing


def test_who_asks_from_elsewhere_needs_a_key_whatever_the_host_says(tmp_path: Path) -> None:
    local = [(b"host", b"127.0.0.1")]
    open_here = Access(KeyFile(tmp_path / "keys.json"))
    assert open_here.check("GET", LIST, local, "127.0.0.1") is None
    for client in ("10.0.0.1", "", "localhost.example"):
        with pytest.raises(Problem) as refused:
            open_here.check("GET", LIST, local, client)
        assert refused.value.code is Code.FOREIGN_REQUEST
    with pytest.raises(Problem) as refused:
        Access(KeyFile(tmp_path / "keys.json"), "0.0.0.0").check("GET", LIST, local)
    assert refused.value.code is Code.NOT_AUTHENTICATED


def test_the_file_of_keys_has_hashes_alone_and_is_ones_own(keys: KeyFile) -> None:
    key = keys.add(scopes_of("write,read"), "shop")
    text = keys.path.read_text()
    assert key not in text
    assert key.rpartition("_")[2] not in text
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert KeyFile(keys.path).find(key).scopes == ("read", "write")
    with pytest.raises(UsageError, match="There is a key 'shop'"):
        keys.add(("read",), "shop")
    with pytest.raises(UsageError, match="lower-case"):
        keys.add(("read",), "a_b")
    with pytest.raises(InputError, match="no key"):
        keys.revoke("nobody")
    with pytest.raises(UsageError, match="--scope"):
        scopes_of("read,root")


def test_a_damaged_file_of_keys_opens_nothing(workers: Workers, keys: KeyFile) -> None:
    keys.path.write_text("{}")
    assert workers.get(LIST).status_code == 401
    with pytest.raises(ArtifactError, match="no file of keys"):
        keys.keys()


def test_what_is_not_listed_needs_admin_and_admin_a_key(workers: Workers) -> None:
    assert scope_of("DELETE", "/api/v1/users/1") == scope_of("POST", "/api/v1/train") == "admin"
    answer = workers.ask("DELETE", "/api/v1/users/1")
    assert (answer.status_code, answer.json()["code"]) == (401, "NOT_AUTHENTICATED")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "shop.example"])
def test_another_address_than_this_machines_is_refused_without_keys(tmp_path: Path, host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(UsageError, match="there are no keys"):
        serve(ServiceConfig(ServeOptions(host=host), tmp_path, "rankline", "sqlite:///none"), print)


def test_bodies_are_bounded_stated_or_not(workers: Workers) -> None:
    async def pieces():
        for _ in range(40):
            yield b" " * (64 << 10)

    answers = [
        workers.ask("POST", "/api/v1/predict", content=b" " * (65 << 10)),
        workers.ask("POST", "/api/v1/interactions", content=pieces(), headers={"Content-Type": "application/json"}),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (413, "BODY_TOO_LARGE")


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("GET", "/nothing", None, "NOT_FOUND"),
        ("PUT", LIST, None, "NOT_AUTHENTICATED"),
        ("POST", "/api/v1/predict", b"{", "INVALID_JSON"),
        ("POST", "/api/v1/predict", b"\xff", "INVALID_JSON"),
        ("POST", "/api/v1/predict", b"[" * 5000, "INVALID_JSON"),
        ("POST", "/api/v1/predict", b'{"user_id": NaN}', "INVALID_REQUEST"),
        ("GET", "/api/v1/recommendations/..%2F..%2Fetc", None, "NOT_FOUND"),
        ("GET", f"{LIST}?k=%ff", None, "INVALID_REQUEST"),
        ("GET", f"{LIST}?k=1&k=2", None, "INVALID_REQUEST"),
    ],
)
def test_every_error_is_a_problem_with_a_code(
    workers: Workers, method: str, path: str, body: bytes | None, code: str
) -> None:
    answer = workers.ask(method, path, content=body, headers={"Content-Type": "application/json"})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert answer.json()["status"] == answer.status_code < 500


def test_answers_carry_an_id_and_no_answer_is_kept_or_guessed_at(workers: Workers) -> None:
    answer = workers.get(LIST, headers={"X-Request-ID": "abc-1"})
    assert answer.headers["x-request-id"] == "abc-1"
    assert answer.headers["x-model-version"] == "rankline/1"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert workers.get(LIST, headers={"X-Request-ID": "a\tb" * 90}).headers["x-request-id"] != "a\tb" * 90
