"""docs/security.md: the servers we document start as written, listen on loopback, and refuse other hosts."""

from __future__ import annotations

import base64
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from support.fork import run_forked
from support.processes import BIN, ROOT, end, free_port, wait_for

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "security.md").read_text()
# A server in a file that people copy from: in a block, or in a recipe; not one that a sentence only names.
COMMAND = re.compile(r"^\s*(?:@?\w+=\S+ |.*; \\\n\s*)*(mlflow (?:server|ui) .*)$", re.MULTILINE)
SECRET = "planted-admin-secret"


def commands() -> dict[str, list[str]]:
    """Every such command, by file."""
    files = [ROOT / "README.md", ROOT / "Makefile", *sorted((ROOT / "docs").glob("*.md"))]
    by_file = {str(path.relative_to(ROOT)): COMMAND.findall(path.read_text()) for path in files}
    return {name: [" ".join(command.split()) for command in many] for name, many in by_file.items() if many}


def test_the_commands_are_found() -> None:
    assert set(commands()) >= {"Makefile", "docs/security.md"}


def test_every_command_binds_to_loopback_and_names_its_hosts() -> None:
    known = run_forked(["mlflow", "server", "--help"], os.environ, ROOT, 240).stdout
    for where, commands_there in commands().items():
        for command in commands_there:
            given = shlex.split(command)
            assert given[given.index("--host") + 1] == "127.0.0.1", where
            assert "*" not in given[given.index("--allowed-hosts") + 1], where
            assert "--disable-security-middleware" not in given
            for option in given:
                if option.startswith("-"):
                    assert re.search(rf"{option}[ ,]", known), (where, option)


def test_the_store_of_make_ui_is_in_no_process_list() -> None:
    recipe = (ROOT / "Makefile").read_text().split("\nui:")[1].split("\n\n")[0]
    assert 'MLFLOW_BACKEND_STORE_URI="$$MLFLOW_TRACKING_URI"' in recipe
    assert "--backend-store-uri" not in recipe


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The page's server, with folders and a port of the test's own; with a password where Flask-WTF is installed."""
    (command,) = commands()["docs/security.md"]
    port = free_port()
    command = command.replace("/var/lib/mlflow", str(tmp_path)).replace("5000", str(port)) + " --workers 1"
    if find_spec("flask_wtf") is None:
        command = command.replace("--app-name basic-auth ", "")
    ini = re.search(r"```ini\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "basic_auth.ini").write_text(ini[1].replace("/var/lib/mlflow", str(tmp_path)))
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "basic_auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": SECRET,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "some key",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # processes that have nothing to do here
    }
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(shlex.split(command), cwd=tmp_path, env=env, start_new_session=True, text=True, **quiet)
    try:
        wait_for(port, 120)
        yield f"127.0.0.1:{port}"
    finally:
        end(server)


def ask(address: str, host: str | None = None, password: str | None = None) -> int:
    """The status of a question to the API."""
    url = f"http://{address}/api/2.0/mlflow/experiments/search"
    headers = {"Content-Type": "application/json", **({"Host": host} if host else {})}
    if password:
        headers["Authorization"] = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()
    try:
        with urlopen(Request(url, b'{"max_results": 1}', headers), timeout=240) as answer:
            return answer.status
    except HTTPError as error:
        return error.code


def listening(port: int) -> set[str]:
    """Addresses, as the kernel writes them, on which something listens on the port."""
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return {row[1].split(":")[0] for row in lines if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}


def test_it_refuses_other_hosts_and_who_has_no_password(address: str) -> None:
    assert listening(int(address.split(":")[1])) == {"0100007F"}
    for host in ("evil.example", "mlflow.example.evil.example", "10.0.0.7"):
        assert ask(address, host) == 403
        assert ask(address, host, SECRET) == 403
    assert ask(address, "mlflow.example", SECRET) == ask(address, None, SECRET) == 200
    if find_spec("flask_wtf") is not None:
        assert ask(address) == ask(address, None, "wrong") == ask(address, "mlflow.example") == 401


def test_the_statements_that_the_page_names_are_there() -> None:
    steps = re.search(r"for step in ([\w ]+); do", PAGE)[1].split()
    users = [f"{user}_user" for user in re.search(r"for user in ([\w ]+); do", PAGE)[1].split()]
    assert sorted(steps + users) == sorted(path.stem for path in (ROOT / "sql" / "grants").glob("*.sql"))
