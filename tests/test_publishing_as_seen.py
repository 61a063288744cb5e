"""What a person sees of publishing: back and forth, a refused batch, two sets told apart, rows explained."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass

import pytest
from processes import ROOT, Home

pytest_plugins = ["homes"]
pytestmark = pytest.mark.slow

# Commands one after the other in one process, so that only the first waits for imports; a JSON line each.
_SESSION = """
import contextlib, io, json, os, sys
from pipeline import cli
for arguments, env in json.loads(sys.argv[1]):
    out, err, status = io.StringIO(), io.StringIO(), 0
    os.environ.update(env)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main(arguments)
    except SystemExit as leave:
        status = leave.code or 0
    for name in env:
        os.environ.pop(name, None)
    print(json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""
TABLE = "analytics.recommendations"
ROWS = f"SELECT user_id, rank, item_id, score, source, model_version, run_id FROM {TABLE} ORDER BY user_id, rank"


@dataclass
class Done:
    status: int
    out: str
    err: str


def session(home: Home, *commands: tuple[str, ...], env: dict[str, str] | None = None) -> list[Done]:
    """The commands in turn; `env` is for the last."""
    asked = [(one, env or {} if one is commands[-1] else {}) for one in commands]
    done = subprocess.run(
        [sys.executable, "-c", _SESSION, json.dumps(asked)],
        cwd=home.folder, env={**home.env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [Done(*json.loads(line)) for line in done.stdout.splitlines()]
    assert len(found) == len(commands)
    return found


def test_forth_and_back_and_forth_again(trained_copy: Home) -> None:
    """Eight items instead of ten: another set. Rolled back; published again, by `score`, with the same rows."""
    first, shorter, eight, told, back, ten, same, again, eight_again = session(
        trained_copy,
        ("sql", ROWS),
        ("score", "--k", "8"),
        ("sql", ROWS),
        ("diff",),
        ("rollback", "--table"),
        ("sql", ROWS),
        ("score",),
        ("score", "--k", "8"),
        ("sql", ROWS),
    )
    assert shorter.status == 0, shorter.err
    assert f"published 5,368 rows for 671 of 671 users to {TABLE}" in shorter.out
    n_lines = len(eight.out.splitlines())
    assert n_lines == 1 + 5368
    assert told.status == 0, told.err
    assert "before: analytics.recommendations_previous (version 1, run" in told.out
    assert "users: 671 → 671, 0 gained, 0 lost; of 671 in both 671 have another list" in told.out
    assert "overlap of lists (Jaccard, mean over users in both): 0.800" in told.out
    assert re.search(r"Items that won and lost most[^-]+-\d", told.out)
    assert back.status == 0, back.err
    assert re.search(rf"{TABLE} in chdb://\S+ is the set of \S+ \(version 1, run \w+\) again; that of", back.err)
    assert ten.out == first.out
    assert (same.status, same.out.startswith("already published 6,710 rows")) == (0, True)
    assert (again.status, again.out.startswith("published 5,368 rows")) == (0, True), again.err
    assert eight_again.out == eight.out


def test_a_refused_batch(trained_copy: Home) -> None:
    """The published table has twice the users: half of them would be gone. As under `mlflow run`."""
    home, client = trained_copy, trained_copy.client()
    run_id = client.create_run(client.get_experiment_by_name("rankline").experiment_id).info.run_id
    doubled = f"INSERT INTO {TABLE} SELECT * REPLACE (user_id + 100000 AS user_id) FROM {TABLE}"
    count = f"SELECT count() AS n FROM {TABLE}"
    *_, refused = session(home, ("sql", doubled), ("score",), env={"MLFLOW_RUN_ID": run_id})
    assert refused.status == 3
    (line,) = [one for one in refused.err.splitlines() if one.startswith("error: ")]
    assert "the check coverage (1 found: n_before=1342 n_lost=671 share=0.5)" in line
    assert "and 1 more (row_count)" in line
    assert "--accept-changes yes" in line
    run = client.get_run(run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["failed_check"] == "coverage"
    assert line.removeprefix("error: ").startswith(run.data.tags["failure"][:200])
    staged = run.data.tags["staged_table"]
    assert staged in line
    kept, there, accepted, after = session(
        home, ("sql", f"SELECT count() AS n FROM {staged}"), ("sql", count), ("score", "--accept-changes", "yes"),
        ("sql", count),
    )  # fmt: skip
    assert kept.out.split() == ["n", "6710"]
    assert there.out.split() == ["n", "13420"]
    assert accepted.status == 0, accepted.err
    assert "published all the same, as --accept-changes says: coverage" in accepted.err
    assert after.out.split() == ["n", "6710"]


def test_why_of_what_is_not_listed_and_of_what_is_popular(trained_copy: Home) -> None:
    stranger = "INSERT INTO raw.ratings (user_id, movie_id, rating, rated_at) VALUES (987654, 1, 5, now64(3))"
    published = f"SELECT item_id FROM {TABLE} WHERE user_id = 987654 AND rank = 3 AND source = 'popular'"
    unlisted = (
        "SELECT movie_id FROM analytics.mart_user_movie_matrix WHERE movie_id NOT IN "
        f"(SELECT item_id FROM {TABLE} WHERE user_id = 42) AND user_id != 42 AND movie_id NOT IN "
        "(SELECT movie_id FROM analytics.mart_user_movie_matrix WHERE user_id = 42) ORDER BY movie_id LIMIT 1"
    )
    seen = "SELECT min(movie_id) AS i FROM analytics.mart_user_movie_matrix WHERE user_id = 42"
    _, scored, *found = session(
        trained_copy, ("sql", stranger), ("score", "--unknown", "popular"), ("sql", published), ("sql", unlisted),
        ("sql", seen),
    )  # fmt: skip
    assert scored.status == 0, scored.err
    popular, other, had = (one.out.split()[1] for one in found)
    by_popularity, not_listed, was_seen, nobody = session(
        trained_copy, ("why", "987654", popular), ("why", "42", other), ("why", "42", had), ("why", "42", "123456789")
    )
    assert by_popularity.status == 0, by_popularity.err
    assert "is number 3 in the list of user 987654" in by_popularity.out
    assert "the user is not in the model: what is popular stands in" in by_popularity.out
    assert "factors" not in by_popularity.out
    assert not_listed.status == 0, not_listed.err
    assert "is not in the published list of user 42" in not_listed.out
    place = re.search(r"it is number ([\d,]+) of ([\d,]+) unseen", not_listed.out)
    assert place
    assert int(place[1].replace(",", "")) > 10
    assert "seen items that load most on it" in not_listed.out
    assert (was_seen.status, "the user has seen it" in was_seen.out) == (0, True)
    assert (nobody.status, "Unknown item 123456789" in nobody.err) == (3, True)


def test_the_documentation_names_every_check() -> None:
    page = (ROOT / "docs" / "publishing.md").read_text()
    for path in (ROOT / "sql" / "checks").glob("*.sql"):
        assert f"`{path.stem}`" in page
