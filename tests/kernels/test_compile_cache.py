"""Where compiled kernels are cached: package, user's cache folder, private temporary folder, nowhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipeline
from pipeline.kernels import available, compile_cache

SOURCES = compile_cache.sources()
PACKAGE = Path(compile_cache.__file__).parent / "__pycache__" / SOURCES


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    compile_cache.cache_folder.cache_clear()
    yield
    compile_cache.cache_folder.cache_clear()


def refuse(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Make these folders and all below them unwritable (root writes where permissions forbid it)."""
    real = compile_cache._writable
    monkeypatch.setattr(
        compile_cache, "_writable", lambda path: not any(map(path.is_relative_to, folders)) and real(path)
    )


def test_the_package_comes_first_then_the_user_then_a_private_folder_then_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    private = tmp_path / "temporary" / f"rankline-kernels-{os.getuid()}" / SOURCES
    order = [PACKAGE, tmp_path / "user" / "rankline" / "kernels" / SOURCES, private, None]
    for n, expected in enumerate(order):
        compile_cache.cache_folder.cache_clear()
        with monkeypatch.context() as patch:
            refuse(patch, *(folder for folder in order[:n] if folder))
            assert compile_cache.cache_folder() == expected
    assert private.parent.stat().st_mode & 0o777 == 0o700


def test_numba_cache_dir_is_the_only_place_where_it_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "chosen"))
    assert compile_cache.cache_folder() == tmp_path / "chosen" / f"rankline-{SOURCES}"
    compile_cache.cache_folder.cache_clear()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "below"))
    assert compile_cache.cache_folder() is None


@pytest.mark.parametrize("planted", ["link", "open to others"])
def test_a_temporary_folder_that_others_may_write_to_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, planted: str
) -> None:
    refuse(monkeypatch, PACKAGE, tmp_path / "user")
    folder = tmp_path / "temporary" / f"rankline-kernels-{os.getuid()}"
    if planted == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    assert compile_cache.cache_folder() is None


def test_a_user_without_a_home_has_no_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert compile_cache._user_cache() is None


FIT = """
import json, sys, tempfile
tempfile.tempdir = sys.argv[1]
import numpy as np
from pipeline.kernels import cache_folder, compiled
from numba.core import config
kernel = compiled("list_metrics")
n, total = np.zeros(2, np.int64), np.zeros(2)
kernel.tally(np.array([1, 1, 0], np.int32), np.array([0, 1, 1], np.int32), np.array([2.0, 3.0]), n, total)
print(json.dumps([total.tolist(), cache_folder() and str(cache_folder()), config.CACHE_DIR]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not available(), reason="needs numba")
@pytest.mark.parametrize("temporary", [True, False])
def test_kernels_run_where_nothing_can_be_written(tmp_path: Path, temporary: bool) -> None:
    """`__pycache__` is a file and home lies below one: root can't write there either."""
    package = tmp_path / "installed" / "pipeline"
    shutil.copytree(Path(pipeline.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "kernels" / "__pycache__").write_text("")
    folder = tmp_path / "temporary" if temporary else tmp_path / "missing"
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(package / "kernels" / "__pycache__" / "home"),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", FIT, str(folder)], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    total, used, others = json.loads(done.stdout)
    assert total == [3.0, 5.0]
    assert others == "", "other people's numba functions keep their own cache"
    if temporary:
        assert Path(used).is_relative_to(folder)
        assert list(Path(used).rglob("*.nbi"))
    else:
        assert used is None


TWO = """
import sys
import numpy as np
from numba.core import event
from pipeline.kernels import compiled
kernel, names = compiled("list_metrics"), []
class Listener(event.Listener):
    def on_start(self, event):
        names.append(event.data["dispatcher"].py_func.__name__)
    def on_end(self, event):
        pass
event.register("numba:compile", Listener())
print("ready", flush=True)
sys.stdin.readline()
kernel.tally(np.zeros(1, np.int32), np.zeros(1, np.int32), np.ones(1), np.zeros(1, np.int64), np.zeros(1))
print(names.count("tally"))
"""


@pytest.mark.slow
@pytest.mark.skipif(not available(), reason="needs numba")
def test_of_processes_that_begin_together_one_compiles(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": str(Path(pipeline.__file__).parents[1]),
    }
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", TWO]
    processes = [subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) for _ in range(3)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 3
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert sum(int(process.communicate()[0]) for process in processes) == 1
    assert [process.returncode for process in processes] == [0] * 3
