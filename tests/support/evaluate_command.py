"""`rankline evaluate` in this process, and files of a few rows for it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from pipeline.cli import main

# Popularity: 10 and 20 three times, 30, 40 and 50 once; so 10, 20, 30, 40, 50 by count and id.
TRAIN = [(1, 10), (1, 20), (2, 10), (2, 30), (3, 10), (3, 20), (3, 40), (4, 20), (4, 50)]
# 99 is an item, and 9 a user, that training does not know.
TEST = [(1, 40), (1, 99), (2, 20), (2, 50), (4, 30), (9, 10)]
SECOND = 1 / math.log2(3)  # the gain of the second place


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("RANKLINE_", "MLFLOW_"))]:
        monkeypatch.delenv(name)


def table(path: Path, pairs, header: str | None = "user_id,item_id", names=lambda user, item: (user, item)) -> str:
    """A CSV of the pairs; without a header, tab-separated with a rating and a time."""
    rows = [names(user, item) for user, item in pairs]
    if header is None:
        lines = [f"{user}\t{item}\t{1 + n % 5}\t{978300000 + n}" for n, (user, item) in enumerate(rows)]
    else:
        lines = [header, *(f"{user},{item}" for user, item in rows)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def run(capfd):
    """The command in this process: (exit status, stdout, stderr)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main.main(["evaluate", *arguments])
        return (int(left.value.code or 0), *capfd.readouterr())

    return run


@pytest.fixture
def evaluated(run):
    def evaluated(*arguments: str) -> dict:
        status, out, err = run(*arguments, "--json")
        assert status == 0, err
        assert len(out.splitlines()) == 1
        result = json.loads(out)
        for of_run in (result, *result.get("runs", ())):
            for fit in of_run.get("fits", {}).values():  # no two runs are alike in these
                assert min(fit.pop("fit_seconds"), fit.pop("peak_memory_mb")) >= 0
        return result

    return evaluated


def failed(run, *arguments: str) -> tuple[int, str]:
    status, out, err = run(*arguments)
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert err.splitlines()[-1] == lines[0]
    assert "Traceback" not in err
    return status, lines[0]


def protocol(folder: Path, names=lambda user, item: (user, item), train_pairs=TRAIN) -> list[str]:
    """Train, test and negatives as they are published, of users 1, 2 and 4."""
    negatives = {(1, 40): (30, 50), (2, 50): (20, 40), (4, 30): (40, 77)}
    lines = [
        "({},{})\t".format(*names(*pair)) + "\t".join(str(names(0, item)[1]) for item in items)
        for pair, items in negatives.items()
    ]
    (folder / "x.test.negative").write_text("\n".join(lines) + "\n")
    return [
        *("--train", table(folder / "x.train.rating", train_pairs, None, names)),
        *("--test", table(folder / "x.test.rating", negatives, None, names)),
        *("--negatives-file", str(folder / "x.test.negative")),
    ]
