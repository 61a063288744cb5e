"""Each check before publishing: a right table passes, and a row that is wrong in its way is caught by it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from pipeline.data.matrix import UserItems
from pipeline.errors import CheckFailedError
from pipeline.models.factor_model import FactorModel
from pipeline.models.item_knn import fit_item_knn
from pipeline.models.popularity_model import PopularityModel
from pipeline.publishing import published_tables
from pipeline.publishing.batch_scoring import score_all
from pipeline.publishing.checks import COMPARING, OF_THE_ROWS, OF_THE_SET, PublishLimits
from pipeline.publishing.lock import publish_lock
from pipeline.publishing.recommendations_table import PREVIOUS, PUBLISHED, Recommendations, RecommendationsTable
from pipeline.ranking.scorer import Scorer
from pipeline.warehouse.sql import Sql, load_all

pytest_plugins = ["support.warehouse_fixtures"]

K = 6


def seen_query(text_ids: bool) -> Sql:
    """Ten items each of 33 users, three of whom the model does not know."""
    user, item = "100 + 7 * (number % 33)", "5 + 3 * intDiv(number, 33)"
    if text_ids:
        user, item = (f"concat('{c}', leftPad(toString({e}), 7, '0'))" for c, e in (("u", user), ("i", item)))
    return Sql(f"SELECT {user} AS user_id, {item} AS item_id, 1 AS score FROM numbers(33 * 10)", "mine.sql")


def scored(warehouse, model, run_id="run-a", popular=True, seen=True, k=K) -> RecommendationsTable:
    """A staged table with every right row, not yet published."""
    scorer = Scorer(model)
    table = RecommendationsTable(
        warehouse, scorer.users.kind, scorer.items.kind, "3", run_id, source_name="chdb:///shop"
    )
    now = table.seen_now(seen_query(model.users.kind == "str")) if seen else ()
    score_all(scorer, table, k, seen_now=now, unknown_popular=popular)
    return table


def limits(**changed) -> PublishLimits:
    return PublishLimits(**{"k": K, "strangers": True, "max_fallback": 0.5, **changed})


@pytest.mark.parametrize("text_ids", [False, True])
@pytest.mark.parametrize(("popular", "seen"), [(True, True), (False, True), (False, False)])
def test_right_tables_pass(warehouse, make_model, rng, text_ids, popular, seen):
    model = make_model(rng, density=0.3, text_ids=text_ids)
    for run in ("run-a", "run-b"):
        outcome = scored(warehouse, model, run, popular, seen).publish(model, limits(strangers=popular))
        assert (outcome.action, outcome.accepted) == ("published", ())
        assert bool(outcome.notes) == (run == "run-a"), "the first has none to compare with, and says so"
    assert published_tables.head(warehouse, "recommendations").run_id == "run-b"


def test_users_with_few_or_no_unseen_items_pass(embedded, make_model, rng):
    model = make_model(rng, 30, 12, density=0.3)
    seen = model.seen.toarray()
    seen[0] = 1
    seen[1, :-2] = 1
    model = replace(model, seen=sparse.csr_matrix(seen))
    table = scored(embedded, model, k=10)
    assert table.publish(model, limits(k=10)).action == "published"


DELETE = "ALTER TABLE {t} DELETE WHERE {where} SETTINGS mutations_sync = 2"
FIRST = "user_id = 107 AND rank = 2"
# How to spoil the right rows, and the checks that see it.
SPOILED = {
    "another run": (FIRST, "'other' AS run_id", {"lineage"}),
    "another version": (FIRST, "'4' AS model_version", {"lineage"}),
    "another time": (FIRST, "generated_at + toIntervalMillisecond(1) AS generated_at", {"lineage"}),
    "a rank is missing": ("user_id = 107 AND rank = 6", "toUInt16(8) AS rank", {"lists"}, "ranks"),
    "ranks from 0": ("user_id = 107 AND rank = 1", "toUInt16(0) AS rank", {"lists"}, "ranks"),
    "a score is NaN": (FIRST, "toFloat32(nan) AS score", {"lists"}, "scores"),
    "a score is infinite": ("user_id = 107 AND rank = 1", "toFloat32(inf) AS score", {"lists"}, "scores"),
    "scores rise": ("user_id = 107 AND rank = 1", "toFloat32(-1) AS score", {"lists"}, "scores"),
    "an item twice": (
        FIRST,
        "(SELECT item_id FROM {t} WHERE user_id = 107 AND rank = 1) AS item_id",
        {"lists"},
        "items",
    ),
    "an unknown user": ("user_id = 107", "toInt64(999) AS user_id", {"known_users", "list_length"}),
    "popular for nobody": (
        "user_id = 107",
        "toInt64(999) AS user_id, 'popular' AS source",
        {"known_users", "list_length"},
    ),
    "an unknown item": (FIRST, "toInt64(7) AS item_id", {"known_items"}),
    "a list is missing": ("user_id = 107", None, {"list_length"}),
    "a stranger's list is missing": ("user_id = 317", None, {"list_length"}),
    "a list is short": ("user_id = 107 AND rank = 6", None, {"list_length"}),
    "all is popular": ("1", "'popular' AS source", {"sources"}),
    "one list is another model's": ("user_id = 107", "'item-knn' AS source", {"sources"}),
}


def spoil(warehouse, table: RecommendationsTable, where: str, what: str | None) -> None:
    """Rewrite the rows, and tell the table how many there are: the count is checked elsewhere."""
    name = f"analytics.{table.staged}"
    if what is not None:
        rows = f"SELECT * REPLACE ({what}) FROM (SELECT * FROM {name} WHERE {where})"
        warehouse.command(f"CREATE TABLE own.spoiled ENGINE = Memory AS {rows}")
    warehouse.command(DELETE.format(t=name, where=where))
    if what is not None:
        warehouse.command(f"INSERT INTO {name} SELECT * FROM own.spoiled")
    table.n_rows = warehouse.rows(f"SELECT count() AS n FROM {name}")[0]["n"]


@pytest.mark.parametrize("case", SPOILED)
def test_each_wrong_row_is_caught_by_its_check(embedded, make_model, rng, case):
    where, what, expected, *wrong = SPOILED[case]
    embedded.command("CREATE DATABASE IF NOT EXISTS own")
    model = make_model(rng, density=0.2)
    scored(embedded, model, "run-0").publish(model, limits())
    table = scored(embedded, model)
    spoil(embedded, table, where, what and what.format(t=f"analytics.{table.staged}"))
    with pytest.raises(
        CheckFailedError, match=f"the rows fail the check .*analytics.{table.staged} for a day"
    ) as error:
        table.publish(model, limits())
    assert error.value.check in expected
    assert error.value.exit_status == 3
    assert all(f"wrong=['{word}']" in str(error.value) for word in wrong)
    table.discard()
    # Nothing is published, and the staged table is kept for a look.
    assert published_tables.head(embedded, "recommendations").run_id == "run-0"
    assert embedded.engine(f"analytics.{table.staged}") is not None
    scored(embedded, model, "run-1").publish(model, limits())
    assert embedded.engine(f"analytics.{table.staged}") is not None, "it is young"
    refused = embedded.rows("SELECT staged, note FROM analytics.publications WHERE action = 'refused'")
    assert [row["staged"] for row in refused] == [table.staged]
    assert set(re.findall(r"(\w+) \(\d", refused[0]["note"])) == expected


def popularity_model(model: FactorModel) -> PopularityModel:
    """What is popular among the model's users, as a model that is registered and published like any other."""
    count = np.bincount(model.seen.indices, minlength=len(model.items)).astype(np.float32)
    return PopularityModel(count, model.users, model.items, model.seen, {"model": "popular"})


@pytest.mark.parametrize("strangers", [True, False])
def test_a_popularity_model_is_published(warehouse, make_model, rng, strangers):
    """All rows say popular, and none of the model's own is a fallback."""
    model = popularity_model(make_model(rng, density=0.2))
    table = scored(warehouse, model, popular=strangers)
    share = f"SELECT countIf(source = 'popular') AS n, count() AS n_rows FROM analytics.{table.staged}"
    rows = warehouse.rows(share)[0]
    assert rows["n"] == rows["n_rows"] > 0
    assert table.publish(model, limits(strangers=strangers, max_fallback=0.2)).action == "published"
    users = {row["user_id"] for row in warehouse.rows(f"SELECT DISTINCT user_id FROM {PUBLISHED}")}
    assert set(model.users.values.tolist()) <= users
    assert (len(users) > len(model.users)) == strangers


def test_an_item_item_model_is_published(embedded, make_model, rng):
    base = make_model(rng, density=0.2)
    model = fit_item_knn(UserItems(base.seen, base.users, base.items))
    assert scored(embedded, model).publish(model, limits()).action == "published"
    sources = embedded.rows(f"SELECT source, uniqExact(user_id) AS n FROM {PUBLISHED} GROUP BY source ORDER BY source")
    assert [(row["source"], row["n"]) for row in sources] == [("item-knn", 30), ("popular", 3)]


@pytest.mark.parametrize("kind", ["factors", "popularity"])
def test_a_fallback_is_of_a_user_who_is_not_in_the_model(embedded, make_model, rng, kind):
    """31 of the warehouse's 33 users are not in the model: 31 of 33 lists stand in, whatever the model's rows say."""
    model = make_model(rng, 2, density=0.2)
    if kind == "popularity":
        model = popularity_model(model)
    with pytest.raises(
        CheckFailedError, match=r"check fallback_share \(1 found: n_fallback=186 n_rows=198 share=0.93"
    ) as e:
        scored(embedded, model).publish(model, limits())
    assert "--accept-changes yes" in str(e.value)
    assert scored(embedded, model, "run-b").publish(model, limits(max_fallback=0.95)).action == "published"


@pytest.mark.parametrize("text_ids", [False, True])
@pytest.mark.parametrize("by", ["artifact", "warehouse"])
def test_a_seen_item_is_caught(warehouse, make_model, rng, by, text_ids):
    """One row in the place of another, right in every other way: score and rank stay."""
    model = make_model(rng, density=0.2, text_ids=text_ids)
    table = scored(warehouse, model)
    user = model.users.values[4]
    if by == "artifact":
        seen_now = set(range(10))
        col = next(c for c in model.seen[4].indices.tolist() if c not in seen_now)
    else:
        col = next(c for c in range(10) if c not in model.seen[4].indices.tolist())
    item = model.items.values[col]
    warehouse.command("CREATE DATABASE IF NOT EXISTS own")
    kind = "String" if text_ids else "Int64"
    where = f"user_id = '{user}' AND rank = 3"
    spoil(warehouse, table, where, f"CAST('{item}', '{kind}') AS item_id")
    with pytest.raises(CheckFailedError, match=rf"check seen \(1 found: user_id={user} item_id={item} seen_by={by}\)"):
        table.publish(model, limits())
    assert warehouse.engine(PUBLISHED) is None


def test_what_is_seen_meanwhile_is_no_fault(embedded, make_model, rng):
    """Scoring and the checks look at the same: an interaction that comes in between is for the next batch."""
    embedded.command("CREATE DATABASE IF NOT EXISTS own")
    embedded.command("CREATE TABLE own.x (user_id Int64, item_id Int64, score Float32) ORDER BY user_id")
    model = make_model(rng, density=0.2)
    table = RecommendationsTable(embedded, "int", "int", "3", "run-a")
    query = Sql("SELECT * FROM own.x", "x.sql")
    score_all(Scorer(model), table, K, seen_now=table.seen_now(query))
    embedded.command(f"INSERT INTO own.x SELECT user_id, item_id, 1 FROM analytics.{table.staged}")
    assert table.publish(model, limits(strangers=False)).action == "published"
    after = RecommendationsTable(embedded, "int", "int", "3", "run-b")
    score_all(Scorer(model), after, K, seen_now=after.seen_now(query))
    assert after.publish(model, limits(strangers=False)).action == "published"
    both = f"SELECT count() AS n FROM {PUBLISHED} AS a JOIN {PREVIOUS} AS b USING (user_id, item_id)"
    assert embedded.rows(both)[0]["n"] == 0


def users_of(first: int, n: int, k: int = 1) -> Recommendations:
    ids = np.repeat(np.arange(first, first + n), k)
    ranks = np.tile(np.arange(1, k + 1), n).astype(np.uint16)
    return Recommendations(ids, ranks, ids * 100 + ranks, (1 / ranks).astype(np.float32), np.full(n * k, "nmf"))


def put(warehouse, run: str, block: Recommendations, **changed):
    table = RecommendationsTable(warehouse, "int", "int", "3", run)
    table.write(block)
    return table.publish(None, PublishLimits(**{"k": 10, **changed}))


def test_users_lost_are_counted_not_users_there(embedded):
    put(embedded, "run-a", users_of(0, 100))
    assert put(embedded, "run-b", users_of(20, 100)).action == "published", "a fifth may go"
    with pytest.raises(
        CheckFailedError, match=r"check coverage \(1 found: n_before=100 n_lost=21 share=0.21\)"
    ) as error:
        put(embedded, "run-c", users_of(41, 100))
    assert "--accept-changes yes" in str(error.value)
    assert put(embedded, "run-d", users_of(41, 100), max_coverage_drop=0.21).accepted == ()
    outcome = put(embedded, "run-e", users_of(500, 1), accept_changes=True)
    assert outcome.action == "published"
    assert [check.split()[0] for check in outcome.accepted] == ["coverage", "row_count"]
    (row,) = embedded.rows("SELECT note FROM analytics.publications WHERE note LIKE 'accepted%'")
    assert "coverage" in row["note"]


def test_rows_lost_are_counted_and_a_smaller_k_is_no_loss(embedded):
    put(embedded, "run-a", users_of(0, 50, k=10))
    with pytest.raises(CheckFailedError, match="check row_count"):
        put(embedded, "run-b", users_of(0, 50, k=5))
    assert put(embedded, "run-c", users_of(0, 50, k=5), k=5).action == "published"


def test_wrong_rows_are_never_accepted(embedded):
    put(embedded, "run-a", users_of(0, 5))
    block = users_of(0, 5)
    block.scores[3] = np.nan
    with pytest.raises(CheckFailedError, match="check lists"):
        put(embedded, "run-b", block, accept_changes=True)


def test_an_old_batch_does_not_replace_a_newer_one(embedded):
    old = RecommendationsTable(embedded, "int", "int", "3", "run-old")
    old.write(users_of(0, 5))
    put(embedded, "run-new", users_of(0, 6))
    with pytest.raises(CheckFailedError, match="check newer"):
        old.publish(None, PublishLimits(k=10))


def test_every_check_has_a_file_and_is_run():
    folder = Path(published_tables.sql.__file__).resolve().parents[2] / "sql" / "checks"
    names = sorted(path.stem for path in folder.glob("*.sql"))
    assert names == sorted(OF_THE_ROWS + OF_THE_SET + COMPARING)
    for path in folder.glob("*.sql"):
        text = path.read_text()
        assert text.startswith("-- Purpose: ")
        assert "-- Grain: " in text
        for name in set(re.findall(r"\{(\w+):", text)):
            assert re.search(rf"--.*\b{name}\b", text), (path.name, name)
    assert load_all("checks") == []


def of_source(warehouse, run: str, source: str, **changed):
    table = RecommendationsTable(warehouse, "int", "int", "3", run, source_name=source)
    table.write(users_of(0, 5))
    return table.publish(None, PublishLimits(**{"k": 10, **changed}))


def test_a_model_of_another_source_is_refused(warehouse):
    assert not of_source(warehouse, "run-a", "chdb:///shop").notes[1:], "nothing is published that it could be of"
    assert of_source(warehouse, "run-b", "chdb:///shop").notes == ()
    with pytest.raises(
        CheckFailedError, match=r"check other_source .*published=chdb:///shop this=file:///new"
    ) as error:
        of_source(warehouse, "run-c", "file:///new")
    assert error.value.exit_status == 3
    assert published_tables.head(warehouse, "recommendations").run_id == "run-b"
    accepted = of_source(warehouse, "run-d", "file:///new", accept_changes=True).accepted
    assert [sentence.split()[0] for sentence in accepted] == ["other_source"]
    (row,) = warehouse.rows("SELECT note, source_name FROM analytics.publications WHERE note LIKE 'accepted%'")
    assert "other_source" in row["note"]
    assert row["source_name"] == "file:///new"
    assert of_source(warehouse, "run-e", "file:///new").notes == (), "it is the published source now"


def test_the_source_is_that_of_the_set_that_is_published_after_a_rollback(warehouse):
    of_source(warehouse, "run-a", "chdb:///shop")
    of_source(warehouse, "run-b", "file:///new", accept_changes=True)
    with publish_lock(warehouse, "rolling back") as lock:
        published_tables.roll_back(warehouse, 5, lock)
    with pytest.raises(CheckFailedError, match="other_source"):
        of_source(warehouse, "run-c", "file:///new")
    assert of_source(warehouse, "run-d", "chdb:///shop").notes == ()


def test_a_set_or_a_model_without_a_source_passes_and_it_is_said(warehouse):
    """As of an older version, whose log has no such column either."""
    of_source(warehouse, "run-a", "")
    warehouse.command("ALTER TABLE analytics.publications DROP COLUMN source_name")
    (note,) = of_source(warehouse, "run-b", "file:///new").notes
    assert "source of the published set is not known" in note
    (note,) = of_source(warehouse, "run-c", "").notes
    assert "source of this model is not known" in note
    (note,) = of_source(warehouse, "run-d", "file:///new").notes
    assert "the published set" in note
