"""`mlflow run` in an environment that it builds from conda.yaml: by uv, and by a virtualenv with pip."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from support.homes import new_home
from support.processes import ROOT, Home

pytest_plugins = ["support.homes"]
# The second test takes the packages that the first one has installed.
pytestmark = [pytest.mark.slow, pytest.mark.takes(60), pytest.mark.xdist_group("environments")]


def trained(home: Home, manager: str, **env: str) -> Path:
    """Train in an environment of the home's own, and return the folder that its packages are installed in.

    By default one is kept by the content of conda.yaml, whoever built it.
    """
    root = home.folder / "environments"
    command = ("mlflow", "run", str(ROOT), "--env-manager", manager, "--experiment-name", "rankline")
    options = ("-P", "max_iter=10", "-P", "holdout=0")
    done = home.run(*command, *options, env={"MLFLOW_ENV_ROOT": str(root), **env}, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert home.runs()[0].info.status == "FINISHED"
    (packages,) = root.glob("*/lib/python*/site-packages")
    return packages


@pytest.fixture(scope="module")
def built_by_uv(tmp_path_factory: pytest.TempPathFactory, store_template: Path) -> Path:
    return trained(new_home(tmp_path_factory.mktemp("uv") / "home", store_template), "uv")


def test_an_environment_built_by_uv(built_by_uv: Path) -> None:
    assert (built_by_uv / "mlflow").is_dir()
    assert (built_by_uv / "numba").is_dir()


def stand_in_for_pyenv(folder: Path, packages: Path) -> Path:
    """The folder of a `pyenv` that hands out this Python: the real one compiles what it downloads.

    The environments of this Python see the packages: pip then compares what is asked for with what they need and are,
    and has nothing to download and unpack, which would take most of a minute.
    """
    version = ".".join(map(str, sys.version_info[:3]))
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "versions" / version / "bin" / "python"
    below = packages.relative_to(packages.parents[2])
    scripts = {
        # mlflow asks it for `-m venv FOLDER`.
        python: f'"{base}" "$@" && echo "{packages}" >"$3/{below}/packages.pth"',
        # mlflow asks for: install --list, install, root.
        folder / "bin" / "pyenv": f'case "$*" in "install --list") echo {version};; '
        f'root) echo "{folder}";; install*);; *) exit 9;; esac',
    }
    for path, text in scripts.items():
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    return folder / "bin"


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="conda.yaml asks for Python 3.11")
def test_an_environment_built_by_virtualenv(home: Home, built_by_uv: Path) -> None:
    pyenv = stand_in_for_pyenv(home.folder / "pyenv", built_by_uv)
    packages = trained(home, "virtualenv", PATH=f"{pyenv}{os.pathsep}{home.env['PATH']}", PIP_NO_INDEX="1")
    assert (packages / "pip").is_dir()
    assert not (packages / "mlflow").exists()
