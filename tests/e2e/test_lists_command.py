"""Limits and promotions as a person uses them: the commands, the published rows, and what is said."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
from support.processes import Home

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow

TABLE = "analytics.recommendations"


def run(home: Home, *command: str, status: int = 0) -> tuple[str, str]:
    done = home.rankline(*command)
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def test_a_limit_on_genres_and_promotions(trained_copy: Home) -> None:
    home = trained_copy
    own = json.loads(run(home, "recommend", "42", "--json")[0])
    assert set(own["sources"]) == {"nmf"}
    few = json.loads(run(home, "recommend", "42", "--max-per-genre", "2", "--json")[0])
    ids = ", ".join(map(str, few["items"]))
    genres = home.sql(f"SELECT genres FROM raw.movies WHERE movie_id IN ({ids})")
    assert max(Counter(genre for line in genres for genre in line.split("|")).values()) == 2
    assert len(few["items"]) >= 5
    # Three that the user's list does not have, one of them denied.
    others = home.sql(
        f"SELECT movie_id FROM raw.movies WHERE movie_id NOT IN (SELECT item_id FROM {TABLE} WHERE user_id = 42) AND "
        "movie_id NOT IN (SELECT movie_id FROM analytics.mart_user_movie_matrix WHERE user_id = 42) AND "
        "movie_id IN (SELECT movie_id FROM analytics.mart_user_movie_matrix) ORDER BY movie_id LIMIT 3"
    )
    rules = home.folder / "rules.csv"
    lines = [f"promote,{item},2,spring" for item in others] + [f"deny,{others[0]},,"]
    rules.write_text("action,item_id,quota,label\n" + "\n".join(lines) + "\n")
    pushed, _ = run(home, "rules", "push", str(rules))
    assert re.search(rf"promote\s+item {others[1]}\s+1\s+2\s+spring", pushed)
    shown, _ = run(home, "recommend", "42")
    assert shown.count("promoted:spring") == 2
    promoted = json.loads(run(home, "recommend", "42", "--json")[0])
    assert promoted["items"][:8] == own["items"][:8]
    assert sorted(map(str, promoted["items"][8:])) == sorted(others[1:])
    assert promoted["sources"] == ["nmf"] * 8 + ["promoted:spring"] * 2
    out, err = run(home, "score", "--max-per-genre", "4")
    assert re.search(r"[\d,]+ of the rows are of promoted items; their source says so", out)
    assert "item(s) are promoted:spring, at most 2 of them in a list" in err
    most = home.sql(
        f"SELECT max(n) FROM (SELECT user_id, genre, count() AS n FROM {TABLE} AS r JOIN raw.movies AS m ON "
        "m.movie_id = r.item_id ARRAY JOIN splitByChar('|', m.genres) AS genre WHERE genre NOT IN ('', "
        "'(no genres listed)') GROUP BY user_id, genre)"
    )
    assert most == ["4"]
    sources = home.sql(
        f"SELECT source, max(n) FROM (SELECT user_id, source, count() AS n FROM {TABLE} GROUP BY ALL) "
        "GROUP BY source ORDER BY source"
    )
    assert [line.split("\t")[0] for line in sources] == ["nmf", "promoted:spring"]
    assert sources[1].split("\t")[1] == "2"
    (note,) = home.sql("SELECT note FROM analytics.publications WHERE action = 'published' ORDER BY at DESC LIMIT 1")
    assert re.fullmatch(r"rules \w{12}; at most 4 of a genre; promoted:spring at most 2", note)
    user, item = home.sql(f"SELECT user_id, item_id FROM {TABLE} WHERE source LIKE 'promoted%' LIMIT 1")[0].split("\t")
    why, _ = run(home, "why", user, item)
    assert "promoted:spring" in why
