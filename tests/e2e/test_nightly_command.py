"""`rankline nightly` and `rankline retain` as a person, or a scheduler, types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.processes import Home
from support.tastes import three_tastes

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow


def write(folder: Path, *more: str) -> Path:
    x = three_tastes()
    rows = zip(x.user_ids.ids(x.users).tolist(), x.item_ids.ids(x.items).tolist(), x.scores.tolist(), strict=True)
    lines = [f"{user},{item},{score},{at}" for (user, item, score), at in zip(rows, np.asarray(x.at), strict=True)]
    path = folder / "ratings.csv"
    path.write_text("\n".join(["user_id,item_id,rating,timestamp", *lines, *more, ""]))
    return path


def test_nights_from_a_file_of_options(home: Home) -> None:
    ratings = write(home.folder)
    (home.folder / "rankline.yaml").write_text(
        "algorithm: {n_components: 3, max_iter: 15}\n"
        f"source: {{source: file, input: {ratings}}}\n"
        "nightly: {refit_after: 0.2}\nretention: {keep_versions: 1}\npublishing: {k: 5}\n"
    )
    night = ["nightly", "--config", "rankline.yaml", "--json"]
    (first,) = home.many(night)
    assert first[0] == 0, first[2]
    result = json.loads(first[1])
    assert (result["how"], result["version"], result["published"]) == ("trained", "rankline/1", "rankline/1")
    assert [step["name"] for step in result["steps"]][1:5] == ["data gate", "train", "gate", "promote"]
    write(home.folder, "2001,3,5,2025-01-01", "2001,6,5,2025-01-02")
    second, third, text, dry, gone = home.many(
        night, night, night[:-1], ["retain", "--keep-versions", "1", "--dry-run"], ["retain", "--json"]
    )
    assert json.loads(second[1])["how"] == "folded in"
    assert json.loads(third[1])["how"] == "nothing"
    assert [line.split()[0] for line in text[1].splitlines() if line.startswith(("data gate", "train"))] == [
        "data", "train",
    ]  # fmt: skip
    assert "nothing is new since rankline/2, the champion" in text[1]
    assert dry[0] == 0, dry[2]
    assert "rankline/1" in dry[1]
    assert "version 2 was folded into it" in dry[1]
    assert json.loads(gone[1])["versions"] == []
    (row,) = home.sql("SELECT max(rank), uniqExact(model_version), any(model_version) FROM analytics.recommendations")
    assert row == "5\t1\t2"
    assert home.sql("SELECT count() FROM analytics.recommendations WHERE user_id = 2001") == ["5"]


def test_a_wrong_option_is_status_2_and_a_server_status_4(home: Home) -> None:
    wrong, away = (
        home.rankline("nightly", "--refit-after", "2"),
        home.rankline("nightly", env={"RANKLINE_WAREHOUSE": "clickhouse://nobody@127.0.0.1:9/"}),
    )
    assert (wrong.returncode, away.returncode) == (2, 4)
    assert "refit_after must be from 0 to 1" in wrong.stderr
    assert "the night is not over: the same command goes on with it" in away.stdout
