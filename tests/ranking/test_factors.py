"""What the factors mean: exact numbers of small models."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.models.factor_model import FactorModel
from pipeline.ranking.factors import (
    FactorDescription,
    GenreShare,
    TopItem,
    describe_factors,
    genres_of_factors,
    name_of,
)

# Two tastes and a blockbuster (item 0) that both like most.
W = np.array([[2, 0], [1, 0], [0, 1], [0, 0]], np.float32)
H = np.array([[4, 3, 0, 1], [4, 0, 3, 0]], np.float32)


def test_parts_masses_users_and_order_by_hand() -> None:
    first, second = describe_factors(W, H)
    # Σw = (3, 1), Σh = (8, 7): masses 24 and 7 of 31.
    assert (first.number, first.mass, first.n_users) == (0, 24 / 31, 2)
    assert (second.number, second.mass, second.n_users) == (1, 7 / 31, 1)
    # Item 0's predictions: 12 from the first, 4 from the second. p(i|t)·p(t|i): 4/8·3/4, 3/8·1, 1/8·1.
    # The first is tied: the lower row.
    assert first.items == (
        TopItem(0, 0.5, 0.75),
        TopItem(1, 3 / 8, 1.0),
        TopItem(3, 1 / 8, 1.0),
    )
    # In the second the blockbuster is heaviest (4 of 7) and yet not first: 4/7·1/4 < 3/7·1.
    assert second.items == (TopItem(2, 3 / 7, 1.0), TopItem(0, 4 / 7, 0.25))


def test_the_scale_of_a_factor_says_nothing() -> None:
    scale = np.array([8.0, 0.25], np.float32)
    assert describe_factors(W * scale, H / scale[:, None]) == describe_factors(W, H)


def test_one_factor_is_in_the_order_of_weight() -> None:
    (only,) = describe_factors(np.ones((3, 1), np.float32), np.array([[1, 5, 0, 3]], np.float32))
    assert [item.row for item in only.items] == [1, 3, 0]
    assert (only.mass, only.n_users) == (1.0, 3)
    assert {item.of_item for item in only.items} == {1.0}


@pytest.mark.parametrize("zero", ["W", "H", "both"])
def test_a_factor_of_zeros_is_there_without_items(zero: str) -> None:
    w, h = W.copy(), H.copy()
    if zero != "H":
        w[:, 1] = 0
    if zero != "W":
        h[1] = 0
    first, empty = describe_factors(w, h)
    assert empty == FactorDescription(1, 0.0, 0, ())
    assert (first.mass, [item.of_item for item in first.items]) == (1.0, [1.0] * 3)


def test_nothing_at_all() -> None:
    descriptions = describe_factors(np.zeros((2, 2), np.float32), np.zeros((2, 3), np.float32))
    assert descriptions == (FactorDescription(0, 0.0, 0, ()), FactorDescription(1, 0.0, 0, ()))


@pytest.mark.parametrize("kind", ["uniform", "ties", "zero", "negative", "huge", "tiny", "mixed_scale", "sparse"])
def test_shares_are_shares_and_order_is_the_obvious_one(
    make_model: Callable[..., FactorModel], rng: np.random.Generator, kind: str
) -> None:
    model = make_model(rng, kind=kind)
    w = np.maximum(model.user_factors.astype(float), 0)
    h = np.maximum(model.item_factors.astype(float), 0)
    descriptions = describe_factors(model.user_factors, model.item_factors, 7)
    masses = [factor.mass for factor in descriptions]
    assert masses == sorted(masses, reverse=True)
    assert sum(masses) == pytest.approx(1.0) or not (w @ h).any()
    part = w.sum(axis=0)[:, None] * h  # (k, n_items)
    for factor in descriptions:
        t = factor.number
        with np.errstate(invalid="ignore", divide="ignore"):
            relevance = np.nan_to_num(h[t] / h[t].sum() * part[t] / part.sum(axis=0))
        expected = [i for i in sorted(range(h.shape[1]), key=lambda i: -relevance[i]) if relevance[i] > 0][:7]
        assert relevance[[item.row for item in factor.items]] == pytest.approx(relevance[expected], rel=1e-9)
        assert all(0 < item.of_factor <= 1 and 0 < item.of_item <= 1 + 1e-12 for item in factor.items)
    own = w * h.sum(axis=1)
    leaning = np.bincount(own.argmax(axis=1)[own.max(axis=1) > 0], minlength=w.shape[1])
    assert [factor.n_users for factor in descriptions] == leaning[[factor.number for factor in descriptions]].tolist()


def test_ties_at_the_last_place_go_to_the_first_rows() -> None:
    (only,) = describe_factors(np.ones((1, 1), np.float32), np.ones((1, 50), np.float32), 5)
    assert [item.row for item in only.items] == [0, 1, 2, 3, 4]


def test_more_rows_than_a_block_are_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = describe_factors(W, H)
    monkeypatch.setattr("pipeline.ranking.factors._ROWS", 1)
    assert describe_factors(W, H) == whole


def test_a_huge_catalogue_takes_rows_not_products() -> None:
    import tracemalloc

    rng = np.random.default_rng(0)
    w, h = rng.random((30_000, 8), np.float32), rng.random((8, 400_000), np.float32)
    tracemalloc.start()
    describe_factors(w, h)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * 2**20  # users × items would be 48 GB


def test_genres_by_hand() -> None:
    factors = (
        FactorDescription(0, 0.75, 2, (TopItem(0, 0.5, 1.0), TopItem(1, 0.5, 0.5))),
        FactorDescription(1, 0.25, 1, (TopItem(2, 1.0, 1.0),)),
        FactorDescription(2, 0.0, 0, ()),
    )
    genres = genres_of_factors(factors, {0: ("Crime",), 1: ("Crime", "Drama"), 2: ("Drama",)})
    # Factor 0: Crime 0.5 + 0.125, Drama 0.125, of 0.75; usual: by mass.
    crime, drama = 0.625 / 0.75, 0.125 / 0.75
    usual_crime, usual_drama = crime * 0.75, drama * 0.75 + 0.25
    assert genres[0] == (
        GenreShare("Crime", pytest.approx(crime), pytest.approx(usual_crime)),
        GenreShare("Drama", pytest.approx(drama), pytest.approx(usual_drama)),
    )
    assert [entry.name for entry in genres[1]] == ["Drama"]
    assert genres[2] == ()


def test_no_genres_known() -> None:
    factors = describe_factors(W, H)
    assert genres_of_factors(factors, {}) == {0: (), 1: ()}
    assert name_of(()) == ""


def test_names_take_what_stands_out_and_else_what_is_most() -> None:
    of = GenreShare
    assert name_of((of("Sci-Fi", 0.3, 0.1), of("Action", 0.25, 0.2), of("Drama", 0.2, 0.4))) == "Sci-Fi, Action"
    assert name_of((of("Sci-Fi", 0.3, 0.1), of("Western", 0.05, 0.01), of("Drama", 0.65, 0.6))) == "Sci-Fi"
    assert name_of((of("Crime", 0.4, 0.38), of("Drama", 0.6, 0.62))) == "mostly Drama"


def test_genres_that_are_as_usual_are_in_the_order_of_their_shares() -> None:
    (only,) = describe_factors(np.ones((1, 1), np.float32), np.array([[3, 2, 2, 1]], np.float32))
    genres = genres_of_factors([only], {0: ("B",), 1: ("C",), 2: ("A",), 3: ("D",)})
    assert [entry.name for entry in genres[0]] == ["B", "A", "C", "D"]
