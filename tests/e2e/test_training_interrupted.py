"""Ctrl-C in a fit and in a publication, and two trainings at once: what each leaves."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from support.fork import Forked
from support.processes import Home, end

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow

# A training that says when it is in its fit, which goes on for many seconds then.
LONG_FIT = """
import sys
from pipeline.cli.main import main
from pipeline.models.algorithms.nmf import NMFAlgorithm
fit = NMFAlgorithm.fit
def telling(self, *matrix, on_iteration, **more):
    def told(number, loss):
        if number == 2:
            print("in the fit", flush=True)
        on_iteration(number, loss)
    return fit(self, *matrix, on_iteration=told, **more)
NMFAlgorithm.fit = telling
main(["train", "--source", "file", "--input", "big.csv", *sys.argv[1:]])
"""


def in_its_fit(home: Home) -> Forked:
    rng = np.random.default_rng(0)
    lines = [f"{p // 1000},{p % 1000},{1 + p % 5}" for p in rng.choice(800 * 1000, 240_000, replace=False)]
    (home.folder / "big.csv").write_text("user_id,item_id,rating\n" + "\n".join(lines) + "\n")
    # Hundreds of components: it takes long until the loss stands still, which would end the fit by itself.
    options = ("--n-components", "700", "--holdout", "0", "--max-iter", "1000000", "--tol", "0")
    process = home.fork("-c", LONG_FIT, *options)
    assert process.stdout is not None
    assert process.stdout.readline() == "in the fit\n", process.communicate()
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_in_the_fit(home: Home, number: int) -> None:
    process = in_its_fit(home)
    try:
        process.send_signal(number)
        _, stderr = process.communicate(timeout=240)
    finally:
        end(process)
    assert process.returncode == 130
    assert "error: interrupted" in stderr
    assert "Traceback" not in stderr
    (run,) = home.runs()
    assert run.info.status == "KILLED"
    assert "interrupted" in run.data.tags["failure"]
    assert "n_users" not in run.data.params  # it was still in the fit
    assert not home.client().search_model_versions("name = 'rankline'")


def test_interrupted_while_scoring_the_old_table_stays(trained_copy: Home) -> None:
    home = trained_copy
    rows = "SELECT * FROM analytics.recommendations ORDER BY user_id, rank"
    before = home.sql(rows)
    # Held at its first block, as by a slow disk: the block size and a sleep stand in for a long job.
    code = (
        "import time, pipeline.publishing.batch_scoring as b; from pipeline.ranking.scorer import Scorer\n"
        "from pipeline.cli.main import main\n"
        "old = Scorer.recommend_rows\n"
        "def slow(self, *a, **k):\n    print('scoring', flush=True); time.sleep(1); return old(self, *a, **k)\n"
        "Scorer.recommend_rows = slow; b._USERS_A_BLOCK = 16; main(['score'])"
    )
    process = home.fork("-c", code)
    try:
        assert process.stdout is not None
        for _ in range(2):
            assert process.stdout.readline().strip() == "scoring"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=240)
    finally:
        end(process)
    assert process.returncode == 130
    assert home.sql(rows) == before
    assert not any("staged" in table for table in home.sql("SHOW TABLES FROM analytics"))


def test_two_trainings_at_once_on_the_embedded_warehouse(trained_copy: Home) -> None:
    home = trained_copy
    processes = [home.fork("rankline", "train", "--max-iter", "5", "--holdout", "0") for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in processes]
    statuses = sorted(process.returncode for process in processes)
    # The reads overlap or they do not; each ends well or is told who is in the way.
    assert statuses in ([0, 0], [0, 4]), outputs
    for process, (_, stderr) in zip(processes, outputs, strict=True):
        assert "Traceback" not in stderr
        if process.returncode == 4:
            assert "is in use by another process" in stderr
    assert home.sql("SELECT count() FROM analytics.recommendations") == ["6710"]
