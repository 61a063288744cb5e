"""Before the fit: a limit that is passed stops the run, and so does a training that does not fit into memory."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from support.processes import Home

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow


def artifact(home: Home, run_id: str, name: str = "data_gate.json") -> Path:
    return home.folder / "artifacts" / run_id / "artifacts" / name


def test_a_limit_stops_before_the_fit_and_without_one_it_is_a_warning(trained_copy: Home) -> None:
    home = trained_copy
    (first,) = home.runs()
    assert first.data.tags["data_gate"] == "passed"
    assert "data_gate_findings" not in first.data.tags
    gate = json.loads(artifact(home, first.info.run_id).read_text())
    assert gate["notes"] == ["no champion yet: users and items gained and lost are not checked"]
    assert (gate["facts"]["n_users"], gate["facts"]["n_items"], gate["facts"]["n_duplicates"]) == (671, 9066, 0)
    metrics = first.data.metrics
    assert 0.8 < metrics["cost/estimated_peak_mb"] / metrics["cost/peak_memory_mb"] < 1.3
    assert metrics["cost/estimated_fit_seconds"] > 0

    home.client().set_registered_model_alias("rankline", "champion", "1")
    # The copy lies in another folder, and another address is another source.
    home.client().set_tag(first.info.run_id, "source_address", home.env["RANKLINE_WAREHOUSE"])
    gone = "ALTER TABLE raw.ratings DELETE WHERE user_id % 3 = 0 SETTINGS mutations_sync = 2"
    assert home.rankline("sql", gone).returncode == 0
    for command in (("train",), ("tune", "--trials", "1")):
        done = home.rankline(*command, env={"RANKLINE_LIMIT_MAX_SHRINK": "0.3"})
        assert done.returncode == 3
        (line,) = [one for one in done.stderr.splitlines() if one.startswith("error: ")]
        assert "31.4 % fewer interactions than the champion's (68,629, not 100,004)" in line
        assert "limit: at most 30 %, RANKLINE_LIMIT_MAX_SHRINK" in line
        stopped = home.runs()[0]
        assert stopped.info.status == "FAILED"
        tags = stopped.data.tags
        assert tags["data_gate"] == "stopped"
        assert tags["data_gate_findings"].startswith("31.4 % fewer interactions")
        assert tags["failure"] == line.removeprefix("error: ")
        gate = json.loads(artifact(home, stopped.info.run_id).read_text())
        assert (gate["facts"]["users"]["lost"], gate["facts"]["users"]["gained"]) == (5, 0)
        assert [one["breach"] for one in gate["findings"]] == [True]
        assert "loss" not in stopped.data.metrics
        assert not artifact(home, stopped.info.run_id, "user_features.npy").exists()
    assert len(home.client().search_model_versions("name = 'rankline'")) == 1

    tenfold = "ALTER TABLE raw.ratings UPDATE rating = rating * 10 WHERE 1 SETTINGS mutations_sync = 2"
    assert home.rankline("sql", tenfold).returncode == 0
    done = home.rankline("train", "--max-iter", "2", "--holdout", "0")
    assert done.returncode == 0, done.stderr
    assert "data gate: 31.4 % fewer interactions" in done.stderr
    assert re.search(
        r"data gate: the mean score is 3\d\.\d, and the champion's is 3\.29: a factor of 9\.33", done.stderr
    )
    assert home.runs()[0].data.tags["data_gate"] == "warned"


@pytest.mark.takes(30)
def test_what_does_not_fit_is_refused_with_what_would_and_that_works(home: Home) -> None:
    n_users = 150_000
    items = np.random.default_rng(0).integers(0, 500, n_users)
    path = home.folder / "wide.csv"
    path.write_text("user_id,item_id\n" + "".join(f"{u},{i}\n" for u, i in enumerate(items)))
    source = ("--source", "file", "--input", str(path))
    options = ("--holdout", "0", "--solver", "sklearn", "--max-iter", "1", *source)
    done = home.rankline("estimate", "--n-components", "100", *options[:4], *source)
    assert done.returncode == 0, done.stderr
    assert f"{n_users:,} × 500" in done.stdout
    assert "fits" in done.stdout
    assert not home.runs()

    done = home.rankline("train", "--n-components", "100", *options, env={"RANKLINE_MEMORY_LIMIT_MB": "50"})
    assert done.returncode == 3
    assert re.search(r"error: Reading [\d,]+ interactions or more needs some .* and 50 MB are available", done.stderr)
    limit = {"RANKLINE_MEMORY_LIMIT_MB": "600"}
    done = home.rankline("train", "--n-components", "100", *options, env=limit)
    assert done.returncode == 3
    (line,) = [entry for entry in done.stderr.splitlines() if entry.startswith("error: ")]
    refusal = r"600 MB are available \(RANKLINE_MEMORY_LIMIT_MB\). What would fit: --n-components (\d+); "
    fitting = re.search(refusal, line)
    assert fitting is not None, line
    refused = home.runs()[0]
    assert refused.info.status == "FAILED"
    assert refused.data.metrics["cost/estimated_peak_mb"] > 600
    done = home.rankline("train", "--n-components", fitting[1], *options, env=limit)
    assert done.returncode == 0, done.stderr
    metrics = home.runs()[0].data.metrics
    assert metrics["cost/estimated_peak_mb"] <= 600
    assert metrics["cost/peak_memory_mb"] < 720
