"""haproxy.cfg, run over three small servers in the place of the pods: each user's requests go to one of them."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.manifests import BASE
from support.processes import end, free_port, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed"),
]
N_PODS = 3


class Pod(ThreadingHTTPServer):
    """Answers with its number, and 503 while it is not ready."""

    def __init__(self, number: int) -> None:
        self.number, self.is_ready, self.posts = number, True, 0
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """HAProxy ends checks with a reset, which is no error of ours."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Pod

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        ready = self.server.is_ready or self.path != "/api/v1/ready"
        said = json.dumps({"pod": self.server.number, "user": self.headers.get("X-Rankline-User")}).encode()
        self.send_response(200 if ready else 503)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815  (the names that http.server looks for)

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Router:
    port: int
    pods: list[Pod] = field(default_factory=list)

    def ask(self, path: str, method: str = "GET", body: object = None, **headers: str) -> tuple[dict, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        content = answer.read()
        connection.close()
        return (json.loads(content) if content.startswith(b"{") else {}), {
            name.title(): value for name, value in answer.getheaders()
        }

    def pod_of(self, path: str, method: str = "GET", body: object = None, **headers: str) -> int:
        return int(self.ask(path, method, body, **headers)[0]["pod"])


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """HAProxy by the file as it is, but for the servers, which it would ask the cluster's DNS for."""
    folder, port = tmp_path_factory.mktemp("router"), free_port()
    pods = [Pod(number) for number in range(N_PODS)]
    servers = "\n".join(f"    server pod{pod.number} 127.0.0.1:{pod.server_port}" for pod in pods)
    lines = (BASE / "haproxy.cfg").read_text().replace("bind :8080", f"bind 127.0.0.1:{port}")
    lines = lines.replace(" init-addr none resolvers cluster", "").replace("inter 2s", "inter 100ms")
    text = "\n".join(servers if "server-template" in line else line for line in lines.splitlines()) + "\n"
    config = folder / "haproxy.cfg"
    config.write_text(text)
    process = subprocess.Popen(["haproxy", "-db", "-f", str(config)], stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for(port)
        yield Router(port, pods)
    finally:
        end(process)
        for pod in pods:
            pod.shutdown()
            pod.server_close()


def test_every_form_of_a_users_request_goes_to_one_pod(router: Router) -> None:
    for user in (7, 1234567, 98765432101, "anna", "a b"):
        text = str(user).replace(" ", "%20")
        answers = [
            router.ask(f"/api/v1/recommendations/{text}?k=3"),
            router.ask(f"/api/v1/recommendations?user_id={text}"),
            router.ask(f"/api/v1/films/recommendations/{text}"),
            router.ask(f"/api/ml/recommendations/{text}"),
            router.ask(f"/api/v1/explain/{text}/912"),
            router.ask(f"/api/v1/users/{text}/similar"),
            router.ask(f"/api/v1/users/{text}/preferences", "PUT", {"genres": []}),
            router.ask(f"/api/v1/users/preferences?user_id={text}", "PUT", {"genres": []}),
            router.ask(f"/api/v1/users/{text}", "DELETE"),
            router.ask("/api/v1/interactions", "POST", {"user_id": user, "item_id": 912, "rating": 5}),
            router.ask("/api/v1/interactions", "POST", [{"user_id": user, "item_id": 912}]),
            router.ask("/api/v1/predict", "POST", {"user_id": user, "item_ids": [1]}),
            router.ask("/api/v1/popular", X_Rankline_User=str(user)),
        ]
        assert {answer["user"] for answer, _ in answers} == {str(user)}
        assert len({answer["pod"] for answer, _ in answers}) == 1, user


def test_users_are_spread_and_only_those_of_a_pod_that_goes_move(router: Router) -> None:
    paths = [f"/api/v1/recommendations/{user}" for user in range(300)]
    before = [router.pod_of(path) for path in paths]
    for number in range(N_PODS):
        assert 50 < before.count(number) < 150
    router.pods[1].is_ready = False
    deadline = threading.Event()
    for _ in range(200):
        after = [router.pod_of(path) for path in paths[:30]]
        if 1 not in after:
            break
        deadline.wait(0.1)
    after = [router.pod_of(path) for path in paths]
    router.pods[1].is_ready = True
    assert 1 not in after
    assert all(new == old for new, old in zip(after, before, strict=True) if old != 1)
    for _ in range(200):
        if [router.pod_of(path) for path in paths[:30]] == before[:30]:
            break
        deadline.wait(0.1)
    assert [router.pod_of(path) for path in paths] == before


def test_a_session_of_the_page_stays_with_its_pod_and_a_job_with_its(router: Router) -> None:
    first, headers = router.ask("/page/lists")
    cookie = headers["Set-Cookie"].partition(";")[0]
    assert {"HttpOnly", "SameSite=Strict"} <= {part.strip() for part in headers["Set-Cookie"].split(";")}
    assert {router.pod_of(path, Cookie=cookie) for path in ("/", "/page/models", "/static/page.css") * 3} == {
        first["pod"]
    }
    asked = {router.pod_of("/api/v1/train", "POST", {"algorithm": "als"}), router.pod_of("/api/v1/training")}
    asked |= {router.pod_of(f"/api/v1/jobs/{n}") for n in range(5)} | {
        router.pod_of("/api/v1/models/activate/3", "POST")
    }
    assert len(asked) == 1
    assert router.ask("/-/router")[0] == {}
