"""The compiled solver as `train` uses it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import NMF
from support.fits import fit_nmf

from pipeline.data.interactions import Interactions
from pipeline.errors import InputError, UsageError
from pipeline.models.footprint import Plan, Size
from pipeline.models.registry import find
from pipeline.options import TrainOptions
from pipeline.training.train import train


@pytest.fixture
def x(rng: np.random.Generator) -> sparse.csr_matrix:
    w, h = rng.gamma(0.5, 1.0, (120, 5)), rng.gamma(0.5, 1.0, (5, 80))
    return sparse.csr_matrix(np.where(rng.random((120, 80)) < 0.3, w @ h, 0).astype(np.float32))


@pytest.mark.parametrize("init", ["random", "nndsvda"])
@pytest.mark.parametrize("alpha", [0.0, 0.001])
def test_it_comes_to_the_loss_of_scikit_learn(x: sparse.csr_matrix, init: str, alpha: float) -> None:
    options = {"n_components": 5, "init": init, "alpha_W": alpha, "l1_ratio": 0.5, "max_iter": 500, "tol": 1e-6}
    ours, theirs = fit_nmf(x, "fast", **options), fit_nmf(x, "sklearn", **options)

    def objective(w: np.ndarray, h: np.ndarray) -> float:
        w, h = w.astype(float), h.astype(float)
        penalty = sum(size * alpha * (np.abs(f).sum() + (f**2).sum() / 2) / 2 for f, size in ((w, 80), (h, 120)))
        return float(((x.toarray() - w @ h) ** 2).sum() / 2 + penalty)

    loss = objective(ours.user_factors, ours.item_factors)
    # Not the same path, and there are many minima: as good to a percent.
    assert loss <= 1.01 * objective(theirs.user_factors, theirs.item_factors)
    assert ours.losses[-1] >= np.sqrt(2 * loss) * (1 - 1e-5)
    assert (np.diff(ours.losses) <= 1e-6 * ours.losses[0]).all()
    assert (ours.user_factors.dtype, ours.item_factors.dtype) == (np.float32, np.float32)


def test_train_with_it_and_a_real_scikit_learn_model_comes_out(rng: np.random.Generator) -> None:
    pairs = rng.choice(60 * 40, 700, replace=False)
    x = Interactions.of(pairs // 40, pairs % 40, 1 + pairs % 5)
    done = [train(x, TrainOptions(solver="fast", n_components=4)) for _ in range(2)]
    assert done[0].model.user_factors.tobytes() == done[1].model.user_factors.tobytes()
    assert done[0].model.item_factors.tobytes() == done[1].model.item_factors.tobytes()
    assert done[0].report.metrics["n_iter"] == done[0].losses.size
    dense = done[0].matrix.scores.toarray().astype(float)
    residual = dense - done[0].model.user_factors.astype(float) @ done[0].model.item_factors.astype(float)
    assert done[0].report.metrics["reconstruction_error"] == pytest.approx(np.linalg.norm(residual))
    assert done[0].model.meta["parameters"]["solver"] == "fast"
    estimator = done[0].estimator()
    assert type(estimator) is NMF
    assert (estimator.components_ == done[0].model.item_factors).all()


def test_the_callback_sees_each_iteration_and_may_end_the_fit(x: sparse.csr_matrix) -> None:
    calls: list[int] = []

    def stop(n: int, loss: float) -> None:
        calls.append(n)
        if n == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_nmf(x, "fast", n_components=3, on_iteration=stop)
    assert calls == [1, 2, 3]


def test_what_does_not_fit_is_refused_as_by_the_other(x: sparse.csr_matrix) -> None:
    with pytest.raises(UsageError, match="init = 'nndsvd' can only be used"):
        fit_nmf(x, "fast", n_components=100, init="nndsvd")
    with pytest.raises(InputError, match="float32"):
        fit_nmf(x * np.float32(1e37), "fast", n_components=3)


def test_the_estimate_counts_a_sample_and_its_components() -> None:
    size, plan = Size(10**7, 10**7, 100_000, 100_000), Plan(64, threads=2)
    parts = find("nmf").footprint(size, plan).fit
    assert set(parts) == {"sample", "transposed matrix", "factors"}
    # 255 MB were measured above the matrix: 331 above the program.
    assert sum(parts.values()) / 2**20 == pytest.approx(255, rel=0.1)
    fewer = find("nmf").footprint(replace(size, n_cells=5 * 10**6), plan).fit
    assert set(fewer) == {"transposed matrix", "factors"}
