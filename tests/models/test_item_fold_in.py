"""Folding items in: the least of the whole objective with the users held fixed, and what must not move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from support import naive_ratings, naive_weighted
from support.examples import examples
from support.served import small_ratings, small_trained

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.errors import ArtifactError, BadRowsError, InputError, UsageError
from pipeline.kernels import available
from pipeline.models.factor_model import FactorModel
from pipeline.models.fold_in.way import COLD, FOLDED, folded_rows
from pipeline.models.item_fold_in import fold_in_items, widened, with_items
from pipeline.models.objective import Objective
from pipeline.options import TrainOptions
from pipeline.ranking.scorer import Scorer
from pipeline.training.train import train

WAYS = [False, pytest.param(True, marks=pytest.mark.skipif(not available(), reason="needs numba"))]

objectives = st.builds(
    Objective,
    unobserved_weight=st.sampled_from([0.0, 0.1, 1.0]),
    confidence=st.sampled_from([0.0, 2.0]),
    alpha_W=st.sampled_from([0.0, 5.0]),  # must have no part in it
    alpha_H=st.sampled_from([0.02, 0.3]),
    reg_exponent=st.sampled_from([0.0, 1.0]),
    l1_ratio=st.sampled_from([0.0, 0.4]),
    dislike_weight=st.sampled_from([1.0, 3.0]),
)


def problem(seed: int, n_users: int = 9, n_items: int = 3, k: int = 4, *, signed: bool = False):
    """Dense scores with NaN where there is none, the same as csr (n_items, n_users), and users' factors."""
    rng = np.random.default_rng(seed)
    X = np.where(rng.random((n_users, n_items)) < 0.5, rng.integers(0, 11, (n_users, n_items)) / 2, np.nan)
    X[rng.integers(n_users, size=n_items), np.arange(n_items)] = 2.5
    rows, cols = np.nonzero(~np.isnan(X.T))
    cells = sparse.csr_matrix((X.T[rows, cols].astype(np.float32), (rows, cols)), shape=(n_items, n_users))
    W = rng.normal(0, 1, (n_users, k)) if signed else rng.random((n_users, k)) * (rng.random((n_users, k)) < 0.8)
    return X, cells, W.astype(np.float32)


def of_users(W, meta, n_items=0):
    """A model of these users and of items that have no factors yet."""
    shape = (len(W), n_items)
    seen = sparse.csr_matrix(shape, dtype=np.float32)
    h = np.zeros((W.shape[1], n_items), np.float32)
    return FactorModel(W, h, IdMap(np.arange(shape[0])), IdMap(np.arange(n_items)), seen, meta)


@pytest.mark.parametrize("compiled", WAYS)
@settings(max_examples=examples(60))
@given(objective=objectives, seed=st.integers(0, 2**32), biases=st.booleans())
def test_a_folded_column_meets_the_conditions_of_the_least_of_the_objective(compiled, objective, seed, biases):
    if biases:
        objective = replace(objective, unobserved_weight=0.0, biases=True, bias_prior=1.2)
    X, cells, W = problem(seed)
    if biases:
        W[:, -2] = 1
    H = fold_in_items(of_users(W, {"objective": objective.as_json()}), cells, compiled=compiled)
    assert (H.shape, H.dtype) == ((4, 3), np.float32)
    if biases:
        assert (H[-1] == 1).all()
    assert naive_weighted.kkt(X.T, W, H.T, objective, items=True) < 2e-4


@pytest.mark.parametrize("compiled", WAYS)
@settings(max_examples=examples(40))
@given(objective=objectives, seed=st.integers(0, 2**32))
def test_no_step_of_a_ridge_column_lowers_the_loss(compiled, objective, seed):
    objective = replace(objective, l1_ratio=0.0)
    X, cells, W = problem(seed, signed=True)
    meta = {"fold_in": "ridge", "objective": objective.as_json()}
    H = fold_in_items(of_users(W, meta), cells, compiled=compiled)
    least = naive_weighted.loss(X, W, H, objective)
    for t in range(4):
        for step in (-0.02, 0.02):
            moved = H.copy()
            moved[t, 1] += step
            assert naive_weighted.loss(X, W, moved, objective) > least


@pytest.mark.parametrize("compiled", WAYS)
def test_a_column_of_a_model_of_ratings_is_the_row_that_least_squares_solve(compiled):
    spec = TrainOptions(algorithm="svd", n_components=3, max_iter=20, holdout=0, solver="als")
    trained = train(small_ratings(), spec)
    model = trained.model
    k, x = 3, model.seen
    mean, spread = float(x.data.mean(dtype=np.float64)), float(x.data.std(dtype=np.float64))
    of_items = x.T.tocsr()
    of_items.sort_indices()
    found = fold_in_items(model, of_items, compiled=compiled)
    strength = trained.algorithm.option(spec, "regularization")
    for item in (0, 7, 21):
        own = slice(of_items.indptr[item], of_items.indptr[item + 1])
        users, scores = of_items.indices[own], (of_items.data[own] - mean) / spread
        F = np.hstack([model.user_factors[users, :k], np.ones((users.size, 1))])
        q = naive_ratings.solved_row(F, scores - model.user_factors[users, k], strength * users.size**0.5)
        assert found[:k, item] == pytest.approx(spread * q[:k], abs=2e-4)
        assert found[k + 1, item] == pytest.approx(mean + spread * q[k], abs=2e-4)
    assert (found[k] == np.float32(spread)).all()
    # The fit ends on the users, one half-step after the items: its items are near, and its errors too.
    assert np.abs(found - model.item_factors).mean() < 0.05 * np.abs(model.item_factors).mean()


def history(users, items, scores):
    shape = (len(set(users)), len(set(items)))
    user_ids, item_ids = IdMap.of(users), IdMap.of(items)
    cells = (np.array(scores, np.float32), (user_ids.rows(users), item_ids.rows(items)))
    return UserItems(sparse.csr_matrix(cells, shape=shape), user_ids, item_ids)


@pytest.fixture(scope="module")
def model() -> FactorModel:
    return train(small_ratings(), TrainOptions(n_components=4, max_iter=30, holdout=0)).model


def test_a_new_item_is_recommended_to_who_is_like_those_that_liked_it(model: FactorModel):
    fans = model.users.values[np.argsort(-model.user_factors[:, 0])]
    new = history([*fans[:8].tolist(), 7], [5] * 9, [5.0] * 9)  # user 7 is nobody's, item 5 comes first
    wide = with_items(model, new)
    assert wide.items.values[0] == 5
    assert wide.seen[:, 0].nnz == 8
    scorer = Scorer(wide)
    assert 5 not in scorer.recommend(fans[0].item(), 40)[0].tolist()
    places = [scorer.recommend(user, 40)[0].tolist().index(5) for user in (fans[8].item(), fans[-1].item())]
    assert places[0] < places[1]
    # Nobody else's score moves, to the last bit, nor does how somebody is folded in.
    before = Scorer(model)
    assert Scorer(model).with_items(new).predict(100, [5]) == scorer.predict(100, [5])
    for user in fans.tolist()[:12]:
        assert scorer.predict(user, model.items.values).tobytes() == before.predict(user, model.items.values).tobytes()
    assert scorer.fold_in([1000, 1003], [4, 5]).tobytes() == before.fold_in([1000, 1003], [4, 5]).tobytes()


def test_an_item_of_the_model_keeps_its_cells_and_gets_the_new_ones(model: FactorModel):
    item = model.items.values[3].item()
    rated = model.seen[:, 3].toarray().ravel()
    again, stranger = int(np.flatnonzero(rated)[0]), int(np.flatnonzero(rated == 0)[0])
    new = history(model.users.values[[again, stranger]].tolist(), [item, item], [0.5, 4.5])
    wide = with_items(model, new)
    expected = rated.copy()
    expected[[again, stranger]] = 0.5, 4.5
    assert wide.seen[:, 3].toarray().ravel().tolist() == expected.tolist()
    assert wide.seen.has_sorted_indices
    assert wide.seen.nnz == model.seen.nnz + 1
    column = sparse.csr_matrix(expected[None])
    assert wide.item_factors[:, 3].tobytes() == fold_in_items(model, column)[:, 0].tobytes()
    others = np.delete(np.arange(40), 3)
    assert wide.item_factors[:, others].tobytes() == model.item_factors[:, others].tobytes()
    assert folded_rows(wide.meta, 40).size == 0  # everybody could choose it: it still counts against who did not


def test_scores_are_transformed_as_the_fit_did():
    spec = TrainOptions(n_components=3, max_iter=10, holdout=0, transform="log1p")
    model = train(small_ratings(), spec).model
    users = model.users.values[:6].tolist()
    wide = with_items(model, history(users, [9999] * 6, [1, 2, 3, 4, 5, 0]))
    assert np.sort(wide.seen[:, 40].data).tolist() == np.log1p(np.arange(6, dtype=np.float32)).tolist()


def test_rows_in_the_metadata_move_with_the_items_and_files_keep_them(model: FactorModel, tmp_path):
    marked = replace(model, meta={**model.meta, COLD: {"rows": [0, 2], "new_rows": [2], "threshold": 5}})
    once = with_items(marked, history([100], [1], [3.0]))
    twice = with_items(once, history([101], [0], [3.0]))
    assert twice.meta[COLD] == {"rows": [2, 4], "new_rows": [4], "threshold": 5}
    assert twice.meta[FOLDED] == [0, 1]
    again = FactorModel.load(twice.save(tmp_path))
    assert folded_rows(again.meta, 42).tolist() == [0, 1]
    assert again.predict([3], [0]).tobytes() == twice.predict([3], [0]).tobytes()
    with pytest.raises(ArtifactError):
        Scorer(replace(model, meta={**model.meta, FOLDED: [99]})).prepare()


def test_what_cannot_be_folded_in_is_refused(model: FactorModel):
    with pytest.raises(BadRowsError):
        with_items(model, history([100], [1], [-1.0]))
    with pytest.raises(InputError):
        with_items(model, history([100], ["a"], [1.0]))
    with pytest.raises(InputError, match="3 users for a model of 30"):
        fold_in_items(model, sparse.csr_matrix((1, 3), dtype=np.float32))
    with pytest.raises(UsageError, match="elsa"):
        with_items(replace(model, meta={"model": "elsa", "fold_in": "linear"}), history([100], [1], [1.0]))
    with pytest.raises(UsageError, match="popularity"):
        Scorer(small_trained("popular")).with_items(history([100], [1], [1.0]))
    with pytest.raises(UsageError, match="without scores"):
        with_items(replace(model, seen=model.seen.astype(np.int8)), history([100], [1], [1.0]))
    assert fold_in_items(model, sparse.csr_matrix((0, 30), dtype=np.float32)).shape == (4, 0)
    assert len(widened(model, IdMap([1000])).items) == 40
