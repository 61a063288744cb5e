"""`mlflow run` in the ways people use it, for real."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from support.processes import ROOT, Home, end, free_port, wait_for
from support.stored_evaluations import add_version, stored_evaluation

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow

QUICK = ("-P", "max_iter=10")
NONE: Mapping[str, str] = MappingProxyType({})


def mlflow_run(
    home: Home, uri: str, *arguments: str, manager: str = "local", forked: bool = True, env: Mapping[str, str] = NONE,
    **options: Any,
) -> str:  # fmt: skip
    """Run to the end; what it printed. With `forked`, the job's Python has everything imported when it begins."""
    command = ("mlflow", "run", uri, "--env-manager", manager, "--experiment-name", "rankline", *arguments)
    python = home.forked_python() if forked and manager == "local" else {}
    done = home.run(*command, env={**python, **env}, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.takes(40)
def test_from_another_folder_then_score(home: Home) -> None:
    mlflow_run(home, str(ROOT), "-P", "n_components=5", *QUICK, forked=False)
    (run,) = home.runs()
    assert run.info.status == "FINISHED"
    assert run.data.params["n_components"] == "5"
    assert run.data.params["tol"] == "0.0001"
    assert run.data.params["n_components_used"] == "5"
    assert run.info.run_name == "NMF k=5 · warehouse 671x9066"
    # `auto` stays as it was typed, beside what was used.
    mlflow_run(home, str(ROOT), *QUICK, "-P", "holdout=0", "--run-name", "by hand")
    newest = home.runs()[0]
    assert (newest.data.params["n_components"], newest.data.params["n_components_used"]) == ("auto", "10")
    assert newest.info.run_name == "by hand"
    printed = mlflow_run(home, str(ROOT), "-e", "score", "-P", "k=3")
    assert "rankline/2 (the newest version" in printed
    assert home.sql("SELECT count(), any(model_version) FROM analytics.recommendations") == ["2013\t2"]
    scored = home.runs()[0]
    assert scored.data.metrics["n_rows"] == 2013
    assert scored.info.run_name == "score rankline/2"


def test_promote_and_rollback_by_their_entry_points(home: Home, rng: np.random.Generator, make_model) -> None:
    base = np.clip(rng.normal(0.3, 0.1, 120), 0, 1)
    for change in (0.0, 0.05):
        add_version(home, make_model(rng), stored_evaluation(base + change))
    home.client().set_registered_model_alias("rankline", "champion", "1")
    config = home.folder / "rankline.yaml"
    config.write_text("promotion:\n  margin: 0.01\n  segment_margin: 0.4\n")
    limits = ("-P", f"config={config}", "-P", "segment_margin=0.3")
    printed = mlflow_run(home, str(ROOT), "-e", "promote", *limits)  # none is named: the newest
    assert "rankline/2 is the champion now, after rankline/1" in printed
    run = home.runs()[0]
    assert (run.info.run_name, run.data.tags["promotion"]) == ("promote rankline/2", "promoted")
    # The file is below what was typed, and above the defaults that `mlflow run` types by itself.
    assert re.search(r"ok · not worse than the champion: .* fall to -1\.0% ", run.data.tags["promotion_reasons"])
    printed = mlflow_run(home, str(ROOT), "-e", "rollback", "-P", "reason=too many complaints")
    assert "rankline/1 is the champion again, after rankline/2 (too many complaints)" in printed
    assert home.runs()[0].data.tags["rollback_reason"] == "too many complaints"


def test_a_file_by_its_own_entry_point(home: Home) -> None:
    rng = np.random.default_rng(0)
    lines = [f"u{p // 60},{p % 60},{1 + p % 5}" for p in rng.choice(20 * 60, 300, replace=False)]
    (home.folder / "mine.csv").write_text("who,what,stars\n" + "\n".join(lines) + "\n")
    config = home.folder / "rankline.yaml"
    algorithm = "algorithm:\n  max_iter: 7\n  n_components: 3\n"
    config.write_text(f"columns:\n  rating_column: stars\ndata_gate:\n  min_users: 20\n{algorithm}")
    columns = ("-P", "user_column=who", "-P", "item_column=what", "-P", "name=shop", "-P", f"config={config}")
    mlflow_run(home, str(ROOT), "-e", "files", "-P", "input=mine.csv", *columns, *QUICK)
    (run,) = home.runs()
    assert [version.run_id for version in home.client().search_model_versions("name = 'shop'")] == [run.info.run_id]
    # The file is below what was typed, and above the defaults that `mlflow run` types by itself.
    assert run.data.metrics["n_iter"] > 7
    assert run.data.params["n_components_used"] == "3"
    assert run.data.tags["config"] == (
        "columns.rating_column: stars, data_gate.min_users: 20, algorithm.max_iter: 7, algorithm.n_components: 3"
    )
    assert run.data.tags["source"] == "file"
    assert run.data.params["n_users"] == "20"


def test_a_failure_is_1_and_the_run_says_why(home: Home) -> None:
    command = ("mlflow", "run", str(ROOT), "--env-manager", "local", "--experiment-name", "rankline")
    done = home.run(*command, "-P", "min_data=1000000")
    assert done.returncode == 1
    (run,) = home.runs()
    assert run.info.status == "FAILED"
    assert "Too little data: 100004 interaction(s)" in run.data.tags["failure"]


@pytest.fixture(scope="module")
def git_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The project as it stands, served by `git daemon`."""
    work = tmp_path_factory.mktemp("git") / "rankline"
    work.mkdir()
    for name in ("pipeline", "mlflow", "sql"):
        shutil.copytree(ROOT / name, work / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("MLproject", "conda.yaml"):
        shutil.copy(ROOT / name, work)
    git = ["git", "-C", str(work), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "as it stands"]):
        subprocess.run([*git, *arguments], check=True)
    port = free_port()
    daemon = subprocess.Popen(
        ["git", "daemon", f"--base-path={work.parent}", "--export-all", "--listen=127.0.0.1", f"--port={port}"],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(port)
        yield f"git://127.0.0.1:{port}/rankline/.git"
    finally:
        end(daemon)


@pytest.mark.takes(30)
def test_from_a_git_address_with_a_scratch_warehouse(home: Home, git_uri: str) -> None:
    # No warehouse is named: the clone's own, which goes with the clone.
    command = ("mlflow", "run", git_uri, "--version", "main", "--env-manager", "local", "--experiment-name", "rankline")
    # A model without kernels, which a new folder would compile anew.
    done = home.run(*command, "-P", "algorithm=popular", "-P", "holdout=0", env={"RANKLINE_WAREHOUSE": ""})
    assert done.returncode == 0, done.stderr
    match = re.search(r"^scratch warehouse: chdb://(/\S+/data/warehouse) \(.*\)$", done.stdout, re.MULTILINE)
    assert match is not None, done.stdout
    assert Path(match[1]).is_dir()
    assert not Path(match[1]).is_relative_to(ROOT)
    (run,) = home.runs()
    assert run.data.tags["mlflow.source.git.commit"] in run.data.tags["git_commit"]
