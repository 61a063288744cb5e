"""Who may ask, what a request may be, and what every answer carries."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import replace
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
    assert key.split("_", 2)[2] not in text
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
    keys.path.touch(0o600)
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


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/v1/popular"), ("POST", "/api/v1/recommendations"), ("GET", "/page/models")]
)
def test_an_error_that_nothing_foresaw_is_a_problem_too(
    workers: Workers, method: str, path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pipeline.serving.current_model.CurrentModel.served", lambda *_: 1 / 0)
    answer = workers.ask(method, path, json={"user_ids": [1]} if method == "POST" else None)
    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL_ERROR")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert "ZeroDivisionError" in caplog.text
    assert "division" not in answer.text


def test_answers_carry_an_id_and_no_answer_is_kept_or_guessed_at(workers: Workers) -> None:
    answer = workers.get(LIST, headers={"X-Request-ID": "abc-1"})
    assert answer.headers["x-request-id"] == "abc-1"
    assert answer.headers["x-model-version"] == "rankline/1"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert workers.get(LIST, headers={"X-Request-ID": "a\tb" * 90}).headers["x-request-id"] != "a\tb" * 90


def test_a_file_of_keys_that_others_may_open_is_refused(
    workers: Workers, keys: KeyFile, caplog: pytest.LogCaptureFixture
) -> None:
    key = keys.add(("read",), "shop")
    assert workers.get(LIST, headers=bearer(key)).status_code == 200
    for mode in (0o640, 0o620, 0o604, 0o602):
        keys.path.chmod(mode)
        # Another process writes it anew, so that it is looked at again.
        keys.path.write_text(keys.path.read_text() + " ")
        assert workers.get(LIST, headers=bearer(key)).status_code == 401
        with pytest.raises(ArtifactError, match=f"chmod 600 {keys.path}"):
            keys.keys()
    assert [record.message.count("all requests are refused") for record in caplog.records] == [1]
    config = ServiceConfig(ServeOptions(), workers.config.live, "rankline", "sqlite:///none")
    with pytest.raises(ArtifactError, match="chmod 600"):
        serve(config, print)
    keys.path.chmod(0o600)
    assert workers.get(LIST, headers=bearer(key)).status_code == 200


def test_a_key_where_its_id_is_meant_is_not_repeated(keys: KeyFile) -> None:
    key = keys.add(("read",), "shop")
    for wrong in (keys.revoke, lambda text: keys.add(("read",), text)):
        with pytest.raises(UsageError, match="its ID is shop") as refused:
            wrong(key)
        assert key[10:] not in str(refused.value)
    assert keys.find(key) is not None


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_key_is_in_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str], log_format: str) -> None:
    workers = Workers(tmp_path / "live", n=0, access_log="yes")
    workers.config = replace(workers.config, log_format=log_format)
    workers.folder.make()
    workers.folder.flip(put_copy(workers.folder, small_trained("popular")))
    workers.runner.run(workers._start())
    right = KeyFile(workers.folder.keys_path).add(("read", "write"), "shop")
    for key in (right, right[:-1] + "x"):
        for head in (bearer(key), {**bearer(right), "X-Request-ID": key, "traceparent": key, "User-Agent": key}):
            for path in (LIST, f"{LIST}?api_key={key}", f"/{key}", f"/api/v1/recommendations/{key}", f"/metrics?{key}"):
                workers.get(path, headers=head)
            workers.post(
                "/api/v1/interactions", {"user_id": key, "item_id": 1}, headers={**head, "Idempotency-Key": key}
            )
            workers.post("/api/v1/predict", {key: key}, headers=head)
            workers.post("/page/log-in", {"key": key}, headers={"Cookie": f"rankline={key}"})
    workers.close()
    logged = capfd.readouterr().err
    assert logged.count("/api/v1/recommendations/{user_id}") >= 8
    assert right[8:40] not in logged


def test_the_port_of_metrics_has_nothing_else(tmp_path: Path) -> None:
    workers = Workers(tmp_path / "live", n=1, metrics_port=9000)
    assert workers.get("http://localhost:9000/metrics").status_code == 200
    assert workers.get("http://localhost:8001/metrics").status_code == 200
    assert workers.get("http://localhost:8001/ping").status_code == 200
    for path in ("/ping", LIST, "/", "/openapi.json", "/metrics/"):
        assert workers.get(f"http://localhost:9000{path}").json()["code"] == "NOT_FOUND"
    key = KeyFile(workers.folder.keys_path).add(("read",))
    assert workers.get("http://localhost:9000/metrics").status_code == 401
    assert workers.get("http://localhost:9000/metrics", headers=bearer(key)).status_code == 403
    workers.close()
    with pytest.raises(UsageError, match="--metrics-port"):
        serve(ServiceConfig(ServeOptions(port=9000, metrics_port=9000), tmp_path, "rankline", "sqlite:///none"), print)
