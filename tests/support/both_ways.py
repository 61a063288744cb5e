"""A fixture: lists found by numpy, and by compiled kernels."""

from __future__ import annotations

import pytest

from pipeline.kernels import available
from pipeline.ranking import topk as module


@pytest.fixture(scope="module", params=["numpy", "compiled"])
def way(request):
    """Every test here twice: the lists are the same whichever way they are found."""
    if request.param == "compiled" and not available():
        pytest.skip("needs numba")
    real = module.Finder._compiles

    def told(self, n, k):
        if self._compiled is None:
            self._compiled = request.param == "compiled"
        return real(self, n, k)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Finder, "_compiles", told)
        yield request.param
