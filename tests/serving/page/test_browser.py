"""The page in a browser: a list, its reasons, a rating, the log-in; at both widths and in both colours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from support.browser import PageServer, Visit, chromium, needs_browser
from support.drift_reports import drift_value
from support.page_data import write_models, write_training
from support.served import Workers, put_copy, small_trained

from pipeline.serving.job_table import JobTable
from pipeline.serving.keys import KeyFile
from pipeline.serving.live_folder import LiveFolder, write_json

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser"), needs_browser]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served") / "live"


@pytest.fixture(scope="module")
def address(live: Path) -> Iterator[str]:
    workers = Workers(live, n=0, docs="yes")
    workers.folder.flip(put_copy(workers.folder, small_trained()))
    server = PageServer(workers)
    yield server.address
    server.close()


@pytest.mark.takes(20)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_the_list_with_its_reasons_and_a_search(browser: Browser, address: str, width: int, scheme: str) -> None:
    with Visit(browser, address, width, scheme) as visit:
        page = visit.page
        page.goto("/?user=102")
        titles = page.locator(".places .name").all_inner_texts()
        assert len(titles) == 10
        assert page.locator(".history .seen li").count() >= 5
        page.locator(".places summary").first.click()
        page.locator(".reasons .parts li").first.wait_for()
        assert "Place 1 of" in page.locator(".reasons").first.inner_text()
        page.fill("input[type=search]", "of 1003")
        page.locator(".hits li").wait_for()
        visit.look()
        page.goto("/?user=somebody-new&genre=War")
        assert "nothing is known" in page.locator(".list").inner_text()
        visit.look()
        if scheme == "dark":
            page.goto("/docs")
            page.locator(".api summary").first.click()
            visit.look()


def test_a_rating_by_keyboard_alone(browser: Browser, address: str) -> None:
    with Visit(browser, address) as visit:
        page, keys = visit.page, visit.page.keyboard
        page.goto("/?user=103")
        before = page.locator(".places .name").all_inner_texts()
        visit.tab_to("input[type=search]")
        keys.type(before[2])
        page.locator(".hits .name", has_text=before[2]).wait_for()
        visit.tab_to(".hits select")
        keys.type("4.5")
        keys.press("Tab")
        keys.press("Enter")
        page.locator("#message", has_text=f"{before[2]}: 4.5 is kept.").wait_for()
        now = page.locator(".places .name").all_inner_texts()
        assert before[2] not in now
        assert page.locator(".places li.new").count() >= 1
        assert page.locator(".history .seen.new").inner_text().startswith(before[2])
        assert "Rate" in visit.focused()  # the next Tab goes on from here

        visit.tab_to(".places summary")
        keys.press("Enter")
        page.locator(".reasons .parts li").first.wait_for()
        visit.tab_to(".reasons select")
        keys.type("2.5")
        keys.press("Tab")
        keys.press("Enter")
        page.locator("#message", has_text=f"{now[0]}: 2.5 is kept.").wait_for()
        assert now[0] not in page.locator(".places .name").all_inner_texts()
        page.wait_for_function("() => document.activeElement.id === 'list-title'")  # the form has gone with its item


def test_a_service_that_does_not_answer_and_a_rating_that_is_refused(browser: Browser, address: str) -> None:
    visit = Visit(browser, address)
    page = visit.page
    page.goto("/?user=104")
    page.fill("input[type=search]", "war")
    page.locator(".hits select").first.wait_for()
    page.evaluate("() => { document.querySelector('.hits option').value = '77'; }")
    page.locator(".hits button").first.click()
    page.locator("#message .fault", has_text="rating must be from 0.5 to 5").wait_for()
    page.route("**/page/rate", lambda route: route.abort())
    page.locator(".hits button").first.click()
    page.locator("#message .fault", has_text="does not answer").wait_for()
    page.close()


def test_log_in_and_out_by_keyboard(browser: Browser, address: str, live: Path) -> None:
    keys = KeyFile(live / "keys.json")
    key = keys.add(("read",), "desk")
    try:
        with Visit(browser, address, 390, "dark") as visit:
            page = visit.page
            page.goto("/?user=105")
            page.locator("input[type=password]").wait_for()
            visit.look()
            visit.tab_to("input[type=password]")
            page.keyboard.type(key)
            page.keyboard.press("Enter")
            page.locator("#list-title", has_text="For user 105").wait_for()
            assert page.evaluate("() => document.cookie") == ""
            kept = page.evaluate("() => JSON.stringify([{...localStorage}, {...sessionStorage}])")
            assert key[-43:] not in kept
            assert page.locator("input[type=search]").count() == 0  # the key may not write
            visit.look()
            visit.tab_to(".who button")
            page.keyboard.press("Enter")
            page.locator("input[type=password]").wait_for()
    finally:
        keys.path.unlink()


def log_in(visit: Visit, key: str, path: str) -> None:
    visit.page.goto(path)
    visit.page.fill("input[type=password]", key)
    visit.page.keyboard.press("Enter")
    visit.page.locator("main h1", has_text="Models").wait_for()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light")])
def test_models_are_compared_activated_and_rolled_back_and_health(
    browser: Browser, address: str, live: Path, width: int, scheme: str
) -> None:
    """The agent is played by this test: it takes the jobs, and says how they ended."""
    folder, keys = LiveFolder(live), KeyFile(live / "keys.json")
    write_models(folder)
    folder.jobs_path.unlink(missing_ok=True)
    jobs = JobTable(folder.jobs_path)
    try:
        with Visit(browser, address, width, scheme) as visit:
            page = visit.page
            log_in(visit, keys.add(("read", "write", "admin"), "boss"), "/page/models")
            page.locator(".chart canvas").wait_for()
            visit.tab_to("select[name=a]")
            visit.tab_to("select[name=a] ~ button")
            page.keyboard.press("Enter")
            page.locator("#compared tbody tr").first.wait_for()
            page.locator(".gate summary").first.press("Enter")
            visit.look()
            page.on("dialog", lambda dialog: dialog.accept())
            newest = page.locator(".versions li", has_text="rankline/4")
            newest.locator("button", has_text="Activate rankline/4").press("Enter")
            page.locator("#job", has_text="activate 4: queued").wait_for()
            (job,) = jobs.due()
            jobs.start(job.job_id)
            page.locator("#job", has_text="activate 4: running").wait_for()
            jobs.finish(job.job_id)
            page.locator("#job", has_text="activate 4: done").wait_for()
            page.locator("#head button").press("Enter")
            page.locator("#job", has_text="rollback: queued").wait_for()
            jobs.finish(jobs.due()[0].job_id, "the former champion is gone")
            page.locator("#job", has_text="rollback: failed").wait_for()
            visit.look()
            page.goto("/page/health")
            page.locator(".badge", has_text="fault").wait_for()  # there is no agent
            page.locator(".drift", has_text="Nothing was measured yet").wait_for()
            write_json(folder.drift_snapshot, drift_value())
            page.locator(".drift .badge", has_text="1 past its limit").wait_for()  # the page looks every 5 s
            assert page.locator(".drift tr.past th").inner_text().startswith("popularity of what users turn to (PSI)")
            visit.tab_to(".drift .scroll")
            visit.look()
    finally:
        keys.path.unlink()
        folder.drift_snapshot.unlink(missing_ok=True)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_training_with_its_loss_curve(browser: Browser, address: str, live: Path, width: int, scheme: str) -> None:
    folder, keys = LiveFolder(live), KeyFile(live / "keys.json")
    write_models(folder)
    folder.jobs_path.unlink(missing_ok=True)
    jobs = JobTable(folder.jobs_path)
    try:
        with Visit(browser, address, width, scheme) as visit:
            page = visit.page
            log_in(visit, keys.add(("read", "admin"), "boss"), "/page/models")
            page.goto("/page/training")
            visit.tab_to("select[name=algorithm]")
            page.keyboard.type("nmf")
            page.keyboard.press("Tab")
            page.keyboard.type("max_iter=50")
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            page.locator("#training-title", has_text="queued").wait_for()
            (job,) = jobs.due()
            assert job.request == {"options": {"algorithm": "nmf", "max_iter": 50}}
            jobs.start(job.job_id)
            write_training(folder, job.job_id, 12)
            page.locator("#training .chart[aria-label^='Loss over 12'] canvas").wait_for()
            write_training(folder, job.job_id, 25)
            page.locator("#training .chart[aria-label^='Loss over 25'] canvas").wait_for()
            jobs.finish(job.job_id, result={"version": "5"})
            page.locator("#training-title", has_text="done").wait_for()
            page.locator("#training summary").press("Enter")
            assert page.locator("#training .numbers tbody tr").count() == 25
            visit.look()
    finally:
        keys.path.unlink()
