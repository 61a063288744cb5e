"""The Spark session of a command: made from its options, or the one that spark-submit has made ready."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.errors import ServerError, UsageError

__all__ = ["java_version", "require_spark", "spark_session"]

JAVA = 17
_VERSION = re.compile(r'version "(\d+)')
# What executors are to have of this process's environment: where the package is, and where compiled kernels are cached.
_PASSED_ON = ("PYTHONPATH", "NUMBA_CACHE_DIR")


def java_version() -> int:
    """The version of the Java that Spark would run on; 0: there is none."""
    home = os.environ.get("JAVA_HOME")
    java = Path(home) / "bin" / "java" if home else shutil.which("java")
    if java is None:
        return 0
    try:
        said = subprocess.run([str(java), "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = _VERSION.search(said)
    return int(found[1]) if found else 0


def require_spark() -> None:
    """Raise UsageError where pyspark or Java is missing."""
    if find_spec("pyspark") is None:
        raise UsageError("--engine spark needs pyspark, which is not installed: pip install 'rankline[spark]'")
    if (version := java_version()) < JAVA:
        found = f"Java {version} is here" if version else "there is none"
        raise UsageError(
            f"--engine spark needs Java {JAVA} or newer, and {found}: apt-get install openjdk-{JAVA}-jre-headless, or "
            "set JAVA_HOME"
        )


@contextmanager
def spark_session(master: str | None = None, name: str = "rankline") -> Iterator[Any]:
    """A `pyspark.sql.SparkSession`, stopped at the end; of spark-submit, or one that is there already, the same.

    master : address of the cluster; default, what spark-submit or spark-defaults.conf says, else ``local[*]``

    Raises
    ------
    UsageError
        Without pyspark or Java.
    ServerError
        Where no session can be had: the cluster does not answer, or Java ends.
    """
    require_spark()
    # It says so at every step, and what is used here is tested with pandas 3.
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    if SparkContext._active_spark_context is not None:
        yield SparkSession.builder.getOrCreate()
        return
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(name)
    said_elsewhere = "PYSPARK_GATEWAY_PORT" in os.environ or os.environ.get("SPARK_CONF_DIR")
    master = master or ("" if said_elsewhere else "local[*]")
    if master:
        builder = builder.master(master)
    for key, value in _settings(master).items():
        builder = builder.config(key, value)
    try:
        with warnings.catch_warnings():
            # It says that it does not know all of this pandas yet; nothing here gives it one.
            warnings.simplefilter("ignore", FutureWarning)
            session = builder.getOrCreate()
    except Exception as error:  # noqa: BLE001 - py4j's errors have no common class
        raise ServerError(f"Spark did not start at {master or 'its master'}: {_first_line(error)}") from None
    session.sparkContext.setLogLevel("ERROR")
    try:
        yield session
    finally:
        session.stop()


def _settings(master: str) -> dict[str, str]:
    settings = {
        "spark.ui.showConsoleProgress": "false",  # it would fill stderr
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.driver.maxResultSize": "0",  # a step returns a Gram matrix a block
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.properties')}",
    }
    settings |= {f"spark.executorEnv.{name}": os.environ[name] for name in _PASSED_ON if os.environ.get(name)}
    if master.startswith("local"):
        settings |= {
            "spark.ui.enabled": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
        }
    return settings


def _first_line(error: BaseException) -> str:
    """What Java said, where it said something: py4j's own line comes first."""
    lines = [line.strip(" :\t") for line in str(error).splitlines() if line.strip(" :\t")]
    told = [line for line in lines if not line.startswith("An error occurred while calling")]
    return (told or lines or [type(error).__name__])[0][:300]
