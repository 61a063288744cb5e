"""What kernels need is compiled by one process, once, and nothing hangs on it."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.serving import compiling


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(compiling, "cache_folder", lambda: cache)
    return cache


def program(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(compiling, "_PROGRAM", (sys.executable, "-c", text))


def test_once_for_a_kind_of_model_and_again_where_it_failed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, begun = tmp_path / "model", tmp_path / "begun"
    model.mkdir()
    count = f"import sys; open({str(begun)!r}, 'a').write(sys.argv[1] + '|')"
    compiling.compile_for(model, threading.Event())  # no metadata: workers will say so
    (model / "metadata.json").write_text('{"kind": "factors"}')
    program(monkeypatch, f"{count}; sys.exit(1)")
    compiling.compile_for(model, threading.Event())
    assert list(cache.iterdir()) == []
    program(monkeypatch, count)
    for _ in range(2):
        compiling.compile_for(model, threading.Event())
    assert [path.name for path in cache.iterdir()] == ["served-factors"]
    (model / "metadata.json").write_text('{"kind": "../../x"}')
    compiling.compile_for(model, threading.Event())
    assert begun.read_text() == f"{model}|" * 2


def test_it_ends_with_the_service(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "metadata.json").write_text('{"kind": "factors"}')
    program(monkeypatch, "import time; time.sleep(600)")
    stopping = threading.Event()
    stopping.set()
    begun = time.monotonic()
    compiling.compile_for(tmp_path, stopping)
    assert time.monotonic() - begun < 300
    assert list(cache.iterdir()) == []
