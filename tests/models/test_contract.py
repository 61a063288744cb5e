"""Every model of the registry passes the contract."""

from __future__ import annotations

import pytest
from models.contract import Contract

from pipeline.models.base import Algorithm
from pipeline.models.registry import algorithms


def parameters() -> list[object]:
    """Each model; one that JAX fits is slow, since JAX takes seconds to begin."""
    return [
        pytest.param(one, id=one.name, marks=[pytest.mark.slow] if one.name == "neumf" else []) for one in algorithms()
    ]


@pytest.fixture(params=parameters())
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    return request.param


class TestEveryModel(Contract):
    pass
