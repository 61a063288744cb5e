"""What a person sees of publishing: back and forth, a refused batch, two sets told apart, rows explained."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import pytest
from support.fork import run_many_forked
from support.processes import ROOT, Home

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow

TABLE = "analytics.recommendations"
ROWS = f"SELECT user_id, rank, item_id, score, source, model_version, run_id FROM {TABLE} ORDER BY user_id, rank"


@dataclass
class Done:
    status: int
    out: str
    err: str


def session(home: Home, *commands: tuple[str, ...], env: dict[str, str] | None = None) -> list[Done]:
    """The commands in turn; `env` is for the last."""
    asked = [(command, env or {} if command is commands[-1] else {}) for command in commands]
    commands_done = [Done(*done) for done in run_many_forked(asked, home.env, home.folder, 300)]
    assert len(commands_done) == len(commands)
    return commands_done


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
    assert re.search(r"Items that gained and lost most lists[^-]+-\d", told.out)
    assert back.status == 0, back.err
    assert re.search(rf"{TABLE} in chdb://\S+ is the set of \S+ \(version 1, run \w+\) again; that of", back.out)
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
    assert "published in spite of a failed check (--accept-changes yes): coverage" in accepted.err
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
    _, scored, *answers = session(
        trained_copy, ("sql", stranger), ("score", "--unknown", "popular"), ("sql", published), ("sql", unlisted),
        ("sql", seen),
    )  # fmt: skip
    assert scored.status == 0, scored.err
    popular, other, had = (entry.out.split()[1] for entry in answers)
    by_popularity, not_listed, was_seen, nobody = session(
        trained_copy, ("why", "987654", popular), ("why", "42", other), ("why", "42", had), ("why", "42", "123456789")
    )
    assert by_popularity.status == 0, by_popularity.err
    assert "is number 3 in the list of user 987654" in by_popularity.out
    assert "the user is not in the model and gets the most popular items" in by_popularity.out
    assert "factors" not in by_popularity.out
    assert not_listed.status == 0, not_listed.err
    assert "is not in the published list of user 42" in not_listed.out
    place = re.search(r"it is number ([\d,]+) of ([\d,]+) unseen", not_listed.out)
    assert place
    assert int(place[1].replace(",", "")) > 10
    assert "seen items that weigh most in it" in not_listed.out
    assert (was_seen.status, "the user has seen it" in was_seen.out) == (0, True)
    assert (nobody.status, "Unknown item 123456789" in nobody.err) == (3, True)


def test_the_documentation_names_every_check() -> None:
    page = (ROOT / "docs" / "publishing.md").read_text()
    for path in (ROOT / "sql" / "checks").glob("*.sql"):
        assert f"`{path.stem}`" in page


def test_a_takedown_needs_no_training(trained_copy: Home) -> None:
    """A rule of an item, and one of a genre: `recommend` and the next published table follow; so does a second name."""
    home = trained_copy
    items = f"SELECT item_id FROM {TABLE} WHERE user_id = 42 ORDER BY rank"
    before, listed = session(home, ("sql", items), ("recommend", "42", "--json"))
    first = json.loads(listed.out)["items"][0]
    assert str(first) == before.out.split()[1]
    rules = home.folder / "rules.csv"
    rules.write_text(f"item_id,genre,action,reason\n{first},,deny,licence\n,comedy,deny,\n10000000,,deny,\n")
    titles = f"SELECT count() AS n FROM {TABLE} AS r JOIN raw.movies AS m ON m.movie_id = r.item_id WHERE "
    pushed, shown, again, scored, found, bad = session(
        home,
        ("rules", "push", str(rules)),
        ("rules", "show", "--json"),
        ("recommend", "42", "--json"),
        ("score",),
        ("sql", titles + f"item_id = {first} OR genres ILIKE '%comedy%'"),
        ("rules", "push", str(home.folder / "none.csv")),
    )
    assert pushed.status == 0, pushed.err
    assert "1 item(s) are not in raw.movies, so look whether they are right: 10000000" in pushed.out
    assert re.search(r"deny\s+genre comedy\s+3,\d+|deny\s+genre comedy\s+\d{3,}", pushed.out)
    told = json.loads(shown.out)
    assert (told["n_rules"], told["n_in_force"], len(told["digest"])) == (3, 3, 64)
    after = json.loads(again.out)["items"]
    assert first not in after
    assert len(after) == 10
    assert scored.status == 0, scored.err
    assert re.search(rf"items are left out by rules \({told['digest'][:12]}\)", scored.err)
    assert found.out.split() == ["n", "0"]
    assert (bad.status, "can't be read" in bad.err) == (3, True)
    # The set before has the items still: going back needs a word.
    refused, still, back, again = session(
        home, ("rollback", "--table"), ("sql", titles + f"item_id = {first}"),
        ("rollback", "--table", "--accept-changes", "yes"), ("sql", titles + f"item_id = {first}"),
    )  # fmt: skip
    assert refused.status == 3
    assert re.search(r"error: Not rolled back: the set before has [\d,]+ rows of [\d,]+ item\(s\) \(\d+", refused.err)
    assert still.out.split() == ["n", "0"]
    assert back.status == 0, back.err
    assert re.search(r"it has [\d,]+ rows of [\d,]+ item\(s\) .* that rules leave out\. next: rankline score", back.out)
    assert int(again.out.split()[1]) > 0
    # Without a warehouse, the rules of the last `score` or `push` hold.
    nowhere = {"RANKLINE_WAREHOUSE": "clickhouse://127.0.0.1:9/", "RANKLINE_RETRIES": "0"}
    (alone,) = session(home, ("recommend", "42", "--json"), env=nowhere)
    assert "the rules are those of the snapshot" in alone.err
    assert json.loads(alone.out)["items"] == after
