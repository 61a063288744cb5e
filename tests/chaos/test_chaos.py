"""The chaos program: a few kills, and what its reader would not let pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from chaos.expected import N_USERS, K, Right
from support.processes import ROOT

# Wrong in one way each: what is said, and how to make it so.
WRONG = {
    "a mix": lambda rows: rows["run_id"].__setitem__(7, "another"),
    "empty": lambda rows: [rows.__setitem__(name, column[:0]) for name, column in rows.items()],
    "of 299 users": lambda rows: [rows.__setitem__(name, column[:-K]) for name, column in rows.items()],
    "2999 rows": lambda rows: [rows.__setitem__(name, column[:-1]) for name, column in rows.items()],
    "ranks are not": lambda rows: rows["rank"].__setitem__(3, 3),
    "an unknown item": lambda rows: rows["item_id"].__setitem__(3, 5),
    "a seen item": lambda rows: rows["item_id"].__setitem__(3, SEEN),
    "an item twice": lambda rows: rows["item_id"].__setitem__(3, rows["item_id"][2]),
    "not finite": lambda rows: rows["score"].__setitem__(9, np.nan),
    "scores rise": lambda rows: rows["score"].__setitem__(1, 2.0),
}
RIGHT = Right()
SEEN = 1000 + int(np.flatnonzero(RIGHT.seen[1])[0])


def whole() -> dict[str, np.ndarray]:
    n = N_USERS * K
    items = np.concatenate([np.flatnonzero(~RIGHT.seen[user])[:K] for user in range(1, N_USERS + 1)])
    return {
        "user_id": np.repeat(np.arange(1, N_USERS + 1), K),
        "rank": np.tile(np.arange(1, K + 1), N_USERS),
        "item_id": 1000 + items,
        "score": np.tile(1 / np.arange(1.0, K + 1), N_USERS).astype(np.float32),
        "source": np.full(n, "nmf", object),
        "model_version": np.full(n, "3", object),
        "run_id": np.full(n, "run", object),
        "generated_at": np.full(n, np.datetime64("2026-01-31T00:00:00", "ms")),
    }


def test_a_whole_set_in_any_order_is_right() -> None:
    rows = whole()
    order = np.random.default_rng(0).permutation(N_USERS * K)
    check_result = RIGHT.check(pa.table({name: column[order] for name, column in rows.items()}))
    assert (check_result.run_id, check_result.items.shape) == ("run", (N_USERS, K))
    assert np.array_equal(check_result.items.ravel(), rows["item_id"])


@pytest.mark.parametrize("what", WRONG)
def test_the_reader_sees_what_is_wrong(what: str) -> None:
    rows = whole()
    WRONG[what](rows)
    with pytest.raises(AssertionError, match=what):
        RIGHT.check(pa.table(rows))


@pytest.mark.takes(60)
@pytest.mark.slow
def test_a_few_kills(tmp_path: Path) -> None:
    program = [
        sys.executable,
        str(ROOT / "tests" / "chaos" / "chaos.py"),
        "--kills",
        "3",
        "--embedded-share",
        "0.34",
        "--fork-all",
    ]
    done = subprocess.run([*program, "--folder", str(tmp_path / "chaos")], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict: unharmed" in done.stdout
    assert "3 of 3" in done.stdout
