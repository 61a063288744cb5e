"""Rules about items in the warehouse: read, pushed, and held by the check of the rows."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.sources.warehouse import init
from pipeline.errors import BadRowsError, CheckFailedError, InputError, MissingColumnsError, RanklineError
from pipeline.options.names import Names
from pipeline.publishing.batch_scoring import score_all
from pipeline.publishing.checks import PublishLimits
from pipeline.publishing.recommendations_table import PUBLISHED, RecommendationsTable
from pipeline.publishing.rules import HiddenRows, hidden_rows, known_items, push_rules, read_rules
from pipeline.publishing.rules_file import read_rules_file
from pipeline.ranking.rules import Rule, Rules
from pipeline.ranking.scorer import Scorer

pytest_plugins = ["support.warehouse_fixtures"]

HORROR = Rule("deny", genre="HORROR", valid_from=1_000, valid_until=2_000_000_000_000, reason="night only")


def test_a_warehouse_without_the_table_has_no_rules(warehouse):
    assert read_rules(warehouse) == Rules()
    assert known_items(warehouse) is None


def test_rules_are_read_as_they_were_pushed(warehouse):
    init(warehouse)
    movies = {"movie_id": [1, 2, 3], "title": ["a", "b", "c"], "genres": ["Horror|Drama", "Drama", "horror"]}
    warehouse.insert("raw.movies", pa.table(movies))
    push_rules(warehouse, [("", Rule("deny", "2")), ("shop", Rule("deny", "3")), ("", HORROR)])
    push_rules(warehouse, [("", Rule("deny", "2"))])
    rules = read_rules(warehouse)
    assert rules.rules == (HORROR, Rule("deny", "2")), "each once"
    assert {name: sorted(items) for name, items in rules.genres.items()} == {"horror": ["1", "3"]}
    assert Rule("deny", "3") in read_rules(warehouse, Names("shop")).rules
    assert known_items(warehouse).values.tolist() == [1, 2, 3]
    push_rules(warehouse, [("", Rule("allow", "1"))], replace=True)
    assert read_rules(warehouse).rules == (Rule("allow", "1"),)
    push_rules(warehouse, [], replace=True)
    assert read_rules(warehouse) == Rules()


def test_a_rule_that_is_misspelt_in_the_table_is_refused(embedded):
    push_rules(embedded, [])
    embedded.command("INSERT INTO analytics.rules (action, item_id) VALUES ('dney', '7')")
    with pytest.raises(InputError, match=r"1 rule\(s\) that can't be read \(item '7': action 'dney' is not one of"):
        read_rules(embedded)


def test_rules_by_genre_need_the_movies(embedded):
    push_rules(embedded, [("", HORROR)])
    with pytest.raises(InputError, match=r"rules by genre, and the genres are in raw\.movies"):
        read_rules(embedded)


def staged(warehouse, model, rules: Rules, run: str) -> RecommendationsTable:
    table = RecommendationsTable(warehouse, model.users.kind, model.items.kind, "3", run)
    score_all(Scorer(model).under(rules), table, 6)
    return table


@pytest.mark.parametrize("text_ids", [False, True])
def test_a_set_with_an_item_that_a_rule_hides_is_refused(warehouse, make_model, rng, text_ids):
    """Pushed while the batch ran; the next batch has the item no more, and needs no training."""
    model = make_model(rng, 30, 12, density=0.2, text_ids=text_ids)
    item = model.items.values[3].item()
    table = staged(warehouse, model, Rules(), "run-a")
    push_rules(warehouse, [("", Rule("deny", str(item)))])
    with pytest.raises(CheckFailedError, match=rf"check rules \(1 found: item_id={item} n_rows=\d+\)"):
        table.publish(model, PublishLimits(6, accept_changes=True))
    assert warehouse.engine(PUBLISHED) is None
    rules = read_rules(warehouse)
    # With so few items, the lists of many are as short as the rule makes them.
    table = staged(warehouse, model, rules, "run-b")
    assert table.publish(model, PublishLimits(6)).action == "published"
    where = {"item": str(item)}
    count = f"SELECT count() AS n FROM {PUBLISHED} WHERE toString(item_id) = {{item:String}}"
    assert warehouse.rows(count, where)[0]["n"] == 0
    (note,) = warehouse.rows("SELECT note FROM analytics.publications WHERE action = 'published'")
    assert note["note"] == f"rules {rules.digest[:12]}"


def test_lists_that_a_rule_makes_short_are_due_no_more(embedded, make_model, rng):
    model = make_model(rng, 30, 12, density=0.3)
    push_rules(embedded, [("", Rule("deny", str(item))) for item in model.items.values[:7].tolist()])
    table = staged(embedded, model, read_rules(embedded), "run-a")
    assert table.publish(model, PublishLimits(6)).action == "published"
    table = staged(embedded, model, read_rules(embedded), "run-b")
    embedded.command(f"ALTER TABLE analytics.{table.staged} DELETE WHERE rank > 1 SETTINGS mutations_sync = 2")
    table.n_rows = embedded.rows(f"SELECT count() AS n FROM analytics.{table.staged}")[0]["n"]
    with pytest.raises(CheckFailedError, match="list_length"):
        table.publish(model, PublishLimits(6, accept_changes=True))


@pytest.mark.parametrize("text_ids", [False, True])
def test_rows_of_a_set_that_rules_hide_are_counted(embedded, make_model, rng, text_ids):
    model = make_model(rng, 30, 12, density=0.2, text_ids=text_ids)
    table = staged(embedded, model, Rules(), "run-a")
    lists = Scorer(model).recommend_rows(range(30), 6).items
    count = {item: int((lists == item).sum()) for item in (2, 5)}
    first, second = sorted(count, key=lambda item: (-count[item], item))
    denied = tuple(Rule("deny", str(model.items.values[item])) for item in (2, 5))
    found = hidden_rows(embedded, table.staged, Rules((*denied, Rule("deny", "999"))), 0)
    assert found == HiddenRows(sum(count.values()), tuple(str(model.items.values[item]) for item in (first, second)))
    for rules in (Rules(), Rules((Rule("deny", "999"),)), Rules((Rule("deny", denied[0].item_id, valid_from=9),))):
        assert hidden_rows(embedded, table.staged, rules, 0) == HiddenRows()


# ---- the file -------------------------------------------------------------------------------------


def written(folder: Path, text: str) -> Path:
    path = folder / "rules.csv"
    path.write_bytes(text.encode())
    return path


def test_a_file_of_rules(tmp_path):
    path = written(
        tmp_path,
        "\ufeffAction,item_id,genre,valid_from,valid_until,reason,model\r\n"
        'deny,42,,,2026-12-31,"licence, ended",\r\n'
        "ALLOW,,Horror,2026-01-01T02:00+02:00,,,shop\r\n",
    )
    assert read_rules_file(path) == [
        (2, "", Rule("deny", "42", "", None, 1798675200000, "licence, ended")),
        (3, "shop", Rule("allow", "", "Horror", 1767225600000)),
    ]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("dney,1,,,", "action 'dney' is not one of deny, allow"),
        ("deny,,,,", "no item_id and no genre"),
        ("deny,1,Horror,,", "an item_id and a genre"),
        ("deny,1,,31.12.2026,", "valid_from is no time such as 2026-12-31 .*got '31.12.2026'"),
        ("deny,1,,,9999-01-01", "valid_until is not within 1970 and 2199"),
        ("deny,1,,2026-02-01,2026-01-01", "valid_until is not after valid_from"),
        ("deny,1,,,,,", "more cells than columns"),
    ],
)
def test_bad_rows_are_named_and_nothing_is_read(tmp_path, row, says):
    path = written(tmp_path, f"action,item_id,genre,valid_from,valid_until\ndeny,7,,,\n{row}\n")
    with pytest.raises(BadRowsError, match=rf"1 of 2 rules in .* line 3 \(.*{says}.*Nothing was loaded"):
        read_rules_file(path)


def test_columns_of_a_file(tmp_path):
    with pytest.raises(MissingColumnsError, match="item_id"):
        read_rules_file(written(tmp_path, "action,item\ndeny,1\n"))
    with pytest.raises(MissingColumnsError, match=r"found: \[\]\)\. A file of rules begins with .* item_id, ") as empty:
        read_rules_file(written(tmp_path, ""))
    assert "--user-column" not in str(empty.value)
    with pytest.raises(InputError, match=r"columns that rules don't have: \['valid_till'\]"):
        read_rules_file(written(tmp_path, "action,item_id,valid_till\ndeny,1,2026-01-01\n"))
    with pytest.raises(InputError, match="can't be read"):
        read_rules_file(tmp_path / "none.csv")


def blocks(kind: str) -> list[str]:
    page = (Path(__file__).resolve().parents[2] / "docs" / "rules.md").read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def test_the_blocks_of_the_page(embedded, tmp_path):
    init(embedded)
    (table, promoting), (statement,) = blocks("csv"), blocks("sql")
    rules = read_rules_file(written(tmp_path, table))
    assert [(rule.item_id, rule.genre) for _, _, rule in rules] == [("2571", ""), ("318", ""), ("", "Horror")]
    push_rules(embedded, [(model, rule) for _, model, rule in rules])
    embedded.command(statement)
    assert set(read_rules(embedded).rules) == {rule for _, _, rule in rules}, "the last is there twice, and counts once"
    spring, _, documentary = (rule for _, _, rule in read_rules_file(written(tmp_path, promoting)))
    assert (spring.quota, spring.label, documentary.quota, documentary.genre) == (2, "spring", 1, "Documentary")


@given(st.binary(max_size=80) | st.text(max_size=60).map(lambda text: f"action,item_id\n{text}".encode()))
def test_any_file_gives_rules_or_an_error_of_ours(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    rules = []
    with suppress(RanklineError):
        rules = read_rules_file(path)
    assert not any(rule.fault for _, _, rule in rules)
