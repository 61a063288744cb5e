"""Every model of the registry passes the contract."""

from __future__ import annotations

import pytest
from models.contract import Contract
from support.each_algorithm import EACH

from pipeline.models.base import Algorithm


@pytest.fixture(params=EACH)
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    return request.param


class TestEveryModel(Contract):
    pass
