"""Which candidate of a choice is trained: an ensemble, or a list for everybody, where nothing else is surely better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.evaluation.significance import bootstrap_mean, lift_over_popular
from pipeline.models import registry
from pipeline.options import TrainOptions
from pipeline.training.choice import CandidateScore
from pipeline.training.settle import settle
from pipeline.training.stretches import over_stretches

N = 400


def score(name: str, mean: float, seed: int = 0) -> CandidateScore:
    """Of N users, whose values scatter around the mean by 0.2."""
    values = mean + 0.2 * np.random.default_rng([seed, len(name)]).normal(size=N)
    algorithm = registry.find(name)
    lift = lift_over_popular(values, values)
    return CandidateScore(algorithm, {}, TrainOptions(), bootstrap_mean(values), lift, values, 1.0, 1, (N,))


def names(scores) -> list[str]:
    return [one.algorithm.name for one in scores]


EASE, ALS, RECENT, POPULAR = score("ease", 0.5), score("als", 0.45), score("recent", 0.3), score("popular", 0.2)


def test_an_ensemble_that_is_surely_better_wins() -> None:
    settled = settle([EASE, ALS, POPULAR], score("ensemble", 0.6), by_time=False)
    assert names(settled.scores) == ["ensemble", "ease", "als", "popular"]
    assert (settled.reason, dict(settled.left_out)) == ("", {})


@pytest.mark.parametrize("mean", [0.505, 0.3])
def test_an_ensemble_that_is_not_is_left_out_with_its_figures(mean) -> None:
    settled = settle([EASE, ALS, POPULAR], score("ensemble", mean), by_time=False)
    assert names(settled.scores) == ["ease", "als", "popular"]
    assert "(difference " in settled.left_out["ensemble"]
    assert settled.left_out["ensemble"].endswith("is not surely above EASE's")


def test_by_time_a_list_for_everybody_is_kept_unless_a_model_is_surely_better() -> None:
    close = score("recent", 0.495)
    settled = settle([EASE, close, ALS, POPULAR], None, by_time=True)
    assert names(settled.scores) == ["recent", "ease", "als", "popular"]
    assert settled.reason.startswith("by time no model is surely better; of EASE, 0.")
    assert names(settle([EASE, close, ALS], None, by_time=False).scores) == ["ease", "recent", "als"]
    assert names(settle([EASE, ALS, RECENT, POPULAR], None, by_time=True).scores) == names([EASE, ALS, RECENT, POPULAR])
    assert settle([close, ALS], None, by_time=True).reason == ""
    # The better one of the lists decides.
    assert names(settle([EASE, close, score("popular", 0.4)], None, by_time=True).scores)[0] == "recent"


def test_an_ensemble_has_to_be_better_than_the_list_for_everybody_too() -> None:
    close = score("recent", 0.56, seed=3)
    settled = settle([close, EASE], score("ensemble", 0.6), by_time=True)
    assert names(settled.scores) == ["ensemble", "recent", "ease"]
    unsure = settle([close, EASE], score("ensemble", 0.57), by_time=True)
    assert names(unsure.scores) == ["recent", "ease"]
    assert unsure.left_out["ensemble"].endswith("is not surely above recently popular's")


def test_by_time_options_of_a_list_have_to_be_surely_better_than_its_defaults() -> None:
    tuned, default = score("recent", 0.35), score("recent", 0.34, seed=1)
    settled = settle([tuned, POPULAR], None, by_time=True, plain=[default, POPULAR])
    assert settled.scores == (default, POPULAR)
    assert settled.reason.startswith(
        "by time no other list is surely better; of recently popular with other options, 0."
    )
    sure = settle([EASE, tuned, POPULAR], None, by_time=True, plain=[score("recent", 0.2), POPULAR])
    assert (names(sure.scores), sure.reason) == (["ease", "recent", "popular"], "")


def test_users_of_one_stretch_of_time_count_as_one() -> None:
    """EASE is far better for each user of one stretch, and a little worse in the three others."""
    recent = replace(score("recent", 0.3), sizes=(N // 4,) * 4)
    gain = np.repeat([0.4, -0.02, -0.01, -0.03], N // 4)
    ease = replace(EASE, values=recent.values + gain, sizes=recent.sizes)
    settled = settle([ease, recent], None, by_time=True)
    assert names(settled.scores) == ["recent", "ease"]
    assert (
        names(settle([replace(ease, sizes=(N,)), replace(recent, sizes=(N,))], None, by_time=True).scores)[0] == "ease"
    )
    mean, error = gain.mean(), np.std([0.4, -0.02, -0.01, -0.03], ddof=1) / 2
    assert over_stretches(recent.values, ease.values, recent.sizes) == pytest.approx(
        (mean, mean - 3.182446 * error, mean + 3.182446 * error)
    )
