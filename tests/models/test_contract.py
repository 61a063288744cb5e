"""Every model of the registry passes the contract."""

from __future__ import annotations

import pytest
from models.contract import Contract

from pipeline.models.base import Algorithm
from pipeline.models.registry import algorithms


@pytest.fixture(params=algorithms(), ids=lambda one: one.name)
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    return request.param


class TestEveryModel(Contract):
    pass
