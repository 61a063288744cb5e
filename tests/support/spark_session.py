"""One Spark session for all tests of a process, and a real cluster. Without pyspark or Java their tests are skipped.

Files with `pytest.mark.xdist_group("spark")` share one process, and so one session.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pipeline.spark.session import JAVA, java_version, spark_session
from support.processes import ROOT, free_port

# A Java that lives for a test compiles little, and collects with one thread.
BRIEF = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"


def _skip_without_spark() -> None:
    if find_spec("pyspark") is None:
        pytest.skip("pyspark is not installed: make spark")
    if java_version() < JAVA:
        pytest.skip(f"Java {JAVA} is not installed: apt-get install openjdk-{JAVA}-jre-headless")


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """The session, on two cores of this machine; what asks for a session meanwhile gets this one."""
    _skip_without_spark()
    before = signal.getsignal(signal.SIGINT)  # Spark sets its own
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_SUBMIT_ARGS", "--conf spark.python.daemon.module=support.spark_daemon pyspark-shell")
        patch.setenv("JDK_JAVA_OPTIONS", BRIEF)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
        with spark_session("local[2,2]", "tests") as session:
            signal.signal(signal.SIGINT, before)
            yield session


class Cluster:
    """A master and its workers, each a process of its own, on this machine."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        import pyspark

        self._jars = Path(pyspark.__file__).parent / "jars" / "*"
        self._folder = folder
        port, web = free_port(), free_port()
        self.url, self._state = f"spark://127.0.0.1:{port}", f"http://127.0.0.1:{web}/json/"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._start("Master", "--port", str(port), "--webui-port", str(web))
        self._wait(lambda: bool(self._said()))
        for i in range(workers):
            room = ("--cores", "1", "--memory", "2G", "--work-dir", str(folder / f"worker-{i}"))
            self._start("Worker", "--port", "0", "--webui-port", "0", *room, self.url)
        self._wait(lambda: self._said().count('"state" : "ALIVE"') >= workers)

    def _start(self, kind: str, *arguments: str) -> None:
        name = f"org.apache.spark.deploy.{kind.lower()}.{kind}"
        flags = ["-Xmx256m", *BRIEF.split(), "-cp", str(self._jars)]
        env = {**os.environ, "SPARK_HOME": str(self._jars.parents[1]), "SPARK_LOCAL_IP": "127.0.0.1"}
        # As bin/load-spark-env.sh sets it: a worker looks for the jars of its executors by it.
        env |= {"SPARK_SCALA_VERSION": "2.13", "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable}
        env |= {"JDK_JAVA_OPTIONS": BRIEF}  # for the executors
        with (self._folder / f"{kind}-{len(self._processes)}.log").open("wb") as log:
            command = ["java", *flags, name, "--host", "127.0.0.1", *arguments]
            # A session each: whoever kills it takes along what it has started.
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True))

    def _said(self) -> str:
        """The master's state as JSON, "" before it answers."""
        try:
            with urllib.request.urlopen(self._state, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def _wait(self, ready: Callable[[], bool]) -> None:
        for _ in range(600):
            if ready():
                return
            if any(process.poll() is not None for process in self._processes):
                break
            time.sleep(0.1)
        raise AssertionError([log.read_text()[-500:] for log in self._folder.glob("*.log")])

    def kill_worker(self, number: int) -> None:
        """With its executors, as when a machine is gone."""
        self._end(self._processes[1 + number])

    def stop(self) -> None:
        for process in reversed(self._processes):
            self._end(process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    _skip_without_spark()
    folder = tmp_path / "cluster"
    folder.mkdir()
    made = Cluster(folder)
    yield made
    made.stop()
