"""New interactions on their way: logged, trained on, left out of lists, forgotten, as the commands do it."""

from __future__ import annotations

import json

import pytest
from support.processes import Home

from pipeline.interaction_log import Interaction, InteractionLog

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow

# Twenty users and thirty movies, and a query that knows nothing of what is new.
OLD = """INSERT INTO raw.ratings SELECT number % 20 AS user_id, intDiv(number * 7, 20) % 30 AS movie_id,
    1 + number % 5 AS rating, toDateTime64('2020-01-01', 3, 'UTC') + number AS rated_at FROM numbers(240)"""
QUERY = "SELECT user_id, movie_id AS item_id, rating AS score FROM raw.ratings WHERE rated_at < '2021-01-01'"
LISTS = "SELECT user_id, groupArray(item_id) AS items FROM analytics.recommendations GROUP BY user_id ORDER BY user_id"


def lists(text: str) -> dict[int, list[int]]:
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    return {int(user): json.loads(items) for user, items in rows}


@pytest.mark.takes(15)
def test_the_way_of_a_new_interaction(home: Home) -> None:
    path = home.folder / "live" / "interactions.db"
    (home.folder / "old.sql").write_text(QUERY)
    train = ["train", "--max-iter", "5", "--holdout", "0"]
    made = home.many(["init"], ["sql", OLD], ["ship"], train, ["score"], ["sql", LISTS])
    assert [status for status, _, _ in made] == [0] * 6, made
    assert "nothing to ship" in made[2][1]
    assert "ship" not in made[3][2] + made[4][2], "without a log nothing is said"
    assert not path.parent.exists(), "or made"
    best = {user: items[0] for user, items in lists(made[5][1]).items()}

    with InteractionLog.open(path) as log:
        log.append([Interaction(user, item, 5.0) for user, item in best.items()])
        log.append([Interaction(100, 1), Interaction(101, 2)])
        log_id = log.log_id
    # A query that has none of it: what the log holds is left out all the same.
    done = home.many(["score", "--query", "old.sql"], ["sql", LISTS], ["ship", "--json"], train)
    assert [status for status, _, _ in done] == [0] * 4, done
    assert "shipped 22 new interaction(s) from" in done[0][2]
    assert not [user for user, items in lists(done[1][1]).items() if best[user] in items]
    assert json.loads(done[2][1]) == {
        "log": str(path), "address": f"chdb://{home.folder / 'data' / 'warehouse'}", "shipped": 0, "ratings": 0,
        "watched": 0, "shipments": 0, "forgotten": 0, "last_seq": 22, "pending": 0,
    } | {"address": json.loads(done[2][1])["address"]}  # fmt: skip
    runs = sorted(home.runs(), key=lambda run: run.info.start_time)
    assert [run.data.tags.get("data_watermark") for run in runs] == [None, json.dumps({log_id: 22})]
    client = home.client()
    metadata = [
        json.loads(open(client.download_artifacts(run.info.run_id, "metadata.json")).read())  # noqa: SIM115, PTH123
        for run in runs
    ]
    assert [facts["data_watermark"] for facts in metadata] == [{}, {log_id: 22}]
    assert metadata[1]["n_users"] == metadata[0]["n_users"] + 2

    # The warehouse is away: the log has forgotten the user all the same, and the command says what is left to do.
    with InteractionLog.open(path) as log:
        log.append([Interaction(100, 3)])
    gone = home.many(["forget", "100", "--yes"], RANKLINE_WAREHOUSE="clickhouse://127.0.0.1:9", RANKLINE_RETRIES="0")
    assert gone[0][0] == 4
    assert "The interaction log holds nothing of the user any more" in gone[0][2]
    done = home.many(
        ["forget", "100", "--yes"],
        ["forget", "101", "--dry-run"],
        ["forget", "4711", "--yes"],
        ["sql", "SELECT uniqExact(user_id) AS n FROM raw.watched_movies"],
        ["forget", "100", "--lift"],
    )
    assert [status for status, _, _ in done] == [0, 0, 3, 0, 0], done
    assert "the interaction log: 1 interaction(s) and preferences to delete" in done[1][1]
    assert done[3][1].split() == ["n", "1"]
    with InteractionLog.open(path) as log:
        assert (log.of_user(100), len(log.of_user(101))) == ([], 1)
        assert not log.is_forgotten(100)
        assert not log.is_forgotten(4711), "a misspelt id is nobody"
