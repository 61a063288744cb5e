"""The README's blocks, run in its order in a clone of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import BIN, ROOT, end, free_port, wait_for
from warehouse_fixtures import HttpServer

pytest_plugins = ["warehouse_fixtures"]
pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def blocks(language: str, *marks: str) -> list[str]:
    """The blocks that hold one of the marks, in order."""
    found = [text for kind, text in BLOCKS if kind == language and any(mark in text for mark in marks)]
    assert len(found) == len(marks), marks
    return found


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project in a new folder, with the environment at hand in the place of its own."""
    folder = tmp_path_factory.mktemp("readme") / "rankline"
    folder.mkdir()
    for name in ("pipeline", "mlflow", "sql"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("MLproject", "conda.yaml", "Makefile", "pyproject.toml", "requirements.lock", "README.md"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv").symlink_to(BIN.parent)
    return folder


def shell(clone: Path, text: str, **env: str) -> str:
    """What a block prints, run as typed in the clone."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("RANKLINE_", "MLFLOW_"))}
    # The environment's `rankline` is the checkout's; the clone's own code comes first.
    full = {**keep, "PYTHONPATH": str(clone), "COLUMNS": "160", "MLFLOW_DISABLE_TELEMETRY": "true", **env}
    done = subprocess.run(["bash", "-ec", text], cwd=clone, env=full, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, text + done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def store(clone: Path) -> dict[str, str]:
    """What `. .venv/bin/activate` and the Makefile give a command."""
    return {"MLFLOW_TRACKING_URI": f"sqlite:///{clone / 'mlflow.db'}", "PATH": f"{BIN}:{os.environ['PATH']}"}


def test_every_block_is_run_here() -> None:
    assert [kind for kind, _ in BLOCKS] == [*["bash"] * 8, "python", "python", "bash"]


def test_two_commands_then_a_look_then_other_parameters_then_the_artifacts(clone: Path) -> None:
    two, look, other = blocks("bash", "make train\n", "rankline recommend 42", "-P n_components=20")
    # Once installed, nothing is installed again; the tests are these.
    assert two.split("\n")[:2] == ["make train", "make test"]
    stamp = clone / ".venv" / ".installed"
    os.utime(stamp) if stamp.exists() else stamp.touch()
    printed = shell(clone, "make train")
    for said in (
        "most popular",
        "What user 1 liked best",
        "Recommended for user 1",
        "table: analytics.recommendations in chdb://",
        "make ui",
    ):
        assert said in printed
    assert "holdout_ndcg_at_10" in printed
    assert "pytest" in shell(clone, "make --dry-run test")

    printed = shell(clone, look)
    assert "Recommended for user 42" in printed
    assert len(re.findall(r"^42\t\d+\t", printed, re.MULTILINE)) == 10

    printed = shell(clone, other, **store(clone))
    assert "NMF k=20" in printed
    assert "from rankline/2" in printed

    without, with_it = blocks("python", "import json", "from pipeline.scorer")
    env = {**os.environ, "PYTHONPATH": str(clone), **store(clone)}
    code = [sys.executable, "-c", without + with_it]
    done = subprocess.run(code, cwd=clone, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr
    # numpy prints its array over as many lines as it needs: by hand first, then by us.
    user, *items = re.findall(r"\d+", done.stdout)
    assert user == "1"
    assert len(items) == 20
    assert items[:10] == items[10:]

    (ask,) = blocks("bash", "curl")
    serve = re.search(r"`(mlflow models serve .*?)`", README)
    assert serve is not None
    port = str(free_port())
    command = [*serve[1].replace("5001", port).split(), "-h", "127.0.0.1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, cwd=clone, start_new_session=True, text=True, env=env, **quiet)
    try:
        wait_for(int(port))
        answer = json.loads(shell(clone, ask.replace("5001", port)))["predictions"]
    finally:
        end(server)
    assert [row["rank"] for row in answer] == [1, 2, 3]


@pytest.mark.long
def test_let_it_search(clone: Path) -> None:
    (block,) = blocks("bash", "rankline tune")
    quick = block.replace("trials=40", "trials=2 -P max_iter=10").replace("--trials 40", "--trials 3 --max-iter 10")
    printed = shell(clone, quick, **store(clone))
    assert printed.count("(ndcg_at_10 on the test part, 95 % interval)") == 2


def test_your_own_files(clone: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{p // 60}::{p % 60}::{1 + p % 5}::{1381620027 + p}" for p in rng.choice(20 * 60, 300, replace=False)]
    (clone / "ratings.dat").write_text("\n".join(lines) + "\n")
    train, convert = blocks("bash", "rankline train --source file", "ratings.dat")
    printed = shell(clone, convert + train, **store(clone))
    assert (clone / "ratings.csv").read_text().startswith("user_id,item_id,rating,timestamp\n")
    assert "holdout_recall_at_10" in printed


def test_a_published_table(clone: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = [divmod(int(p), 60) for p in rng.choice(20 * 60, 300, replace=False)]
    last = dict(pairs)
    learn = [pair for pair in pairs if last[pair[0]] != pair[1]]
    for side, rows in (("train", learn), ("test", list(last.items()))):
        (clone / f"{side}.csv").write_text("userId,movieId\n" + "".join(f"{u},{i}\n" for u, i in rows))
        text = "".join(f"{u}\t{i}\t5\t{978300000 + n}\n" for n, (u, i) in enumerate(rows))
        (clone / f"ml-1m.{side}.rating").write_text(text)
    negatives = "".join(f"({u},{i})\t{(i + 1) % 60}\t{(i + 2) % 60}\n" for u, i in last.items())
    (clone / "ml-1m.test.negative").write_text(negatives)
    (block,) = blocks("bash", "rankline evaluate")
    *people, program = shell(clone, block, **store(clone)).splitlines()
    assert any("recall_at_20" in line for line in people)
    assert json.loads(program)["hit_rate_at_10"] == 1.0  # of two negatives


def test_your_own_warehouse(clone: Path, http_server: HttpServer) -> None:
    (block,) = blocks("bash", "export RANKLINE_WAREHOUSE")
    assert len(block.strip().splitlines()) == 5
    (clone / "my.sql").write_text(
        "-- Mine.\nSELECT concat('u', toString(number % 40)) AS user_id,\n"
        "       toString(cityHash64(number) % 53) AS item_id,\n"
        "       toFloat32(1 + number % 5) AS score\nFROM numbers(600);\n"
    )
    block = block.replace("clickhouse://user:password@clickhouse.example:8123", http_server.dsn)
    printed = shell(clone, block.replace("SOME_USER", "u7"), **store(clone))
    assert "published 400 rows for 40 of 40 users" in printed
    assert "Recommended for user u7" in printed
    assert http_server.password not in printed
