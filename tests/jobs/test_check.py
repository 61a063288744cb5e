"""`rankline check`: a line each for options, source, columns and stores; nothing is fitted, made or changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.processes import Home

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow


def ratings(folder: Path) -> Path:
    path = folder / "ratings.csv"
    rows = [f"{user},{item},{1 + (user + item) % 5},{1_700_000_000 + user}" for user in range(12) for item in range(12)]
    path.write_text("who,what,rating,timestamp\n" + "\n".join(rows) + "\n")
    return path


def plain(text: str) -> str:
    """Without the padding of a table."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def test_what_would_come_through_and_what_would_not(home: Home) -> None:
    ratings(home.folder)
    config = home.folder / "rankline.yaml"
    config.write_text(
        "source: {source: file, input: ratings.csv}\n"
        "columns: {user_column: who, item_column: what}\n"
        "data_gate: {min_users: 5}\n"
    )
    before = {path.name for path in home.folder.iterdir()}
    done = home.rankline("check", "--config", str(config))
    assert done.returncode == 0, done.stderr
    lines = plain(done.stdout).splitlines()
    assert lines[0] == f"ok options: rankline.yaml: {config}: 5 option(s)"
    assert lines[1] == "ok options: data gate: 1 limit(s) set"
    assert f"ok source: source: {home.folder / 'ratings.csv'}: 144 rows" in lines
    facts = "12 users, 12 items, scores 1 to 5, times 2023-11-14 to 2023-11-14"
    assert f"ok source: columns: {facts}; user `who`, item `what`, score `rating`, time `timestamp`" in lines
    assert any(line.startswith("ok mlflow: reachable: ") for line in lines)
    assert any(line.startswith("ok mlflow: artifacts: ") for line in lines)
    assert home.runs() == []
    assert {path.name for path in home.folder.iterdir()} - before <= {"artifacts", "mlflow.db.lock"}

    # A limit, a column that is not there, a store that does not answer.
    done = home.rankline("check", "--config", str(config), env={"RANKLINE_LIMIT_MIN_USERS": "13"})
    assert done.returncode == 3
    assert "fail source: data gate: there are 12 users (limit: at least 13" in plain(done.stdout)
    done = home.rankline("check", "--config", str(config), "--user-column", "whom", "--json")
    assert done.returncode == 3
    (failed,) = [finding for finding in json.loads(done.stdout)["findings"] if finding["status"] == "fail"]
    assert failed["name"] == "source"
    assert "Missing required columns: ['whom']" in failed["detail"]
    done = home.rankline("check", "--config", str(config), env={"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    assert done.returncode == 4
    assert "fail mlflow: reachable: No MLflow server answers at http://127.0.0.1:9" in plain(done.stdout)

    # Options of other commands, too.
    config.write_text("split: {split_last: 3}\n")
    done = home.rankline("check", "--config", str(config))
    assert done.returncode == 2
    assert done.stderr == "error: --split-last 3 is for --split last (it is auto)\n"


def test_a_file_that_lies_here_is_not_used_and_nothing_is_loaded(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home.folder / "here"
    folder.mkdir()
    (folder / "rankline.yaml").write_text("split: {holdout: 2}")
    done = home.rankline("check", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "warn options: rankline.yaml: it lies here and is not used → --config rankline.yaml" in plain(done.stdout)
    assert "warn source: source: the embedded warehouse" in plain(done.stdout)
    assert not Path(home.env["RANKLINE_WAREHOUSE"].removeprefix("chdb://")).exists()
