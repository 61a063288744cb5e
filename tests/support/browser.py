"""Debian's Chromium over a service in this process: what a person sees, and what the console and axe say of it."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from support.served import Workers

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="the page is tried in Chromium: apt-get install chromium")
AXE = Path(__file__).parents[1] / "serving" / "page" / "axe.min.js"
SIZES = {1280: 800, 390: 844}


class PageServer:
    """A worker on a port of this machine, in a thread.

    Attributes
    ----------
    address : ``http://127.0.0.1:…``
    """

    def __init__(self, workers: Workers) -> None:
        """Begin; `workers` has none yet, since their files belong to the thread that opens them."""
        self._workers, self._listening = workers, socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._begun.wait(120)

    def _run(self) -> None:
        workers = self._workers
        try:
            workers.runner.run(workers._start())
            config = uvicorn.Config(workers.gates[0], lifespan="off", log_level="warning")
            self._server = uvicorn.Server(config)
        finally:
            self._begun.set()
        workers.runner.run(self._server.serve([self._listening]))
        workers.close()

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listening.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """One browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"], timeout=120_000
        )
        yield browser
        browser.close()


class Visit:
    """A tab of its own. At its end the console was clean, and nobody else was asked for anything.

    Attributes
    ----------
    page : Playwright's
    """

    def __init__(self, browser: Browser, address: str, width: int = 1280, scheme: str = "light") -> None:
        self._context: BrowserContext = browser.new_context(
            base_url=address,
            viewport={"width": width, "height": SIZES[width]},
            color_scheme=scheme,  # type: ignore[arg-type]
        )
        self._context.set_default_timeout(30_000)
        self._address, self.said, self.asked = address, [], []
        self.page: Page = self._context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._context.close()
        if kind is None:
            assert self.said == [], self.said
            assert all(url.startswith(self._address) for url in self.asked), self.asked

    def look(self) -> None:
        """Nothing that axe finds, and nothing that is wider than the window."""
        if not self.page.evaluate("() => 'axe' in window"):
            self.page.evaluate(AXE.read_text())
        found = self.page.evaluate(
            "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"
            ".map(one => one.id + ': ' + one.nodes.map(node => node.html + ' ' + node.failureSummary).join(' | '))"
        )
        assert found == [], found
        width = self.page.evaluate("() => [document.documentElement.scrollWidth, window.innerWidth]")
        assert width[0] <= width[1], width

    def tab_to(self, selector: str) -> None:
        """Press Tab until it has the keyboard."""
        for _ in range(60):
            if self.page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not lead to {selector}")

    def focused(self) -> str:
        """What has the keyboard."""
        return str(self.page.evaluate("() => document.activeElement.outerHTML.slice(0, 200)"))
