"""The search space: its ends, what it leaves out, the points that come first."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.models.registry import DEFAULT
from pipeline.models.search_space import Choice, FloatRange, IntegerRange
from pipeline.options import TrainOptions

search_space, sweep = DEFAULT.search_space, DEFAULT.first_points
SHAPE = (500, 900)
BASE = TrainOptions()
FIXED = TrainOptions(n_components=7, transform="log1p", alpha_W=0.1, reg_exponent=0.0, unobserved_weight=0.5)
ALL = (
    "half_life_days,transform,n_components,alpha_W,reg_exponent,unobserved_weight,confidence,alpha_H,l1_ratio,max_iter"
)


def names(base: TrainOptions = BASE, search: str = "auto", shape=SHAPE, times: bool = True) -> list[str]:
    return [dimension.name for dimension in search_space(base, search, shape, times=times)]


def test_what_is_searched_unless_it_is_named() -> None:
    assert names() == ["half_life_days", "transform", "n_components", "alpha_W", "reg_exponent", "unobserved_weight"]
    assert names(times=False) == names()[1:]
    # scikit-learn's solver fits all cells alike.
    assert names(TrainOptions(solver="sklearn")) == ["half_life_days", "transform", "n_components", "alpha_W"]


def test_an_option_that_was_given_a_value_stays() -> None:
    assert "transform" not in names(TrainOptions(transform="binary"))
    assert names(FIXED) == ["half_life_days"]
    with pytest.raises(UsageError, match=r"^Nothing is left to search"):
        names(FIXED, times=False)


def test_what_is_named_is_searched_and_nothing_else() -> None:
    assert names(TrainOptions(n_components=7), "alpha-W, n_components") == ["n_components", "alpha_W"]
    assert names(search=ALL) == ALL.split(",")
    with pytest.raises(UsageError, match="can't search holdout, k; it can half_life_days, transform"):
        names(search="k,holdout,alpha_W")
    with pytest.raises(UsageError, match=r"can't search half_life_days \(these interactions have no times\)"):
        names(search="half_life_days", times=False)


@pytest.mark.parametrize(("shape", "low", "high"), [(SHAPE, 3, 200), ((40, 9), 3, 8), ((3, 50), 2, 2), ((1, 1), 1, 1)])
def test_components_are_bounded_by_the_matrix(shape, low, high) -> None:
    (first,) = search_space(TrainOptions(), "n_components", shape, times=False)
    assert first == IntegerRange("n_components", low, high)


def test_beyond_an_end_lies_what_the_scale_cannot_reach() -> None:
    alpha = FloatRange("alpha_W", 1e-6, 1.0, below=0.0)
    assert alpha.ends == (pytest.approx(1e-9), 1.0)  # half as long as the range: one draw in three
    assert alpha.decode(9e-7) == 0.0
    assert alpha.decode(1e-6) == 1e-6
    assert alpha.decode(0.123456) == 0.1235
    weight = FloatRange("unobserved_weight", 1e-3, 1.0, above=1.0)
    assert weight.ends == (1e-3, pytest.approx(1000**0.5))
    assert [weight.decode(raw) for raw in (1e-3, 0.9, 1.5)] == [1e-3, 0.9, 1.0]
    half_life = FloatRange("half_life_days", 3.0, 3000.0, above=None)
    assert half_life.decode(3001.0) is None
    assert half_life.encode(None) == half_life.ends[1] == pytest.approx(3000 * 1000**0.5)
    assert FloatRange("x", 1.0, 2.0).encode(7.0) == 2.0
    assert Choice("transform", ("none", "binary")).encode("log1p") == "none"


@given(st.data())
def test_whatever_is_drawn_makes_a_spec(data) -> None:
    space = search_space(TrainOptions(), ALL, SHAPE, times=True)
    drawn = {}
    for dimension in space:
        if isinstance(dimension, Choice):
            raw = data.draw(st.sampled_from(dimension.values))
        elif isinstance(dimension, IntegerRange):
            raw = data.draw(st.integers(dimension.low, dimension.high))
        else:
            raw = data.draw(st.floats(*dimension.ends))
        drawn[dimension.name] = dimension.decode(raw)
        # What was found can be typed, and is the same point again.
        assert dimension.decode(dimension.encode(drawn[dimension.name])) == drawn[dimension.name]
    spec = replace(TrainOptions(), **drawn)
    assert {name: getattr(spec, name) for name in drawn} == drawn


def test_the_defaults_come_first_and_come_back_as_they_are() -> None:
    base = TrainOptions()
    space = search_space(base, ALL, SHAPE, times=True)
    point = sweep(space, base, SHAPE)[0]
    standard = {one.name: one.default for one in fields(TrainOptions)} | {"n_components": 10, "alpha_H": 0.0}
    standard["unobserved_weight"] = 1.0
    assert {one.name: one.decode(point[one.name]) for one in space} == {one.name: standard[one.name] for one in space}
    given = replace(base, n_components=7, alpha_W=0.5)
    space = search_space(given, "n_components,alpha_W,alpha_H", SHAPE, times=False)
    assert sweep(space, given, SHAPE)[0] == {"n_components": 7, "alpha_W": 0.5, "alpha_H": 0.5}


def test_the_sweep_goes_over_each_option_and_over_factors_with_their_regularisation() -> None:
    space = search_space(BASE, "auto", SHAPE, times=True)
    _, *moves = sweep(space, BASE, SHAPE)
    alone = [move for move in moves if "alpha_W" not in move]
    assert alone[:3] == [{"half_life_days": value} for value in (16.87, 94.87, 533.5)]
    assert alone[3:5] == [{"transform": "log1p"}, {"transform": "binary"}]
    assert alone[5:] == [{"unobserved_weight": value} for value in (0.005623, 0.03162, 0.1778)]
    pairs = [(move["n_components"], move["alpha_W"]) for move in moves if "alpha_W" in move]
    assert pairs == [(k, alpha) for alpha in (0.001778, 0.03162, 0.5623) for k in (9, 24, 70)]
    # One of the two is swept by itself; what does nothing by itself is not; nor is what stands there already.
    alone = sweep(search_space(BASE, "n_components,reg_exponent", SHAPE, times=False), BASE, SHAPE)[1:]
    assert alone == [{"n_components": 9}, {"n_components": 24}, {"n_components": 70}]
    given = TrainOptions(alpha_W=0.03162)
    alone = sweep(search_space(given, "alpha_W", SHAPE, times=False), given, SHAPE)[1:]
    assert alone == [{"alpha_W": 0.001778}, {"alpha_W": 0.5623}]
    (first,) = search_space(BASE, "n_components", (4, 4), times=False)
    assert first.places == (3,)


def test_what_another_solver_fits_is_not_searched_with_scikit_learns() -> None:
    with pytest.raises(UsageError, match=r"can't search confidence, unobserved_weight with --solver sklearn.*fast"):
        names(TrainOptions(solver="sklearn"), "n_components,unobserved-weight,confidence")
