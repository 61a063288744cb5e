"""Backup and restore as the commands do it: everything is deleted, and the same lists come back."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from support.processes import ROOT, Home

from pipeline.interaction_log import Interaction, InteractionLog

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow

RATINGS = """INSERT INTO raw.ratings SELECT number % 20 AS user_id, intDiv(number * 7, 20) % 30 AS movie_id,
    1 + number % 5 AS rating, toDateTime64('2020-01-01', 3, 'UTC') + number AS rated_at FROM numbers(240)"""
TABLE = "SELECT * FROM analytics.recommendations ORDER BY user_id, rank"
LOOKS = (
    ["sql", TABLE],
    ["sql", "SELECT count() AS n, sum(rating) AS s FROM raw.ratings"],
    ["recommend", "5", "--json"],
    ["show", "--json", "--no-metrics"],
)


def looks(home: Home) -> list[str]:
    done = home.many(*LOOKS)
    assert [status for status, _, _ in done] == [0] * len(LOOKS), done
    shown = json.loads(done[3][1])
    return [*(out for _, out, _ in done[:3]), json.dumps({k: v for k, v in shown.items() if "address" not in k})]


@pytest.mark.takes(20)
def test_everything_is_deleted_and_the_same_lists_come_back(home: Home, tmp_path: Path) -> None:
    train = ["train", "--max-iter", "5", "--holdout", "0"]
    made = home.many(["init"], ["sql", RATINGS], train, ["promote", "1", "--force", "--reason", "first"], ["score"])
    assert [status for status, _, _ in made] == [0] * 5, made
    log_path, folder = home.folder / "live" / "interactions.db", tmp_path / "backup"
    with InteractionLog.open(log_path) as log:
        log.append([Interaction(user, 29, 5.0) for user in range(5)])
    (block,) = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
    backup, verify = (shlex.split(line)[1:] for line in block.splitlines())
    done = home.many(["ship"], [*backup, "--json"], verify)
    assert [status for status, _, _ in done] == [0] * 3, done[1][2]
    told = json.loads(done[1][1])
    assert (told["champions"], told["interactions"], len(told["sets"])) == (["rankline/1"], 5, 1)
    assert "is whole" in done[2][1]
    (home.folder / backup[1]).rename(folder)
    before = looks(home)

    # Everything, and to another place: addresses of artifacts in the store are absolute.
    elsewhere = Home(tmp_path / "elsewhere")
    home.folder.rename(tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone")
    elsewhere.folder.mkdir()
    (done,) = elsewhere.many(["restore", str(folder)])
    assert done[0] == 0, done
    assert "MLflow's store is put back" in done[1]
    assert looks(elsewhere) == before
    done = elsewhere.many(
        ["restore", str(folder), "--json"],
        ["ship", "--json"],
        ["forget", "3", "--yes"],
        ["restore", str(folder)],
        ["sql", "SELECT count() AS n FROM raw.ratings WHERE user_id = 3"],
        ["score"],
        ["rollback", "--table"],
    )
    assert [status for status, _, _ in done] == [0] * 7, done
    again = json.loads(done[0][1])
    assert (again["restored"], again["kept"], again["mlflow"]["state"]) == ([], [], "there already")
    assert json.loads(done[1][1])["shipped"] == 0
    assert done[4][1].split() == ["n", "0"], "nobody comes back"

    # A digit of a score: the file is named, and nothing is done.
    (parquet,) = folder.glob("backup-*/warehouse/analytics.recommendations.parquet")
    content = bytearray(parquet.read_bytes())
    content[len(content) // 2] ^= 1
    parquet.write_bytes(content)
    (done,) = elsewhere.many(["restore", str(folder), "--replace", "yes"])
    assert done[0] == 3
    assert str(parquet) in done[2]
    assert "wrong checksum" in done[2]
