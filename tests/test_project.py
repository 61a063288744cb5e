"""One list of options: the specs, the command line, MLproject and the README say the same."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from pipeline.cli import app
from pipeline.spec import ReadSpec, ScoreSpec, TrainSpec, TuneSpec

ROOT = Path(__file__).resolve().parents[1]
MLPROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
FILE_OPTIONS = {"input", "format", "user_column", "item_column", "rating_column", "timestamp_column"}


def defaults(*specs: type, without: set[str] = frozenset()) -> dict[str, str]:
    """Name → default as `mlflow run` would log it."""
    found = {f.name: "none" if f.default is None else str(f.default) for spec in specs for f in fields(spec)}
    return {name: value for name, value in found.items() if name not in without}


def parameters(entry_point: str) -> dict[str, Any]:
    return {
        name: value if isinstance(value, str) else str(value["default"])
        for name, value in MLPROJECT["entry_points"][entry_point]["parameters"].items()
    }


def test_main_has_every_option_with_its_default_as_python_prints_it() -> None:
    assert parameters("main") == defaults(TrainSpec, ReadSpec, without=FILE_OPTIONS)


def test_files_has_them_too_and_needs_an_input() -> None:
    expected = {**defaults(TrainSpec, ReadSpec), "input": "path", "source": "file"}
    assert parameters("files") == expected


def test_score_has_every_option() -> None:
    assert parameters("score") == defaults(ScoreSpec)


def test_tune_has_what_train_has_and_its_own() -> None:
    assert parameters("tune") == defaults(TrainSpec, TuneSpec, ReadSpec, without=FILE_OPTIONS)
    assert parameters("tune_files") == {**defaults(TrainSpec, TuneSpec, ReadSpec), "input": "path", "source": "file"}


@pytest.mark.parametrize(("entry_point", "own"), [("promote", {"model"}), ("rollback", set())])
def test_promote_and_rollback_have_the_defaults_of_their_commands(entry_point: str, own: set[str]) -> None:
    options = {one.name: one for one in get_command(app).commands[entry_point].params}
    assert parameters(entry_point) == {
        name: "none" if options[name].default is None else str(options[name].default)
        for name in parameters(entry_point)
    }
    # By force nobody promotes in passing.
    apart = {"promote": {"force", "reason"}, "rollback": {"table", "keep"}}[entry_point]
    assert set(options) - set(parameters(entry_point)) - {"log_format", "debug", "help"} == apart
    assert {name for name, one in options.items() if one.param_type_name == "argument"} == own


@pytest.mark.parametrize("entry_point", list(MLPROJECT["entry_points"]))
def test_every_parameter_is_passed_on(entry_point: str) -> None:
    command = MLPROJECT["entry_points"][entry_point]["command"]
    script = ROOT / command.split()[1]
    assert script.is_file()
    passed = dict(re.findall(r"--([\w-]+) \{(\w+)\}", command))
    # A command's argument stands alone, behind the script.
    passed |= {name: name for name in re.findall(rf"{script.name} \{{(\w+)\}}", command)}
    assert {name: option.replace("-", "_") for option, name in passed.items()} == {
        n: n for n in parameters(entry_point)
    }


@pytest.mark.parametrize(
    ("command", "specs"),
    [("train", (TrainSpec, ReadSpec)), ("tune", (TrainSpec, TuneSpec, ReadSpec)), ("score", (ScoreSpec,))],
)
def test_help_shows_every_option_its_variable_and_its_default(command: str, specs: tuple[type, ...]) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "pipeline", command, "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "250", "TERM": "dumb"},
        check=True,
    ).stdout
    for name, default in defaults(*specs).items():
        option = "--" + name.replace("_", "-")
        line = next(line for line in shown.splitlines() if re.search(rf"{option}\s", line))
        assert f"RANKLINE_{name.upper()}" in shown
        assert f"[default: {default}]" in re.sub(r"\s+", " ", line + shown.split(option, 1)[1][:700])
    assert "Example:" in shown


def test_readme_names_every_option() -> None:
    readme = (ROOT / "README.md").read_text()
    table = readme[readme.index("## Options") : readme.index("## Metrics")]
    for spec in (TrainSpec, ReadSpec):
        for name in (f.name for f in fields(spec)):
            assert f"`--{name.replace('_', '-')}`" in table
    for name in ("model", "k", "unknown", "max-coverage-drop", "max-fallback", "accept-changes", "keep"):
        assert f"`score --{name}`" in table
    for one in fields(TuneSpec):
        assert f"`tune --{one.name}`" in table


def test_the_mlflow_folder_is_no_package_and_names_nothing_that_python_imports() -> None:
    names = {path.stem for path in (ROOT / "mlflow").glob("*.py")}
    assert "__init__" not in names
    assert not names & set(sys.stdlib_module_names)
    assert not names & {"sklearn", "numpy", "pandas", "pipeline"}


def test_conda_and_lock_pin_the_same_versions() -> None:
    pins = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    lock = (ROOT / "requirements.lock").read_text()
    assert "python=3.11" in pins
    for pin in next(one["pip"] for one in pins if isinstance(one, dict)):
        assert re.search(rf"^{re.escape(pin)}(?: |$)", lock, re.MULTILINE), pin
    assert "://" not in lock


def test_every_locked_package_has_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"\n(?=[a-z0-9])", lock)
    assert all("--hash=sha256:" in entry for entry in entries if "==" in entry.split("\n")[0])


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pipeline import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "names = 'optuna numpy scipy pandas mlflow sklearn pyarrow pydantic clickhouse_connect numba'\n"
        "heavy = set(names.split())\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
