"""The page's models and training without a browser and an agent: what stands there, and what is asked of the agent."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.page_data import write_models, write_training
from support.served import Workers, put_copy, small_trained

from pipeline.serving.keys import KeyFile

HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    made = Workers(tmp_path_factory.mktemp("served") / "live", n=0)
    made.folder.flip(put_copy(made.folder, small_trained("popular"), version="2"))
    made.runner.run(made._start())
    yield made
    made.close()


@pytest.fixture
def admin(workers: Workers) -> Iterator[dict[str, str]]:
    """The head of the requests of somebody who has logged in with a key of all scopes."""
    keys = KeyFile(workers.folder.keys_path)
    key = keys.add(("read", "write", "admin"), "boss")
    first = head(workers.get("/", headers=HTML))
    assert workers.ask("POST", "/page/log-in", data={"key": key}, headers=first).status_code == 204
    write_models(workers.folder)
    yield head(workers.get("/", headers=HTML))
    keys.path.unlink()
    workers.clients[0].cookies.clear()


def head(page: httpx.Response) -> dict[str, str]:
    found = re.search(r'"X-CSRF-Token":"(\w+)"', page.text)
    assert found is not None
    return {"X-CSRF-Token": found[1], "HX-Request": "true"}


def text_of(answer: httpx.Response) -> str:
    """What a person reads."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


@pytest.fixture(autouse=True)
def no_jobs(workers: Workers) -> None:
    workers.services[0].jobs.path.unlink(missing_ok=True)


def test_before_the_agent_has_been_at_mlflow(workers: Workers) -> None:
    workers.folder.models_snapshot.unlink(missing_ok=True)
    models = workers.get("/page/models", headers=HTML)
    assert models.status_code == 200
    assert "has not read the versions" in models.text
    assert 'hx-get="/page/models" hx-trigger="every 2s"' in models.text
    training = workers.get("/page/training", headers=HTML)
    assert training.status_code == 200
    assert "none yet" in text_of(training)


def test_versions_with_gates_and_figures_and_without_keys_no_buttons(workers: Workers) -> None:
    write_models(workers.folder)
    page = workers.get("/page/models", headers=HTML)
    text = text_of(page)
    assert re.search(r"rankline/2 champion served nmf · 2026-03-02 04:05 UTC NDCG@10 0.1200 popular 0.0800", text)
    assert "Gate: refused" in text
    assert "rankline/4 nmf" in text
    assert "<img" not in page.text
    assert "<button" not in page.text.partition('id="compare-title"')[0]
    assert "rankline key add --scope read,write,admin" in text
    first = head(page)
    for path in ("/page/activate", "/page/rollback", "/page/train"):
        refused = workers.ask("POST", path, data={"version": "4"}, headers=first)
        assert refused.status_code == 401
        assert "admin" in refused.text
        assert "HX-Refresh" not in refused.headers
    assert not workers.services[0].jobs.path.exists()


def test_to_activate_is_a_job_whose_end_shows_the_versions_anew(workers: Workers, admin: dict[str, str]) -> None:
    asked = workers.ask("POST", "/page/activate", data={"version": "4"}, headers=admin)
    assert "activate 4: queued" in text_of(asked)
    jobs = workers.services[0].jobs
    (job,) = jobs.due()
    assert (job.kind, job.key_id) == ("activate", "boss")
    assert job.request == {"version": "4", "force": False, "reason": None}
    follow = re.search(r'hx-get="(/page/job\?id=\w+)"', asked.text)
    assert follow is not None
    again = workers.ask("POST", "/page/rollback", headers=admin)
    assert again.status_code == 409
    assert again.headers["HX-Retarget"] == "#message"
    jobs.start(job.job_id)
    assert "activate 4: running" in text_of(workers.get(follow[1]))
    jobs.finish(job.job_id, "the gate refuses it")
    ended = workers.get(follow[1])
    assert "activate 4: failed – the gate refuses it" in text_of(ended)
    assert 'hx-trigger="every' not in ended.text
    assert '<div id="versions" hx-swap-oob="true">' in ended.text
    back = workers.ask("POST", "/page/rollback", headers=admin)
    assert "rollback: queued" in text_of(back)


def test_by_force_with_a_reason_and_what_cannot_be_asked(workers: Workers, admin: dict[str, str]) -> None:
    for fields, status in (
        ({"version": "4", "force": "yes"}, 422),
        ({"version": "4", "force": "yes", "reason": " "}, 422),
        ({"version": "9"}, 404),
        ({"version": ""}, 404),
        ({"version": "2"}, 409),
    ):
        refused = workers.ask("POST", "/page/activate", data=fields, headers=admin)
        assert refused.status_code == status, fields
    workers.ask("POST", "/page/activate", data={"version": "3", "force": "yes", "reason": "a trial"}, headers=admin)
    (job,) = workers.services[0].jobs.due()
    assert job.request == {"version": "3", "force": True, "reason": "a trial"}
    for path in ("/page/activate", "/page/rollback", "/page/train"):  # not without what the page alone knows
        assert workers.ask("POST", path, data={"version": "4"}).status_code == 403


def test_comparison(workers: Workers, admin: dict[str, str]) -> None:
    found = text_of(workers.get("/page/compare?a=2&b=4"))
    assert "NDCG@10 0.1200 0.1300 +0.0100 +0.0020 to +0.0180" in found
    assert "hit rate@10 0.2400 0.2600 +0.0200" in found
    assert workers.get("/page/compare?a=2&b=77").status_code == 404


def test_a_training_from_the_request_to_its_loss(workers: Workers, admin: dict[str, str]) -> None:
    page = workers.get("/page/training", headers=HTML)
    assert "<option>als</option>" in page.text
    wanted = {"algorithm": "als", "hyperparameters": "n_components=16\n\n max_iter = 5 \ntransform=log1p"}
    begun = workers.ask("POST", "/page/train", data=wanted, headers=admin)
    assert "The last training: queued" in text_of(begun)
    jobs = workers.services[0].jobs
    (job,) = jobs.due()
    assert job.request == {"options": {"algorithm": "als", "n_components": 16, "max_iter": 5, "transform": "log1p"}}
    assert workers.ask("POST", "/page/train", data=wanted, headers=admin).status_code == 409
    jobs.start(job.job_id)
    write_training(workers.folder, job.job_id)
    running = workers.get("/page/training-state")
    assert "Loss over 12 iterations, from 1000 to 83.333" in running.text
    assert 'hx-trigger="every 1s"' in running.text
    assert "a line &lt;img" in running.text
    jobs.finish(job.job_id, result={"version": "5"})
    done = workers.get("/page/training-state")
    assert "made version 5" in text_of(done)
    assert 'hx-trigger="every' not in done.text


@pytest.mark.parametrize(
    "fields",
    [
        {"algorithm": "no-such"},
        {"algorithm": "nmf", "hyperparameters": "n_components"},
        {"algorithm": "nmf", "hyperparameters": "input=/etc/passwd"},
        {"algorithm": "nmf", "hyperparameters": "n_components=-1"},
        {"algorithm": "x" * 100},
    ],
)
def test_a_training_that_there_cannot_be(workers: Workers, admin: dict[str, str], fields: dict[str, str]) -> None:
    refused = workers.ask("POST", "/page/train", data=fields, headers=admin)
    assert refused.status_code == 422
    assert 'class="fault"' in refused.text
    assert not workers.services[0].jobs.path.exists()


def test_health_says_what_does_not_work(workers: Workers, tmp_path: Path) -> None:
    text = text_of(workers.get("/page/health", headers=HTML))
    assert "the agent has not looked at MLflow yet" in text
    assert "1 part does not work" in text
    assert "New interactions works pending 0" in text
