"""One compiled half-step against its slow twin: every width, both halves of the precision, edges of blocks."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import sparse
from support import naive_nmf as naive

from pipeline.data import block_reader
from pipeline.errors import UsageError
from pipeline.kernels import compiled
from pipeline.kernels.arguments import CsrRows, FixedFactor, SolvedFactor, StepOptions
from pipeline.models.solvers import half_steps

NONE = np.zeros((0, 0))


def problem(rows, columns, k, dtype, seed=0):
    rng = np.random.default_rng(seed)
    X = sparse.random(rows, columns, 0.2, "csr", dtype, rng=rng)
    X.data = np.round(X.data * 5 + 0.5).astype(dtype)
    width = -(-k // 16) * 16
    W, F = np.zeros((rows, width), dtype), np.zeros((columns, width), dtype)
    W[:, :k], F[:, :k] = rng.random((rows, k)), rng.random((columns, k))
    W[:, :k][rng.random((rows, k)) < 0.3] = 0
    return X, W, F


def step(X, F, W, k, *, lo=0, hi=None, given=None, l1=0.0, l2=0.0, past=None, scales=(1.0, 1.0), beta=0.0, gram=None,
         inverse=None, sweeps=1, once_under=0, watched=True, tol=0.0):  # fmt: skip
    """half_step with new arrays; returns own, new, gram_own, sums."""
    kind = (W if past is None else past).dtype.type
    width = W.shape[1]
    past = W if past is None else past
    own, new = np.zeros_like(W), np.zeros_like(past)
    if gram is None:
        gram = F.T @ F
    gram = gram.astype(kind)
    gram[range(k), range(k)] += kind(l2)
    gram_own, sums = np.zeros((width, width)), np.zeros(7)
    cells = CsrRows.of(lo, X.shape[0] if hi is None else hi, X.indptr, X.indices, X.data)
    product = np.zeros((0, width), kind) if given is None else given
    fixed = FixedFactor(F, kind(scales[0]), gram, NONE.astype(kind) if inverse is None else inverse, product)
    solved = SolvedFactor(W, past, own, kind(scales[1]), new)
    options = StepOptions(k, kind(l1), kind(beta), sweeps, once_under, watched, kind(tol))
    compiled().half_step(cells, fixed, solved, options, gram_own, sums)
    return own, new, gram_own, sums


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rows", "k"), [(1, 1), (7, 5), (63, 16), (66, 20), (5, 64), (3, 70)])
def test_a_sweep_is_its_naive_twins(watched, dtype, rows, k):
    X, W, F = problem(rows, 12, k, dtype)
    X.data[: X.indptr[1]] = 0  # a row without scores
    X.eliminate_zeros()
    expected, violation = naive.half_step(X.toarray(), F[:, :k], W[:, :k], l1=0.3, l2=0.2)
    own, new, gram_own, sums = step(X, F, W, k, l1=0.3, l2=0.2, watched=watched)
    close = {"rtol": 1e-10, "atol": 1e-12} if dtype == np.float64 else {"rtol": 2e-4, "atol": 2e-5}
    np.testing.assert_allclose(new[:, :k], expected, **close)
    assert not new[:, k:].any()
    assert np.array_equal(own, new)
    np.testing.assert_allclose(
        gram_own[:k, :k][np.triu_indices(k)], (expected.T @ expected)[np.triu_indices(k)], **close
    )
    b, G = X @ F[:, :k] - 0.3, F[:, :k].T @ F[:, :k] + 0.2 * np.eye(k)

    def objective(w):
        return 0.5 * np.sum((w @ G) * w) - np.sum(b * w)

    before = W[:, :k]
    told = [
        watched * violation, objective(before) - objective(expected), np.sum(b * before), np.sum((b + 0.3) * expected),
        expected.sum(), expected.sum(), np.sum(expected**2),
    ]  # fmt: skip
    np.testing.assert_allclose(sums, told, rtol=1e-4 if dtype == np.float32 else 1e-10, atol=1e-5)


@pytest.mark.parametrize("watched", [True, False])
def test_several_sweeps_are_several_sweeps(watched):
    X, W, F = problem(20, 12, 5, np.float64)
    expected, _ = naive.half_step(X.toarray(), F[:, :5], W[:, :5], sweeps=4)
    got = step(X, F, W, 5, sweeps=4, watched=watched)[1]
    np.testing.assert_allclose(got[:, :5], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 40, 700])
def test_a_row_of_few_cells_gets_one_sweep(dtype, rows):
    X, W, F = problem(rows, 12, 5, dtype)
    once, thrice = (naive.half_step(X.toarray(), F[:, :5], W[:, :5], sweeps=n)[0] for n in (1, 3))
    few = np.diff(X.indptr) < 5
    assert rows == 1 or 0 < few.mean() < 1
    expected = np.where(few[:, None], once, thrice)
    own, new, gram_own, sums = step(X, F, W, 5, sweeps=3, once_under=5, watched=False)
    close = {"rtol": 1e-9, "atol": 1e-12} if dtype == np.float64 else {"rtol": 1e-3, "atol": 1e-4}
    np.testing.assert_allclose(new[:, :5], expected, **close)
    assert np.array_equal(own, new)
    np.testing.assert_allclose(gram_own[np.triu_indices(5)], (expected.T @ expected)[np.triu_indices(5)], **close)
    b, G, before = X @ F[:, :5], F[:, :5].T @ F[:, :5], W[:, :5]

    def objective(w):
        return 0.5 * np.sum((w @ G) * w) - np.sum(b * w)

    told = [objective(before) - objective(expected), np.sum(b * before), np.sum(b * expected), expected.sum()]
    np.testing.assert_allclose(sums[1:5], told, rtol=1e-4 if dtype == np.float32 else 1e-9, atol=1e-5)
    dense = step(X, F, W, 5, sweeps=3, once_under=5, watched=False, given=(X @ F).astype(dtype))[1]
    np.testing.assert_allclose(dense[:, :5], thrice, **close)  # where X is dense, rows have no number of cells


def test_what_the_modules_take_at_a_time_is_the_same():
    assert compiled().BLOCK == half_steps.BLOCK == block_reader.STEP


def test_it_stops_when_a_sweep_no_longer_pays():
    X, W, F = problem(20, 12, 5, np.float64)
    W = step(X, F, W, 5, sweeps=3)[1]  # a row that a sweep empties is never short enough
    assert np.array_equal(step(X, F, W, 5, sweeps=50, tol=1e6)[1], step(X, F, W, 5, sweeps=1)[1])
    solved = step(X, F, W, 5, sweeps=5000, tol=1e-12)[1]
    assert naive.kkt(X.toarray(), F[:, :5], solved[:, :5]) < 1e-9


def test_own_goes_past_new_by_beta_and_not_under_zero():
    X, W, F = problem(70, 12, 20, np.float64)
    past = np.random.default_rng(5).random(W.shape)
    past[:, 20:] = 0
    own, new, gram_own, sums = step(X, F, W, 20, past=past, beta=0.7)
    np.testing.assert_allclose(own, np.maximum(new + 0.7 * (new - past), 0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(np.triu(gram_own), np.triu(own.T @ own), rtol=1e-10)
    np.testing.assert_allclose(sums[4:], [own.sum(), new.sum(), np.sum(new**2)])


def test_factors_at_half_the_width_are_the_rounded_factors():
    X, W, F = problem(40, 30, 20, np.float32)
    scales = (0.25, 4.0)
    half_F, half_W = ((a / s).astype(np.float16) for a, s in zip((F, W), scales, strict=True))
    F2, W2 = (a.astype(np.float32) * np.float32(s) for a, s in zip((half_F, half_W), scales, strict=True))
    expected = step(X, F2, W2, 20)
    own, new, gram_own, _ = step(
        X, half_F.view(np.uint16), half_W.view(np.uint16), 20, past=W, gram=F2.T @ F2, scales=scales
    )
    np.testing.assert_allclose(new, expected[1], rtol=1e-5, atol=1e-6)
    assert np.array_equal(own.view(np.float16), (new / np.float32(4)).astype(np.float16))
    stored = own.view(np.float16).astype(np.float64) * 4
    np.testing.assert_allclose(np.triu(gram_own), np.triu(stored.T @ stored), rtol=1e-5)


def test_a_half_float_never_becomes_infinite():
    rows = np.full((3, 16), 1e6, np.float32)
    stored, gram = np.zeros(rows.shape, np.uint16), np.zeros((16, 16))
    compiled().keep_rows(0, 3, rows, stored, np.float32(1), gram)
    assert (stored.view(np.float16) == 65504).all()
    assert gram[0, 0] == pytest.approx(3 * 65504.0**2)


def test_a_known_product_serves_as_well_as_cells():
    X, W, F = problem(66, 30, 20, np.float64)
    from_cells = step(X, F, W, 20, l1=0.1)
    given = step(X, F, W, 20, l1=0.1, given=X @ F)
    for a, b in zip(from_cells, given, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_the_inverse_starts_at_the_unconstrained_solution():
    X, W, F = problem(30, 40, 4, np.float64)
    X.data[:] += 50 * F[X.indices, 0]
    inverse = np.zeros((16, 16))
    inverse[:4, :4] = np.linalg.inv(F[:, :4].T @ F[:, :4])
    begun = step(X, F, np.zeros_like(W), 4, inverse=inverse, sweeps=0)[1]
    np.testing.assert_allclose(begun[:, :4], np.maximum(X @ F[:, :4] @ inverse[:4, :4], 0), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_is_the_same_bits_in_whatever_company(dtype):
    X, W, F = problem(150, 40, 33, dtype)
    new = step(X, F, W, 33, sweeps=300, tol=1e-5)[1]
    for lo, hi in ((0, 1), (17, 90), (149, 150)):
        assert np.array_equal(step(X, F, W, 33, lo=lo, hi=hi, sweeps=300, tol=1e-5)[1][lo:hi], new[lo:hi])
    picked = [3, 140, 9]
    assert np.array_equal(step(X[picked], F, W[picked], 33, sweeps=300, tol=1e-5)[1], new[picked])


def test_cells_are_of_one_type_wherever_they_lie(tmp_path):
    numba = pytest.importorskip("numba")
    indptr, indices, data = np.array([0, 2]), np.array([1, 4]), np.ones(2, np.float32)
    data.tofile(tmp_path / "data")
    mapped = np.memmap(tmp_path / "data", np.float32, "r")
    first = CsrRows.of(0, 1, indptr, indices, data)
    second = CsrRows.of(np.int64(0), np.int64(1), indptr.astype(np.int32), indices.astype(np.int32), mapped)
    assert numba.typeof(first) == numba.typeof(second)
    assert indptr.flags.writeable


def test_without_numba_it_says_what_to_install(monkeypatch):
    for name in [n for n in sys.modules if n.startswith("pipeline.kernels.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("pipeline.kernels.half_step", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(UsageError, match=r"needs numba, .* --solver sklearn"):
        compiled()


def test_python_cannot_call_a_part_of_a_kernel():
    """Where it were not refused, the process would end by a jump to address 0."""
    import numba

    part = compiled("topk")._sort
    arguments = (np.zeros(2, np.int64), 2, np.zeros((1, 2), np.float32), 0)
    part.compile(tuple(map(numba.typeof, arguments)))
    with pytest.raises(TypeError, match=r"_sort is a part of compiled functions"):
        part(*arguments)
