"""A real standalone cluster: a worker is killed in the middle, then the driver; the next one goes on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.processes import ROOT, Home
from support.spark_session import BRIEF, Cluster

from pipeline.data.sources.files import read_file
from pipeline.models.factor_model import FactorModel
from pipeline.options import TrainOptions
from pipeline.training.train import train

pytest_plugins = ["support.homes", "support.spark_session"]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("spark"), pytest.mark.takes(60)]

ITERATIONS = 8


def until(what: Any, process: Any, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_killed_worker_and_a_killed_driver(cluster: Cluster, home: Home, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    users, items = rng.integers(0, 1000, 20_000), rng.integers(0, 500, 20_000)
    table = pa.table({"user_id": users, "item_id": items, "rating": np.where(users % 5 == items % 5, 5.0, 1.0)})
    pq.write_table(table, tmp_path / "ratings.parquet")
    shared = tmp_path / "shared"
    command = (
        "rankline", "train", "--source", "file", "--input", str(tmp_path / "ratings.parquet"), "--engine", "spark",
        "--spark-master", cluster.url, "--spark-folder", str(shared), "--holdout", "0", "--tol", "0",
        "--n-components", "16", "--max-iter", str(ITERATIONS),
    )  # fmt: skip
    env = {"PYTHONPATH": str(ROOT), "SPARK_LOCAL_IP": "127.0.0.1", "JDK_JAVA_OPTIONS": BRIEF}

    def kept() -> list[int]:
        return [path.stat().st_mtime_ns for path in (shared / "fits").glob("*[0-9a-f].npz")]

    first = home.fork(*command, env=env)
    until(kept, first)
    cluster.kill_worker(0)
    before = kept()
    until(lambda: kept() > before, first)  # it goes on with the other worker
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not home.client().search_model_versions("name = 'rankline'")

    second = home.fork(*command, env=env)
    out, said = second.communicate(timeout=400)
    assert second.returncode == 0, said
    assert "the fit goes on after iteration " in said
    assert "Spark 4.3.0 at spark://127.0.0.1" in said
    assert "Traceback" not in said + out
    finished, killed = home.runs()
    assert finished.info.status == "FINISHED"
    assert finished.data.tags["spark_executors"] == "1"
    assert killed.info.status == "KILLED" or killed.info.status == "FAILED"
    local = train(
        read_file(tmp_path / "ratings.parquet").interactions,
        TrainOptions(n_components=16, max_iter=ITERATIONS, tol=0, holdout=0),
    )
    (folder,) = home.folder.rglob(f"{finished.info.run_id}/artifacts")
    model = FactorModel.load(folder)
    assert np.array_equal(model.user_factors, local.model.user_factors)
    assert np.array_equal(model.item_factors, local.model.item_factors)
    assert [path.name for path in shared.iterdir()] == ["lock"]
