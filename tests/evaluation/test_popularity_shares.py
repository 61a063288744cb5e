"""What is recommended against what is popular, on models with known lists."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.evaluation import popularity as module
from pipeline.evaluation.popularity import PopularityConcentration, popularity_concentration
from pipeline.models.factor_model import FactorModel
from pipeline.ranking.scorer import Scorer


def test_counts_lists_and_interactions(make_model: Callable[..., FactorModel], rng: np.random.Generator) -> None:
    model = make_model(rng, 30, 40)
    concentration = popularity_concentration(Scorer(model), 3, k=5)
    expected = np.zeros(40, int)
    for user in model.users.values.tolist():
        items, _ = Scorer(model).recommend(user, k=5)
        expected[model.items.rows(items)] += 1
    assert concentration.times.tolist() == expected.tolist()
    assert concentration.popularity.tolist() == np.asarray((model.seen != 0).sum(axis=0)).ravel().tolist()
    assert (concentration.n_lists, concentration.n_users, concentration.k) == (30, 30, 5)


def test_many_users_are_sampled_evenly(
    make_model: Callable[..., FactorModel], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_USERS", 4)
    model = make_model(rng, 31, 40)
    concentration = popularity_concentration(Scorer(model), 3)
    listed = Scorer(model).recommend_rows([0, 10, 20, 30], 10).items
    assert concentration.times.tolist() == np.bincount(listed.ravel(), minlength=40).tolist()
    assert (concentration.n_lists, concentration.n_users) == (4, 31)


def test_a_huge_catalogue_has_fewer_lists() -> None:
    class Counting:
        users, items = range(10**6), range(10**7)

        class model:  # noqa: N801
            class seen:  # noqa: N801
                indices = np.zeros(3, np.int32)

        def recommend_rows(self, rows: np.ndarray, k: int) -> object:
            self.asked = rows.size
            return type("Top", (), {"items": np.full((rows.size, k), -1)})

    ranker = Counting()
    popularity_concentration(ranker, 50)  # type: ignore[arg-type]
    assert ranker.asked == 200


def test_shares_by_hand() -> None:
    concentration = PopularityConcentration(np.array([1, 6, 3, 0]), np.array([0, 8, 0, 2]), n_lists=10, n_users=10, k=1)
    assert concentration.by_popularity().tolist() == [1, 2, 0, 3]
    consumed, recommended = concentration.cumulative()
    assert consumed.tolist() == [0.6, 0.9, 1.0, 1.0]
    assert recommended.tolist() == [0.8, 0.8, 0.8, 1.0]
    assert concentration.head() == (1, 0.6, 0.8)
    assert concentration.head(0.5) == (2, 0.9, 0.8)
    assert concentration.most_recommended(3) == [(1, 0.8, 1), (3, 0.2, 4)]


def test_nothing_recommended_is_no_division_by_nothing() -> None:
    none = PopularityConcentration(np.array([2, 1]), np.zeros(2, np.int64), 0, 0, 10)
    assert [share.tolist() for share in none.cumulative()] == [[2 / 3, 1.0], [0.0, 0.0]]
    assert none.most_recommended(5) == []
    assert PopularityConcentration(np.zeros(0, np.int64), np.zeros(0, np.int64), 0, 0, 10).head() == (0, 0.0, 0.0)
