"""Rules about items: what they hide, at every way to a list, and their file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support.naive_rules import may_be_recommended
from support.small_models import small_model

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.errors import ArtifactError, InputError
from pipeline.ranking.rules import Rule, Rules, RulesFile
from pipeline.ranking.scorer import Scorer

GENRES = {"horror": ("1", "4", "unknown"), "drama": ("2", "3", "4")}
times = st.none() | st.integers(0, 10)
a_rule = st.builds(
    lambda action, of, begin, end: Rule(action, *of, begin, end),
    st.sampled_from(["deny", "allow"]),
    st.integers(1, 8).map(lambda i: (str(i), "")) | st.sampled_from([("", "Horror"), ("", "drama"), ("", "none")]),
    times,
    times,
).filter(lambda rule: not rule.fault)


@given(st.lists(a_rule, max_size=5), st.integers(-1, 11), st.booleans())
def test_rules_hide_what_the_slow_twin_does(rules, at, text_ids):
    ids = [str(i) if text_ids else i for i in range(1, 7)]
    hidden = Rules(tuple(rules), GENRES).hidden(IdMap(ids), at)
    expected = [not may_be_recommended(item, rules, GENRES, at) for item in ids]
    assert (hidden.tolist() if hidden is not None else [False] * 6) == expected


def test_a_permission_that_has_ended_hides_the_item():
    """The last permission that ends must not open the whole catalogue."""
    items, rules = IdMap([1, 2, 3]), Rules((Rule("allow", "1", valid_from=5, valid_until=9),))
    assert rules.hidden(items, 4) is None, "it has not begun"
    assert rules.hidden(items, 5).tolist() == [False, True, True]
    assert rules.hidden(items, 9).all()


@pytest.mark.parametrize("typed", ["007", "x", "7.0"])
def test_an_id_that_cannot_be_one_of_the_model_is_refused(typed):
    with pytest.raises(InputError, match=rf"A rule is not for this model .*'{typed}' is text, .* integers, such as 7"):
        Rules((Rule("deny", typed),)).hidden(IdMap([7, 8]), 0)


@pytest.mark.parametrize("compiled", [True, False])
def test_no_list_holds_a_hidden_item(compiled):
    model = small_model(np.ones((2, 1)), np.array([[5, 4, 3, 2, 1]]), items=[1, 2, 3, 4, 5])
    rules = Rules((Rule("deny", "1"), Rule("deny", "4")))
    free = Scorer(model, compiled=compiled)
    scorer = free.under(rules)
    user = model.users.values[0].item()
    assert scorer.recommend(user, 9).items.tolist() == [2, 3, 5]
    assert scorer.recommend(user, 9, allow=[1, 2, 5], deny=[5]).items.tolist() == [2]
    assert scorer.recommend("999", 9, unknown="popular").items.tolist() == [2, 3, 5]
    assert scorer.recommend_from([2], k=9).items.tolist() == [3, 5]
    assert scorer.recommend_for([1.0], 9).items.tolist() == [2, 3, 5]
    assert scorer.rank(np.ones((1, 1)), 3).items.tolist() == [[1, 2, 4]]
    history = UserItems(sparse.csr_matrix([[1.0, 0, 0, 0, 0]], dtype=np.float32), IdMap([9]), model.items)
    assert scorer.for_users(history).recommend(9, 9).items.tolist() == [2, 3, 5]
    assert free.recommend(user, 9).items.tolist() == [1, 2, 3, 4, 5], "the scorer that it came from is as it was"


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        (Rule("dney", "1"), "action 'dney' is not one of deny, allow"),
        (Rule("deny"), "no item_id and no genre"),
        (Rule("deny", "1", "Horror"), "an item_id and a genre"),
        (Rule("deny", "1", valid_from=5, valid_until=5), "valid_until is not after valid_from"),
    ],
)
def test_faults_of_rules(rule, fault):
    assert fault in rule.fault


def test_the_file_is_the_same_again_and_is_read_anew_where_it_changes(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "rules.json"
    first = Rules((Rule("deny", "ü", reason="x"), Rule("allow", genre="Horror", valid_until=9)), {"horror": ("1",)})
    first.write(path)
    assert Rules.read(path) == first
    monkeypatch.setenv("RANKLINE_RULES", str(path))
    file = RulesFile.of_environment()
    assert file.rules() == first
    Rules().write(path)
    assert file.rules() == Rules()
    assert [p.name for p in path.parent.iterdir()] == ["rules.json"]
    path.unlink()
    with pytest.raises(ArtifactError, match=r"RANKLINE_RULES names .*No such file"):
        file.rules()
    monkeypatch.delenv("RANKLINE_RULES")
    assert RulesFile.of_environment() is None


@pytest.mark.parametrize("change", [{"format": 2}, {"rules": []}, {"digest": ""}, {"genres": 1}, None])
def test_a_file_that_is_no_whole_snapshot_is_refused(tmp_path, change):
    path = tmp_path / "rules.json"
    Rules((Rule("deny", "1"),)).write(path)
    path.write_text("[" if change is None else json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ArtifactError, match="no snapshot of rules"):
        Rules.read(path)


def test_the_digest_is_of_the_rules_and_the_items_of_their_genres():
    rules = (Rule("deny", genre="Horror"),)
    digests = {Rules().digest, Rules(rules).digest, Rules(rules, GENRES).digest}
    assert len(digests) == 3
    assert Rules(rules, dict(reversed(GENRES.items()))).digest in digests
