"""The first iterations' steps, compiled, are those of the same steps on a row's whole A."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.kernels import compiled
from pipeline.kernels.arguments import CsrRows, RowTerms
from pipeline.models.solvers.half_steps import padded
from pipeline.models.solvers.long_rows import Equations, equations, step_along

COLUMNS = 9000


def problem(k: int, dtype: type, counts: list[int]) -> tuple[CsrRows, np.ndarray, RowTerms, np.ndarray]:
    """Cells, the other factor, the terms and a start, many of whose components are 0."""
    rng = np.random.default_rng(k)
    indptr = np.append(0, np.cumsum(counts))
    indices = np.concatenate([np.sort(rng.choice(COLUMNS, n, replace=False)) for n in counts])
    data = rng.integers(0, 4, indices.size).astype(dtype)
    cells = CsrRows.of(0, len(counts), indptr, indices, data)
    other = padded((rng.random((COLUMNS, k)) * (rng.random((COLUMNS, k)) < 0.5)).astype(dtype))
    start = padded((rng.random((len(counts), k)) * (rng.random((len(counts), k)) < 0.4)).astype(dtype))
    share, pull = padded(rng.random((1, k)).astype(dtype)), -padded(rng.random((1, k)).astype(dtype))
    terms = RowTerms(
        k, (0.01 * other.T @ other).astype(dtype), dtype(0.01), dtype(0.5), dtype(0.25),
        rng.random(len(counts)).astype(dtype), share, pull, np.ones(k, np.bool_),
    )  # fmt: skip
    return cells, other, terms, start


@pytest.mark.parametrize(("k", "dtype"), [(5, np.float32), (70, np.float32), (130, np.float32), (20, np.float64)])
def test_a_row_takes_the_steps_of_its_equations(k, dtype):
    # Every number of cells in a group of 16, and more cells than are copied at a time: 2¹⁷ numbers at any width.
    cells, other, terms, start = problem(k, dtype, [*range(35), 2**17 // 16 + 5])
    for steps in (1, 2):
        new, sums = np.full_like(start, np.nan), np.zeros(1)
        compiled("weighted_steps").step_rows(cells, other, terms, start, new, steps, sums)
        rest, total = 1e-4 if dtype == np.float32 else 1e-10, 0.0
        for row in range(cells.hi):
            some = slice(*cells.indptr[row : row + 2])
            own = Equations.of(equations(cells.indices[some], cells.data[some], other, terms), terms, terms.lam[row])
            w = step_along(own, start[row].astype(np.float64), steps)
            np.testing.assert_allclose(new[row], w, rtol=0, atol=rest * w.max())
            total += own.value(w)
        np.testing.assert_allclose(sums[0], total, rtol=rest)
        assert (new == 0).sum() > new.size / 5  # exactly
