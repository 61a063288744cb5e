"""Training: what ships is fitted on everything, what is measured describes it, and nothing is measured on nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import warnings

import numpy as np
import pytest
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from support import naive, naive_metrics
from support.made_up_ratings import (
    AVERAGES,
    BANDS,
    EVALUATED,
    FITTED,
    POPULAR,
    QUICK,
    RANKING,
    RATINGS,
    Calls,
    ratings,
)

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import prepare_interactions
from pipeline.data.splits import holdout
from pipeline.models import nmf
from pipeline.models.factor_model import FactorModel
from pipeline.models.objective import Objective
from pipeline.models.popularity import popular_model
from pipeline.models.starts import half_normal_rows
from pipeline.options import TrainOptions
from pipeline.ranking.scorer import Scorer
from pipeline.training.stages import Stages
from pipeline.training.train import train

PARTS = {
    *(f"segment/{segment}/{error}" for segment in ("cold", "warm", "hot") for error in ("rmse", "mae")),
    *(f"band/{band}/{error}" for band in BANDS for error in ("rmse", "mae")),
}


def shuffled(x, seed=1):
    return x.take(np.random.default_rng(seed).permutation(len(x)))


def theirs(matrix, spec, k):
    """The factors by the estimators alone."""
    estimator = {"fast": nmf.NMF, "sklearn": NMF}[spec.solver](**spec.estimator_params(k))
    if spec.solver == "fast":
        seed = spec.random_state

        def by_id(n):
            users = half_normal_rows(matrix.users, n, seed, "users")
            return users, half_normal_rows(matrix.items, n, seed, "items").T

        estimator.drawing(by_id)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        W = estimator.fit_transform(matrix.scores)
    return FactorModel(
        np.ascontiguousarray(W),
        np.ascontiguousarray(estimator.components_),
        matrix.users,
        matrix.items,
        matrix.scores,
    )


def factors(trained):
    return trained.model.user_factors.tobytes(), trained.model.item_factors.tobytes()


# ---- what ships ---------------------------------------------------------------------------------


VARIANTS = [
    {},
    {"init": "nndsvda", "transform": "log1p"},
    {"alpha_W": 0.01, "alpha_H": 0.003, "l1_ratio": 0.5},
    {"alpha_H": 0.01, "random_state": 7},
    {"transform": "binary", "tol": 0.02, "max_iter": 100},
    {"n_components": "auto", "min_interactions": 10},
    {"solver": "sklearn"},
    {"solver": "sklearn", "alpha_W": 0.01, "alpha_H": 0.003, "l1_ratio": 0.5},
    {"solver": "sklearn", "init": "nndsvda", "transform": "log1p", "tol": 0.02},
]


@pytest.mark.parametrize("changed", VARIANTS, ids=str)
def test_the_factors_are_the_estimators_of_everything(changed):
    x, spec = ratings(), dataclasses.replace(QUICK, **changed)
    trained = train(x, spec)
    whole = prepare_interactions(x).interactions
    if spec.min_interactions:
        count = np.bincount(whole.users)
        whole = whole.take(count[whole.users] >= spec.min_interactions).compact()
        assert len(whole.user_ids) < len(x.user_ids)
    expected = theirs(to_matrix(whole, spec.transform), spec, trained.model.n_components)
    assert factors(trained) == (expected.user_factors.tobytes(), expected.item_factors.tobytes())
    assert (trained.model.users, trained.model.items) == (expected.users, expected.items)
    # Seen is everything, what was held out and what has a score of zero too.
    assert trained.model.seen.nnz == len(whole)
    assert (trained.model.seen != expected.seen).nnz == 0
    assert trained.matrix.scores is trained.model.seen


def test_the_holdout_does_not_touch_what_ships():
    x = ratings()
    shipped = {factors(train(x, dataclasses.replace(QUICK, holdout=share))) for share in (0.0, 0.2, 0.9)}
    assert len(shipped) == 1


@pytest.mark.parametrize("timed", [True, False])
def test_the_same_data_and_seed_give_the_same_bytes_in_any_order(timed):
    x = ratings(timed=timed)
    first, other = train(x, QUICK), train(shuffled(x), QUICK)
    assert factors(first) == factors(other)
    assert first.report == other.report
    assert first.data_digest == other.data_digest
    assert first.losses.tobytes() == other.losses.tobytes()
    assert factors(first) != factors(train(x, dataclasses.replace(QUICK, random_state=43)))


def test_the_digest_is_of_all_that_was_read():
    x = ratings()
    digest = train(x, QUICK).data_digest
    assert digest == train(x, dataclasses.replace(QUICK, min_interactions=10, transform="log1p", holdout=0)).data_digest
    assert len(digest) == len(hashlib.sha256().hexdigest())
    scores = x.scores.copy()
    scores[17] += 0.5
    assert digest != train(dataclasses.replace(x, scores=scores), QUICK).data_digest


def test_duplicates_become_one_as_asked():
    rng = np.random.default_rng(3)
    x = Interactions.of(rng.integers(0, 12, 200), rng.integers(0, 9, 200), rng.integers(1, 11, 200) / 2)
    rows = [(u, i, s, None) for u, i, s in zip(x.users, x.items, x.scores, strict=True)]
    for how in ("last", "sum", "max", "mean"):
        trained = train(x, dataclasses.replace(QUICK, duplicates=how, min_data=50))
        *_, data = naive.csr(naive.aggregate(rows, how))
        assert trained.matrix.scores.data.tolist() == data
        assert trained.facts["n_interactions"] == len(data) < 200


# ---- metrics --------------------------------------------------------------------------------------


@pytest.mark.parametrize("changed", VARIANTS, ids=str)
def test_the_metrics_describe_the_factors_that_are_saved(changed, tmp_path):
    trained = train(ratings(), dataclasses.replace(QUICK, **changed))
    saved = FactorModel.load(trained.model.save(tmp_path / "model"))
    coo = trained.matrix.scores.tocoo()
    cells = dict(zip(zip(coo.row.tolist(), coo.col.tolist(), strict=True), coo.data.tolist(), strict=True))
    expected = naive.errors(cells, saved.user_factors, saved.item_factors) | {"n_iter": trained.losses.size}
    assert {name: trained.report.metrics[name] for name in FITTED} == pytest.approx(expected, rel=1e-9)
    assert saved.meta["metrics"] == trained.report.metrics
    last, saved_loss = trained.losses[-1], trained.report.metrics["reconstruction_error"]
    if trained.spec.solver == "sklearn":
        assert last == pytest.approx(saved_loss, rel=1e-5)
    else:  # which goes on to solve W, and counts the penalties
        assert saved_loss <= last * (1 + 1e-5)


@pytest.mark.parametrize("changed", VARIANTS, ids=str)
def test_the_holdout_metrics_are_those_of_a_model_that_saw_the_training_side_alone(changed):
    x, spec = ratings(), dataclasses.replace(QUICK, holdout=0.3, **changed)
    trained = train(x, spec)
    whole = prepare_interactions(x).interactions
    if spec.min_interactions:
        whole = whole.take(np.bincount(whole.users)[whole.users] >= spec.min_interactions).compact()
    split = holdout(whole, 0.3, spec.random_state)
    side = to_matrix(split.train, spec.transform)
    model = theirs(side, spec, trained.model.n_components)
    train_pairs, test_pairs = naive_metrics.pairs(split.train), naive_metrics.pairs(split.test)
    expected = dict(zip(sorted(RANKING), naive_metrics.ranking(model, train_pairs, test_pairs), strict=True))
    popular = naive_metrics.ranking(popular_model(side), train_pairs, test_pairs, popular=True)
    expected |= dict(zip(sorted(POPULAR), popular, strict=True))
    if spec.transform != "binary":
        by_hand = naive_metrics.ratings(model, train_pairs, test_pairs, spec.transform == "log1p")
        expected |= dict(zip(("holdout/rmse", "holdout/mae"), by_hand, strict=True))
    measured = {name: trained.report.metrics[name] for name in expected}
    assert measured == pytest.approx(expected, rel=1e-9)
    assert (set(trained.report.metrics) >= RATINGS) == (spec.transform != "binary")


def test_the_names_of_the_metrics():
    report = train(ratings(), QUICK).report
    assert set(report.metrics) == FITTED | RATINGS | PARTS | AVERAGES | EVALUATED
    assert RANKING | POPULAR < EVALUATED
    assert all(type(value) is float and math.isfinite(value) for value in report.metrics.values())


def test_both_baseline_and_model_are_ranked_by_the_scorer(monkeypatch):
    asked = []

    def nothing(self, rows, k=10, **options):
        asked.append(self.source)
        top = real(self, rows, k, **options)
        top.items[:] = -1
        return top

    real = Scorer.recommend_rows
    monkeypatch.setattr(Scorer, "recommend_rows", nothing)
    metrics = train(ratings(), QUICK).report.metrics
    assert asked == ["nmf", "popular", "recent", "item-knn"]
    assert {metrics[name] for name in RANKING | POPULAR} == {0.0}


def test_the_withheld_diagonal_is_found(checkerboard):
    """Each user's latest interaction is the diagonal: the one right answer, which popularity can't know."""
    rows, n = checkerboard.interactions, checkerboard.n
    users = np.append(rows.user_ids.ids(rows.users), 10 * np.arange(n))
    items = np.append(rows.item_ids.ids(rows.items), checkerboard.matrix.items.values)
    at = np.append(np.zeros(len(rows), int), np.ones(n, int)).astype("datetime64[ms]")
    trained = train(Interactions.of(users, items, None, at), TrainOptions(n_components=2, holdout=0.1))
    metrics = trained.report.metrics
    assert {metrics[name] for name in RANKING} == {1.0}
    assert metrics["baseline/popular/ndcg_at_10"] < 0.7
    assert metrics["observed_rmse"] == pytest.approx(0.0, abs=1e-3)


# ---- meta, messages, progress ---------------------------------------------------------------------------


def test_the_meta_that_is_saved_with_the_model():
    spec = dataclasses.replace(QUICK, n_components="auto")
    trained = train(ratings(), spec)
    meta = json.loads(json.dumps(trained.model.meta))
    assert set(meta) == {"algorithm", "model", "parameters", "metrics", "data_digest", "objective"}
    assert Objective.from_json(meta["objective"]).plain
    assert (meta["algorithm"], meta["model"]) == ("NMF", "nmf")
    assert meta["parameters"] == {**dataclasses.asdict(spec), "n_components_used": 10}
    assert meta["metrics"] == trained.report.metrics
    assert meta["data_digest"] == trained.data_digest
    assert trained.spec == spec


def test_a_fit_that_stops_early_says_so_in_a_sentence_and_not_as_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        short = train(ratings(), TrainOptions(max_iter=7, tol=1e-4))
        done = train(ratings(), TrainOptions(max_iter=500, tol=0.05))
    assert short.report.messages == (
        "the fit stopped at max_iter = 7 before tol = 0.0001 was reached: "
        "more iterations may lower the loss a little (--max-iter)",
    )
    assert done.report.messages == ()
    assert short.report.metrics["n_iter"] == 7.0
    assert 1 < done.report.metrics["n_iter"] < 500


@pytest.mark.parametrize(
    "how", [{}, {"solver": "sklearn"}, {"unobserved_weight": 0.1}, {"unobserved_weight": 0.0, "biases": "yes"}], ids=str
)
def test_an_interrupted_fit_is_kept_where_asked(how):
    spec = dataclasses.replace(QUICK, **how, on_interrupt="keep", max_iter=50)
    trained = train(ratings(), spec, Calls(interrupt_at=("fit", 6)))
    assert trained.fitted.interrupted
    assert "the fit was interrupted after 6 iteration(s), and is used as it was by then" in trained.report.messages
    assert not any("stopped at max_iter" in message for message in trained.report.messages)
    assert trained.report.metrics["n_iter"] == 6
    dense, model = trained.matrix.scores.toarray().astype(float), trained.model
    error = np.linalg.norm(dense - model.user_factors.astype(float) @ model.item_factors)
    assert trained.report.metrics["reconstruction_error"] == pytest.approx(error)
    if spec.plain:
        assert error <= trained.losses[5] * (1 + 1e-5)
    evaluated = train(ratings(), spec, Calls(interrupt_at=("holdout fit", 2)))
    assert not evaluated.fitted.interrupted
    assert evaluated.report.messages[0].startswith("the holdout's fit was interrupted after 2 iteration(s)")
    assert set(evaluated.report.metrics) >= RATINGS | RANKING


def test_threads_change_nothing():
    assert len({factors(train(ratings(), dataclasses.replace(QUICK, threads=n))) for n in (None, 1, 3)}) == 1


def test_progress_is_told_stage_by_stage():
    calls = Calls()
    trained = train(ratings(), QUICK, calls)
    stages = list(dict.fromkeys(call[0] for call in calls))
    assert stages == ["matrix", "holdout fit", "holdout evaluation", "fit", "measure"]
    for stage in ("holdout fit", "fit"):
        assert [call[1:3] for call in calls if call[0] == stage] == [(n, 15) for n in range(16)]
    notes = [note for stage, done, _, note in calls if stage == "fit" and done]
    assert notes == [f"loss {loss:.6g}" for loss in trained.losses]
    for stage in ("matrix", "measure"):
        assert [call[1:] for call in calls if call[0] == stage] == [(0, None, "")]
    evaluated = [call[1:] for call in calls if call[0] == "holdout evaluation"]
    assert evaluated == [(0, None, name) for name in ("nmf", "popular", "recent", "item-knn")]


def test_without_a_holdout_there_is_one_fit():
    calls = Calls()
    trained = train(ratings(), dataclasses.replace(QUICK, holdout=0.0), calls)
    assert list(dict.fromkeys(call[0] for call in calls)) == ["matrix", "fit", "measure"]
    assert set(trained.seconds) == {"matrix", "fit", "measure"}


@pytest.mark.parametrize(
    "at", [("matrix", 0), ("holdout fit", 3), ("holdout evaluation", 0), ("fit", 3), ("measure", 0)]
)
def test_an_interrupt_goes_through(at):
    calls = Calls(interrupt_at=at)
    with pytest.raises(KeyboardInterrupt):
        train(ratings(), QUICK, calls)
    assert calls[-1][:2] == at


def test_seconds_by_stage():
    trained = train(ratings(), QUICK)
    assert set(trained.seconds) == {"matrix", "holdout", "evaluate", "fit", "measure"}
    assert all(value >= 0 for value in trained.seconds.values())
    stages = Stages()
    for _ in range(2):
        with pytest.raises(KeyError), stages("one"):
            raise KeyError
        first = stages.seconds.get("one")
    assert list(stages.seconds) == ["one"]
    assert stages.seconds["one"] >= first >= 0


def test_whichever_solver_fitted_it_is_a_scikit_learn_estimator():
    trained = train(ratings(), QUICK)
    estimator = trained.estimator()
    assert type(estimator) is NMF
    assert estimator.components_ is trained.model.item_factors
    assert estimator.reconstruction_err_ == pytest.approx(trained.report.metrics["reconstruction_error"], rel=1e-5)


def test_the_estimator_is_the_fitted_one():
    x, spec = ratings(), dataclasses.replace(QUICK, solver="sklearn", n_components="auto", alpha_W=0.001)
    trained = train(x, spec)
    estimator = trained.estimator()
    reference = NMF(**spec.estimator_params(10))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        reference.fit(trained.matrix.scores)
    assert estimator.get_params() == reference.get_params()
    assert estimator.transform(trained.matrix.scores).tobytes() == reference.transform(trained.matrix.scores).tobytes()
    assert estimator.n_features_in_ == 25
    assert estimator.n_iter_ == 15


def test_what_is_left_out_is_counted_and_said():
    users = [1] * 3 + [2] * 30 + [2] * 4 + [3] * 40
    items = [*range(3), *range(30), *range(4), *range(40)]
    report = train(Interactions.of(users, items), TrainOptions(max_iter=2, min_data=0, min_interactions=5)).report
    counted = {name: value for name, value in report.metrics.items() if name.endswith(("duplicates", "left_out"))}
    assert counted == {"data/n_duplicates": 4, "data/n_users_left_out": 1, "data/n_interactions_left_out": 3}
    assert "4 of 77 interactions repeat a user and item (--duplicates)" in report.messages
    assert any(message.startswith("1 users with 3 interactions left out") for message in report.messages)
    whole = train(Interactions.of(users[3:33], items[3:33]), TrainOptions(max_iter=2, min_data=0)).report
    assert not set(counted) & set(whole.metrics)
