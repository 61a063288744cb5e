"""A fit whose matrix lies on disk: the same factors and losses, to the bit, as of one in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from support.contract_data import make_interactions
from support.examples import examples

from pipeline.data import block_builder, block_reader
from pipeline.data.block_builder import write_matrix
from pipeline.data.blocks import write_manifest
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import prepare_interactions
from pipeline.errors import UsageError
from pipeline.models.algorithms.engines import engine_for
from pipeline.models.nmf import NMF
from pipeline.models.objective import Objective
from pipeline.models.registry import find
from pipeline.models.solvers import half_steps, nmf, sample, stored_side
from pipeline.models.solvers.als import factorize_als
from pipeline.models.solvers.block_engine import BlockEngine, HereTasks
from pipeline.models.solvers.engine import LocalEngine
from pipeline.models.solvers.nmf import Penalty, factorize
from pipeline.models.solvers.weighted import factorize_weighted
from pipeline.models.starts import mean_of
from pipeline.models.weighted_nmf import WeightedNMF
from pipeline.options import TrainOptions


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Small matrices are cut into pieces, windows and sums as large ones are."""
    for module, name, value in (
        (half_steps, "PIECE", 50), (nmf, "NARROW_BYTES", 0), (stored_side, "SUMMED", 16),
        (block_reader, "WINDOW", 40), (block_builder, "CHUNK", 64),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


ON_DISK = LocalEngine(on_disk=True)


def problem(m=330, n=270, k=5, seed=0, density=0.1, half_stars=True):
    rng = np.random.default_rng(seed)
    X = sparse.random(m, n, density, "csr", np.float32, rng=rng)
    if half_stars:
        X.data = (rng.integers(1, 11, X.nnz) / 2).astype(np.float32)
    return X, rng.random((m, k)).astype(np.float32), rng.random((k, n)).astype(np.float32)


def blocks_of(folder: Path, X, cuts=None, columns=True):
    folder.mkdir()
    evenly = np.unique(np.linspace(0, X.shape[0], 4).astype(np.int64))
    found = write_matrix(folder, X, evenly if cuts is None else cuts, np.array([0, X.shape[1]]))
    return found if columns else write_manifest(folder, X.shape, found.rows)


def same(a, b):
    assert np.array_equal(a.W, b.W)
    assert np.array_equal(a.H, b.H)
    assert (a.losses, a.loss, a.error) == (b.losses, b.loss, b.error)


@pytest.mark.parametrize("piece", [50, 10**6])
def test_windows_of_a_piece_add_up_as_the_piece_does(tmp_path: Path, monkeypatch, piece):
    monkeypatch.setattr(half_steps, "PIECE", piece)  # pieces of a few rows, or one of several windows
    X, W, H = problem(330, 270, 9, density=0.2, half_stars=False)
    how = {"max_iter": 4, "tol": 0, "n_threads": 2}
    expected = factorize(X, W, H, **how)
    same(factorize(X, W, H, engine=ON_DISK, **how), expected)
    same(factorize(blocks_of(tmp_path / "blocks", X), W, H, **how), expected)


@given(
    st.integers(1, 200), st.integers(1, 200), st.integers(1, 40), st.integers(0, 999), st.floats(0, 0.3), st.booleans(),
    st.booleans(),
)  # fmt: skip
@settings(max_examples=examples(7))
def test_wherever_the_cells_lie_the_bits_are_the_same(tmp_path_factory, m, n, k, seed, density, half_stars, accelerate):
    X, W, H = problem(m, n, k, seed, density, half_stars)
    how = {"penalty": Penalty(0.1, 0.2, 0.3, 0.1), "accelerate": accelerate, "max_iter": 9, "tol": 0, "n_threads": 2}
    expected = factorize(X, W, H, **how)
    same(factorize(X, W, H, engine=ON_DISK, **how), expected)
    folder = tmp_path_factory.mktemp("blocks")
    same(factorize(blocks_of(folder / "both", X), W, H, **how), expected)
    same(factorize(blocks_of(folder / "rows", X, columns=False), W, H, **how), expected)


def test_a_random_start_begins_on_the_same_sample(tmp_path: Path, monkeypatch):
    X, W, H = problem(331)
    how = {"penalty": Penalty(0.1, 0.2, 0.3, 0.1), "max_iter": 9, "tol": 0, "n_threads": 2}
    whole = factorize(X, W, H, random_start=True, **how)
    same(whole, factorize(X, W, H, **how))  # a small one begins on all rows
    monkeypatch.setattr(sample, "EVERY", (2,))
    for name in ("LARGE", "LEAST_CELLS", "LEAST_ROWS"):
        monkeypatch.setattr(sample, name, 0)
    how |= {"random_start": True}
    expected, folder = factorize(X, W, H, **how), blocks_of(tmp_path / "blocks", X, columns=False)
    assert expected.losses[0] < whole.losses[2]
    for way in ({"engine": ON_DISK}, {"n_threads": 1}, {"engine": BlockEngine(tmp_path, HereTasks(2))}):
        same(factorize(X, W, H, **(how | way)), expected)
    same(factorize(folder, W, H, **how), expected)
    assert (sample.sampled_rows(folder, 4) != X[::4]).nnz == 0


@pytest.mark.parametrize("objective", [
    Objective(unobserved_weight=0.1, confidence=2.0, alpha_W=0.01, alpha_H=0.02),
    Objective(unobserved_weight=0.0, alpha_W=0.1, alpha_H=0.1, biases=True, bias_prior=0.7),
])  # fmt: skip
def test_the_weighted_objective_too(objective):
    X, W, H = problem(half_stars=False)
    expected = factorize_weighted(X, W, H, objective, max_iter=4, tol=0)
    same(factorize_weighted(X, W, H, objective, max_iter=4, tol=0, engine=ON_DISK), expected)


def test_als_too():
    X, W, H = problem(half_stars=False)
    objective = Objective(unobserved_weight=0.1, confidence=2.0, alpha_W=0.01, alpha_H=0.02)
    a, b = (
        factorize_als(X, W, H.T.copy(), objective, max_iter=4, tol=0, engine=way) for way in (LocalEngine(), ON_DISK)
    )
    assert np.array_equal(a.H, b.H)
    assert a.losses == b.losses


def test_the_estimators(tmp_path: Path):
    X, _, _ = problem()
    how = {"init": "random", "random_state": 3, "max_iter": 5, "tol": 0}
    expected = NMF(4, **how)
    W = expected.fit_transform(X)
    for fitted, kept in ((NMF(4, **how).on(ON_DISK), X), (NMF(4, **how), blocks_of(tmp_path / "blocks", X))):
        assert np.array_equal(fitted.fit_transform(kept), W)
        assert np.array_equal(fitted.components_, expected.components_)
    weighted = WeightedNMF(4, unobserved_weight=0.3, **how)
    a, b = (clone(weighted).on(engine).fit(X).components_ for engine in (LocalEngine(), ON_DISK))
    assert np.array_equal(a, b)


@pytest.mark.parametrize("name", ["nmf", "als"])
def test_a_limit_on_memory_chooses_the_way_and_no_bit(name):
    matrix = to_matrix(prepare_interactions(make_interactions("int"), "last", None, None, 1).interactions)
    options = TrainOptions(algorithm=name, n_components=4, max_iter=3, min_data=1)
    tight, algorithm = replace(options, memory_limit=1), find(name)  # this process takes more already
    assert engine_for(algorithm, matrix.scores, options) is None
    assert engine_for(algorithm, matrix.scores, tight).on_disk
    a, b = (algorithm.fit(matrix, each).model for each in (options, tight))
    assert np.array_equal(a.user_factors, b.user_factors)
    assert np.array_equal(a.item_factors, b.item_factors)
    assert engine_for(find("nmf"), matrix.scores, replace(tight, algorithm="nmf", solver="sklearn")) is None


def test_what_can_not_be_fitted_from_disk_is_said(tmp_path: Path):
    X, W, H = problem()
    with pytest.raises(ValueError, match="folder of blocks is fitted with init='random'"):
        NMF(4, init="nndsvd").fit(blocks_of(tmp_path / "blocks", X))
    with pytest.raises(UsageError, match="stored as float32, and this one is float64"):
        factorize(X.astype(float), W.astype(float), H.astype(float), engine=ON_DISK)


def test_the_mean_of_blocks_is_that_of_the_matrix(tmp_path: Path):
    X, _, _ = problem(90, 70, half_stars=False)
    assert mean_of(blocks_of(tmp_path / "blocks", X)) == X.mean()


def test_an_interrupted_fit_keeps_its_factors_and_leaves_no_file(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    X, W, H = problem()

    def stop(iteration, loss):
        assert list(tmp_path.iterdir()) == []  # its files have no name by now
        if iteration == 3:
            raise KeyboardInterrupt

    how = {"on_iteration": stop, "keep_interrupted": True, "tol": 0}
    a, b = (factorize(X, W, H, engine=way, **how) for way in (LocalEngine(), ON_DISK))
    same(a, b)
    assert b.interrupted
    assert list(tmp_path.iterdir()) == []
