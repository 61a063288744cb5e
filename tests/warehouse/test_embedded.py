"""The embedded engine's folder: one process at a time, and clear errors."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest
from support.listeners import says

from pipeline.errors import LockedError, RefusedError
from pipeline.warehouse import connect

pytest_plugins = ["support.warehouse_fixtures"]

# ---- the embedded engine's folder -----------------------------------------------------------------


def test_embedded_path_is_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    for dsn in (f"chdb://{path}", f"chdb://{path}/below"):
        with pytest.raises(RefusedError) as error:
            connect(dsn)
        says(error, dsn, "RANKLINE_WAREHOUSE")


def test_embedded_path_that_is_not_writable():
    # /proc takes no folders, not even root's.
    with pytest.raises(RefusedError) as error:
        connect("chdb:///proc/rankline")
    says(error, "chdb:///proc/rankline", "RANKLINE_WAREHOUSE")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_embedded_folder_that_is_read_only(tmp_path):
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o500)
    with pytest.raises(RefusedError):
        connect(f"chdb://{folder}")


def test_embedded_twice_in_one_process(embedded_dsn):
    with connect(embedded_dsn) as first, connect(embedded_dsn) as other:
        first.command("CREATE DATABASE own")
        assert other.rows("SELECT count() AS n FROM system.databases WHERE name = 'own'") == [{"n": 1}]


def test_embedded_is_no_server(embedded, over_http):
    assert embedded.embedded
    assert not over_http.embedded


_HOLD = """
import sys
from pipeline.warehouse import connect
warehouse = connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
warehouse.close()
print("closed", flush=True)
sys.stdin.close()
"""


_TRY = """
import sys
from pipeline.errors import ServerError
from pipeline.warehouse import connect
try:
    with connect(sys.argv[1]) as warehouse:
        print(warehouse.rows("SELECT 1 AS one"))
except ServerError as error:
    print(type(error).__name__, error)
"""


def _attempt(dsn: str) -> str:
    done = subprocess.run([sys.executable, "-c", _TRY, dsn], capture_output=True, text=True, timeout=300)
    return done.stdout.strip()


@pytest.mark.slow
def test_embedded_in_use_by_another_process(tmp_path):
    folder = tmp_path / "warehouse"
    dsn = f"chdb://{folder}"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, dsn], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(LockedError) as error:
            connect(dsn)
        says(error, dsn, "in use by another process", "RANKLINE_WAREHOUSE")
        # A process that dies without a word lets go too.
        holder.send_signal(signal.SIGKILL)
    assert (folder / "status").exists(), "left behind by the kill: the file alone is no lock"
    assert _attempt(dsn) == "[{'one': 1}]"


@pytest.mark.slow
def test_embedded_let_go_on_close(tmp_path):
    """A process that goes on after closing leaves the folder to others."""
    dsn = f"chdb://{tmp_path / 'warehouse'}"
    hold = _HOLD.replace("sys.stdin.read()", "sys.stdin.readline()").replace("sys.stdin.close()", "sys.stdin.read()")
    with subprocess.Popen(
        [sys.executable, "-c", hold, dsn], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "open\n"
        assert re.match(r"WarehouseInUseError .* in use by another process", _attempt(dsn))
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "closed\n"
        assert _attempt(dsn) == "[{'one': 1}]"
        holder.communicate("")


@pytest.mark.slow
def test_another_folder_once_the_first_is_closed(tmp_path):
    program = """
import sys
from pipeline.errors import RefusedError
from pipeline.warehouse import connect
for name in ("a", "b", "a"):
    with connect(f"{sys.argv[1]}/{name}") as warehouse:
        warehouse.command("CREATE DATABASE IF NOT EXISTS own")
        if name == "b":
            try:
                connect(f"{sys.argv[1]}/c")
            except RefusedError as error:
                print(error)
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, f"chdb://{tmp_path}"], capture_output=True, text=True, timeout=300
    )
    lines = done.stdout.splitlines()
    assert lines[-1] == "done"
    assert str(tmp_path / "c") in lines[0]


LIMITED = """
import resource, sys
from pipeline.warehouse import connect
from pipeline.errors import DoesNotFitError
(size,) = [int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmSize:")]
resource.setrlimit(resource.RLIMIT_AS, (size + (600 << 20), -1))
try:
    connect(f"chdb://{sys.argv[1]}")
except DoesNotFitError as error:
    print(error)
"""


def test_too_few_addresses_for_the_engine_are_named_before_it_aborts_the_process(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "engine")], capture_output=True, text=True, timeout=120
    )
    assert re.search(r"needs 1,800 MB of address space to start, and \d+ MB are left \(ulimit -v\)", done.stdout), done
    assert not (tmp_path / "engine").exists()
