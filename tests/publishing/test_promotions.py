"""Promotions in the warehouse: rules with a quota and a label, rows that say so, and the check of them."""

from __future__ import annotations

import pytest

from pipeline.errors import BadRowsError, CheckFailedError
from pipeline.publishing.batch_scoring import score_all
from pipeline.publishing.checks import PublishLimits
from pipeline.publishing.recommendations_table import PUBLISHED, RecommendationsTable
from pipeline.publishing.rules import push_rules, read_rules
from pipeline.publishing.rules_file import read_rules_file
from pipeline.ranking.rules import Rule, Rules
from pipeline.ranking.scorer import Scorer
from pipeline.warehouse.sql import Sql

pytest_plugins = ["support.warehouse_fixtures"]

K = 4
# One user whom the model does not know, and who has seen the first item.
STRANGER = Sql("SELECT 999 AS user_id, 5 AS item_id, 1 AS score", "mine.sql")


def test_a_file_of_promotions(tmp_path):
    path = tmp_path / "rules.csv"
    path.write_text("action,item_id,genre,quota,label\npromote,7,,2,spring\npromote,,Drama,,\n")
    assert [rule for _, _, rule in read_rules_file(path)] == [
        Rule("promote", "7", quota=2, label="spring"),
        Rule("promote", genre="Drama"),
    ]
    path.write_text("action,item_id,quota,label\npromote,7,2.5,\npromote,7,0,\ndeny,7,,x\n")
    with pytest.raises(BadRowsError, match=r"quota must be a whole number.*got '2\.5'.*quota 0 is not.*are of promote"):
        read_rules_file(path)


def test_a_table_of_before_there_were_promotions_is_read_and_gets_the_columns(embedded):
    push_rules(embedded, [("", Rule("deny", "7"))])
    embedded.command("ALTER TABLE analytics.rules DROP COLUMN quota, DROP COLUMN label")
    assert read_rules(embedded).rules == (Rule("deny", "7"),)
    push_rules(embedded, [("", Rule("promote", "8", quota=3, label="spring")), ("", Rule("promote", "8"))])
    assert read_rules(embedded).rules == (
        Rule("deny", "7"),
        Rule("promote", "8"),
        Rule("promote", "8", quota=3, label="spring"),
    )


@pytest.fixture
def model(make_model, rng):
    return make_model(rng, 20, 16, density=0.2)


def staged(warehouse, model, rules: Rules, run: str) -> tuple[RecommendationsTable, PublishLimits]:
    scorer = Scorer(model).under(rules)
    table = RecommendationsTable(warehouse, "int", "int", "3", run)
    score_all(scorer, table, K, seen_now=table.seen_now(STRANGER), unknown_popular=True)
    return table, PublishLimits(K, strangers=True, promotions=scorer.promotions)


def promoting(model) -> Rules:
    ids = model.items.values.tolist()
    spring = tuple(Rule("promote", str(item), quota=2, label="spring") for item in ids[1:6])
    return Rules((Rule("deny", str(ids[1])), *spring, Rule("promote", str(ids[7]))))


def test_rows_say_that_they_are_promoted(embedded, model):
    push_rules(embedded, [("", rule) for rule in promoting(model).rules])
    rules = read_rules(embedded)
    table, limits = staged(embedded, model, rules, "run-a")
    assert table.publish(model, limits).action == "published"
    rows = embedded.rows(
        f"SELECT source, max(n) AS most, any(user_id) FROM (SELECT user_id, source, count() AS n FROM {PUBLISHED} "
        "GROUP BY user_id, source) GROUP BY source ORDER BY source"
    )
    assert {row["source"]: row["most"] for row in rows if row["source"].startswith("promoted")} == {
        "promoted": 1,
        "promoted:spring": 2,
    }
    strangers = embedded.rows(f"SELECT DISTINCT source FROM {PUBLISHED} WHERE user_id = 999 ORDER BY source")
    assert "popular" in [row["source"] for row in strangers]
    (note,) = embedded.rows("SELECT note FROM analytics.publications WHERE action = 'published'")
    assert note["note"] == f"rules {rules.digest[:12]}; promoted at most 1, promoted:spring at most 2"


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ("'promoted:spring' AS source", "promotions"),
        ("'promoted:other' AS source", "sources"),
    ],
)
def test_a_row_that_is_not_promoted_must_not_say_so(embedded, model, change, check):
    embedded.command("CREATE DATABASE IF NOT EXISTS own")
    table, limits = staged(embedded, model, promoting(model), "run-a")
    name = f"analytics.{table.staged}"
    where = "user_id = 107 AND rank = 1"
    embedded.command(
        f"CREATE TABLE own.spoiled ENGINE = Memory AS SELECT * REPLACE ({change}) FROM {name} WHERE {where}"
    )
    embedded.command(f"ALTER TABLE {name} DELETE WHERE {where} SETTINGS mutations_sync = 2")
    embedded.command(f"INSERT INTO {name} SELECT * FROM own.spoiled")
    with pytest.raises(CheckFailedError, match=f"check {check} "):
        table.publish(model, limits)


def test_more_promoted_items_than_the_quota_are_refused(embedded, model):
    table, limits = staged(embedded, model, promoting(model), "run-a")
    fewer = Rules(tuple(Rule(r.action, r.item_id, quota=1, label="spring") for r in promoting(model).rules if r.label))
    promotions = Scorer(model).under(fewer).promotions
    with pytest.raises(
        CheckFailedError, match=r"promotions \(\d+ found: user_id=\d+ promoted_by=promoted:spring n_items=2"
    ):
        table.publish(model, PublishLimits(K, strangers=True, promotions=(*limits.promotions[:1], *promotions)))
