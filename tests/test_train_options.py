"""The options of a training: their defaults, what goes together, what an estimator is given."""

from __future__ import annotations

import dataclasses

import pytest
from sklearn.decomposition import NMF

from pipeline.errors import UsageError
from pipeline.options import TrainOptions


def test_the_bounds_of_interactions_may_meet_but_not_cross():
    assert TrainOptions(min_interactions=5, max_interactions=5).max_interactions == 5
    with pytest.raises(UsageError, match=r"^max_interactions must be at least 5, or none, got 4$"):
        TrainOptions(min_interactions=5, max_interactions=4)


def test_the_defaults():
    assert dataclasses.asdict(TrainOptions()) == {
        "algorithm": "NMF",
        "budget_minutes": 10.0,
        "n_neighbours": 200,
        "members": None,
        "shrinkage": 100.0,
        "cold_items": None,
        "layers": "64-32-16",
        "dropout": 0.2,
        "negatives_per_positive": 4,
        "regularization": None,
        "learning_rate": None,
        "n_components": "auto",
        "solver": "fast",
        "threads": None,
        "memory_limit": None,
        "on_interrupt": "stop",
        "init": "random",
        "max_iter": 200,
        "tol": 1e-4,
        "random_state": 42,
        "alpha_W": 0.0,
        "alpha_H": "same",
        "l1_ratio": 0.0,
        "unobserved_weight": None,
        "confidence": 0.0,
        "dislike_weight": 1.0,
        "reg_exponent": 1.0,
        "biases": "no",
        "transform": "none",
        "duplicates": "last",
        "min_interactions": None,
        "max_interactions": None,
        "min_data": 100,
        "holdout": 0.2,
        "half_life_days": None,
        "split": "auto",
        "split_last": 1,
        "split_cutoff": None,
    }


def test_an_estimator_takes_what_it_is_given_and_keeps_its_own_defaults_for_the_rest():
    theirs = NMF().get_params()
    params = TrainOptions().estimator_params(7)
    assert {name: params.pop(name) for name in ("n_components", "init", "random_state")} == {
        "n_components": 7,
        "init": "random",
        "random_state": 42,
    }
    assert params == {name: theirs[name] for name in ("max_iter", "tol", "alpha_W", "alpha_H", "l1_ratio")}
    changed = {"init": "nndsvda", "max_iter": 3, "tol": 0.5, "random_state": 1, "alpha_W": 0.1, "alpha_H": 0.2}
    spec = TrainOptions(n_components=4, l1_ratio=0.3, **changed)
    assert NMF(**spec.estimator_params(4)).get_params() == theirs | changed | {"n_components": 4, "l1_ratio": 0.3}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((671, 9066), 10),
        ((12, 11), 10),
        ((11, 900), 10),
        ((900, 10), 9),
        ((3, 3), 2),
        ((2, 50), 1),
        ((1, 50), 1),
        ((50, 1), 1),
        ((1, 1), 1),
    ],
)
def test_auto_is_ten_or_one_less_than_the_shorter_side(shape, expected):
    assert TrainOptions().components_for(shape) == expected
    assert TrainOptions(n_components=17).components_for(shape) == 17


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"biases": "yes"}, r"^--biases yes is for observed scores alone: add --unobserved-weight 0 \(it is 1\)$"),
        (
            {"biases": "yes", "unobserved_weight": 0.0, "init": "nndsvd"},
            "^--init nndsvd knows nothing of biases: take --init random, or --biases no$",
        ),
        (
            {"biases": "yes", "unobserved_weight": 0.0, "n_components": 1},
            "^--biases yes makes two of the factors biases: --n-components must be at least 2$",
        ),
        *(
            ({"solver": "sklearn", **options_refused}, "^--solver sklearn fits all cells alike: take --solver fast")
            for options_refused in (
                {"unobserved_weight": 0.5},
                {"confidence": 1.0},
                {"dislike_weight": 2.0},
                {"reg_exponent": 0.0},
            )
        ),
    ],
)
def test_objectives_that_do_not_go_together(options, what):
    with pytest.raises(UsageError, match=what):
        TrainOptions(**options)


def test_what_only_one_split_takes():
    assert TrainOptions(split="last", split_last=3).split_last == 3
    for moment in ("2024-03-31", "2024-03-31T12:30", "2024-03-31 12:30:15.250"):
        assert TrainOptions(split="time", split_cutoff=moment).split_cutoff == moment
    with pytest.raises(UsageError, match=r"^--split-last 3 is for --split last \(it is auto\)$"):
        TrainOptions(split_last=3)
    with pytest.raises(UsageError, match=r"^--split-cutoff 2024-03-31 is for --split time \(it is users\)$"):
        TrainOptions(split="users", split_cutoff="2024-03-31")


def test_plain_is_what_scikit_learn_fits():
    assert TrainOptions().plain
    assert TrainOptions(unobserved_weight=1, alpha_W=0.1, l1_ratio=0.5, solver="fast").plain
    assert not TrainOptions(unobserved_weight=0.0, biases="yes").plain
    assert TrainOptions(unobserved_weight=0.0, biases="yes").components_for((50, 2)) == 2
    assert TrainOptions(unobserved_weight=0.0, biases="yes").components_for((50, 40)) == 10
