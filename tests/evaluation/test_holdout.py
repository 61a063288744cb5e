"""The evaluation of a run: every candidate on the same users and side, and what is written of it."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import cell_values, to_matrix
from pipeline.data.prepare import PreparedInteractions, prepare_interactions
from pipeline.data.splits import holdout, make_split
from pipeline.errors import InputError, LeakageError, SplitError
from pipeline.evaluation import evaluate as evaluate_module
from pipeline.evaluation import holdout as holdout_module
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.holdout import evaluate_holdout
from pipeline.evaluation.report.summary import side_by_side, verdict_in_words
from pipeline.evaluation.significance import Comparison, Interval, Lift, bootstrap_mean, lift_over_popular
from pipeline.evaluation.storage import write_evaluation
from pipeline.models.algorithms import item_knn as item_knn_module
from pipeline.models.factor_model import FactorModel
from pipeline.models.item_knn import fit_item_knn
from pipeline.models.popularity import popular_model, recent_model
from pipeline.models.registry import find
from pipeline.options import TrainOptions
from pipeline.ranking import scorer as scorer_module
from pipeline.ranking.scorer import Scorer
from pipeline.training.train import train

DAY = np.timedelta64(86_400_000, "ms")
QUICK = TrainOptions(max_iter=15, tol=0.0, n_components=4)
NAMES = ["nmf", "popular", "recent", "item_knn"]


def ratings(seed=0, n_users=40, n_items=25, n=400, timed=True, text=False):
    """Distinct pairs in order, with stars from 0 to 5, over a hundred days."""
    rng = np.random.default_rng(seed)
    u, i = np.divmod(rng.choice(n_users * n_items, n, replace=False), n_items)
    at = rng.integers(0, 100, n) * DAY + np.datetime64("2024-01-01", "ms") if timed else None
    users = [f"u{v:02d}" for v in u] if text else 10 + 3 * u
    return prepare_interactions(Interactions.of(users, 100 + i, rng.integers(0, 11, n) / 2, at)).interactions


def evaluated(x=None, **changed):
    return train(ratings() if x is None else x, dataclasses.replace(QUICK, **changed)).evaluation


# ---- who is evaluated, and on what -------------------------------------------------------------------


def test_each_candidate_is_what_evaluate_finds_of_it():
    x = ratings()
    evaluation = evaluated(x)
    split = holdout(x, 0.2, 42)
    side = to_matrix(split.train)
    expected = {
        "popular": evaluate(Scorer(popular_model(side), "popular"), split),
        "recent": evaluate(Scorer(recent_model(side, split.train), "recent"), split),
        "item_knn": evaluate(Scorer(fit_item_knn(side)), split),
    }
    assert list(evaluation.evaluations) == NAMES
    for name, theirs in expected.items():
        assert evaluation.evaluations[name].metrics == theirs.metrics
        assert evaluation.evaluations[name].by_segment == theirs.by_segment
    ndcg = {name: candidate.per_user["ndcg_at_10"] for name, candidate in evaluation.evaluations.items()}
    assert evaluation.lift == lift_over_popular(ndcg["nmf"], ndcg["popular"])
    assert evaluation.intervals == {name: bootstrap_mean(values) for name, values in ndcg.items()}
    assert evaluation.split.digest == split.digest == evaluation.evaluations["nmf"].split_digest
    assert evaluation.evaluations["nmf"].lists.shape == (len(evaluation.evaluations["nmf"]), 10)
    assert {evaluation.evaluations[name].lists for name in expected} == {None}


SPLITS = {
    "auto": "latest share=0.3",
    "latest": "latest share=0.3",
    "random": "random share=0.3",
    "last": "last k=2",
    "time": "time cutoff=2024-03-01T00:00:00.000",
    "users": "users share=0.3 judged=0.2",
}


@pytest.mark.parametrize("way", SPLITS)
@pytest.mark.parametrize("half_life", [None, 20.0])
def test_every_split_evaluates_every_candidate_on_the_same_users(way, half_life, monkeypatch):
    checked = []
    for name in ("check_candidate", "check_folded"):
        real = getattr(evaluate_module, name)
        monkeypatch.setattr(
            evaluate_module, name, lambda one, split, name=name, real=real: checked.append(name) or real(one, split)
        )
    options = {"last": {"split_last": 2}, "time": {"split_cutoff": "2024-03-01"}}.get(way, {})
    x = ratings()
    evaluation = evaluated(x, split=way, holdout=0.3, half_life_days=half_life, **options)
    assert evaluation.split_in_words == SPLITS[way]
    by_name = make_split("latest" if way == "auto" else way, x, share=0.3, k=2, cutoff="2024-03-01")
    assert evaluation.split.digest == by_name.digest
    assert list(evaluation.evaluations) == NAMES
    assert len({one.user_ids.tobytes() for one in evaluation.evaluations.values()}) == 1
    assert len({one.split_digest for one in evaluation.evaluations.values()}) == 1
    assert checked.count("check_candidate") == 4
    assert checked.count("check_folded") == (4 if way == "users" else 0)
    assert evaluation.report.metrics["lift_over_popular"] == evaluation.lift.lift.value
    assert ("holdout/rmse" in evaluation.report.metrics) == (half_life is None and way != "users")
    if way == "users":
        trained = set(evaluation.split.train.user_ids.values.tolist())
        assert not trained & set(evaluation.evaluations["nmf"].user_ids.tolist())


def test_without_times_nothing_is_recent_and_what_needs_times_is_refused():
    x = ratings(timed=False)
    assert list(evaluated(x).evaluations) == ["nmf", "popular", "item_knn"]
    assert list(evaluated(x, split="users").evaluations) == ["nmf", "popular", "item_knn"]
    assert evaluated(x).split.name == "random"
    for way in ("latest", "last", "time"):
        with pytest.raises(SplitError, match=f"^The split '{way}' needs times, and these interactions have none"):
            evaluated(x, split=way)
    with pytest.raises(
        InputError, match=r"^--half-life-days needs times, and these interactions have none: leave it out"
    ):
        evaluated(x, half_life_days=30.0)


def test_nothing_held_out_is_no_evaluation():
    assert evaluated(holdout=0.0) is None
    assert evaluated(holdout=0.0, split="last") is None


def test_a_model_that_saw_the_held_out_side_is_refused():
    x = ratings()
    split = holdout(x)
    whole, side = to_matrix(x), to_matrix(split.train)
    rng = np.random.default_rng(0)
    w, h = (rng.random(shape).astype(np.float32) for shape in ((len(whole.users), 2), (2, len(whole.items))))
    model = FactorModel(w, h, whole.users, whole.items, whole.scores)
    with pytest.raises(LeakageError, match=r"as seen that are not of the training side"):
        evaluate_holdout(Scorer(model), side, split)
    with pytest.raises(LeakageError, match="it knows what it is evaluated on"):
        evaluate_holdout(Scorer(FactorModel(w, h, side.users, side.items, side.scores)), whole, split)


def test_item_knn_is_left_out_where_it_is_too_much_work(monkeypatch):
    x = ratings()
    split = holdout(x)
    n = np.bincount(split.train.users)
    monkeypatch.setattr(item_knn_module, "_STEPS_A_SECOND", 1)
    n_evaluated = np.unique(split.test.users).size
    work = find("item-knn").seconds_as_baseline(to_matrix(split.train), n_evaluated)
    assert work == (n**2).sum() + 25 * (n_evaluated + 4000)
    monkeypatch.setattr(holdout_module, "BASELINE_SECONDS", work)
    assert "item_knn" in evaluated(x).evaluations
    monkeypatch.setattr(holdout_module, "BASELINE_SECONDS", work - 1)
    evaluation = evaluated(x)
    assert list(evaluation.evaluations) == ["nmf", "popular", "recent"]
    (said,) = [message for message in evaluation.messages if "item-kNN" in message]
    assert said.startswith(
        f"item-kNN is left out of the baselines: it might take {work:,.0f} s on one core, and a run gives"
    )


# ---- scores that fade -----------------------------------------------------------------------------


@pytest.mark.parametrize(("transform", "values"), [("none", [4, 3]), ("log1p", np.log1p([4, 3])), ("binary", [1, 1])])
def test_scores_fade_after_the_transform_from_the_newest_interaction(transform, values):
    at = np.datetime64("2024-01-31", "ms") - np.array([0, 20]) * DAY
    x = PreparedInteractions.of([1, 2], [1, 1], [4, 3], at)
    assert to_matrix(x, transform, half_life_days=10).scores.data == pytest.approx([values[0], values[1] / 4])
    later = cell_values(x, transform, 10, at[0] + 10 * DAY)
    assert later == pytest.approx([values[0] / 2, values[1] / 8])
    # What is newer than the newest that was fitted does not grow.
    assert cell_values(x, transform, 10, at[1]) == pytest.approx(values)
    assert cell_values(x, transform, None) == pytest.approx(values)


def test_a_score_that_faded_to_nothing_is_still_seen():
    at = np.array([0, 10**6]) * DAY + np.datetime64("1970-01-01", "ms")
    matrix = to_matrix(PreparedInteractions.of([1, 2], [1, 1], [4, 3], at), half_life_days=1)
    assert matrix.scores.data.tolist() == [0, 3]
    assert matrix.scores.nnz == 2


def test_what_is_evaluated_fades_from_its_own_newest_and_what_ships_from_the_newest_of_all(monkeypatch):
    x = ratings()
    sides = []
    real = holdout_module.evaluate_holdout
    monkeypatch.setattr(
        "pipeline.training.train.evaluate_holdout", lambda s, m, *a, **k: sides.append(m) or real(s, m, *a, **k)
    )
    trained = train(x, dataclasses.replace(QUICK, split="time", half_life_days=5.0))
    age = (x.at.max() - x.at) / DAY
    assert trained.matrix.scores.data == pytest.approx(x.scores * 0.5 ** (age / 5), rel=1e-6)
    side = trained.evaluation.split.train
    assert side.at.max() < x.at.max()
    age = (side.at.max() - side.at) / DAY
    assert sides[0].scores.data == pytest.approx(side.scores * 0.5 ** (age / 5), rel=1e-6)
    assert "holdout/rmse and holdout/mae left out: the matrix holds faded scores (--half-life-days)" in (
        trained.report.messages
    )


@pytest.mark.parametrize("transform", ["none", "log1p", "binary"])
@pytest.mark.parametrize("half_life", [None, 7.0])
def test_held_out_users_are_folded_in_by_cells_as_the_fit_had_them(transform, half_life, monkeypatch):
    x = ratings()
    split = make_split("users", x, share=0.3)
    seen = []
    real = scorer_module.with_users

    def spied(model, history, fold_in=None):
        folded = real(model, history, fold_in)
        if isinstance(folded, FactorModel):
            seen.append((folded.user_factors, history))
        return folded

    monkeypatch.setattr(scorer_module, "with_users", spied)
    evaluation = evaluated(x, split="users", holdout=0.3, transform=transform, half_life_days=half_life, max_iter=40)
    factors, history = seen[0]
    known = prepare_interactions(split.fold_in.compact()).interactions
    age = np.maximum((split.train.at.max() - known.at) / DAY, 0)
    cells = {"none": known.scores, "log1p": np.log1p(known.scores), "binary": known.scores > 0}[transform]
    cells = cells * (1 if half_life is None else 0.5 ** (age / half_life))
    side = evaluation.split.train
    spec = dataclasses.replace(QUICK, transform=transform, half_life_days=half_life, max_iter=40, holdout=0.0)
    h = train(side, spec).model.item_factors.astype(float)
    for row, user in enumerate(history.users.values):
        of_user = known.user_ids.values[known.users] == user
        items = known.item_ids.values[known.items[of_user]]
        inside = np.isin(items, side.item_ids.values)
        cols = side.item_ids.rows(items[inside])
        assert history.scores[row].indices.tolist() == cols.tolist()
        # ½·w·A·w − b·w is least: its gradient is 0 where w > 0, and not below 0 elsewhere.
        w = factors[row].astype(float)
        gradient = h @ (w @ h) - h[:, cols] @ cells[of_user][inside]
        size = 1 + np.abs(h[:, cols] @ cells[of_user][inside]).max()
        assert (np.abs(gradient[w > 0]) < 1e-3 * size).all()
        assert (gradient > -1e-3 * size).all()


# ---- in words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lift", "words"),
    [
        ((0.32, 0.2, 0.45), "yes, +32 % [20, 45]"),
        ((-0.126, -0.19, -0.07), "no, -13 % [-19, -7]"),
        ((0.012, -0.02, 0.043), "unclear, +1.2 % [-2.0, 4.3]"),
        ((0.0, 0.0, 0.0), "no, +0.0 % [0.0, 0.0]"),
    ],
)
def test_the_verdict(lift, words):
    names = ("lift_over_popular", "interval/lift_over_popular_low", "interval/lift_over_popular_high")
    assert verdict_in_words(dict(zip(names, lift, strict=True))) == "better than most popular: " + words


def test_the_verdict_without_a_lift_or_an_end():
    assert verdict_in_words({}) is None
    assert verdict_in_words({}, "yes") == "better than most popular: yes; that one finds nothing at all"
    assert verdict_in_words({"lift_over_popular": 3.0, "interval/lift_over_popular_low": 0.5}) == (
        "better than most popular: yes, +300 % [50, ∞]"
    )


def test_side_by_side_has_what_was_measured():
    assert side_by_side({"rmse": 1.0}) == []
    (old,) = side_by_side(
        {"holdout_ndcg_at_10": 0.25, "holdout_popular_ndcg_at_10": 0.125, "holdout_recall_at_10": 1.0}
    )
    assert old.columns == ("metric", "this model", "most popular")
    assert old.rows == (("holdout/ndcg_at_10", "0.2500", "0.1250"), ("holdout/recall_at_10", "1.0000", ""))
    ranking, stars = side_by_side(evaluated().report.metrics)
    assert ranking.columns == ("metric", "this model", "most popular", "recently popular", "item-kNN")
    assert [row[0] for row in ranking.rows] == [
        f"holdout/{name}_at_10" for name in ("ndcg", "recall", "hit_rate", "coverage")
    ]
    assert "[" in ranking.rows[0][1]
    assert stars.columns == ("metric", "this model", "mean of all", "user's mean", "item's mean")
    assert "empty cells" in stars.note


@pytest.mark.parametrize(
    ("mean", "better", "said"),
    [
        (0.1, "no", ["this model ranks worse than most popular on the held-out part: NDCG@10 0.1000 and 0.2000"]),
        (0.2, "no", ["this model ranks no better than most popular on the held-out part: NDCG@10 0.2000 and 0.2000"]),
        (0.1, "unclear", []),
        (0.3, "yes", []),
    ],
)
def test_a_model_that_is_not_worth_having_is_said_in_a_sentence(mean, better, said, monkeypatch):
    nothing = Interval(0.0, 0.0, 0.0)
    lift = Lift(nothing, Comparison(9, 0.2, mean, nothing, 1.0, 0.0, 0.0, 1.0), better)
    monkeypatch.setattr(holdout_module, "lift_over_popular", lambda *_, **__: lift)
    evaluation = evaluated()
    assert [message for message in evaluation.messages if "most popular" in message] == said
    assert evaluation.better_than_popular == better


# ---- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [False, True])
def test_the_table_has_a_row_for_each_evaluated_user(tmp_path, text):
    evaluation = evaluated(ratings(text=text))
    table = pq.read_table(write_evaluation(evaluation, "abc", tmp_path / "evaluation") / "per_user.parquet")
    of_model = evaluation.evaluations["nmf"]
    assert table.num_rows == len(of_model)
    assert table["user_id"].to_pylist() == of_model.user_ids.tolist()
    assert table["segment"].to_pylist() == [("cold", "warm", "hot")[code] for code in of_model.segment]
    for name in ("n_train", "n_relevant"):
        assert table[name].to_pylist() == getattr(of_model, name).tolist()
    for name, values in of_model.per_user.items():
        assert np.array_equal(table[name].to_numpy(), values, equal_nan=True), name
    for entry in NAMES[1:]:
        for name in ("ndcg_at_10", "recall_at_10"):
            assert np.array_equal(table[f"{entry}_{name}"].to_numpy(), evaluation.evaluations[entry].per_user[name])
    ids = evaluation.split.train.item_ids
    for row, listed in zip(table["items"].to_pylist(), of_model.lists, strict=True):
        assert row == ids.ids(listed[listed >= 0]).tolist()
    assert any(len(row) < 10 for row in table["items"].to_pylist()) == bool((of_model.lists < 0).any())


def test_a_list_without_ten_items_is_short_and_whose_it_is_stays_right(tmp_path):
    x = ratings(n_users=30, n_items=14, n=250)
    evaluation = evaluated(x)
    assert (evaluation.evaluations["nmf"].lists < 0).any()
    table = pq.read_table(write_evaluation(evaluation, "abc", tmp_path) / "per_user.parquet")
    train_side = evaluation.split.train
    for user, listed in zip(table["user_id"].to_pylist(), table["items"].to_pylist(), strict=True):
        had = train_side.item_ids.values[train_side.items[train_side.user_ids.values[train_side.users] == user]]
        assert not set(had.tolist()) & set(listed)
        assert len(listed) == len(set(listed)) == min(10, len(train_side.item_ids) - had.size)


def test_the_summary_says_what_the_run_logs(tmp_path):
    result = evaluated()
    summary = json.loads((write_evaluation(result, "abc", tmp_path) / "summary.json").read_text())
    assert summary["split"] == {
        "name": "latest",
        "params": {"share": 0.2, "seed": 42},
        "digest": result.split.digest,
    }
    assert summary["data_digest"] == "abc"
    assert list(summary["candidates"]) == NAMES
    metrics = result.report.metrics
    assert summary["candidates"]["nmf"]["ndcg_at_10"] == metrics["holdout/ndcg_at_10"]
    assert summary["candidates"]["popular"]["gini_at_10"] == result.evaluations["popular"].metrics["gini_at_10"]
    assert summary["intervals"]["nmf"]["ndcg_at_10"] == [
        metrics[name] for name in ("holdout/ndcg_at_10", "interval/ndcg_at_10_low", "interval/ndcg_at_10_high")
    ]
    assert summary["lift_over_popular"] == [
        metrics["lift_over_popular"],
        *(metrics[f"interval/lift_over_popular_{end}"] for end in ("low", "high")),
    ]
    assert summary["better_than_popular"] == result.lift.better_than_popular
    for name in NAMES:
        for segment, values in result.evaluations[name].by_segment.items():
            in_summary = summary["segments"][name][segment]
            assert in_summary == values
    for name in ("ndcg_at_10", "recall_at_10", "coverage_at_10"):
        assert summary["segments"]["nmf"]["cold"][name] == metrics[f"segment/cold/{name}"]
    errors = {name: value for name, value in metrics.items() if re.search(r"(rmse|mae)(_head|_mid|_tail)?$", name)}
    assert {"holdout/rmse", "segment/cold/rmse", "segment/hot/mae", "band/head/mae"} <= errors.keys()
    assert summary["ratings"].items() >= errors.items()
    detail = summary["ratings"].keys() - errors.keys()
    assert {"baseline/user-mean/segment/cold/rmse", "baseline/user-mean/band/head/mae"} <= detail
    assert detail == result.averages.keys()


def test_no_evaluated_user_and_no_lift_can_be_written_too(tmp_path):
    nobody = evaluated(Interactions.of(np.arange(150), np.arange(150) % 7))
    assert (nobody.lift, nobody.intervals, nobody.better_than_popular) == (None, {}, None)
    folder = write_evaluation(nobody, "abc", tmp_path / "nobody")
    table = pq.read_table(folder / "per_user.parquet")
    assert table.num_rows == 0
    assert {"user_id", "ndcg_at_10", "popular_ndcg_at_10", "items"} <= set(table.column_names)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["lift_over_popular"], summary["better_than_popular"]) == (None, None)
    evaluation = evaluated()
    endless = dataclasses.replace(evaluation.lift, lift=Interval(2.0, 0.5, math.inf))
    summary = write_evaluation(dataclasses.replace(evaluation, lift=endless), "abc", tmp_path) / "summary.json"
    assert json.loads(summary.read_text())["lift_over_popular"] == [2.0, 0.5, None]
    assert "interval/lift_over_popular_high" not in dataclasses.replace(evaluation, lift=endless).report.metrics
