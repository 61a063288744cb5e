"""`rankline doctor` as a command: everything broken, servers down or silent, all well; never a secret."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys

import pytest
from support.processes import ROOT, Home

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow

SECRET = "hunter2-S3cret"


def test_everything_broken_and_no_secret_anywhere(home: Home) -> None:
    formats = [["doctor"], ["doctor", "--json"], ["doctor", "--debug"], ["doctor", "--log-format", "json"]]
    broken = {
        "RANKLINE_WAREHOUSE": f"clickhouse://anna:{SECRET}@no host:port",
        "RANKLINE_READ_TIMEOUT": SECRET,
        "RANKLINE_K": SECRET,
        "RANKLINE_WAREHOSUE": f"clickhouse://anna:{SECRET}@host",
        "MLFLOW_TRACKING_URI": f"anna:{SECRET}@mlflow",
        "MLFLOW_TRACKING_USERNAME": SECRET,
        "MLFLOW_TRACKING_PASSWORD": SECRET,
        "MLFLOW_TRACKING_TOKEN": SECRET,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "NUMBA_CACHE_DIR": str(home.folder / "mlflow.db" / "below"),
    }
    done = home.many(*formats, **broken)
    assert [status for status, _, _ in done] == [3, 3, 3, 3]
    assert SECRET not in json.dumps(done)
    text, as_json, _, logged = done
    failed = [line for line in text[1].splitlines() if line.startswith("fail")]
    for name in (
        "RANKLINE_WAREHOUSE",
        "RANKLINE_READ_TIMEOUT",
        "MLFLOW_TRACKING_URI",
        "kernels",
        "warehouse: reachable",
    ):
        assert any(name in line for line in failed), name
    assert "RANKLINE_WAREHOSUE: no option or setting has this name → RANKLINE_WAREHOUSE is meant?" in text[1]
    printed_object = json.loads(as_json[1])
    assert (printed_object["status"], printed_object["exit_status"]) == ("fail", 3)
    assert {finding["group"] for finding in printed_object["findings"]} == {
        "rankline",
        "settings",
        "machine",
        "warehouse",
        "mlflow",
    }
    assert json.loads(logged[2])["metadata"]["exit_status"] == 3


@pytest.mark.takes(20)
def test_servers_that_are_down_or_never_answer(home: Home) -> None:
    down = {"RANKLINE_WAREHOUSE": f"clickhouse://anna:{SECRET}@127.0.0.1:9"}
    down["MLFLOW_TRACKING_URI"] = f"http://anna:{SECRET}@127.0.0.1:9"
    ((status, out, err),) = home.many(["doctor"], **down)
    assert (status, err) == (4, "")
    assert out.count("connection refused") == 2
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        dsn, uri = (f"{scheme}://anna:{SECRET}@127.0.0.1:{port}" for scheme in ("clickhouse", "http"))
        done = home.rankline("doctor", env={"RANKLINE_WAREHOUSE": dsn, "MLFLOW_TRACKING_URI": uri})
    assert done.returncode == 4
    assert len(re.findall("^fail .*answer", done.stdout, re.MULTILINE)) == 2, done.stdout
    assert SECRET not in out + done.stdout + done.stderr


def test_all_is_well_and_who_holds_the_warehouse(trained_copy: Home) -> None:
    home = trained_copy
    (done,) = home.many(["doctor", "--json"])
    assert done[0] == 0, done
    findings = {(one["group"], one["name"]): one for one in json.loads(done[1])["findings"]}
    assert {one["status"] for key, one in findings.items() if key[0] in ("warehouse", "mlflow")} == {"ok"}
    assert "rankline/1" in findings["mlflow", "model"]["detail"]
    assert "6,710 rows for 671 users" in findings["warehouse", "published"]["detail"]
    hold = (
        "import sys; from pipeline.warehouse import connect\n"
        f"with connect({home.env['RANKLINE_WAREHOUSE']!r}): print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", hold, "--password", SECRET]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**home.env, "PYTHONPATH": str(ROOT)}
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        (done,) = home.many(["doctor"])
        holder.communicate("\n")
    assert done[0] == 0, done
    assert f"held by process {holder.pid} (python" in done[1]
    assert SECRET not in done[1]
    assert "wait for it to end" in done[1]
