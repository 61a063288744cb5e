"""`make setup` says how far it is, on a terminal and in a log; pip's own words only where it fails."""

from __future__ import annotations

import importlib.util
import io
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
# What pip prints, and what it leaves, a package at a time.
PIP = """
import pathlib, sys, time
site, pause = pathlib.Path(sys.argv[1]), float(sys.argv[2])
print("Looking in indexes: https://example.org", flush=True)
print("Ignoring colorama: markers 'sys_platform == \\"win32\\"' don't match your environment", flush=True)
for name in ("numpy", "scipy"):
    print(f"Collecting {name}==1.2", flush=True)
    print(f"  Downloading {name}-1.2-cp311-cp311-linux.whl (35.1 MB)", flush=True)
    time.sleep(pause)
print("Installing collected packages: numpy, scipy", flush=True)
for name in ("numpy", "scipy"):
    time.sleep(pause)
    (site / f"{name}-1.2.dist-info").mkdir()
time.sleep(pause)
print("ERROR: no space left", file=sys.stderr) if len(sys.argv) > 3 else print("Successfully installed numpy scipy")
sys.exit(len(sys.argv) > 3)
"""


@pytest.fixture
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rankline_install", ROOT / ".ci" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def command(site: Path, pause: float, *fails: str) -> list[str]:
    return [sys.executable, "-c", PIP, str(site), str(pause), *fails]


def test_a_log_has_a_line_for_each_stage(install: ModuleType, tmp_path: Path) -> None:
    out = io.StringIO()
    assert install.run(command(tmp_path, 0), 3, tmp_path, out) == 0
    lines = [re.sub(r" \(\d+:\d\d\)$", "", line) for line in out.getvalue().splitlines()]
    # How far a stage is when its line is written depends on the machine.
    assert [re.sub(r"\d+(?= of)|: .*", "", line) for line in lines] == [
        "  collecting  of 3 packages",
        "  installing  of 2 packages",
    ]


@pytest.mark.slow
def test_a_log_has_a_line_now_and_then(install: ModuleType, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(install, "EVERY", 0.4)
    out = io.StringIO()
    install.run(command(tmp_path, 1.2), 3, tmp_path, out)
    assert "collecting 3 of 3 packages: scipy (35.1 MB)" in out.getvalue()
    assert "installing 1 of 2 packages" in out.getvalue()
    assert "Looking in" not in out.getvalue()


def test_a_terminal_has_one_line_drawn_anew(install: ModuleType, tmp_path: Path) -> None:
    out = Terminal()
    assert install.run(command(tmp_path, 0), 3, tmp_path, out) == 0
    assert "\r\033[K  collecting 2 of 3 packages: numpy (35.1 MB) (0:0" in out.getvalue()
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().endswith("\n")


def test_where_pip_fails_it_is_heard(install: ModuleType, tmp_path: Path) -> None:
    out = io.StringIO()
    assert install.run(command(tmp_path, 0, "fails"), 3, tmp_path, out) == 1
    assert "ERROR: no space left\n" in out.getvalue()


def test_make_setup_uses_it() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "python .ci/install.py requirements.lock" in makefile
