"""A training that fails leaves what was there: no version, the same champion."""

from __future__ import annotations

import pytest
from support.processes import Home

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow


def test_a_fit_that_diverges_registers_nothing_and_the_champion_stays(trained_copy: Home) -> None:
    client = trained_copy.client()
    client.set_registered_model_alias("rankline", "champion", "1")
    before = [version.version for version in client.search_model_versions("name = 'rankline'")]
    done = trained_copy.rankline(
        "train", "--algorithm", "svd", "--n-components", "4", "--learning-rate", "50", "--holdout", "0"
    )
    assert done.returncode == 2
    assert "grow without end: --learning-rate 50 is too large" in done.stderr
    assert [version.version for version in client.search_model_versions("name = 'rankline'")] == before
    assert str(client.get_model_version_by_alias("rankline", "champion").version) == "1"
