"""The search space: its ends, what it leaves out, the points that come first."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.search_space import Choice, Number, Whole, first_point, search_space
from pipeline.spec import TrainSpec

SHAPE = (500, 900)
BASE = TrainSpec()
FIXED = TrainSpec(n_components=7, transform="log1p", alpha_W=0.1, reg_exponent=0.0, unobserved_weight=0.5)
ALL = (
    "n_components,transform,alpha_W,reg_exponent,unobserved_weight,half_life_days,confidence,alpha_H,l1_ratio,max_iter"
)


def names(base: TrainSpec = BASE, search: str = "auto", shape=SHAPE, times: bool = True) -> list[str]:
    return [one.name for one in search_space(base, search, shape, times=times)]


def test_what_is_searched_unless_it_is_named() -> None:
    assert names() == ["n_components", "transform", "alpha_W", "reg_exponent", "unobserved_weight", "half_life_days"]
    assert names(times=False) == names()[:-1]
    # scikit-learn's solver fits all cells alike.
    assert names(TrainSpec(solver="sklearn")) == ["n_components", "transform", "alpha_W", "half_life_days"]


def test_an_option_that_was_given_a_value_stays() -> None:
    assert "transform" not in names(TrainSpec(transform="binary"))
    assert names(FIXED) == ["half_life_days"]
    with pytest.raises(UsageError, match=r"^Nothing is left to search"):
        names(FIXED, times=False)


def test_what_is_named_is_searched_and_nothing_else() -> None:
    assert names(TrainSpec(n_components=7), "alpha-W, n_components") == ["n_components", "alpha_W"]
    assert names(search=ALL) == ALL.split(",")
    with pytest.raises(UsageError, match="can't search holdout, k; it can n_components, transform"):
        names(search="k,holdout,alpha_W")
    with pytest.raises(UsageError, match=r"can't search half_life_days \(these interactions have no times\)"):
        names(search="half_life_days", times=False)


@pytest.mark.parametrize(("shape", "low", "high"), [(SHAPE, 3, 200), ((40, 9), 3, 8), ((3, 50), 2, 2), ((1, 1), 1, 1)])
def test_components_are_bounded_by_the_matrix(shape, low, high) -> None:
    (one,) = search_space(TrainSpec(), "n_components", shape, times=False)
    assert one == Whole("n_components", low, high)


def test_beyond_an_end_lies_what_the_scale_cannot_reach() -> None:
    alpha = Number("alpha_W", 1e-6, 1.0, below=0.0)
    assert alpha.ends == (pytest.approx(1e-9), 1.0)  # half as long as the range: one draw in three
    assert alpha.decode(9e-7) == 0.0
    assert alpha.decode(1e-6) == 1e-6
    assert alpha.decode(0.123456) == 0.1235
    weight = Number("unobserved_weight", 1e-3, 1.0, above=1.0)
    assert weight.ends == (1e-3, pytest.approx(1000**0.5))
    assert [weight.decode(raw) for raw in (1e-3, 0.9, 1.5)] == [1e-3, 0.9, 1.0]
    half_life = Number("half_life_days", 3.0, 3000.0, above=None)
    assert half_life.decode(3001.0) is None
    assert half_life.encode(None) == half_life.ends[1] == pytest.approx(3000 * 1000**0.5)
    assert Number("x", 1.0, 2.0).encode(7.0) == 2.0
    assert Choice("transform", ("none", "binary")).encode("log1p") == "none"


@given(st.data())
def test_whatever_is_drawn_makes_a_spec(data) -> None:
    space = search_space(TrainSpec(), ALL, SHAPE, times=True)
    drawn = {}
    for one in space:
        if isinstance(one, Choice):
            raw = data.draw(st.sampled_from(one.values))
        elif isinstance(one, Whole):
            raw = data.draw(st.integers(one.low, one.high))
        else:
            raw = data.draw(st.floats(*one.ends))
        drawn[one.name] = one.decode(raw)
        # What was found can be typed, and is the same point again.
        assert one.decode(one.encode(drawn[one.name])) == drawn[one.name]
    spec = replace(TrainSpec(), **drawn)
    assert {name: getattr(spec, name) for name in drawn} == drawn


def test_the_defaults_come_first_and_come_back_as_they_are() -> None:
    base = TrainSpec()
    space = search_space(base, ALL, SHAPE, times=True)
    point = first_point(space, base, SHAPE)
    standard = {one.name: one.default for one in fields(TrainSpec)} | {"n_components": 10, "alpha_H": 0.0}
    assert {one.name: one.decode(point[one.name]) for one in space} == {one.name: standard[one.name] for one in space}
    given = replace(base, n_components=7, alpha_W=0.5)
    space = search_space(given, "n_components,alpha_W,alpha_H", SHAPE, times=False)
    assert first_point(space, given, SHAPE) == {"n_components": 7, "alpha_W": 0.5, "alpha_H": 0.5}


def test_what_another_solver_fits_is_not_searched_with_scikit_learns() -> None:
    with pytest.raises(UsageError, match=r"can't search confidence, unobserved_weight with --solver sklearn.*fast"):
        names(TrainSpec(solver="sklearn"), "n_components,unobserved-weight,confidence")
