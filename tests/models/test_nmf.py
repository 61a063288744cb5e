"""The estimator: scikit-learn's contract, its very steps where asked for, its words on bad input."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn import decomposition
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.estimator_checks import check_estimator
from support import naive_nmf as naive

from pipeline.models.nmf import NMF

Reference = decomposition.NMF
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

PENALTIES = [
    {},
    {"alpha_W": 0.001, "l1_ratio": 0.5},
    {"alpha_W": 0.002, "alpha_H": 0.0},
    {"alpha_W": 0.002, "alpha_H": 0.001},
]


def matrix(dtype=np.float64, dense=False, rows=90, columns=70, seed=0):
    X = sparse.random(rows, columns, 0.2, "csr", dtype, rng=np.random.default_rng(seed))
    X.data = np.ceil(X.data * 5).astype(dtype)
    return X.toarray() if dense else X


def close(a, b, rel):
    np.testing.assert_allclose(a, b, rtol=rel, atol=rel * np.abs(b).max())


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("init", [None, "random", "nndsvd", "nndsvda", "nndsvdar"])
def test_unaccelerated_it_is_scikit_learns(init, penalty, dense):
    if init in (None, "nndsvda") and "alpha_H" in penalty and penalty["alpha_H"] > 0:
        pytest.skip("the first component shrinks to 1e-17 here and grows again from rounding, in scikit-learn too")
    X = matrix(dense=dense)
    options = {"n_components": 7, "init": init, "random_state": 3, "tol": 1e-3, **penalty}
    ours, theirs = NMF(accelerate=False, **options), Reference(**options)
    close(ours.fit_transform(X), theirs.fit_transform(X), 1e-8)
    close(ours.components_, theirs.components_, 1e-8)
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.reconstruction_err_ == pytest.approx(theirs.reconstruction_err_, rel=1e-9)
    close(ours.transform(X), theirs.transform(X), 1e-8)
    assert ours.components_.flags.f_contiguous == theirs.components_.flags.f_contiguous


def test_unaccelerated_in_float32_it_is_scikit_learns_for_fifty_iterations():
    X = matrix(np.float32)
    options = {"n_components": 20, "init": "random", "random_state": 3, "tol": 0, "max_iter": 50}
    ours, theirs = NMF(accelerate=False, **options), Reference(**options)
    close(ours.fit_transform(X), theirs.fit_transform(X), 1e-3)
    close(ours.components_, theirs.components_, 1e-3)
    assert ours.components_.dtype == np.float32


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_accelerated_it_ends_on_w_and_is_no_worse_than_scikit_learn(dtype, penalty):
    X = matrix(dtype)
    options = {"n_components": 7, "init": "random", "random_state": 0, "tol": 1e-6, "max_iter": 400, **penalty}
    model, theirs = NMF(**options), Reference(**options)
    W = model.fit_transform(X)
    assert W.dtype == model.components_.dtype == dtype
    assert np.array_equal(model.transform(X), W)
    assert np.array_equal(model.transform(X[4:6]), W[4:6])
    assert model.reconstruction_err_ == pytest.approx(naive.loss(X.toarray(), W, model.components_), rel=1e-4)
    weights = 70 * model.alpha_W, 90 * (model.alpha_W if model.alpha_H == "same" else model.alpha_H)
    p = [w * r for w in weights for r in (model.l1_ratio, 1 - model.l1_ratio)]
    goal = naive.loss(X.toarray(), theirs.fit_transform(X), theirs.components_, p)
    reached = naive.loss(X.toarray(), W, model.components_, p)
    assert reached <= goal * 1.005  # another local minimum may be a little higher
    assert model.loss_curve_[-1] == pytest.approx(reached, rel=1e-3)
    assert model.n_iter_ == len(model.loss_curve_)


def test_scikit_learns_checks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(NMF())


def test_it_begins_at_a_custom_start_and_leaves_it_alone():
    X = matrix(np.float32)
    rng = np.random.default_rng(1)
    W, H = rng.random((90, 5), np.float32), rng.random((5, 70), np.float32)
    copies = W.copy(), H.copy()
    for array in (W, H, X.data, X.indices, X.indptr):
        array.flags.writeable = False
    ours, theirs = NMF(init="custom", accelerate=False, max_iter=3), Reference(init="custom", max_iter=3)
    close(ours.fit_transform(X, W=W, H=H), theirs.fit_transform(X, W=W.copy(), H=H.copy()), 1e-4)
    NMF(5, init="custom").fit(X, W=W, H=H)
    assert np.array_equal(W, copies[0])
    assert np.array_equal(H, copies[1])


def variants(X):
    indices64 = X.copy()
    indices64.indices, indices64.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    unsorted = X.copy()
    for u in range(X.shape[0]):
        at = slice(X.indptr[u], X.indptr[u + 1])
        unsorted.indices[at], unsorted.data[at] = X.indices[at][::-1].copy(), X.data[at][::-1].copy()
    unsorted.has_sorted_indices = False
    # Each score in two cells of the same place: 1 and the rest.
    rows = list(zip(X.indptr[:-1], np.diff(X.indptr), strict=True))
    twice = sparse.csr_matrix(
        (np.concatenate([np.concatenate([np.full(c, 1.0), X.data[a : a + c] - 1]) for a, c in rows]),
         np.concatenate([np.tile(X.indices[a : a + c], 2) for a, c in rows]), 2 * X.indptr),
        shape=X.shape,
    )  # fmt: skip
    assert (twice.toarray() == X.toarray()).all()
    return {"int64": indices64, "unsorted": unsorted, "duplicates": twice, "csc": X.tocsc(), "coo": X.tocoo(),
            "array": sparse.csr_array(X), "fortran": np.asfortranarray(X.toarray()), "lists": X.toarray().tolist(),
            "integers": X.astype(np.int64)}  # fmt: skip


@pytest.mark.parametrize(
    "name", ["int64", "unsorted", "duplicates", "csc", "coo", "array", "fortran", "lists", "integers"]
)
def test_however_the_matrix_is_stored(name):
    X = matrix()
    given = variants(X)[name]
    before = given.copy()
    model = NMF(4, init="random", random_state=0, max_iter=20)
    expected = model.fit_transform(X)
    err = model.reconstruction_err_
    np.testing.assert_allclose(model.fit_transform(given), expected, rtol=1e-5, atol=1e-7)
    assert model.reconstruction_err_ == pytest.approx(err, rel=1e-9)
    if sparse.issparse(given) and given.format in ("csr", "csc"):
        assert np.array_equal(given.data, before.data)
        assert np.array_equal(given.indices, before.indices)


def spoilt(value):
    X = matrix()
    X.data[3] = value
    return X


ONES = np.ones
BAD = [
    ({}, (spoilt(-1.0),), {}),
    ({}, (spoilt(np.nan),), {}),
    ({}, (spoilt(np.inf),), {}),
    ({}, (-ONES((3, 2)),), {}),
    ({}, (ONES(3),), {}),
    ({}, (ONES((0, 3)),), {}),
    ({}, (ONES((3, 0)),), {}),
    ({}, (np.array([["a", "b"]]),), {}),
    ({}, (ONES((2, 2)) * 1j,), {}),
    ({"n_components": 0}, (matrix(),), {}),
    ({"n_components": 2.5}, (matrix(),), {}),
    ({"tol": -1}, (matrix(),), {}),
    ({"alpha_W": -1}, (matrix(),), {}),
    ({"l1_ratio": 2}, (matrix(),), {}),
    ({"n_components": 80, "init": "nndsvd"}, (matrix(),), {}),
    ({"init": "custom"}, (matrix(),), {"W": ONES((9, 3)), "H": ONES((3, 70))}),
    ({"init": "custom"}, (matrix(),), {"W": ONES((90, 3)), "H": ONES((3, 7))}),
    ({"init": "custom"}, (matrix(),), {"W": -ONES((90, 3)), "H": ONES((3, 70))}),
    ({"init": "custom"}, (matrix(),), {"W": ONES((90, 3)), "H": 0 * ONES((3, 70))}),
    ({"init": "custom"}, (matrix(),), {"W": ONES((90, 3), np.float32), "H": ONES((3, 70))}),
    ({"init": "custom"}, (matrix(),), {}),
]


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_input_is_refused_in_scikit_learns_words(case):
    options, args, start = BAD[case]
    with pytest.raises(Exception) as theirs:  # noqa: PT011 - whatever it is, ours is the same
        Reference(**options).fit(*args, **start)
    with pytest.raises(theirs.type) as ours:
        NMF(**options).fit(*args, **start)
    assert " ".join(str(ours.value).split()) == " ".join(str(theirs.value).split())


def test_factors_that_do_not_fit_each_other_are_refused():
    # scikit-learn 1.9 reads past the end of W here.
    with pytest.raises(ValueError, match=r"wrong second dimension .*input W.* Expected 4, but got 3"):
        NMF(init="custom").fit(matrix(), W=np.ones((90, 3)), H=np.ones((4, 70)))


def test_a_negative_score_is_refused_from_a_custom_start_too():
    with pytest.raises(ValueError, match="Negative values in data passed to NMF"):
        NMF(init="custom").fit(spoilt(-1.0), W=np.ones((90, 3)), H=np.ones((3, 70)))


def test_transform_refuses_what_scikit_learn_refuses():
    X = matrix()
    models = NMF(3, init="random", max_iter=5).fit(X), Reference(3, init="random", max_iter=5).fit(X)
    for bad in (spoilt(-1.0), spoilt(np.nan), X[:, :5], X.astype(np.float32)):
        messages = []
        for model in models:
            with pytest.raises((ValueError, TypeError)) as error:
                model.transform(bad)
            messages.append((error.type, str(error.value)))
        assert messages[0] == messages[1]
    with pytest.raises(NotFittedError):
        NMF().transform(X)


@pytest.mark.parametrize("accelerate", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_edges_have_right_answers(accelerate, dtype):
    model = NMF(3, init="random", random_state=0, accelerate=accelerate)
    zero = sparse.csr_matrix((6, 5), dtype=dtype)
    assert not model.fit_transform(zero).any()
    assert model.reconstruction_err_ == 0
    assert not model.fit_transform(np.zeros((6, 5), dtype)).any()
    X = matrix(dtype)
    X.data[X.indptr[4] : X.indptr[5]] = 0  # a row of stored zeros, and an empty column
    X.data[X.indices == 9] = 0
    W = model.fit_transform(X)
    assert np.isfinite(W).all()
    if accelerate:
        assert not W[4].any()
    assert np.isfinite(model.components_).all()
    assert not model.components_[:, 9].any()
    many = NMF(12, random_state=0, accelerate=accelerate).fit(X[:6, :5])  # k past both sides
    assert many.components_.shape == (12, 5)
    assert many.reconstruction_err_ < 0.1 * np.sqrt((X[:6, :5].toarray() ** 2).sum()) + 1e-3
    assert NMF(1, init="random", accelerate=accelerate).fit_transform(np.ones((1, 1), dtype)).shape == (1, 1)


def test_a_rank_one_matrix_is_found_exactly():
    X = np.outer(np.arange(1.0, 8), np.arange(1.0, 6))
    model = NMF(1, init="random", random_state=0)
    np.testing.assert_allclose(model.inverse_transform(model.fit_transform(X)), X, rtol=1e-8)
    assert model.reconstruction_err_ < 1e-5


def test_progress_is_told_and_survives_a_clone():
    calls = []
    model = clone(NMF(4, init="random", random_state=0, max_iter=7, tol=0, callback=lambda i, x: calls.append((i, x))))
    model.fit(matrix())
    assert calls == list(enumerate(model.loss_curve_, 1))
    assert len(calls) == model.n_iter_ == 7


def test_it_warns_when_iterations_run_out(recwarn):
    with pytest.warns(ConvergenceWarning, match="Maximum number of iterations 2 reached"):
        NMF(4, init="random", random_state=0, max_iter=2, accelerate=False).fit(matrix())


def test_params_names_and_pickles():
    import pandas as pd

    table = pd.DataFrame(matrix(dense=True, columns=3), columns=["a", "b", "c"])
    model = NMF(2, init="random", random_state=0, n_threads=1).set_output(transform="pandas")
    W = model.fit_transform(table)
    assert list(W.columns) == ["nmf0", "nmf1"] == list(model.get_feature_names_out())
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    again = pickle.loads(pickle.dumps(model))
    assert again.transform(table).equals(W)
    assert clone(model).get_params() == model.get_params()


def test_the_same_seed_gives_the_same_bytes():
    X = matrix(np.float32)
    first, two = (NMF(4, init="random", random_state=1, n_threads=n).fit(X) for n in (1, 2))
    assert first.components_.tobytes() == two.components_.tobytes()
    assert not np.array_equal(first.components_, NMF(4, init="random", random_state=2).fit(X).components_)
