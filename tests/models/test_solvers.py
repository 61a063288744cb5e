"""The alternation: its twin, its loss, threads that change no bit, interruption."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from support import naive_nmf as naive
from support.examples import examples

from pipeline.models.solvers import half_steps, nmf, sample
from pipeline.models.solvers.engine import LOCAL
from pipeline.models.solvers.nmf import Penalty, factorize, fold_in
from pipeline.runtime.threads import ThreadPool

PENALTY = Penalty(0.3, 0.2, 0.1, 0.4)
PLAIN_PENALTY = (0.3, 0.2, 0.1, 0.4)


def problem(rows=60, columns=40, k=6, dtype=np.float64, seed=0, density=0.2):
    rng = np.random.default_rng(seed)
    X = sparse.random(rows, columns, density, "csr", dtype, rng=rng)
    X.data = np.ceil(X.data * 5).astype(dtype)
    return X, rng.random((rows, k)).astype(dtype), rng.random((k, columns)).astype(dtype)


@pytest.fixture
def many_pieces(monkeypatch):
    """Small problems are cut as large ones are."""
    monkeypatch.setattr(half_steps, "PIECE", 50)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("penalty", [Penalty(), PENALTY])
def test_plain_steps_are_the_naive_twins(dense, penalty):
    X, W, H = problem(14, 11, 3)
    plain = (penalty.l1_w, penalty.l2_w, penalty.l1_h, penalty.l2_h)
    expected_W, expected_H = naive.alternate(X.toarray(), W, H, 4, plain)
    fitted = factorize(X.toarray() if dense else X, W, H, penalty=penalty, accelerate=False, max_iter=4, tol=0)
    np.testing.assert_allclose(fitted.W, expected_W, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fitted.H, expected_H, rtol=1e-9, atol=1e-12)
    assert fitted.losses[-1] == pytest.approx(fitted.loss, rel=1e-12)
    assert fitted.loss == pytest.approx(naive.loss(X.toarray(), fitted.W, fitted.H, plain), rel=1e-10)
    assert fitted.error == pytest.approx(naive.loss(X.toarray(), fitted.W, fitted.H), rel=1e-10)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("penalty", [Penalty(), PENALTY])
def test_accelerated_it_tells_the_loss_of_what_it_returns(dense, dtype, penalty):
    X, W, H = problem(dtype=dtype)
    fitted = factorize(X.toarray() if dense else X, W, H, penalty=penalty, max_iter=60, tol=1e-6)
    plain = (penalty.l1_w, penalty.l2_w, penalty.l1_h, penalty.l2_h)
    rel = 1e-4 if dtype == np.float32 else 1e-9
    assert fitted.loss == pytest.approx(naive.loss(X.toarray(), fitted.W, fitted.H, plain), rel=rel)
    assert fitted.error == pytest.approx(naive.loss(X.toarray(), fitted.W, fitted.H), rel=rel)
    assert fitted.losses == sorted(fitted.losses, reverse=True)
    assert fitted.loss <= fitted.losses[-1] * (1 + rel)
    assert fitted.W.dtype == fitted.H.dtype == dtype


@pytest.mark.parametrize("penalty", [Penalty(), PENALTY])
def test_w_solves_its_half_against_the_final_h(penalty):
    X, W, H = problem()
    fitted = factorize(X, W, H, penalty=penalty, max_iter=10, tol=0)
    assert naive.kkt(X.toarray(), fitted.H.T, fitted.W, penalty.l1_w, penalty.l2_w) < 1e-8
    assert np.array_equal(fold_in(X, fitted.H, penalty=penalty), fitted.W)
    assert np.array_equal(fold_in(X[[5, 59, 7]], fitted.H, penalty=penalty), fitted.W[[5, 59, 7]])


def test_at_the_end_both_halves_are_solved():
    X, W, H = problem(30, 20, 3)
    fitted = factorize(X, W, H, penalty=PENALTY, max_iter=2000, tol=0)
    assert naive.kkt(X.toarray(), fitted.H.T, fitted.W, PENALTY.l1_w, PENALTY.l2_w) < 1e-6
    assert naive.kkt(X.T.toarray(), fitted.W, fitted.H.T, PENALTY.l1_h, PENALTY.l2_h) < 1e-6


def test_acceleration_pays():
    X, W, H = problem(300, 200, 10, density=0.1)
    goal = factorize(X, W, H, accelerate=False, max_iter=50, tol=0).losses[-1]
    losses = factorize(X, W, H, max_iter=40, tol=0).losses
    assert losses[-1] <= goal


def test_an_iteration_over_a_sample_is_one_over_all_rows_where_these_are_alike(monkeypatch):
    monkeypatch.setattr(sample, "MORE", 5)  # no component more for four
    X, W, H = problem(20, 30, 4)
    X, W = sparse.csr_matrix(sparse.kron(X, np.ones((3, 1)))), np.repeat(W, 3, axis=0)
    left, right = half_steps.PaddedFactor(half_steps.padded(W), 4), half_steps.PaddedFactor(half_steps.padded(H.T), 4)
    with LOCAL.open() as engine:
        nmf._begin(X, left, right, 3, PENALTY, 1, engine)
    expected_W, expected_H = naive.alternate(X.toarray(), W, H, 1, PLAIN_PENALTY)
    np.testing.assert_allclose(left.new[::3, :4], expected_W[::3], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(right.new[:, :4].T, expected_H, rtol=1e-9, atol=1e-12)
    assert np.array_equal(left.new[1::3, :4], W[1::3])


def test_a_sample_is_taken_where_it_has_enough_cells_a_column_and_rows_a_component():
    def found(users, items, cells):
        X = sparse.csr_matrix((users, items), dtype=np.float32)
        X.indices, X.data = np.zeros(cells, np.int32), np.zeros(cells, np.int8)
        X.indptr[-1] = cells
        return sample.distance(X, 20)

    assert found(10_000, 2_500, 1_000_000) == 4
    assert found(10_000, 2_501, 1_000_000) == 2
    assert found(10_000, 10_000, 1_000_000) == 2
    assert found(10_000, 10_001, 1_000_000) == 0
    assert found(10_000, 100, 999_999) == 0
    assert found(10_000, 100, 33_000_000) == 5
    assert found(8_000, 2_500, 1_000_000) == 4
    assert found(7_999, 2_500, 1_000_000) == 2  # at least 100 rows of the sample for each of 20 components
    assert found(4_000, 2_500, 1_000_000) == 2
    assert found(3_999, 2_500, 1_000_000) == 0
    assert sample.distance(np.ones((9, 9)), 2) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_start_gets_half_as_many_more_components_by_the_numbers_of_each_row(dtype):
    _, W, _ = problem(600, 40, 9, dtype)
    out = sample.extended(half_steps.padded(W), 9)
    assert (out.shape, out.dtype, sample.begun_with(9)) == ((600, 16), dtype, 13)
    assert np.array_equal(out[:, :9], W)
    more = out[:, 9:13]
    assert more.min() >= 0
    assert more.max() <= 2 * W.mean() * (1 + 1e-6)
    assert more.mean() == pytest.approx(W.mean(), rel=0.05)
    assert np.abs(np.corrcoef(np.hstack([W, more]), rowvar=False) - np.eye(13)).max() < 0.2
    assert not out[:, 13:].any()
    louder = sample.extended(W * dtype(1.001), 9) / dtype(1.001)
    assert np.isclose(louder, out, rtol=1e-3).mean() > 0.99  # but for digits that rounding carries
    turned = np.roll(W, 1, axis=0)
    np.testing.assert_allclose(sample.extended(turned, 9)[1:, :13], out[:-1, :13], rtol=1e-6)
    assert not sample.extended(np.zeros((3, 9), dtype), 9).any()


@settings(max_examples=examples(40))
@given(seed=st.integers(0, 999), m=st.integers(2, 9), n=st.integers(2, 6), share=st.floats(0.2, 1))
def test_the_two_components_are_merged_that_one_describes_best(seed, m, n, share):
    rng = np.random.default_rng(seed)
    W, H = (rng.random((rows, n)) * (rng.random((rows, n)) < share) for rows in (m, m + 2))
    P, Q = sample.merging(W.T @ W, H.T @ H, n - 1)
    assert P.shape == Q.shape == (n, n - 1)
    assert min(P.min(), Q.min()) >= 0
    costs = [  # the slow twin: the second singular value of each two
        np.linalg.svd(W[:, [s, t]] @ H[:, [s, t]].T)[1][1] for s in range(n) for t in range(s)
    ]
    cost = np.linalg.norm(W @ H.T - (W @ P) @ (H @ Q).T)
    assert cost == pytest.approx(min(costs), rel=1e-6, abs=1e-6)


def test_components_that_are_alike_are_merged_without_loss():
    rng = np.random.default_rng(3)
    W, H = rng.random((30, 5)), rng.random((20, 5))
    alike = np.array([0, 1, 2, 3, 4, 1, 4, 1])
    W, H = W[:, alike] * rng.random(8), H[:, alike] * rng.random(8)
    P, Q = sample.merging(W.T @ W, H.T @ H, 5)
    np.testing.assert_allclose((W @ P) @ (H @ Q).T, W @ H.T, rtol=1e-6)


def test_from_more_components_each_group_gets_one(monkeypatch):
    """Twelve groups of users, each with items of its own: twelve components leave nothing to explain."""
    monkeypatch.setattr(sample, "LARGE", 0)
    monkeypatch.setattr(sample, "LEAST_CELLS", 0)
    monkeypatch.setattr(sample, "LEAST_ROWS", 0)
    monkeypatch.setattr(sample, "EVERY", (2,))
    X = sparse.csr_matrix(np.kron(np.eye(12), np.ones((10, 5))))

    def left(seed):
        rng = np.random.default_rng(seed)
        W, H = np.abs(rng.standard_normal((120, 12))), np.abs(rng.standard_normal((12, 60)))
        return factorize(X, W, H, random_start=True, max_iter=60, tol=0).error

    assert max(map(left, range(10))) < 0.01
    monkeypatch.setattr(sample, "MORE", 99)
    assert max(map(left, range(10))) > 1  # as many as groups: some groups share one


def test_an_interrupt_of_the_sample_leaves_the_start(monkeypatch):
    monkeypatch.setattr(sample, "LARGE", 0)
    monkeypatch.setattr(sample, "LEAST_CELLS", 0)
    monkeypatch.setattr(sample, "LEAST_ROWS", 0)

    def half_step(*arguments, **options):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(nmf, "half_step", half_step)
    X, W, H = problem()
    result = factorize(X, W, H, random_start=True, keep_interrupted=True)
    assert (result.interrupted, result.n_iter) == (True, 0)
    assert np.array_equal(result.H, H)
    assert np.array_equal(result.W, fold_in(X, H))


def test_half_width_changes_the_loss_by_its_rounding_only(monkeypatch):
    X, W, H = problem(200, 150, 8, np.float32)
    wide = factorize(X, W, H, max_iter=15, tol=0)
    monkeypatch.setattr(nmf, "NARROW_BYTES", 0)
    narrow = factorize(X, W, H, max_iter=15, tol=0)
    assert not np.array_equal(wide.H, narrow.H)
    assert narrow.loss == pytest.approx(wide.loss, rel=2e-3)
    assert narrow.loss == pytest.approx(naive.loss(X.toarray(), narrow.W, narrow.H), rel=1e-4)
    # Where the rounding would show, the width is full again.
    monkeypatch.setattr(nmf, "NARROW_UNTIL", 1.0)
    assert factorize(X, W, H, max_iter=15, tol=0).loss == pytest.approx(wide.loss, rel=2e-3)


def test_the_width_stays_half_after_an_extrapolation_that_went_too_far(monkeypatch):
    monkeypatch.setattr(nmf, "NARROW_BYTES", 0)
    widened = []
    monkeypatch.setattr(half_steps.PaddedFactor, "widen", lambda factor: widened.append(factor))
    X, W, H = problem(300, 200, 10, np.float32, density=0.1)
    losses = factorize(X, W, H, max_iter=30, tol=0).losses
    assert 0.0 in np.diff(losses)  # an iteration was undone
    assert losses[-3] - losses[-1] > 1e-5 * losses[-1]
    assert not widened


@pytest.mark.parametrize("accelerate", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_change_no_bit(many_pieces, monkeypatch, accelerate, dtype):
    monkeypatch.setattr(nmf, "NARROW_BYTES", 0)
    X, W, H = problem(200, 150, 8, dtype)
    assert len(half_steps.Cells.of(X, 8).cuts) > 10
    first = factorize(X, W, H, accelerate=accelerate, max_iter=6, n_threads=1)
    for n in (2, 3, 7):
        other = factorize(X, W, H, accelerate=accelerate, max_iter=6, n_threads=n)
        assert np.array_equal(first.W, other.W)
        assert np.array_equal(first.H, other.H)
        assert first.losses == other.losses


def test_several_python_threads_at_once(many_pieces):
    problems = [problem(150, 100, 8, seed=s) for s in range(6)]
    alone = [factorize(*p, max_iter=5, n_threads=2) for p in problems]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda p: factorize(*p, max_iter=5, n_threads=2), problems))
    for a, b in zip(alone, together, strict=True):
        assert np.array_equal(a.W, b.W)
        assert np.array_equal(a.H, b.H)


def test_pieces_cover_every_row_once_and_share_the_cells(many_pieces):
    X = sparse.random(470, 80, 0.02, "csr", rng=np.random.default_rng(0))
    X = sparse.csr_matrix(sparse.vstack([X, np.ones((31, 80))]))
    cuts = half_steps.Cells.of(X, 8).cuts
    assert cuts[0] == 0
    assert cuts[-1] == 501
    assert (np.diff(cuts) > 0).all()
    assert np.diff(X.indptr[cuts]).max() < 0.1 * X.nnz


@settings(max_examples=examples(40))
@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    density=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    threads=st.sampled_from([1, 2, 5, 20]),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 99),
)
def test_cells_by_column_are_scipys(shape, density, threads, dtype, seed):
    X = sparse.random(*shape, density, "csr", dtype, rng=np.random.default_rng(seed))
    expected = half_steps.Cells.of(X.T.tocsr(), 5)
    with ThreadPool(threads) as pool:
        got = half_steps.Cells.of(X, 5).transposed(X.shape[1], 5, pool)
    for name in ("indptr", "indices", "data", "cuts"):
        a, b = getattr(got, name), getattr(expected, name)
        assert np.array_equal(a, b), name
        assert a.dtype == b.dtype, name


def test_an_interrupt_ends_the_fit_where_it_is():
    X, W, H = problem()
    calls = []

    def on_iteration(iteration, loss):
        calls.append(iteration)
        if iteration == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        factorize(X, W, H, tol=0, on_iteration=on_iteration)
    assert calls == [1, 2, 3]


@pytest.mark.parametrize("accelerate", [False, True])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("at", [1, 20])
def test_what_an_interrupt_found_is_kept_where_asked(monkeypatch, accelerate, narrow, at):
    """Wherever it falls, in the middle of a half-step too, the factors are whole and their loss is told."""
    if narrow:
        monkeypatch.setattr(nmf, "NARROW_BYTES", 0)
    X, W, H = problem(dtype=np.float32)
    steps, real = [], nmf.half_step

    def half_step(*arguments, **options):
        steps.append(None)
        result = real(*arguments, **options)
        if len(steps) == at:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(nmf, "half_step", half_step)
    result = factorize(X, W, H, tol=0, accelerate=accelerate, keep_interrupted=True)
    assert result.interrupted
    assert not result.converged
    assert result.n_iter == len(result.losses) == (at - 1) // 2
    assert result.error == pytest.approx(naive.loss(X.toarray(), result.W, result.H), rel=1e-4)
    if accelerate:
        assert result.error <= ([*result.losses, naive.loss(X.toarray(), W, H)][0 if at == 1 else -2]) * (1 + 1e-6)
        assert np.array_equal(fold_in(X, result.H), result.W)
    steps[:] = [None] * (at - 1)
    with pytest.raises(KeyboardInterrupt):
        factorize(X, W, H, tol=0, accelerate=accelerate)


@pytest.mark.slow
def test_numba_is_not_imported_before_a_fit():
    code = "import sys, pipeline.models.nmf, pipeline.models.solvers.nmf; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@settings(max_examples=examples(40))
@given(
    st.integers(1, 70), st.integers(1, 40), st.integers(1, 20), st.floats(0, 1), st.integers(0, 2**32 - 1),
    st.sampled_from([np.float32, np.float64]), st.booleans(), st.sampled_from([Penalty(), PENALTY]),
)  # fmt: skip
def test_any_matrix_gives_finite_factors_and_a_falling_loss(
    rows, columns, k, density, seed, dtype, accelerate, penalty
):
    X, W, H = problem(rows, columns, k, dtype, seed, density)
    before = X.copy(), W.copy(), H.copy()
    fitted = factorize(X, W, H, penalty=penalty, accelerate=accelerate, max_iter=12)
    for factor in (fitted.W, fitted.H):
        assert np.isfinite(factor).all()
        assert (factor >= 0).all()
    noise = 2e-3 if dtype == np.float32 else 1e-6
    size = float(np.sqrt((X.data.astype(np.float64) ** 2).sum())) + 1e-9
    assert (np.diff(fitted.losses) <= noise * size).all()
    plain = (penalty.l1_w, penalty.l2_w, penalty.l1_h, penalty.l2_h)
    assert abs(fitted.loss - naive.loss(X.toarray(), fitted.W, fitted.H, plain)) <= noise * size
    if accelerate:
        assert np.array_equal(fold_in(X, fitted.H, penalty=penalty), fitted.W)
    for was, now in zip(before[1:], (W, H), strict=True):
        assert np.array_equal(was, now)
    assert (before[0] != X).nnz == 0
