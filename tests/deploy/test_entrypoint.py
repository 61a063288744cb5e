"""The entry point of the image, with a `rankline` that writes down what it is asked and which signals it gets."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.manifests import ENTRYPOINT

# What it is asked goes into a file, a line a call. `serve` runs until a signal, which it writes down, too.
PROGRAM = r"""#!/bin/sh
echo "rankline $*" >> "$LOG"
case "$1" in
serve)
	if [ "$2" = --help ]; then exit 0; fi
	trap 'echo "got TERM" >> "$LOG"; exit 0' TERM
	while :; do sleep 0.05; done ;;
ship) if [ -s "$SHIP" ]; then read -r status < "$SHIP"; : > "$SHIP"; exit "$status"; fi ;;
nightly) if [ "$(grep -c nightly "$LOG")" -ge 2 ]; then kill -TERM "$PPID"; fi ;;
esac
"""
SLEEP = '#!/bin/sh\necho "sleep $1" >> "$LOG"\nif [ "$(grep -c sleep "$LOG")" -ge 4 ]; then kill -TERM "$PPID"; fi\n'


class Container:
    """What the image has around the entry point: folders, variables, and a program of that name."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.live, self.log = folder, folder / "state" / "live", folder / "log"
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.put("rankline", PROGRAM)
        (folder / "image" / "rankline-0123").mkdir(parents=True)
        (folder / "image" / "rankline-0123" / "kernel.nbc").write_text("compiled")
        self.script = folder / "entrypoint.sh"
        self.script.write_text(ENTRYPOINT.replace("/opt/rankline/kernels", str(folder / "image")))
        self.log.touch()
        self.env = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "LOG": str(self.log),
            "SHIP": str(folder / "ship"),
            "NUMBA_CACHE_DIR": str(folder / "state" / "kernels"),
            "RANKLINE_LIVE_DIR": str(self.live),
        }

    def put(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        command = ["sh", str(self.script), *arguments]
        return subprocess.Popen(command, env={**self.env, **env}, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments: str, **env: str) -> tuple[int, str]:
        process = self.start(*arguments, **env)
        errors = process.communicate(timeout=30)[1]
        return process.returncode, errors

    def said(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path)


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_command_is_run_with_its_options(container: Container) -> None:
    assert container.run("train", "--n-components", "20") == (0, "")
    assert container.run("before-stop") == (0, "")
    assert container.run("serve", "--help") == (0, "")
    assert container.said() == ["rankline train --n-components 20", "rankline serve --help"]


def test_process_1_passes_signals_and_input_on(container: Container) -> None:
    container.script.write_text(container.script.read_text().replace("[ $$ -ne 1 ]", "false"))
    told = "trap 'echo got TERM >> $LOG; exit 9' TERM; while :; do sleep 0.05; done"
    container.put("mlflow", f'#!/bin/sh\nread -r line\necho "mlflow $1: $line" >> "$LOG"\n{told}\n')
    command = ["sh", str(container.script), "mlflow", "server"]
    with subprocess.Popen(command, env=container.env, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write("typed\n")
        process.stdin.flush()
        wait_until(lambda: container.said() == ["mlflow server: typed"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 9
    assert container.said()[1:] == ["got TERM"]


def test_the_kernels_are_copied_once_and_kept(container: Container) -> None:
    container.run("score")
    copied = container.folder / "state" / "kernels" / "rankline-0123" / "kernel.nbc"
    assert copied.read_text() == "compiled"
    copied.write_text("and what another CPU needs")
    container.run("score")
    assert copied.read_text() == "and what another CPU needs"
    assert [path.name for path in copied.parents[1].iterdir()] == ["rankline-0123"], "no half copy is left"


def test_without_a_place_for_the_kernels_it_goes_on(container: Container) -> None:
    blocked = container.folder / "blocked"
    blocked.touch()
    status, errors = container.run("score", NUMBA_CACHE_DIR=str(blocked / "kernels"))
    assert status == 0
    assert "the kernels are compiled anew" in errors
    assert container.said() == ["rankline score"]


@pytest.mark.parametrize("warehouse", ["clickhouse://u:p@h:8123", "", "chdb:///var/lib/rankline/warehouse"])
def test_sigterm_ends_the_service_and_then_ships_what_came_in(container: Container, warehouse: str) -> None:
    process = container.start("serve", RANKLINE_WAREHOUSE=warehouse)
    wait_until(lambda: container.said() == ["rankline serve"])
    container.live.mkdir(parents=True)
    (container.live / "interactions.db").touch()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    of_server = warehouse.startswith("clickhouse:")
    assert container.said() == ["rankline serve", "got TERM"] + ["rankline ship"] * of_server


def test_a_warehouse_that_is_away_is_asked_again_and_a_refusal_is_not(container: Container) -> None:
    container.put("sleep", "#!/bin/sh\n")
    container.live.mkdir(parents=True)
    (container.live / "interactions.db").touch()
    for status, calls in (("4", 2), ("2", 1)):
        container.log.write_text("")
        Path(container.env["SHIP"]).write_text(status + "\n")
        container.put("rankline", PROGRAM.replace("while :; do sleep 0.05; done", "exit 7"))
        ended, errors = container.run("serve", RANKLINE_WAREHOUSE="clickhouse://h")
        assert ended == 7, "the status is the service's"
        assert container.said() == ["rankline serve"] + ["rankline ship"] * calls
        assert ("stay in" in errors) is (status == "2")


def test_keys_of_a_secret_are_copied_for_the_service_alone(container: Container) -> None:
    secret = container.folder / "keys.json"
    secret.write_text('{"format": 1, "keys": []}')
    secret.chmod(0o444)
    container.put("sleep", '#!/bin/sh\nif [ "$1" = 5 ]; then exec /bin/sleep 0.05; fi\nexec /bin/sleep "$1"\n')
    process = container.start("serve", RANKLINE_KEYS_FILE=str(secret))
    keys = container.live / "keys.json"
    wait_until(lambda: container.said() == ["rankline serve"])
    assert keys.read_text() == secret.read_text()
    assert keys.stat().st_mode & 0o777 == 0o600
    changed = container.folder / "changed.json"
    changed.write_text('{"format": 1, "keys": [1]}')
    changed.replace(secret)  # as a node does it
    wait_until(lambda: keys.read_text() == '{"format": 1, "keys": [1]}')
    assert keys.stat().st_mode & 0o777 == 0o600
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert process.stderr is not None
    assert process.stderr.read().count("hold from now on") == 2
    process.stderr.close()
    assert [path.name for path in container.live.iterdir()] == ["keys.json"]


def test_a_schedule_runs_day_by_day_and_ends_when_it_is_told(container: Container) -> None:
    container.put("sleep", SLEEP)
    status, errors = container.run("schedule", "daily", "02:00", "nightly", "--json")
    assert status == 143
    assert [line for line in container.said() if "nightly" in line] == ["rankline nightly --json"] * 2
    seconds = [int(line.split()[1]) for line in container.said() if line.startswith("sleep")]
    assert all(0 < wait <= 86_400 for wait in seconds)
    assert (int(time.time()) + seconds[-1] - 2 * 3600) % 86_400 in (*range(30), *range(86_370, 86_400))
    assert "nightly ended with status 0" in errors
    assert " 02:00 UTC" in errors


def test_other_days_are_left_out(container: Container) -> None:
    container.put("sleep", SLEEP)
    container.put("date", '#!/bin/sh\ncase "$*" in *%a*) echo Wed ;; *) exec /bin/date "$@" ;; esac\n')
    status, _ = container.run("schedule", "Mon,Sun", "23:59", "nightly")
    assert status == 143
    assert {line.split()[0] for line in container.said()} == {"sleep"}


@pytest.mark.parametrize("words", [(), ("daily",), ("daily", "2:00", "nightly"), ("daily", "24:00", "nightly")])
def test_a_schedule_without_a_time_is_refused(container: Container, words: tuple[str, ...]) -> None:
    status, errors = container.run("schedule", *words)
    assert status == 2
    assert "such as: schedule Mon,Tue,Wed 02:00 nightly" in errors
    assert container.said() == []
