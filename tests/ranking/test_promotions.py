"""Promoted items: the lists of the slow twin, never seen or denied items, never more than the quota."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support import naive
from support.item_genres import with_genres
from support.naive_lists import limited, promoted
from support.small_models import small_model

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.errors import InputError
from pipeline.ranking.rules import Rule, Rules
from pipeline.ranking.scorer import Scorer

N_USERS, N_ITEMS = 5, 24

a_promotion = st.tuples(
    st.sampled_from(["", "spring", "new"]),
    st.integers(1, 4),
    st.sets(st.integers(0, N_ITEMS - 1), min_size=1, max_size=6),
)


@given(
    seed=st.integers(0, 10**6),
    promotions=st.lists(a_promotion, min_size=1, max_size=3, unique_by=lambda promotion: promotion[0]),
    denied=st.sets(st.integers(0, N_ITEMS - 1), max_size=5),
    most=st.none() | st.integers(1, 3),
    k=st.integers(1, 8),
    compiled=st.booleans(),
)
def test_lists_are_those_of_the_slow_twin(seed, promotions, denied, most, k, compiled):
    rng = np.random.default_rng(seed)
    w, h = rng.integers(0, 4, (N_USERS, 2)), rng.integers(-2, 5, (2, N_ITEMS))  # many ties
    model = small_model(w, h, np.argwhere(rng.random((N_USERS, N_ITEMS)) < rng.choice([0.1, 0.8])))
    genres = {row: list(rng.choice(["A", "B", "C"], rng.integers(0, 3), replace=False)) for row in range(N_ITEMS)}
    genres[0] = ["A"]
    rules = [Rule("deny", str(item)) for item in denied]
    rules += [Rule("promote", str(i), quota=quota, label=label) for label, quota, items in promotions for i in items]
    scorer = with_genres(Scorer(model, compiled=compiled), genres).under(Rules(tuple(rules)), 0).limited(most)
    top = scorer.recommend_rows(np.arange(N_USERS), k)
    sources = top.sources("nmf")
    for row in range(N_USERS):
        never = naive.seen_rows(model, row) | denied
        ranked = [(item, float(score)) for item, score in naive.top_k(model, row, N_ITEMS, never)]
        expected = promoted(
            ranked, k, sorted((label, quota, items - denied) for label, quota, items in promotions), most, genres
        )
        n = int((top.items[row] >= 0).sum())
        found = list(
            zip(top.items[row, :n].tolist(), top.scores[row, :n].tolist(), sources[row, :n].tolist(), strict=True)
        )
        assert found == [(i, s, {"-": "nmf", "": "promoted"}.get(by, f"promoted:{by}")) for i, s, by in expected]
        # What must hold whatever the twin says.
        assert not never & {item for item, _, _ in found}
        free = ranked[:k] if most is None else limited(ranked, k, most, genres)
        assert len(found) == len(free)
        own = [item for item, _, by in found if by == "nmf"]
        assert own == [item for item, _ in free if item in own], "the order of the others is unchanged"
        for label, quota, items in promotions:
            of_label = [item for item, _, by in found if by == (f"promoted:{label}" if label else "promoted")]
            assert len(of_label) <= quota
            assert set(of_label) <= items


def test_every_way_to_a_list_has_promotions_and_their_sources():
    """Items 5 and 6 are promoted; a list has one of them, the one that the user has not seen."""
    model = small_model(np.ones((2, 1)), np.array([[6, 5, 4, 3, 2, 1]]), [(1, 4)], items=[1, 2, 3, 4, 5, 6])
    rules = tuple(Rule("promote", item, label="new") for item in ("5", "6", "9"))
    scorer = Scorer(model).under(Rules(rules))
    sources = ["nmf", "promoted:new"]

    def shown(ranking):
        return ranking.items.tolist(), ranking.sources.tolist()

    assert shown(scorer.recommend(0, 2)) == ([1, 5], sources)
    assert shown(scorer.recommend(1, 2)) == ([1, 6], sources)
    assert shown(scorer.recommend(1, 2, exclude_seen=False)) == ([1, 6], sources), "what is seen is not promoted"
    assert shown(scorer.recommend(0, 2, deny=[5])) == ([1, 6], sources)
    assert shown(scorer.recommend(0, 2, allow=[1, 2, 3])) == ([1, 2], ["nmf", "nmf"])
    assert shown(scorer.recommend_from([5], k=2)) == ([1, 6], sources)
    assert shown(scorer.recommend_for([1.0], 2)) == ([1, 5], sources)
    history = UserItems(sparse.csr_matrix([[1.0, 0, 0, 0, 1.0, 0]], dtype=np.float32), IdMap([9]), model.items)
    assert shown(scorer.for_users(history).recommend(9, 2)) == ([2, 6], sources)
    stranger = scorer.recommend("999", 3, unknown="popular")
    assert shown(stranger) == ([5, 1, 2], ["popular"] * 3), "5 is the most popular by itself"
    stranger = scorer.recommend("999", 2, unknown="popular", deny=[5])
    assert shown(stranger) == ([1, 6], ["popular", "promoted:new"])
    assert shown(Scorer(model).recommend(0, 2)) == ([1, 2], ["nmf", "nmf"])
    for exclude, expected in ((True, [1, 5]), (False, [0, 5])):
        top = scorer.rank_cells(history.scores[:, :], 2, exclude_seen=exclude)
        assert top.items.tolist() == [expected]
        assert top.sources("fold_in").tolist() == [["fold_in", "promoted:new"]]


def test_rules_of_one_label_are_one_promotion_with_the_smallest_quota():
    items = IdMap([1, 2, 3, 4])
    rules = Rules(
        (
            Rule("promote", "1", quota=3, label="spring"),
            Rule("promote", genre="Drama", quota=2, label="spring", valid_from=5, valid_until=9),
            Rule("promote", "4"),
            Rule("promote", "99", label="elsewhere"),
        ),
        {"drama": ("2", "77")},
    )
    assert [(p.source, p.quota, np.flatnonzero(p.items).tolist()) for p in rules.promotions(items, 5)] == [
        ("promoted", 1, [3]),
        ("promoted:spring", 2, [0, 1]),
    ]
    assert [(p.source, p.quota) for p in rules.promotions(items, 9)] == [("promoted", 1), ("promoted:spring", 3)]
    with pytest.raises(InputError, match="A rule is not for this model"):
        Rules((Rule("promote", "x"),)).promotions(items, 0)


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        (Rule("deny", "1", label="x"), "quota and label are of promote, not of deny"),
        (Rule("allow", "1", quota=1), "quota and label are of promote, not of allow"),
        (Rule("promote", "1", quota=0), "quota 0 is not from 1 to 1000"),
        (Rule("promote", "1", label="a\nb"), "the label is not printable"),
        (Rule("promote", "1", label="x" * 61), "longer than 60 characters"),
    ],
)
def test_faults_of_promotions(rule, fault):
    assert fault in rule.fault


def test_a_snapshot_keeps_promotions_and_the_digest_of_other_rules_is_as_before(tmp_path):
    rules = Rules((Rule("deny", "1"), Rule("promote", "2", quota=2, label="spring"), Rule("promote", "3")))
    rules.write(tmp_path / "rules.json")
    assert Rules.read(tmp_path / "rules.json") == rules
    assert Rules((Rule("deny", "1"),)).digest.startswith("c75b290cc6eb")
