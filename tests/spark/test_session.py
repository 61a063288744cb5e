"""What a session of Spark needs, and that it works on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.spark.session import java_version, require_spark, spark_session

pytest_plugins = ["support.spark_session"]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("spark")]


def test_whoever_asks_for_a_session_gets_the_one_that_is_there(spark: Any) -> None:
    with spark_session("spark://nowhere:7077") as session:
        assert session is spark
    assert spark.sparkContext.parallelize([1, 2, 3], 3).map(lambda x: x + 1).collect() == [2, 3, 4]


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert java_version() == 0
    (tmp_path / "bin").mkdir()
    java = tmp_path / "bin" / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_292\"' >&2\n")
    java.chmod(0o755)
    assert java_version() == 1
    monkeypatch.setattr("pipeline.spark.session.find_spec", lambda name: object())
    with pytest.raises(UsageError, match="needs Java 17 or newer, and Java 1 is here: apt-get install openjdk-17"):
        require_spark()
    monkeypatch.setattr("pipeline.spark.session.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'rankline\[spark\]'"):
        require_spark()
