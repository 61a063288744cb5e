"""The wheel: built, installed elsewhere, used in an empty folder, without the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.compiled import share_kernels
from support.processes import ROOT, copy_tree

# What they share is made once.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]

# The build backend's own hooks, as pip and `build` call them.
_BUILD = """
import sys
from setuptools import build_meta
folder = sys.argv[1]  # the hooks change the arguments
build_meta.build_wheel(folder)
build_meta.build_sdist(folder)
"""
# Several commands in one process of the wheel's own Python: status, output and errors of each, a line each.
_COMMANDS = """
import contextlib, io, json, sys
from pipeline.cli import main as cli
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(arguments)
        except SystemExit as leave:
            status = leave.code or 0
    print(json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""


class Installed:
    """An environment with the wheel and the packages of this one, and an empty folder to work in."""

    def __init__(self, root: Path) -> None:
        self.folder, self.environment, self.dist = root / "empty", root / "environment", root / "dist"
        self.folder.mkdir()
        self.dist.mkdir()

    @property
    def bin(self) -> Path:
        return self.environment / "bin"

    @property
    def wheel(self) -> Path:
        (wheel_file,) = self.dist.glob("*.whl")
        return wheel_file

    def run(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        keep = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RANKLINE_", "MLFLOW_")) and name != "PYTHONPATH"
        }
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        env = {**keep, "PATH": path, "COLUMNS": "200", "MLFLOW_DISABLE_TELEMETRY": "true"}
        done = subprocess.run(command, cwd=cwd or self.folder, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Built and installed without a network: the packages that it needs are those of this environment."""
    root = tmp_path_factory.mktemp("wheel")
    here, source = Installed(root), root / "source"
    source.mkdir()
    for name in ("pipeline", "sql"):
        copy_tree(ROOT / name, source / name)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    here.run(sys.executable, "-c", _BUILD, str(here.dist), cwd=source)
    shutil.rmtree(source)
    here.run(sys.executable, "-m", "venv", "--without-pip", str(here.environment))
    python = str(here.bin / "python")
    here.run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", str(here.wheel)),
    )
    printed = here.run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout
    (Path(printed.strip()) / "shared.pth").write_text(sysconfig.get_path("purelib"))
    share_kernels(Path(printed.strip()) / "pipeline")
    return here


def test_the_wheel_has_the_statements_the_page_and_the_licence(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = set(wheel.namelist())
        (about,) = (name for name in names if name.endswith("METADATA"))
        metadata = wheel.read(about).decode()
        (licence,) = (name for name in names if name.endswith("licenses/LICENSE"))
        assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
    statements = {f"pipeline/{path.relative_to(ROOT)}" for path in (ROOT / "sql").rglob("*.sql")}
    assert statements == {name for name in names if name.endswith(".sql")}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "pipeline").rglob("*.py")}
    assert modules == {name for name in names if name.endswith(".py")}
    page = ROOT / "pipeline" / "serving" / "page"
    for folder in (ROOT / "pipeline" / "evaluation" / "report" / "templates", page / "templates", page / "static"):
        assert {str(path.relative_to(ROOT)) for path in folder.iterdir()} <= names
    assert "License-Expression: Apache-2.0\n" in metadata
    assert {name.split("/")[0] for name in names} == {"pipeline", about.split("/")[0]}


def test_the_source_distribution_can_be_built_from(installed: Installed, tmp_path: Path) -> None:
    (archive,) = installed.dist.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert {path.relative_to(folder) for path in (folder / "sql").rglob("*.sql")} == {
        path.relative_to(ROOT) for path in (ROOT / "sql").rglob("*.sql")
    }
    assert (folder / "setup.py").is_file()


@pytest.mark.takes(30)
def test_from_a_file_to_a_table_in_an_empty_folder(installed: Installed) -> None:
    folder = installed.folder
    assert installed.run("rankline", "--version").stdout.strip().endswith("0.1.0")
    assert list(folder.iterdir()) == []

    rng = np.random.default_rng(0)
    pairs = rng.choice(30 * 40, 500, replace=False)
    ratings = "\n".join(f"{pair // 40},{pair % 40},{1 + pair % 5}" for pair in pairs)
    (folder / "ratings.csv").write_text(f"user_id,item_id,rating\n{ratings}\n")
    trained = installed.run("rankline", "train", "--source", "file", "--input", "ratings.csv", "--max-iter", "5")
    # The first command says where; nothing else does again.
    assert trained.stderr.startswith(f"files go into {folder}: mlflow.db, mlruns, unlogged, data/warehouse (")
    commands = [
        ["score"],
        ["show", "--user", "1"],
        ["sql", "SELECT count(), uniqExact(user_id) FROM analytics.recommendations"],
        ["doctor", "--json"],
    ]
    python = str(installed.bin / "python")
    lines = installed.run(python, "-c", _COMMANDS, json.dumps(commands)).stdout.splitlines()
    (score, show, sql, doctor) = (json.loads(line) for line in lines)
    for status, out, errors in (score, show, sql):
        assert status == 0, out + errors
        assert "files go into" not in errors
    assert "rankline/1" in score[1]
    assert sql[1].splitlines()[1] == "300\t30"
    assert "make ui" not in show[1]
    findings = {(finding["group"], finding["name"]): finding["detail"] for finding in json.loads(doctor[1])["findings"]}
    place = findings["rankline", "rankline"]
    assert f"installed in {installed.environment}" in place
    assert place.endswith(f"files lie in the working folder {folder}")

    made = {path.name for path in folder.iterdir()}
    assert made <= {"ratings.csv", "data", "mlflow.db", "mlflow.db.lock", "mlruns", "unlogged"}
    assert made >= {"ratings.csv", "data", "mlflow.db", "mlruns"}
    client = "import mlflow; mlflow.set_tracking_uri('sqlite:///mlflow.db'); "
    client += "print(mlflow.search_runs(search_all_experiments=True).filter(like='git').columns.tolist()); "
    client += "print(len(mlflow.pyfunc.load_model('models:/rankline/1').predict([{'user_id': 1}])))"
    git, rows = installed.run(python, "-c", client).stdout.splitlines()
    # No commit: that of a repository that the folder may belong to is not the code's.
    assert "tags.git_commit" not in git
    assert rows == "10"
