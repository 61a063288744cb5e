"""Tuning: what is tried, what is survived, what is found, and what it never sees."""

from __future__ import annotations

import time
from dataclasses import asdict, replace

import numpy as np
import pytest
from support.tastes import three_tastes

from pipeline.data.interactions import Interactions
from pipeline.data.prepare import prepare_interactions
from pipeline.data.sources.blocks_builder import stored
from pipeline.data.splits import holdout, pair_keys
from pipeline.errors import InputError, LeakageError, TooLittleDataError, UsageError
from pipeline.options import TrainOptions, TuneOptions
from pipeline.training import search as room
from pipeline.training import tune as module
from pipeline.training.ages import user_weights
from pipeline.training.train import split_interactions, train
from pipeline.training.tune import tune
from pipeline.training.tuning_report import command_of, history_picture, page, train_command, trials_table, verdict

pytest.importorskip("optuna")
pytestmark = pytest.mark.xdist_group("tune")  # the search that they look at is made once

BASE = TrainOptions(max_iter=10, min_data=10, threads=1)
FEW = TuneOptions(trials=6, search="n_components,alpha_W")


@pytest.fixture(scope="module")
def x() -> Interactions:
    return three_tastes()


@pytest.fixture(scope="module")
def tuned(x):
    return tune(x, BASE, FEW)


def test_the_defaults_are_trial_0_and_the_same_seed_tries_the_same(x, tuned) -> None:
    assert dict(tuned.trials[0].options) == {"n_components": 10, "alpha_W": 0.0}
    assert (tuned.ended, tuned.n_before, len(tuned.trials)) == ("trials", 0, 6)
    again = tune(x, BASE, FEW)
    assert [(trial.options, trial.value) for trial in again.trials] == [
        (trial.options, trial.value) for trial in tuned.trials
    ]
    assert again.study == tuned.study
    # The sweep is the same whatever the seed (nine moves of these two); what the sampler draws is not.
    many = [tune(x, replace(BASE, random_state=seed, max_iter=2), replace(FEW, trials=12)) for seed in (1, 2)]
    drawn = [[trial.options for trial in result.trials] for result in many]
    assert drawn[0][:10] == drawn[1][:10]
    assert drawn[0][10:] != drawn[1][10:]


def test_interactions_in_files_find_the_same(x, tuned, tmp_path) -> None:
    found = tune(stored(x, tmp_path), BASE, FEW)
    for name in ("study", "trials", "baselines", "lift", "gain", "data_digest", "split_digest"):
        mine, other = getattr(found, name), getattr(tuned, name)
        if name == "trials":
            mine, other = ([(trial.options, trial.value) for trial in trials] for trials in (mine, other))
        assert str(mine) == str(other), name
    for name, evaluation in tuned.test.items():
        assert found.test[name].metrics == evaluation.metrics


def test_the_winner_is_the_best_on_the_validation_part(x, tuned) -> None:
    complete = [trial for trial in tuned.trials if trial.state == "complete"]
    assert tuned.best.value == max(trial.value for trial in complete)
    assert tuned.spec == replace(BASE, **tuned.best.options)
    # What a trial is worth, from scratch: the training side of the holdout, parted again.
    outer = holdout(prepare_interactions(x).interactions, 0.2, 42)
    inner = holdout(outer.train, 0.2, 42)
    scorer, _ = room.candidate(inner.train, tuned.spec)
    values = room.evaluate(scorer, inner).per_user["ndcg_at_10"] * user_weights(inner, outer)
    assert values.mean() == pytest.approx(tuned.best.value, abs=1e-12)


def test_the_test_part_is_that_of_the_winners_own_training(x, tuned) -> None:
    report = train(x, tuned.spec).report.metrics
    assert report["holdout/ndcg_at_10"] == pytest.approx(tuned.test["tuned"].metrics["ndcg_at_10"], abs=1e-12)
    assert report["baseline/popular/ndcg_at_10"] == pytest.approx(
        tuned.test["popular"].metrics["ndcg_at_10"], abs=1e-12
    )
    assert tuned.lift.comparison.mean_b == pytest.approx(tuned.test["tuned"].metrics["ndcg_at_10"])
    low, high = tuned.lift.comparison.difference[1:]
    assert low <= tuned.lift.comparison.difference.value <= high
    assert tuned.gain is not None


def test_the_search_never_sees_the_test_part(x, monkeypatch) -> None:
    outer = holdout(prepare_interactions(x).interactions, 0.2, 42)
    test = set(pair_keys(outer.test, x.user_ids, x.item_ids).tolist())
    latest = {int(u): outer.test.at[outer.test.users == u].min() for u in np.unique(outer.test.users)}
    seen: list[Interactions] = []
    fit, value_of = room.candidate, room.values_of
    monkeypatch.setattr(room, "candidate", lambda side, *a, **k: seen.append(side) or fit(side, *a, **k))
    monkeypatch.setattr(
        room, "values_of", lambda r, split, *how: seen.extend([split.train, split.test]) or value_of(r, split, *how)
    )
    monkeypatch.setattr(module, "_test", lambda *a: (_ for _ in ()).throw(RuntimeError("the end of the search")))
    with pytest.raises(RuntimeError, match="the end of the search"):
        tune(x, BASE, FEW)
    assert len(seen) > 10
    for side in seen:
        assert not test & set(pair_keys(side, x.user_ids, x.item_ids).tolist())
        ids = side.user_ids.values[side.users]
        assert all(at <= latest[int(u)] for u, at in zip(ids, side.at, strict=True))


def test_a_test_pair_in_the_search_stops_it(x, monkeypatch) -> None:
    calls = []

    def split_interactions(data, base):
        calls.append(data)
        return holdout(prepare_interactions(x).interactions, 0.2, 42 if len(calls) == 1 else 7)

    monkeypatch.setattr(room, "split_interactions", split_interactions)
    with pytest.raises(LeakageError):
        tune(x, BASE, FEW)


@pytest.mark.parametrize("error", [MemoryError("too large"), InputError("too wide"), ZeroDivisionError("by zero")])
def test_a_failing_trial_is_told_and_survived(x, monkeypatch, error) -> None:
    fit = room.candidate

    def failing(side, spec, *rest):
        if spec.n_components in (10, "auto"):
            raise error
        return fit(side, spec, *rest)

    monkeypatch.setattr(room, "candidate", failing)
    calls = []
    result = tune(x, BASE, FEW, on_trial=calls.append)
    assert calls[0].state == "failed"
    assert calls[0].reason == f"{type(error).__name__}: {error}"
    assert result.best.number > 0
    assert len(calls) == len(result.trials) == 6
    assert list(result.test) == ["tuned", "popular", "recent", "item_knn"]
    assert result.gain is None
    assert "the defaults" not in page(result, None)


def test_when_nothing_succeeds_it_says_why(x, monkeypatch) -> None:
    monkeypatch.setattr(room, "candidate", lambda *a: (_ for _ in ()).throw(UsageError("never")))
    with pytest.raises(InputError, match=r"^None of 6 trial\(s\) succeeded; the first: UsageError: never$"):
        tune(x, BASE, FEW)


@pytest.mark.slow
def test_it_goes_on_where_it_stopped(x, tuned, tmp_path) -> None:
    path, started = tmp_path / "tuning.db", []

    def stop(trial):
        if trial.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(x, BASE, FEW, path=path, on_trial=stop)
    result = tune(x, BASE, FEW, path=path, on_start=lambda name, trials: started.append(len(trials)))
    assert started == [3]
    assert result.n_before == 3
    assert [(entry.options, entry.value) for entry in result.trials] == [
        (entry.options, entry.value) for entry in tuned.trials
    ]
    # Done already: no trial more, and the same winner.
    again = tune(x, BASE, FEW, path=path, on_trial=lambda trial: pytest.fail("a trial more"))
    assert again.spec == result.spec
    anew = tune(x, BASE, replace(FEW, resume="no", trials=2), path=path)
    assert (anew.n_before, len(anew.trials)) == (0, 2)


def test_another_search_never_goes_on_with_these_trials(x, tuned) -> None:
    first = replace(FEW, trials=1)
    others = [
        tune(x.take(np.arange(len(x) - 1)), BASE, first),
        tune(replace(x, scores=x.scores[::-1]), BASE, first),  # the same pairs: the splits are the same
        tune(x, replace(BASE, random_state=3), first),
        tune(x, replace(BASE, transform="binary"), first),
        tune(x, replace(BASE, split="random"), first),
        tune(x, BASE, replace(first, search="n_components")),
        tune(x, BASE, replace(first, metric="recall_at_10")),
    ]
    assert len({tuned.study, *(other.study for other in others)}) == 8
    assert tune(x, replace(BASE, threads=2, on_interrupt="keep"), first).study == tuned.study


@pytest.mark.parametrize("metric", ["recall_at_10", "map_at_10", "hit_rate_at_10"])
def test_any_metric(x, metric) -> None:
    result = tune(x, BASE, replace(FEW, trials=3, metric=metric))
    assert result.lift.comparison.mean_b == pytest.approx(result.test["tuned"].metrics[metric])
    assert result.best.value == max(trial.value for trial in result.trials if trial.state == "complete")


@pytest.mark.slow
def test_the_time_is_kept(x, monkeypatch, tmp_path) -> None:
    fit, steps = room.candidate, []

    def slow(side, spec, progress=lambda *a: None):
        for done in range(100):  # two seconds a fit, told of as a fit tells its iterations
            time.sleep(0.02)
            steps.append(done)
            progress("fit", done, 100)
            if spec.n_components == 10:
                break
        return fit(side, spec, progress)

    monkeypatch.setattr(room, "candidate", slow)
    monkeypatch.setattr(module, "_test", lambda outer, base, winner, progress: {"tuned": None})
    start = time.monotonic()
    calls = []
    with pytest.raises(AttributeError):  # of the test part that is not there: the search is over
        tune(x, BASE, replace(FEW, trials=50, timeout=0.5), path=tmp_path / "tuning.db", on_trial=calls.append)
    assert time.monotonic() - start > 0.5
    assert max(steps) < 99  # the second trial did not come to its end
    # The defaults come to their end; the trial that the time ran out for is as if it had not been.
    assert [entry.number for entry in calls] == [0]


def test_one_trial_comes_to_its_end_whatever_the_budget(x) -> None:
    result = tune(x, BASE, replace(FEW, timeout=1e-9))
    assert (result.ended, len(result.trials)) == ("timeout", 1)
    assert result.spec.n_components == 10


def test_ctrl_c_may_keep_what_was_found(x, tuned) -> None:
    def stop(trial):
        if trial.number == 3:
            raise KeyboardInterrupt

    result = tune(x, replace(BASE, on_interrupt="keep"), FEW, on_trial=stop)
    assert (result.ended, len(result.trials)) == ("interrupted", 4)
    assert result.best.value == max(entry.value for entry in tuned.trials[:4] if entry.state == "complete")
    assert result.spec.on_interrupt == "keep"


def test_in_the_middle_of_a_fit_it_ends_the_search_and_not_the_fit_alone(x, monkeypatch) -> None:
    fit = room.candidate

    def interrupted(side, spec, *rest):
        assert spec.on_interrupt == "stop"
        if spec.n_components != 10:
            raise KeyboardInterrupt
        return fit(side, spec, *rest)

    monkeypatch.setattr(room, "candidate", interrupted)
    monkeypatch.setattr(module, "_test", lambda *a: (_ for _ in ()).throw(RuntimeError("the end of the search")))
    with pytest.raises(RuntimeError, match="the end of the search"):
        tune(x, replace(BASE, on_interrupt="keep"), FEW)
    with pytest.raises(KeyboardInterrupt):
        tune(x, BASE, FEW)


def test_trials_behind_the_others_end_early(x) -> None:
    result = tune(x, replace(BASE, max_iter=100, tol=0.0), TuneOptions(trials=20, search="n_components,alpha_W"))
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert pruned
    assert all(set(trial.marks) == {10} and trial.value == trial.marks[10] for trial in pruned)
    assert result.trials[0].state == "complete"
    assert set(result.trials[0].marks) == {10}


@pytest.mark.parametrize(
    ("base", "spec", "error", "what"),
    [
        ({"biases": "yes", "unobserved_weight": 0.0}, {}, UsageError, "take --biases no"),
        ({"holdout": 0}, {}, UsageError, "--holdout must be above 0"),
        ({"min_data": 10_000}, {}, TooLittleDataError, "Too little data: 720 interaction"),
        ({"holdout": 0.01}, {}, TooLittleDataError, "no user has interactions on both sides"),
        ({}, {"search": "max_depth"}, UsageError, "can't search max_depth"),
    ],
)
def test_what_can_not_be_tuned(x, base, spec, error, what) -> None:
    with pytest.raises(error, match=what):
        tune(x, replace(BASE, **base), replace(FEW, **spec))


@pytest.mark.parametrize("split", ["random", "last", "time"])
def test_the_validation_part_is_parted_as_the_test_part_is(x, split) -> None:
    result = tune(x, replace(BASE, split=split), replace(FEW, trials=1))
    assert result.test["tuned"].split_digest == result.split_digest
    cut = replace(BASE, split="time", split_cutoff="2024-10-01")
    assert tune(x, cut, replace(FEW, trials=1)).best.value is not None


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["ndcg_at_10", "recall_at_10"])
def test_whole_users_are_held_out_of_those_that_are_left(x, monkeypatch, metric) -> None:
    base = replace(BASE, split="users", transform="log1p", half_life_days=200.0)
    outer = split_interactions(prepare_interactions(x).interactions, base)
    strangers = set(outer.test.user_ids.values[np.unique(outer.test.users)].tolist())
    seen: list[Interactions] = []
    value_of = room.values_of
    monkeypatch.setattr(
        room,
        "values_of",
        lambda r, split, *how: seen.extend([split.train, split.test, split.fold_in]) or value_of(r, split, *how),
    )
    result = tune(x, base, replace(FEW, trials=3, metric=metric))
    assert len(seen) >= 3 * 6
    for side in seen:
        assert not strangers & set(side.user_ids.values[side.users].tolist())
    # Of each trial the validation users are strangers, too.
    ids = [set(side.user_ids.values[side.users].tolist()) for side in seen[:3]]
    assert not ids[0] & ids[1]
    assert ids[1] == ids[2]
    # And the winner is evaluated as its own training evaluates it.
    report = train(x, result.spec).report.metrics
    for key, who in (("holdout", "tuned"), ("baseline/popular", "popular"), ("baseline/item-knn", "item_knn")):
        assert report[f"{key}/{metric}"] == pytest.approx(result.test[who].metrics[metric], abs=1e-12), who
    assert set(result.test["tuned"].user_ids.tolist()) == strangers


def test_a_test_users_history_in_the_search_stops_it(x, monkeypatch) -> None:
    base, calls = replace(BASE, split="users"), []

    def leaking(data, spec):
        calls.append(data)
        # As if the inner split were of everybody: some of the test users are trained on.
        return split_interactions(
            prepare_interactions(x).interactions, spec if len(calls) == 1 else replace(spec, random_state=7)
        )

    monkeypatch.setattr(room, "split_interactions", leaking)
    with pytest.raises(LeakageError):
        tune(x, base, FEW)


def test_the_table_the_picture_and_the_page(tuned) -> None:
    lines = trials_table(tuned.trials, "ndcg_at_10").splitlines()
    assert lines[0] == "number,state,validation_ndcg_at_10,seconds,n_components,alpha_W,reason"
    assert len(lines) == 7
    assert lines[1].startswith(f"0,complete,{tuned.trials[0].value},")
    assert lines[1].endswith(",10,0.0,")
    figure = history_picture(tuned.trials, "ndcg_at_10", tuned.baselines)
    (axes,), (legend,) = figure.axes, figure.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown[-4:] == ["best so far", "most popular", "recently popular", "item-kNN"]
    heights = [line.get_ydata()[0] for line in axes.get_lines()[-3:]]
    assert heights == [tuned.baselines[name] for name in ("popular", "recent", "item_knn")]
    text = page(tuned, "rankline/7")
    assert f"| tuned | {tuned.test['tuned'].metrics['ndcg_at_10']:.4f} |" in text
    assert f"| item-kNN | {tuned.test['item_knn'].metrics['ndcg_at_10']:.4f} |" in text
    assert f"recently popular: {tuned.baselines['recent']:.4f}" in text
    assert "rankline/7" in text
    assert verdict(tuned) in text
    assert command_of({"alpha_W": 0.1, "half_life_days": None}) == "--alpha-W 0.1 --half-life-days none"
    assert asdict(tuned.spec).items() >= tuned.best.options.items()


def test_a_search_of_another_model_says_which_to_train(x) -> None:
    result = tune(x, replace(BASE, algorithm="item-knn", max_iter=200), TuneOptions(trials=3))
    assert {name for trial in result.trials for name in trial.options} == {"n_neighbours", "shrinkage"}
    assert all(not trial.marks for trial in result.trials)
    assert train_command(result).startswith("rankline train --algorithm item-knn --n-neighbours ")
    with pytest.raises(UsageError, match="most popular has no options to search"):
        tune(x, replace(BASE, algorithm="popular", max_iter=200), FEW)
