"""Factors of cold items: the regression beside its twin, who gets new items, and what must not change."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from support.examples import examples
from support.naive_cold_items import NEW, ridge, two_tastes

from pipeline.data.id_map import IdMap
from pipeline.errors import ArtifactError, InputError, UsageError
from pipeline.models.cold_items import STRENGTHS, cold_items_of, regression, with_cold_items
from pipeline.models.factor_model import FactorModel
from pipeline.models.fold_in import FoldIn
from pipeline.models.item_features import ItemFeatures
from pipeline.models.item_snapshot import ItemTexts
from pipeline.options import TrainOptions
from pipeline.ranking.scorer import Scorer
from pipeline.training.train import Trained, train

ALGORITHMS = ("nmf", "als", "elsa", "svd", "bpmf")


@cache
def trained(algorithm: str, cold_items: int | None = 5) -> Trained:
    """Shared by the tests, which do not change it."""
    x, texts = two_tastes()
    rare = x.items < 24  # items 24 … 29 keep two interactions each
    first = np.zeros(len(x), bool)
    for item in range(24, 30):
        first[np.flatnonzero(x.items == item)[:2]] = True
    options = TrainOptions(algorithm=algorithm, cold_items=cold_items, n_components=4, max_iter=40, holdout=0)
    if algorithm == "svd":
        options = replace(options, solver="als", regularization=0.1)
    return train(x.take(rare | first).compact(), options, texts=texts)


@settings(max_examples=examples(20))
@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(0, 6), st.sampled_from(STRENGTHS))
def test_the_regression_equals_its_twin(seed: int, n: int, f: int, strength: float) -> None:
    rng = np.random.default_rng(seed)
    features, targets = (rng.random((n, f)) < 0.4).astype(np.float32), rng.normal(size=(n, 3))
    found = regression(sparse.csr_matrix(features), targets, strength)
    base, slopes = ridge(features, targets, strength)
    np.testing.assert_allclose(found.base, base, atol=1e-9)
    np.testing.assert_allclose(found.slopes, slopes, atol=1e-9)
    np.testing.assert_allclose(found.predict(sparse.csr_matrix(features)), base + features @ slopes, atol=1e-9)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_new_item_goes_to_the_users_of_its_genre(algorithm: str) -> None:
    scorer = Scorer(trained(algorithm).model)
    for user in scorer.users.values.tolist():
        right, wrong = ("Comedy", "Drama") if user % 2 == 0 else ("Drama", "Comedy")
        items, _ = scorer.recommend(user, 2, allow=list(NEW.values()))
        assert items.tolist() == [NEW[right], NEW[wrong]]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_known_items_keep_their_factors_and_cold_ones_are_named(algorithm: str) -> None:
    with_cold, without = trained(algorithm).model, trained(algorithm, None).model
    known = np.arange(24)
    rows = with_cold.items.rows(known)
    assert np.array_equal(with_cold.item_factors[:, rows], without.item_factors[:, without.items.rows(known)])
    cold = cold_items_of(with_cold)
    assert cold is not None
    assert cold_items_of(without) is None
    facts, cold_rows = cold
    assert with_cold.items.ids(sorted(cold_rows)).tolist() == [*range(24, 30), *NEW.values()]
    assert (facts.threshold, facts.n_items, facts.n_new, facts.n_learned_from) == (5, 8, 2, 24)
    assert facts.strength in STRENGTHS
    assert facts.explained > 0.5
    new = with_cold.items.rows(list(NEW.values()))
    assert with_cold.seen[:, new].nnz == 0
    assert with_cold.seen.nnz == without.seen.nnz
    if algorithm == "nmf":
        assert with_cold.item_factors.min() >= 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_training_user_who_is_folded_in_gets_the_same_row(algorithm: str, tmp_path: Path) -> None:
    model = trained(algorithm).model
    model.save(tmp_path)
    again = Scorer.load(tmp_path).model
    x = again.seen
    rows = FoldIn(again.item_factors, again.meta).solve(x.indptr, x.indices, x.data)
    assert rows.tobytes() == model.user_factors.tobytes()


def test_non_negative_factors_stay_so_where_the_regression_goes_below() -> None:
    items = IdMap(np.arange(31))
    genres = {str(item): [("A", "B", "C")[item % 3]] for item in range(30)} | {"30": ["A", "B"]}
    h = np.where(np.arange(31) % 3 == 2, 1.0, 0.1).astype(np.float32)[None, :]
    h[0, 30] = 0.5
    seen = sparse.csr_matrix(np.tile((np.arange(31) < 30).astype(np.float32), (6, 1)))
    model = FactorModel(np.ones((6, 1), np.float32), h, IdMap(np.arange(6)), items, seen, {})
    features = ItemFeatures.of(ItemTexts({}, genres), items)
    assert with_cold_items(model, features, 2)[0].item_factors[0, 30] == 0
    signed = replace(model, meta={"fold_in": "linear"})
    assert with_cold_items(signed, features, 2)[0].item_factors[0, 30] < -0.1


def test_not_having_a_cold_item_says_nothing_of_a_user() -> None:
    model = trained("nmf").model
    fold_in = FoldIn(model.item_factors, model.meta, compiled=False)
    known = np.setdiff1d(np.arange(len(model.items)), model.meta["cold_items"]["rows"])
    bare = FoldIn(np.ascontiguousarray(model.item_factors[:, known]), {}, compiled=False)
    ones = np.ones(3, np.float32)
    rows = fold_in.solve(np.array([0, 3]), known[:3], ones)
    np.testing.assert_allclose(rows, bare.solve(np.array([0, 3]), np.arange(3), ones), rtol=1e-5)


def test_the_constant_columns_of_a_model_of_ratings_stay_as_they_are() -> None:
    model = trained("svd").model
    constant = model.item_factors[-2]  # [q, 1, μ + b], times the spread of the ratings
    assert np.ptp(constant) == 0


def test_the_same_seed_gives_the_same_bytes() -> None:
    x, texts = two_tastes()
    options = TrainOptions(algorithm="als", cold_items=5, n_components=4, max_iter=5, holdout=0)
    one, two = (train(x, options, texts=texts).model for _ in range(2))
    assert one.item_factors.tobytes() == two.item_factors.tobytes()
    assert one.user_factors.tobytes() == two.user_factors.tobytes()


def test_features_are_of_the_kind_of_the_ids_and_rare_ones_do_not_count() -> None:
    texts = ItemTexts({}, {"2": ["Drama", "Drama"], "10": ["Comedy", "Drama"]}, {"2": ["Odd", " odd "], "3": ["odd"]})
    features = ItemFeatures.of(texts, IdMap(np.array([2, 10])))
    assert features.ids.values.tolist() == [2, 3, 10]
    assert features.names == ("genre:Comedy", "genre:Drama", "tag:odd")
    assert features.matrix.toarray().tolist() == [[0, 1, 1], [0, 0, 1], [1, 1, 0]]
    assert features.known_to(np.array([0, 2])).names == ("genre:Drama",)
    assert ItemFeatures.of(texts, IdMap(np.array(["10", "2"]))).ids.values.tolist() == ["10", "2", "3"]
    with pytest.raises(InputError, match="'x' is text, and these ids are integers"):
        ItemFeatures.of(ItemTexts({}, {"x": ["Drama"]}), IdMap(np.array([2])))


def test_what_can_not_be_learned_from_is_refused() -> None:
    x, texts = two_tastes()
    options = TrainOptions(cold_items=5, holdout=0)
    with pytest.raises(InputError, match="no item has any: give a file of them with --items"):
        train(x, options)
    with pytest.raises(InputError, match="10 items or more with a genre or a tag and 50 interactions"):
        train(x, replace(options, cold_items=50), texts=texts)
    with pytest.raises(UsageError, match="EASE has no --cold-items"):
        train(x, replace(options, algorithm="ease"), texts=texts)
    with pytest.raises(UsageError, match="nmf:cold_items=5: members rank known items"):
        train(x, replace(options, algorithm="ensemble", cold_items=None, members="nmf:cold_items=5,ease"), texts=texts)
    with pytest.raises(UsageError, match="--split items needs --cold-items"):
        TrainOptions(split="items")


@pytest.mark.parametrize("damage", [{"rows": [99]}, {"rows": "0"}, {"rows": [True]}, 3])
def test_damaged_metadata_are_refused(damage: object) -> None:
    model = trained("nmf").model
    damaged = {**model.meta["cold_items"], **damage} if isinstance(damage, dict) else damage
    broken = replace(model, meta={**model.meta, "cold_items": damaged})
    with pytest.raises(ArtifactError, match="cold_items have no rows among its 32 items"):
        FoldIn(broken.item_factors, broken.meta)
    with pytest.raises(ArtifactError):
        cold_items_of(broken)
