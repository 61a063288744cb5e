"""Where random factors begin: by the id and the seed, whoever else is there."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn import decomposition
from sklearn.decomposition._nmf import _initialize_nmf
from support.contract_data import make_interactions

from pipeline.data.id_map import IdMap
from pipeline.data.interactions import Interactions
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import prepare_interactions
from pipeline.models import starts
from pipeline.models.nmf import NMF
from pipeline.models.registry import find
from pipeline.models.starts import half_normal_rows, mean_of, random_factors
from pipeline.models.weighted_nmf import WeightedNMF
from pipeline.options import TrainOptions


@pytest.mark.parametrize("ids", [[-3, 5, 9, 2**62], ["7", "a", "ab", "żółw"]])
def test_numbers_of_a_start_depend_on_the_id_alone(ids):
    whole = half_normal_rows(IdMap(ids), 6, 42, "users")
    assert whole.dtype == np.float32
    for row, known in enumerate(ids):
        assert half_normal_rows(IdMap([known]), 6, 42, "users").tobytes() == whole[row].tobytes()
    others = [half_normal_rows(IdMap(ids), 6, seed, side).tobytes() for seed in (1, 42) for side in ("users", "items")]
    assert len(set(others)) == 4


def test_they_are_absolute_values_of_normal_numbers():
    numbers = half_normal_rows(IdMap(np.arange(40_000)), 5, 0, "items")
    assert (numbers >= 0).all()
    assert np.isfinite(numbers).all()
    assert numbers.mean() == pytest.approx(np.sqrt(2 / np.pi), abs=0.005)
    assert (numbers**2).mean() == pytest.approx(1, abs=0.01)
    assert (numbers**4).mean() == pytest.approx(3, abs=0.1)
    assert np.abs(np.corrcoef(numbers.T) - np.eye(5)).max() < 0.03


def larger() -> tuple[Interactions, Interactions]:
    """Interactions, and the same with a user and an item more, whose ids stand before and between the others'."""
    x = make_interactions("int")
    users, items = x.user_ids.values[x.users], x.item_ids.values[x.items]
    user, item = int(users.min()) - 1, int(items.min()) - 1
    more = Interactions.of(
        np.append(users, [user, users[0]]), np.append(items, [items[0], item]), np.append(x.scores, [4.0, 2.0])
    )
    return Interactions.of(users, items, x.scores), more


WEIGHTED = {"unobserved_weight": 0.3, "alpha_W": 0.01}


@pytest.mark.parametrize(
    ("estimator", "options", "plain"),
    [(NMF, {}, 4), (WeightedNMF, WEIGHTED, 4), (WeightedNMF, {"unobserved_weight": 0.0, "biases": "yes"}, 2)],
)
def test_in_a_training_a_new_user_and_item_leave_the_others_starts(estimator, options, plain, monkeypatch):
    begun, start = [], estimator._start

    def recorded(self, *args):
        W, H = start(self, *args)
        begun.append((W[:, :plain].copy(), H[:plain].T.copy()))
        return W, H

    monkeypatch.setattr(estimator, "_start", recorded)
    spec = TrainOptions(n_components=4, max_iter=2, min_data=1, **options)
    matrices = []
    for x in larger():
        matrices.append(to_matrix(prepare_interactions(x, "last", None, None, 1).interactions))
        find("nmf").fit(matrices[-1], spec)
    for side, (before, after) in zip(("users", "items"), zip(*begun, strict=True), strict=True):
        rows = getattr(matrices[1], side).rows(getattr(matrices[0], side).values)
        assert len(rows) == len(after) - 1
        ratio = after[rows] / before  # one level for all, that of the scores
        assert ratio == pytest.approx(ratio[0, 0], rel=1e-5)


def test_the_estimator_and_the_solver_of_scikit_learn_keep_its_draw():
    x = sparse.csr_matrix(make_dense())
    options = {"n_components": 4, "init": "random", "random_state": 42, "max_iter": 30, "tol": 0.0}
    theirs = decomposition.NMF(**options)
    expected = theirs.fit_transform(x)
    assert NMF(**options, accelerate=False).fit_transform(x) == pytest.approx(expected, rel=1e-3, abs=1e-4)
    matrix = to_matrix(prepare_interactions(make_interactions("int"), "last", None, None, 1).interactions)
    spec = TrainOptions(solver="sklearn", n_components=4, max_iter=30, tol=0.0, min_data=1)
    trained = find("nmf").fit(matrix, spec).model
    assert np.array_equal(trained.user_factors, decomposition.NMF(**options).fit_transform(matrix.scores))


def make_dense() -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.where(rng.random((30, 20)) < 0.4, rng.integers(1, 6, (30, 20)), 0).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_the_random_start_has_the_bits_of_scikit_learns(monkeypatch, form, dtype):
    monkeypatch.setattr(starts, "_LEAF", 128)
    x = sparse.random(290, 170, 0.1, "csr", dtype, rng=np.random.default_rng(0))
    given = x.toarray() if form == "dense" else x.asformat(form)
    assert mean_of(given) == given.mean()
    assert mean_of(given).dtype == dtype
    theirs = _initialize_nmf(given, 6, init="random", random_state=5)
    for ours, expected in zip(random_factors(given, 6, 5), theirs, strict=True):
        assert ours.dtype == dtype
        assert np.array_equal(ours, expected)
