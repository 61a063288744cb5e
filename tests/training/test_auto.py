"""A choice of a model: what is tried, what is chosen, and what it never sees."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.tastes import three_tastes

from pipeline.cli.output.training import candidates_json
from pipeline.data.interactions import Interactions
from pipeline.data.sources.blocks_builder import stored
from pipeline.data.splits import pair_keys
from pipeline.errors import InputError
from pipeline.evaluation.report.plots import candidates_with_intervals
from pipeline.evaluation.significance import Interval
from pipeline.models import ensemble, registry
from pipeline.models.algorithms.members import members_in
from pipeline.models.footprint import Size
from pipeline.models.search_space import IntegerRange
from pipeline.options import TrainOptions, TuneOptions
from pipeline.training import auto, search, settle, stretches
from pipeline.training.ages import user_weights
from pipeline.training.auto import choose, share_of
from pipeline.training.candidates import Candidate, Candidates, Room, candidates_for
from pipeline.training.choice import Choice
from pipeline.training.choice_report import candidate_rows, candidates_csv, choice_page, how_chosen
from pipeline.training.chooser import Chooser, sampled
from pipeline.training.search import Task, fitted_on, parts_of, run_trials, values_of
from pipeline.training.stretches import earlier_stretches
from pipeline.training.study import open_study
from pipeline.training.train import train
from pipeline.training.tune import tune
from pipeline.training.tuning_report import train_command

pytest.importorskip("optuna")
pytestmark = pytest.mark.xdist_group("auto")  # the search that they look at is made once

BASE = TrainOptions(algorithm="auto", max_iter=5, min_data=10, threads=1)
SEARCH = TuneOptions(trials=6)
LARGE = Size(n_rows=5_000_000, n_cells=5_000_000, n_users=50_000, n_items=20_000)
PLENTY = Room(seconds=1e6)


@pytest.fixture(scope="module")
def x() -> Interactions:
    return three_tastes()


def candidates_of(x: Interactions, base: TrainOptions = BASE, room: Room = PLENTY) -> Candidates:
    """Three quick models, and the two that are always tried."""
    size = Size(len(x), len(x), len(x.user_ids), len(x.item_ids), x.at is not None)
    every = candidates_for(base, size, room)
    quick = ("popular", "recent", "nmf", "item-knn")
    return replace(every, able=tuple(one for one in every.able if one.algorithm.name in quick))


def chosen(x: Interactions, base: TrainOptions = BASE, **more: object) -> Choice:
    return choose(parts_of(x, base), base, candidates_of(x, base), SEARCH, **more)


@pytest.fixture(scope="module")
def choice(x: Interactions) -> Choice:
    return chosen(x)


def test_interactions_in_files_find_the_same_and_let_more_models_fit(x: Interactions, choice: Choice, tmp_path) -> None:
    found = chosen(stored(x, tmp_path))
    assert tried(found) == tried(choice)
    assert [score.interval for score in found.scores] == [score.interval for score in choice.scores]
    tight = Room(seconds=1e6, bytes=800 << 20)
    able, more = (
        {one.algorithm.name for one in candidates_for(BASE, LARGE, room).able}
        for room in (tight, replace(tight, stored=True))
    )
    assert "nmf" in more - able
    assert able < more


def tried(choice: Choice) -> list[tuple[dict, float | None]]:
    return [(dict(trial.options), trial.value) for trial in choice.trials]


def test_every_candidate_has_a_score_and_the_winner_the_highest(x, choice) -> None:
    names = [score.algorithm.name for score in choice.scores]
    assert sorted(names) == ["item-knn", "nmf", "popular", "recent"]
    means = [score.interval.value for score in choice.scores]
    assert means == sorted(means, reverse=True)
    assert choice.best.value == means[0]
    assert dict(choice.best.options) == choice.best_options
    assert choice.spec == choice.winner.spec == replace(choice.winner.spec, **choice.winner.options)
    assert choice.spec.algorithm == names[0]
    popular = next(score for score in choice.scores if score.algorithm.name == "popular")
    assert popular.lift.lift.value == 0
    for score in choice.scores:
        assert score.interval.low <= score.interval.value <= score.interval.high
        assert score.lift.comparison.mean_a == pytest.approx(popular.interval.value)
        assert score.lift.comparison.mean_b == pytest.approx(score.interval.value)
        inner, outer = parts_of(x, BASE)[1::-1]
        fitted = fitted_on(inner, score.spec)
        values = values_of(fitted.ranker, inner, "ndcg_at_10", fitted.fold_in)
        weighted = np.average(values, weights=user_weights(inner, outer))
        assert weighted == pytest.approx(score.interval.value, abs=1e-12)


def test_no_point_is_tried_twice_and_the_better_half_gets_more(choice) -> None:
    points = [tuple(sorted(trial.options.items(), key=str)) for trial in choice.trials]
    assert len(set(points)) == len(points)
    assert [trial.options["algorithm"] for trial in choice.trials[:4]] == ["popular", "recent", "nmf", "item-knn"]
    counts = {score.algorithm.name: score.n_trials for score in choice.scores if score.algorithm.name != "ensemble"}
    assert counts == {"popular": 1, "recent": 4, "nmf": 6, "item-knn": 6}
    assert [trial.number for trial in choice.trials] == list(range(18))
    assert choice.trials[-1].options["algorithm"] == "ensemble"


def test_an_ensemble_of_the_best_is_tried_at_last(x, choice) -> None:
    best = {score.algorithm.name: score for score in choice.scores}
    words = choice.trials[-1].options["members"]
    named = members_in(words, BASE, registry.find, 8)
    assert {member.algorithm.name for member in named} == {"recent", "nmf", "item-knn"}
    for member in named:
        assert member.options == replace(best[member.algorithm.name].spec, min_data=member.options.min_data)
    assert "is not surely above" in choice.left_out["ensemble"]


def test_an_ensemble_that_wins_is_trained_as_any_model(x, monkeypatch) -> None:
    compare = settle.compare
    monkeypatch.setattr(settle, "compare", lambda a, b: replace(compare(a, b), difference=Interval(0.2, 0.1, 0.3)))
    choice = chosen(x)
    assert choice.spec.algorithm == choice.scores[0].algorithm.name == choice.best.options["algorithm"] == "ensemble"
    assert choice.best_options == {"algorithm": "ensemble", "members": choice.spec.members}
    assert "ensemble" not in choice.left_out
    assert train(x, choice.spec).algorithm.name == "ensemble"
    # Members that are named are taken as they are.
    named = chosen(x, replace(BASE, members="nmf,popular"))
    assert named.spec.members == "nmf,popular"


def test_the_weights_that_were_measured_are_trained(x, monkeypatch) -> None:
    compare, select = settle.compare, ensemble.select
    monkeypatch.setattr(settle, "compare", lambda a, b: replace(compare(a, b), difference=Interval(0.2, 0.1, 0.3)))
    monkeypatch.setattr(ensemble, "select", lambda *data: select(*data)._replace(counts=(3, 1, 0), better=True))
    choice = chosen(x)
    words = choice.best.options["members"].split(",")
    assert choice.spec.members == f"{words[0]}:weight=3,{words[1]}:weight=1"
    assert choice.best_options["members"] == candidate_rows(choice)[0].options.split("--members ")[1].strip("'\"")
    assert choice.best_options["members"] in candidates_csv(choice)
    assert candidates_json(choice)[0]["options"] == {"members": choice.spec.members}
    tuned = tune(x, BASE, SEARCH, candidates=candidates_of(x))
    assert tuned.best.options == {"algorithm": "ensemble", "members": tuned.spec.members}
    assert train_command(tuned) == f"rankline train --algorithm ensemble --members {choice.spec.members}"
    monkeypatch.setattr(ensemble, "select", None)
    assert train(x, choice.spec).model.weights == (0.75, 0.25)


def test_an_ensemble_that_can_not_be_tried_is_named_with_why(x) -> None:
    few = candidates_of(x)
    alone = replace(few, able=tuple(one for one in few.able if one.algorithm.name in ("popular", "nmf")))
    parts = parts_of(x, BASE)
    assert choose(parts, BASE, alone, SEARCH).left_out["ensemble"].startswith("it takes two models that have a value")
    small = replace(few, room=Room(seconds=1e6, bytes=1))
    assert "of memory, and 0 MB are available" in choose(parts, BASE, small, SEARCH).left_out["ensemble"]
    wrong = choose(parts, replace(BASE, members="nmf"), few, SEARCH)
    assert "names 2 to 8 different models" in wrong.left_out["ensemble"]


def test_quick_models_do_not_wait_for_slow_ones(x, choice, monkeypatch) -> None:
    def seconds(candidate, size, cores):
        return (100.0 if candidate.algorithm.name == "item-knn" else 1.0,) * len(candidate.first)

    monkeypatch.setattr(Candidate, "seconds", seconds)
    slow = chosen(x)
    names = [trial.options["algorithm"] for trial in slow.trials]
    before = names[: [place for place, name in enumerate(names) if name == "item-knn"][1]]
    assert {name: before.count(name) for name in before} == {"popular": 1, "recent": 4, "nmf": 6, "item-knn": 1}
    assert sorted(tried(slow), key=str) == sorted(tried(choice), key=str)


def test_the_same_seed_chooses_the_same_and_another_seed_draws_others(x, choice) -> None:
    again = chosen(x)
    assert tried(again) == tried(choice)
    assert again.study == choice.study
    assert candidates_csv(again).split("fit_seconds")[0] == candidates_csv(choice).split("fit_seconds")[0]
    other = chosen(x, replace(BASE, split="random", random_state=7))
    assert tried(other)[:4] != tried(choice)[:4]


def test_the_search_never_sees_the_test_part(x, monkeypatch) -> None:
    parts = parts_of(x, BASE)
    test = set(pair_keys(parts.outer.test, x.user_ids, x.item_ids).tolist())
    seen: list[Interactions] = []
    fit, value_of = search.candidate, search.values_of
    monkeypatch.setattr(search, "candidate", lambda side, *a, **k: seen.append(side) or fit(side, *a, **k))
    monkeypatch.setattr(
        search, "values_of", lambda r, split, *how: seen.extend([split.train, split.test]) or value_of(r, split, *how)
    )
    chosen(x)
    assert len(seen) > 20
    assert not any(test & set(pair_keys(side, x.user_ids, x.item_ids).tolist()) for side in seen)


def test_the_held_out_part_is_that_of_the_winners_training(x) -> None:
    tuned = tune(x, BASE, SEARCH, candidates=candidates_of(x))
    assert tuned.choice is not None
    assert tuned.spec == tuned.choice.spec
    assert tuned.best.options["algorithm"] == tuned.spec.algorithm
    metrics = train(x, tuned.spec).report.metrics
    assert metrics["holdout/ndcg_at_10"] == pytest.approx(tuned.test["tuned"].metrics["ndcg_at_10"], abs=1e-12)
    default = train(x, registry.DEFAULT.own_options(BASE)).report.metrics
    assert default["holdout/ndcg_at_10"] == pytest.approx(tuned.test["default"].metrics["ndcg_at_10"], abs=1e-12)


def of_file(x: Interactions, path: Path | None, trials: int = 5, **more: object) -> Choice:
    """Of three models, with the trials in a file."""
    candidates = candidates_of(x)
    few = tuple(one for one in candidates.able if one.algorithm.name != "nmf")
    return choose(parts_of(x, BASE), BASE, replace(candidates, able=few), TuneOptions(trials=trials), path=path, **more)


@pytest.mark.slow
def test_a_search_that_was_interrupted_goes_on_as_if_nothing_had_been(x, tmp_path) -> None:
    path, whole = tmp_path / "tuning.db", of_file(x, None)

    def interrupt(trial) -> None:
        if trial.number == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        of_file(x, path, on_trial=interrupt)
    told, started = [], []
    again = of_file(x, path, on_start=lambda name, before: started.append((name, before)), on_trial=told.append)
    assert (again.n_before, len(again.trials)) == (5, len(whole.trials))
    assert len(told) == len(whole.trials) - 5
    assert [name for name, _ in started] == [whole.study]
    assert sorted(tried(again), key=str) == sorted(tried(whole), key=str)
    assert (again.spec, again.winner.interval) == (whole.spec, whole.winner.interval)
    # Trials beyond its own, of a longer search, do not count; and a last time there is nothing to do.
    assert len(of_file(x, path, trials=8).trials) > len(whole.trials)
    told.clear()
    last = of_file(x, path, on_trial=told.append)
    assert not told
    assert (last.spec, last.winner.interval) == (whole.spec, whole.winner.interval)


def test_ctrl_c_may_keep_the_best_so_far(x) -> None:
    def interrupt(trial) -> None:
        if trial.number == 4:
            raise KeyboardInterrupt

    kept = chosen(x, replace(BASE, on_interrupt="keep"), on_trial=interrupt)
    assert kept.ended == "interrupted"
    assert len(kept.trials) == 5
    assert kept.best.value == max(trial.value for trial in kept.trials)
    assert "interrupted" in how_chosen(kept)


def test_when_the_time_is_up_at_once_most_popular_is_chosen(x) -> None:
    candidates = candidates_of(x)
    choice = choose(parts_of(x, BASE), BASE, replace(candidates, room=replace(PLENTY, seconds=1e-9)), SEARCH)
    assert choice.ended == "timeout"
    assert [score.algorithm.name for score in choice.scores] == ["popular"]
    assert choice.left_out["nmf"] == "the time was up before its first fit"
    assert choice.left_out["ensemble"]


def test_a_model_whose_fits_fail_is_named_and_the_others_go_on(x, monkeypatch) -> None:
    fit = search.candidate

    def failing(side, spec, *rest):
        if spec.algorithm == "item-knn":
            raise ValueError("no neighbours here")
        return fit(side, spec, *rest)

    monkeypatch.setattr(search, "candidate", failing)
    choice = chosen(x)
    assert choice.left_out["item-knn"] == "its fits failed: ValueError: no neighbours here"
    assert "item-kNN is not among the candidates: its fits failed" in choice_page(choice)
    monkeypatch.setattr(search, "candidate", lambda *a, **k: (_ for _ in ()).throw(ValueError("none")))
    with pytest.raises(InputError, match="most popular has no value on the validation part"):
        chosen(x)


# ---- a sample of the users first ------------------------------------------------------------


def test_large_data_is_searched_on_a_sample_and_the_best_few_on_all_users(x, choice, monkeypatch) -> None:
    monkeypatch.setattr(auto, "share_of", lambda candidates, parts, stretches: 0.5)
    monkeypatch.setattr(auto, "_FINALISTS", 2)
    halved = chosen(x)
    names = [trial.options["algorithm"] for trial in halved.trials]
    # Every model at its defaults on all users comes first: the choice is among these, whatever the time.
    assert names[:4] == ["popular", "recent", "nmf", "item-knn"]
    shares = [trial.share for trial in halved.trials]
    n_sample = shares.count(0.5)
    assert shares == [1.0] * 4 + [0.5] * n_sample + [1.0] * (len(shares) - 4 - n_sample)
    assert n_sample == sum(len(one.first[: SEARCH.trials]) for one in candidates_of(x).able)
    # The first points of the last step are the best of the sample, where they were better than the defaults there.
    for name in ("recent", "nmf", "item-knn"):
        of = {s: [t for t in halved.trials if (t.options["algorithm"], t.share) == (name, s)] for s in (0.5, 1.0)}
        better = [t for t in of[0.5] if t.state == "complete" and t.value > of[0.5][0].value]
        best = [dict(t.options) for t in sorted(better, key=lambda t: -t.value)[:2]]
        assert [dict(t.options) for t in of[1.0][1:3]][: len(best)] in (best, [])
        score = next(s for s in halved.scores if s.algorithm.name == name)
        assert score.n_trials == len(of[0.5]) + len(of[1.0])
        assert score.interval.value == pytest.approx(max(t.value for t in of[1.0] if t.state == "complete"))
    assert tried(chosen(x)) == tried(halved)


def test_a_sample_holds_so_many_users_and_all_of_their_interactions(x) -> None:
    inner = parts_of(x, BASE).inner
    half = sampled(inner, 0.5, 42)
    ids = set(half.train.user_ids.values.tolist())
    assert 20 < len(ids) < 40
    assert len(half.train) == sum(int(user) in ids for user in inner.train.user_ids.values[inner.train.users])
    assert half.digest != inner.digest


def test_the_share_follows_from_the_estimates_and_the_validation_users(x, monkeypatch) -> None:
    parts = parts_of(x, BASE)
    slow = replace(candidates_of(x), room=Room(seconds=1e-6))
    assert share_of(slow, parts) == 1  # too few users for a sample
    monkeypatch.setattr(auto, "_FEWEST_USERS", 10)
    assert share_of(slow, parts) == 0.25
    assert share_of(candidates_of(x), parts) == 1


def test_an_ensemble_has_the_time_that_the_fits_so_far_say_it_needs(x, monkeypatch) -> None:
    deadlines = []
    monkeypatch.setattr(Chooser, "halve", lambda self, field: deadlines.extend(e.task.deadline for e in field))
    monkeypatch.setattr(auto.time, "monotonic", lambda: 0.0)
    for seconds, kept in ((1e6, 0.25e6), (1e-3, 0)):
        room = replace(PLENTY, seconds=seconds)
        parts = parts_of(x, BASE)
        choose(parts, BASE, replace(candidates_of(x), room=room), SEARCH)
        assert deadlines == pytest.approx([seconds - kept] * len(deadlines))
        deadlines.clear()


def test_a_trial_that_lasts_too_long_is_pruned_and_the_defaults_are_not(x) -> None:
    parts = parts_of(x, BASE)
    nmf = next(one for one in candidates_of(x).able if one.algorithm.name == "nmf")
    with open_study("s", nmf.space, nmf.first, 42) as study:
        run_trials(study, Task(parts.inner, nmf.options, "ndcg_at_10", longest=-1.0), 3, lambda trial, measured: None)
        assert [trial.state for trial in study.trials()] == ["complete", "pruned", "pruned"]


def test_by_time_a_choice_looks_at_earlier_stretches_where_users_are_few(monkeypatch) -> None:
    rng = np.random.default_rng(3)
    days = np.arange(2000) // 4
    at = (days * 86_400_000).astype("datetime64[ms]")
    x = Interactions.of(rng.integers(0, 60, 2000), rng.integers(0, 80, 2000), np.ones(2000), at)
    base = replace(BASE, split="time")
    inner = parts_of(x, base).inner
    earlier = earlier_stretches(inner, base)
    assert len(earlier) == 5
    side = inner.train
    for split in earlier:  # each before the one before it
        assert split.train.at.max() < split.cutoff <= split.test.at.min()
        assert split.test.at.max() == side.at.max()
        assert len(split.train) + len(split.test) == len(side)
        side = split.train
    assert earlier_stretches(inner, BASE) == ()
    choice = chosen(x, base)
    popular = next(score for score in choice.scores if score.algorithm.name == "popular")
    values = []
    for split in (inner, *earlier):
        fitted = fitted_on(split, popular.spec)
        values.append(values_of(fitted.ranker, split, "ndcg_at_10", fitted.fold_in))
    assert popular.values.tolist() == np.concatenate(values).tolist()
    assert popular.sizes == tuple(part.size for part in values)
    monkeypatch.setattr(stretches, "_FEW", 10)
    assert earlier_stretches(inner, base) == ()


# ---- the candidates -------------------------------------------------------------------------


def test_what_does_not_fit_is_named_with_why() -> None:
    tight = candidates_for(BASE, LARGE, Room(seconds=600, bytes=700 << 20))
    assert "of memory, and 700 MB are available" in tight.left_out["ease"]
    hurried = candidates_for(BASE, LARGE, Room(seconds=2.0))
    assert "over an eighth of 2 seconds (--budget-minutes)" in hurried.left_out["item-knn"]
    without_times = candidates_for(BASE, replace(LARGE, times=False), PLENTY)
    assert without_times.left_out["recent"] == "it goes by the times of interactions, and these have none"
    assert without_times.left_out["svd"] == "it estimates ratings, and a choice is made by how lists are ranked"
    assert "popular" in {one.algorithm.name for one in tight.able}
    ratings = candidates_for(replace(BASE, biases="yes", unobserved_weight=0.0), LARGE, PLENTY)
    assert "nmf" in ratings.left_out


def test_a_model_that_approximates_another_is_tried_where_that_one_is_slow() -> None:
    small = replace(LARGE, n_cells=50_000, n_rows=50_000, n_users=600, n_items=5000)
    quick = candidates_for(BASE, small, Room(seconds=600))
    assert quick.left_out["elsa"] == "EASE, which it approximates, is fitted in a short time"
    slow = candidates_for(BASE, LARGE, Room(seconds=4000))
    assert {"elsa", "ease"} <= {one.algorithm.name for one in slow.able}


def factors_of(candidates: Candidates, name: str = "nmf") -> IntegerRange:
    nmf = next(one for one in candidates.able if one.algorithm.name == name)
    return next(dimension for dimension in nmf.space if dimension.name == "n_components")


def test_factors_are_searched_up_to_what_fits() -> None:
    every = [factors_of(candidates_for(BASE, LARGE, Room(seconds=seconds))).high for seconds in (600, 3600, 1e7)]
    assert every == sorted(every)
    assert every[0] < every[1] < every[2] == 19_999
    assert every[1] > 200
    assert all(high.bit_count() == 1 for high in every[:2])  # a little less memory leaves the same space
    assert factors_of(candidates_for(BASE, replace(LARGE, n_users=30), PLENTY)).high == 29
    small = factors_of(candidates_for(BASE, LARGE, Room(seconds=1e7, bytes=2 << 30))).high
    assert 200 < small < 19_999


def test_an_option_that_was_given_stays_where_a_model_has_it() -> None:
    given = candidates_for(replace(BASE, n_components=20, n_neighbours=50), LARGE, PLENTY)
    by_name = {one.algorithm.name: one for one in given.able}
    assert "n_components" not in {dimension.name for dimension in by_name["nmf"].space}
    assert by_name["nmf"].options.n_components == 20
    assert by_name["item-knn"].options.n_neighbours == 50
    recent = candidates_for(replace(BASE, half_life_days=9.0), LARGE, PLENTY)
    assert next(one for one in recent.able if one.algorithm.name == "recent").first == ({},)


# ---- the report -----------------------------------------------------------------------------


def test_the_table_in_every_form(choice) -> None:
    rows = candidate_rows(choice)
    assert [row.model for row in rows] == [score.algorithm.display_name for score in choice.scores]
    assert all("%" in row.over_popular for row in rows if row.model != "most popular")
    parsed = list(csv.DictReader(io.StringIO(candidates_csv(choice))))
    assert [float(row["validation_ndcg_at_10"]) for row in parsed] == [s.interval.value for s in choice.scores]
    page = choice_page(choice)
    assert page.startswith(f"{choice.winner.algorithm.display_name} has the highest NDCG@10 of 4 models")
    assert all(f"| {row.model} |" in page for row in rows)
    picture = candidates_with_intervals(rows, "NDCG@10").decode()
    assert all(row.model in picture for row in rows)
