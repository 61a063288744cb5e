"""`evaluate`: every metric of every user and on average, against the twins that know only ids."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import naive, naive_metrics

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import PreparedInteractions, prepare_interactions
from pipeline.data.splits import Split, holdout, time_split, users_split
from pipeline.errors import LeakageError, UsageError
from pipeline.evaluation import evaluate as evaluate_module
from pipeline.evaluation import per_user as measured
from pipeline.evaluation.evaluate import evaluate, evaluate_ranking, fold_in_history
from pipeline.evaluation.metric_names import holdout_name
from pipeline.evaluation.metrics import SEGMENTS
from pipeline.evaluation.rating_errors import AVERAGES
from pipeline.models.factor_model import FactorModel
from pipeline.models.popularity import popular_model
from pipeline.ranking.scorer import Scorer

tables = st.dictionaries(
    st.tuples(st.integers(0, 7), st.integers(0, 13)),
    st.tuples(st.sampled_from([0.0, 0.5, 3.0, 5.0]), st.integers(0, 9)),
    min_size=2,
    max_size=60,
)
lengths = st.sampled_from([(1,), (3,), (10,), (2, 5), (1, 4, 20)])


def interactions(table):
    users, items = zip(*table, strict=True)
    at = np.array([t for _, t in table.values()], "datetime64[ms]")
    return prepare_interactions(Interactions.of(users, items, [s for s, _ in table.values()], at)).interactions


def scorer_for(train, seed=0, k=3):
    """Random factors over the training side, ties among them."""
    matrix = to_matrix(train)
    rng = np.random.default_rng(seed)
    w, h = (rng.integers(0, 3, shape).astype(np.float32) for shape in ((len(matrix.users), k), (k, len(matrix.items))))
    return Scorer(FactorModel(w, h, matrix.users, matrix.items, matrix.scores))


def lists_of(scorer, split, k):
    """{user id: ranked item ids}, by the twin, of the evaluated users."""
    model, result = scorer.model, {}
    users, items = model.users.values.tolist(), model.items.values.tolist()
    for user in naive_metrics.by_user(naive_metrics.pairs(split.test)):
        if user in users:
            row = users.index(user)
            listed = naive.top_k(model, row, k, naive.seen_rows(model, row))
            result[user] = [items[item] for item, _ in listed]
    return result


def check(evaluation, scorer, split, ks):
    train = list(naive_metrics.pairs(split.train))
    known = train if split.fold_in is None else list(naive_metrics.pairs(split.fold_in))
    test = list(naive_metrics.pairs(split.test))
    lists = lists_of(scorer, split, max(ks))
    catalogue = split.train.item_ids.values.tolist()
    n_users = len(split.train.user_ids)
    per_user = naive_metrics.evaluation(lists, train, test, ks, catalogue, n_users)
    had = naive_metrics.by_user(known)
    if known is not train:
        count = {item: sum(i == item for _, i in train) for item in catalogue}
        per_user["consumed_popularity"] = [
            sum(count.get(i, 0) for i in had[user]) / len(had[user]) for user in sorted(lists)
        ]
    assert evaluation.user_ids.tolist() == sorted(lists)
    assert set(evaluation.per_user) == set(per_user) or not lists
    for name, values in per_user.items():
        of_model = [None if math.isnan(v) else v for v in evaluation.per_user[name]]
        assert of_model == [None if v is None else pytest.approx(v, rel=1e-9, abs=1e-6) for v in values], name
    everybody = range(len(lists))
    expected = naive_metrics.averages(per_user, lists, ks, catalogue, train, everybody)
    assert dict(evaluation.metrics) == (pytest.approx(expected, rel=1e-9, abs=1e-6) if lists else {})
    n_train = [len(had[user]) for user in sorted(lists)]
    assert evaluation.n_train.tolist() == n_train
    held_out = naive_metrics.by_user(test)
    assert evaluation.n_relevant.tolist() == [len(held_out[user]) for user in sorted(lists)]
    if not lists:
        assert evaluation.by_segment == {}
        return
    segments = naive_metrics.segments(n_train)
    assert [SEGMENTS[code] for code in evaluation.segment] == segments
    assert set(evaluation.by_segment) == set(segments)
    for name, values in evaluation.by_segment.items():
        chosen = [position for position in everybody if segments[position] == name]
        expected = naive_metrics.averages(per_user, lists, ks, catalogue, train, chosen)
        assert dict(values) == pytest.approx(expected, rel=1e-9, abs=1e-6)


@given(tables, st.sampled_from([0.2, 0.5, 0.8]), st.integers(0, 99), lengths)
def test_everything_is_the_twins(table, share, seed, ks):
    split = holdout(interactions(table), share, seed)
    scorer = scorer_for(split.train, seed)
    evaluation = evaluate(scorer, split, ks)
    check(evaluation, scorer, split, ks)
    assert evaluation.ks == ks
    assert evaluation.lists is None
    assert evaluation.split_digest == split.digest


@given(tables, st.sampled_from([0.2, 0.5, 0.8]), st.integers(0, 99), lengths)
def test_with_new_users_and_new_items_too(table, share, seed, ks):
    x = interactions(table)
    if len(set(x.at.tolist())) < 2 or (x.at == x.at.min()).mean() > 1 - share:
        return
    split = time_split(x, share)
    scorer = scorer_for(split.train, seed)
    evaluation = evaluate(scorer, split, ks)
    check(evaluation, scorer, split, ks)
    train, test = naive_metrics.pairs(split.train), naive_metrics.pairs(split.test)
    new = {u for u, _ in test} - {u for u, _ in train}
    unseen = [i for u, i in test if u not in new and i not in {i for _, i in train}]
    said = " ".join(evaluation.messages)
    assert (f"{len(new)} users with" in said) == bool(new)
    assert (f"{len(unseen)} held-out interactions are of items that training has not seen" in said) == bool(unseen)


def fold_by_counting(train):
    """A fold-in for a model with one factor an item: the user's factors are what they have had."""

    def fold_in(history):
        h = np.arange(1, len(history.items) + 1, dtype=np.float32)[None, :]
        w = np.asarray(history.scores.sum(axis=1), np.float32) + 1
        return Scorer(FactorModel(w, h, history.users, history.items, history.scores))

    return fold_in


@given(tables, st.integers(0, 9), lengths)
def test_users_who_are_folded_in(table, seed, ks):
    x = interactions(table)
    count = np.bincount(x.users)
    if len(count) < 2 or count.max() < 2:
        return
    split = users_split(x, 0.4, 0.4, seed)
    base, fold_in = scorer_for(split.train), fold_by_counting(split.train)
    history = fold_in_history(split, base)
    cells = {(u, i): s for (u, i), s in naive_metrics.pairs(split.fold_in).items() if i in base.items.values}
    coo = history.scores.tocoo()
    ids = zip(history.users.ids(coo.row).tolist(), history.items.ids(coo.col).tolist(), strict=True)
    assert dict(zip(ids, coo.data.tolist(), strict=True)) == cells
    assert set(history.users.values.tolist()) == {u for u, _ in naive_metrics.pairs(split.fold_in)}
    evaluation = evaluate(base, split, ks, fold_in=fold_in)
    check(evaluation, fold_in(history), split, ks)


def test_a_split_by_users_needs_a_fold_in_that_keeps_to_it():
    x = interactions({(u, i): (1.0, i) for u in range(4) for i in range(5)})
    split = users_split(x, 0.25)
    base = scorer_for(split.train)
    with pytest.raises(UsageError, match="must be folded in"):
        evaluate(base, split)
    with pytest.raises(LeakageError, match="knows 3 user"):
        evaluate(base, split, fold_in=lambda history: base)
    with pytest.raises(UsageError, match="no whole users"):
        fold_in_history(holdout(x), base)


def test_a_model_of_both_sides_is_not_evaluated():
    x = interactions({(u, i): (1.0, (i - u) % 6) for u in range(4) for i in range(6)})
    split = holdout(x)
    for measure in (evaluate, evaluate_ranking):
        with pytest.raises(LeakageError, match="held out"):
            measure(scorer_for(x), split)


@given(tables, st.integers(1, 5))
def test_blocks_of_any_size_give_the_same(table, block):
    split = holdout(interactions(table), 0.5)
    scorer = scorer_for(split.train)
    whole = evaluate(scorer, split, (2, 4), keep_lists=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate_module, "_USERS_A_BLOCK", block)
        patch.setattr(measured, "_USERS_A_CHUNK", block)
        calls = []
        parts = evaluate(
            scorer, split, (2, 4), keep_lists=True, progress=lambda stage, done, total: calls.append((done, total))
        )
    assert parts.metrics == whole.metrics
    assert parts.lists.tobytes() == whole.lists.tobytes()
    for name, values in whole.per_user.items():
        assert values.tobytes() == parts.per_user[name].tobytes()
    n = len(whole)
    assert calls == [(min(start + block, n), n) for start in range(0, n, block)]


def test_several_lengths_are_each_as_alone():
    x = interactions({(u, i): (1.0, (3 * i - u) % 7) for u in range(8) for i in range(14) if (u * i) % 3})
    split = holdout(x, 0.4)
    scorer = scorer_for(split.train, 3)
    both = evaluate(scorer, split, (5, 2, 5))
    for k in (2, 5):
        alone = evaluate(scorer, split, (k,)).metrics
        assert {name: both.metrics[name] for name in alone} == pytest.approx(alone, rel=1e-12)
    report = evaluate_ranking(scorer, split, 5, part="")
    assert {name: both.metrics[name] for name in report.metrics} == report.metrics


def test_kept_lists_are_rows_of_the_training_items():
    """Also where the candidate was trained on fewer items."""
    train = PreparedInteractions.of([1, 1, 2, 2, 3], [10, 20, 20, 30, 40])
    fewer = train.take(np.array([True, True, True, False, True])).compact()
    split = Split(train, PreparedInteractions.of([1, 2], [40, 40]))
    evaluation = evaluate(Scorer(popular_model(to_matrix(fewer))), split, (3,), keep_lists=True)
    assert evaluation.lists.tolist() == [[3, -1, -1], [0, 3, -1]]
    assert evaluation.per_user["mrr_at_3"].tolist() == [1.0, 0.5]


def test_what_is_reported_and_what_is_written_down():
    x = interactions({(u, i): (1.0, (i - u) % 9) for u in range(6) for i in range(9) if i < 3 + u})
    evaluation = evaluate(scorer_for(holdout(x).train), holdout(x), (2,))
    report = evaluation.report("x", by_segment=["ndcg_at_2", "no_such"])
    assert report.metrics["x/ndcg_at_2"] == evaluation.metrics["ndcg_at_2"]
    assert report.metrics["x/band/head/recall_at_2"] == evaluation.metrics["recall_at_2_head"]
    assert report.metrics["x/segment/cold/ndcg_at_2"] == evaluation.by_segment["cold"]["ndcg_at_2"]
    assert all(math.isfinite(value) for value in report.metrics.values())
    assert list(evaluation.report("x").metrics.values()) == list(evaluation.metrics.values())
    assert set(report.metrics) == {
        *evaluation.report("x").metrics, *(f"x/segment/{segment}/ndcg_at_2" for segment in evaluation.by_segment),
    }  # fmt: skip
    columns = evaluation.columns()
    assert list(columns)[:4] == ["user_id", "n_train", "n_relevant", "segment"]
    assert {len(column) for column in columns.values()} == {len(evaluation)} == {6}
    low, high = evaluation.cuts
    assert low < high
    assert columns["segment"].tolist() == [
        "cold" if n <= low else "warm" if n <= high else "hot" for n in evaluation.n_train.tolist()
    ]


def test_every_metric_is_explained():
    page = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()
    x = interactions({(u, i): (1.0, (i - u) % 9) for u in range(6) for i in range(9)})
    evaluation = evaluate(scorer_for(holdout(x).train), holdout(x), (2,))
    for name in evaluation.metrics:
        general = re.sub(r"_(head|mid|tail)$", "_head", name.replace("_at_2", "_at_k"))
        assert f"`{general}`" in page, name
    for name in (
        *(name for name in SEGMENTS),
        *(f"`{holdout_name('rmse', baseline=name)}`" for name in AVERAGES),
    ):
        assert name in page


def test_no_user_to_evaluate():
    train = PreparedInteractions.of([1, 2], [1, 2])
    for test in (PreparedInteractions.of([], []), PreparedInteractions.of([9], [1])):
        evaluation = evaluate(Scorer(popular_model(to_matrix(train))), Split(train, test), (3,))
        assert (len(evaluation), dict(evaluation.metrics), dict(evaluation.by_segment)) == (0, {}, {})
        assert evaluation.messages[-1] == "ranking metrics left out: no known user has a held-out interaction"


@pytest.mark.parametrize("ks", [(), (0,), (-1, 5)])
def test_k_below_1_is_refused(ks):
    train = PreparedInteractions.of([1, 2], [1, 2])
    with pytest.raises(UsageError, match="k must be at least 1"):
        evaluate(Scorer(popular_model(to_matrix(train))), Split(train, PreparedInteractions.of([1], [2])), ks)
