"""The administration of a real service: train, activate, compare, roll back, delete and forget by HTTP alone."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fork import the_fork_server
from support.processes import Home, free_port

from pipeline.serving.keys import KeyFile

pytest_plugins = ["support.homes"]
# Each test goes on where the one before it ended.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("administration")]
PATHS = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
# A service's job is a new Python. Here the first training is one, and those that are killed; the others are forked.
_JOB = """#!/bin/sh
case "$*" in
  train*1000000*) ;;
  train*) [ -e first ] && exec commands/rankline "$@"; : >first ;;
  *) exec commands/rankline "$@" ;;
esac
exec {python} -P -m pipeline "$@"
"""
_SERVE = """
import sys
from pipeline.cli.main import main
from pipeline.serving import job_process
job_process._PROGRAM = (sys.argv[1],)
main(sys.argv[2:])
"""
TRAIN = {"algorithm": "als", "hyperparameters": {"n_components": 4, "max_iter": 10}, "split": {"holdout": 0.2}}


class Service:
    """A service with two workers in a home without a store; its interactions are a file, as configured."""

    def __init__(self, folder: Path) -> None:
        self.live = folder / "live"
        self.live.mkdir()
        self.key = KeyFile(self.live / "keys.json").add(("read", "admin"), "page")
        _two_tastes(folder / "ratings.csv")
        self.port, self.errors = free_port(), folder / "errors.txt"
        files = {"RANKLINE_INPUT": str(folder / "ratings.csv"), "RANKLINE_SOURCE": "file"}
        commands, job = folder / "commands", folder / "job"
        commands.mkdir()
        home = Home(folder, {**files, **PATHS, **the_fork_server().commands(commands, "rankline")})
        job.write_text(_JOB.format(python=sys.executable))
        job.chmod(0o755)
        command = [sys.executable, "-c", _SERVE, str(job), "serve", "--port", str(self.port), "--drain-seconds", "1"]
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, "--poll-seconds", "1", "--log-format", "json"], cwd=folder, env=home.env, stderr=errors
            )
        self.until(lambda: self.ask("GET", "/ping")[0] == 200)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status (0: no answer), and the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        head = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), head)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        except OSError:
            return 0, None
        finally:
            connection.close()

    def until(self, holds: Callable[[], bool], seconds: float = 240) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < end, self.errors.read_text()
            time.sleep(0.2)  # each look is a request that the service answers

    def done(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """The ended job of a request."""
        status, taken = self.ask(method, path, body)
        assert status == 202, taken
        return self.ended(taken["job_id"])

    def ended(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = {}

        def has_ended() -> bool:
            job.update(self.ask("GET", f"/api/v1/jobs/{job_id}")[1])
            return job["state"] in ("done", "failed")

        self.until(has_ended)
        return job

    def versions(self) -> list[tuple[str, bool, bool]]:
        models = self.ask("GET", "/api/v1/models")[1]["models"]
        return [(model["version"], model["champion"], model["served"]) for model in models]

    def served(self) -> set[str]:
        return {self.ask("GET", "/api/v1/recommendations/1")[1].get("model_version", "") for _ in range(8)}


def _two_tastes(path: Path) -> None:
    """300 users, each with 12 of the 30 items of one of two kinds: a model of factors is better than most popular."""
    rng = np.random.default_rng(3)
    rows = ["user_id,item_id,rating"]
    for user in range(300):
        items = rng.choice(30, 12, replace=False) + 30 * (user % 2)
        rows += [f"{user},{item},{rng.integers(6, 11) / 2}" for item in items.tolist()]
    path.write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(tmp_path_factory.mktemp("home"))
    yield made
    made.process.send_signal(signal.SIGINT)
    try:
        made.process.wait(30)
    finally:
        made.process.kill()
        made.process.wait()


@pytest.mark.takes(60)
def test_from_nothing_to_a_champion_and_back_by_http(service: Service) -> None:
    status, taken = service.ask("POST", "/api/v1/train", TRAIN)
    assert status == 202
    assert service.ask("POST", "/api/v1/train", TRAIN)[0] == 409
    first = service.ended(taken["job_id"])
    assert (first["state"], first["result"]["version"]) == ("done", "1"), first
    training = service.ask("GET", "/api/v1/training")[1]
    assert (training["state"], training["job_id"], training["version"]) == ("done", taken["job_id"], "1")
    assert [row[0] for row in training["loss"]] == list(range(1, len(training["loss"]) + 1))
    assert len(training["loss"]) >= 5
    assert any("interactions of 300 users" in line for line in training["lines"])
    service.until(lambda: service.served() == {"rankline/1"})
    assert service.versions() == [("1", False, True)]
    activated = service.done("POST", "/api/v1/models/activate/1")
    assert (activated["state"], activated["result"]["outcome"]) == ("done", "promoted"), activated
    assert service.versions() == [("1", True, True)]
    assert service.ask("GET", "/api/v1/models")[1]["models"][0]["gate"]["decision"] == "promoted"
    # Of the same data, and other held-out interactions: the gate refuses it.
    assert service.done("POST", "/api/v1/train", {**TRAIN, "split": {"holdout": 0.3}})["state"] == "done"
    assert service.versions() == [("2", False, False), ("1", True, True)]
    refused = service.done("POST", "/api/v1/models/activate/2")
    assert (refused["state"], service.served()) == ("failed", {"rankline/1"})
    assert "another split" in refused["reason"]
    compared = service.ask("GET", "/api/v1/models/compare?a=1&b=2")[1]
    assert "different splits" in compared["reason"]
    assert compared["difference"]["ndcg_at_10"]["low"] is None
    forced = service.done("POST", "/api/v1/models/activate/2", {"force": True, "reason": "a try"})
    assert (forced["result"]["outcome"], service.served()) == ("forced", {"rankline/2"})
    assert service.ask("DELETE", "/api/v1/models/1")[0] == 409  # where a rollback goes
    back = service.done("POST", "/api/v1/models/rollback", {"reason": "it was a try"})
    assert (back["result"]["version"], service.served()) == ("rankline/1", {"rankline/1"})
    assert service.ask("POST", "/api/v1/models/rollback")[0] == 409
    history = service.ask("GET", "/api/v1/metrics/history")[1]["history"]
    assert [row["version"] for row in history] == ["1", "2"]
    assert "popular" in history[0]["baselines"]
    assert service.ask("DELETE", "/api/v1/models/2") == (204, None)
    assert service.versions() == [("1", True, True)]


@pytest.mark.takes(30)
def test_a_forgotten_user_has_a_strangers_list_at_once_and_no_rows_later(service: Service) -> None:
    service.until(lambda: service.served() != {""})
    assert service.ask("GET", "/api/v1/recommendations/2")[1]["source"] == "als"
    status, taken = service.ask("DELETE", "/api/v1/users/2")
    assert status == 202
    assert {service.ask("GET", "/api/v1/recommendations/2")[1]["source"] for _ in range(8)} == {"popular"}
    job = service.ended(taken["job_id"])
    assert (job["state"], job["reason"]) == ("done", "")
    assert not [path for path in (service.live / "jobs").iterdir() if taken["job_id"] in path.name]


@pytest.mark.takes(30)
def test_a_killed_agent_and_a_stopped_service_leave_no_training(service: Service) -> None:
    long = {"algorithm": "nmf", "hyperparameters": {"max_iter": 1_000_000, "tol": 1e-12}, "split": {"holdout": 0}}

    def begun() -> int:
        """The process of the training, which fits."""
        status, taken = service.ask("POST", "/api/v1/train", long)
        assert status == 202, taken
        service.until(lambda: service.ask("GET", "/api/v1/training")[1]["stage"] == "fit")
        assert service.ask("GET", "/api/v1/training")[1]["state"] == "running"
        (pid,) = _children(_agent(service), "pipeline train")
        return pid

    training = begun()
    os.kill(_agent(service), signal.SIGKILL)
    service.until(lambda: service.ask("GET", "/api/v1/training")[1]["state"] == "failed")
    assert "the agent ended" in service.ask("GET", "/api/v1/training")[1]["reason"]
    service.until(lambda: not _runs(training))
    training = begun()
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(60) == 0
    assert not _runs(training)


def _agent(service: Service) -> int:
    """The process that no worker's report names."""
    workers = {int(path.stem) for path in (service.live / "workers").glob("*.json")}
    found: list[int] = []

    def is_there() -> bool:
        found[:] = [pid for pid in _children(service.process.pid, "serve") if pid not in workers]
        return len(found) == 1

    service.until(is_there)
    return found[0]


def _children(parent: int, named: str) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children if named in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
