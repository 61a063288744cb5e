"""The blocks of the README and of docs/, run in their order in a clone of their own."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.compiled import share_kernels
from support.fork import Forked, ForkServer
from support.processes import BIN, ROOT, end, free_port, wait_for
from support.warehouse_fixtures import HttpServer

pytest_plugins = ["support.warehouse_fixtures"]
# What they share is made once.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("readme")]

# Blocks that other tests run, or that need what is not here (an nginx, a server with users).
ELSEWHERE = {"security.md", "results.md", "api-map.md", "operations.md", "scale.md", "spark-scoring.md"}
PAGES = {
    path.name: path.read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
BLOCKS = [
    (name, kind, text)
    for name, page in PAGES.items()
    for kind, text in re.findall(r"^```(bash|python)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
]


def blocks(page: str, *marks: str) -> list[str]:
    """The blocks of a page that hold one of the marks, in order."""
    texts = [text for name, _, text in BLOCKS if name == page and any(mark in text for mark in marks)]
    assert len(texts) == len(marks), marks
    return texts


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project in a new folder, with the environment at hand in the place of its own."""
    folder = tmp_path_factory.mktemp("readme") / "rankline"
    folder.mkdir()
    # With what is compiled of it: kernels are compiled once for all folders.
    for name in ("pipeline", "mlflow", "sql"):
        shutil.copytree(ROOT / name, folder / name)
    for name in (
        "MLproject",
        "conda.yaml",
        "Makefile",
        "pyproject.toml",
        "requirements.lock",
        "requirements-spark.lock",
        "README.md",
    ):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv").symlink_to(BIN.parent)
    share_kernels(folder / "pipeline")
    return folder


def shell(clone: Path, text: str, **env: str) -> str:
    """What a block prints, run as typed in the clone."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("RANKLINE_", "MLFLOW_"))}
    # The environment's `rankline` is the checkout's; the clone's own code comes first.
    full = {**keep, "PYTHONPATH": str(clone), "COLUMNS": "160", "MLFLOW_DISABLE_TELEMETRY": "true", **env}
    done = subprocess.run(["bash", "-ec", text], cwd=clone, env=full, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, text + done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def store(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What `. .venv/bin/activate` and the Makefile give a command; the clone's own commands are forked."""
    server = ForkServer(clone)
    commands = server.commands(tmp_path_factory.mktemp("commands"), "rankline", "mlflow", "python")
    first, rest = commands["PATH"].split(os.pathsep, 1)
    path = os.pathsep.join([first, str(BIN), rest])
    yield {**commands, "MLFLOW_TRACKING_URI": f"sqlite:///{clone / 'mlflow.db'}", "PATH": path}
    server.stop()


def test_every_block_is_run_here() -> None:
    counts = {name: sum(block[0] == name for block in BLOCKS) for name in PAGES}
    expected = {"README.md": 8, "CONTRIBUTING.md": 1, "artifacts.md": 3, "files.md": 5, "warehouse.md": 1}
    expected |= {"tuning.md": 2, "promotion.md": 1, "models.md": 3}
    assert {name: n for name, n in counts.items() if n and name not in ELSEWHERE} == expected


@pytest.mark.takes(150)
def test_the_readme_in_its_order_then_the_artifacts(clone: Path, store: dict[str, str]) -> None:
    two, look, five, night, other = blocks(
        "README.md",
        "make train\n",
        "rankline recommend 42",
        "rankline compare",
        "rankline nightly",
        "-P n_components=20",
    )
    # Once installed, nothing is installed again; the tests are these.
    assert two.split("\n")[:2] == ["make train", "make test"]
    stamp = clone / ".venv" / ".installed"
    os.utime(stamp) if stamp.exists() else stamp.touch()
    printed = shell(clone, "make train")
    for said in ("most popular", "What user 1 liked best", "Recommended for user 1", "analytics.recommendations"):
        assert said in printed
    assert "ndcg_at_10" in printed
    for target in ("make --dry-run test", "make --dry-run lint"):
        shell(clone, target)
    assert "pytest" in shell(clone, "make --dry-run test")

    # What follows is the same with fewer iterations.
    store = {**store, "RANKLINE_MAX_ITER": "20"}
    path = store["PATH"].partition(os.pathsep)[0]
    printed = shell(clone, look.replace("activate\n", f"activate; PATH={path}:$PATH\n"), **store)
    assert "Recommended for user 42" in printed
    assert len(re.findall(r"^42\t\d+\t", printed, re.MULTILINE)) == 10

    printed = shell(clone, five, **store)
    assert "rankline/2" in printed
    assert shell(clone, "rankline promote rankline/2 >promote.txt 2>&1 || [ $? = 3 ]", **store) == ""
    assert "can't be read" not in (clone / "promote.txt").read_text()
    shell(clone, night, **store)
    printed = shell(clone, other, **store)
    assert "NMF k=20" in printed

    without, with_it = blocks("artifacts.md", "import json", "from pipeline import Scorer")
    (clone / "blocks.py").write_text(without + with_it)
    printed = shell(clone, "python blocks.py", **store)
    # numpy prints its array over as many lines as it needs: by hand first, then by us.
    user, *items = re.findall(r"\d+", printed)
    assert user == "1"
    assert len(items) == 20
    assert items[:10] == items[10:]

    (ask,) = blocks("artifacts.md", "curl")
    serve = re.search(r"`(mlflow models serve .*?)`", PAGES["artifacts.md"])
    assert serve is not None
    port = str(free_port())
    command = [*serve[1].replace("5001", port).split(), "-h", "127.0.0.1"]
    env = {**os.environ, "PYTHONPATH": str(clone), **store}
    server = Forked(command, env, clone, (subprocess.DEVNULL,) * 3)
    try:
        wait_for(int(port))
        answer = json.loads(shell(clone, ask.replace("5001", port)))["predictions"]
    finally:
        end(server)
    assert [row["rank"] for row in answer] == [1, 2, 3]

    (gate,) = blocks("promotion.md", "-e promote")
    promote, rollback = gate.replace("rankline/3", "rankline/2").strip().splitlines()
    # Version 2 was promoted above, or refused; each end is said by the gate and not by a fault.
    for line in (promote, rollback):
        printed = shell(clone, f"{line} 2>&1 || true", **store)
        assert "can't be read" not in printed
        assert "Traceback" not in printed.split("rankline")[0]


def a_small_file(clone: Path) -> dict[str, str]:
    """Settings of a file in the place of the sample."""
    rng = np.random.default_rng(0)
    lines = [f"{p // 60},{p % 60},{1 + p % 5},{1381620027 + p}" for p in rng.choice(40 * 60, 600, replace=False)]
    (clone / "small.csv").write_text("user_id,item_id,rating,timestamp\n" + "\n".join(lines) + "\n")
    return {"RANKLINE_SOURCE": "file", "RANKLINE_INPUT": "small.csv"}


def test_let_it_search(clone: Path, store: dict[str, str]) -> None:
    auto, block = blocks("tuning.md", "--algorithm auto", "-e tune")
    assert blocks("README.md", "--algorithm auto") == [auto.splitlines(keepends=True)[0]]
    store = {**store, **a_small_file(clone)}  # how long a trial takes is not what is tested
    quick = auto.replace("auto --budget-minutes 10", "auto --budget-minutes 0.05").replace("--trials 40", "--timeout 3")
    assert shell(clone, quick, **store).count(" has the highest ") == 2
    quick = block.replace("trials=40", "trials=2 -P max_iter=10").replace("--trials 40", "--trials 3 --max-iter 10")
    printed = shell(clone, quick, **store)
    assert printed.count("(ndcg_at_10 on the test part, 95 % interval)") == 2


def test_models_of_models_and_those_with_packages_of_their_own(clone: Path, store: dict[str, str]) -> None:
    small = {**store, **a_small_file(clone)}
    for block, few in zip(blocks("models.md", "neumf", "ensemble", "rerank"), ("2", "", ""), strict=True):
        commands = [line for line in block.splitlines() if not line.startswith("pip install")]  # they are installed
        more = {"RANKLINE_MAX_ITER": few} if few else {}
        printed = shell(clone, "\n".join(commands), **small, **more)
        assert printed.count("is registered as rankline/") == len(commands)


def test_your_own_files(clone: Path, store: dict[str, str]) -> None:
    rng = np.random.default_rng(0)
    chosen = rng.choice(20 * 60, 300, replace=False)
    lines = [f"{p // 60}::{p % 60}::{1 + p % 5}::{1381620027 + p}" for p in chosen]
    (clone / "ratings.csv").write_text("\n".join(lines) + "\n")
    (clone / "ratings.csv.gz").write_bytes(gzip.compress((clone / "ratings.csv").read_bytes()))
    kinds = ("view", "cart", "purchase")
    events = [f"{p // 60},{p % 60},{kinds[p % 3]},{1381620027 + p}" for p in chosen]
    (clone / "events.csv").write_text("user,item,event,timestamp\n" + "\n".join(events) + "\n")
    (clone / "movies.csv").write_text("item_id,title,genres\n" + "".join(f"{i},Film {i},Drama\n" for i in range(60)))
    (clone / "tags.csv").write_text("item_id,tag\n" + "".join(f"{i},tag {i % 7}\n" for i in range(60)))
    train, pipe, cold, weighed = blocks("files.md", "--input ratings.csv\n", "zcat", "--cold-items", "--event-weights")
    assert blocks("README.md", "rankline train --source file") == [train]
    printed = shell(clone, train, **store)
    assert "holdout/recall_at_10" in printed
    assert "300 rows" in shell(clone, pipe, **store)
    for block in (cold, weighed):
        assert "holdout/recall_at_10" in shell(clone, block, **store)


def test_a_published_table(clone: Path, store: dict[str, str]) -> None:
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
    (block,) = blocks("files.md", "rankline evaluate")
    *people, program = shell(clone, block, **store).splitlines()
    assert any("recall_at_20" in line for line in people)
    assert json.loads(program)["hit_rate_at_10"] == 1.0  # of two negatives


def test_your_own_warehouse(clone: Path, store: dict[str, str], http_server: HttpServer) -> None:
    (block,) = blocks("warehouse.md", "export RANKLINE_WAREHOUSE")
    assert blocks("README.md", "export RANKLINE_WAREHOUSE") == [block.replace("rankline recommend SOME_USER\n", "")]
    assert len(block.strip().splitlines()) == 5
    (clone / "my.sql").write_text(
        "-- Mine.\nSELECT concat('u', toString(number % 40)) AS user_id,\n"
        "       toString(cityHash64(number) % 53) AS item_id,\n"
        "       toFloat32(1 + number % 5) AS score\nFROM numbers(600);\n"
    )
    block = block.replace("clickhouse://user:password@clickhouse.example:8123", http_server.dsn)
    # A model of its own: the first one may have a champion by now, of another warehouse.
    printed = shell(clone, block.replace("SOME_USER", "u7"), **store, RANKLINE_NAME="mine")
    assert "published 400 rows for 40 of 40 users" in printed
    assert "Recommended for user u7" in printed
    assert http_server.password not in printed
