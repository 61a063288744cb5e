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

from pipeline.cli.main import app
from pipeline.cli.mlproject import mlproject
from pipeline.cli.options_page import options_page
from pipeline.options import Names, ReadOptions, ScoreOptions, TrainOptions, TuneOptions

ROOT = Path(__file__).resolve().parents[1]
MLPROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
FILE_OPTIONS = {"input", "format", "event_column", "event_weights", "separator", "header", "encoding"}


def defaults(*specs: type, without: set[str] = frozenset()) -> dict[str, str]:
    """Name → default as `mlflow run` would log it."""
    by_name = {f.name: "none" if f.default is None else str(f.default) for spec in specs for f in fields(spec)}
    return {name: value for name, value in by_name.items() if name not in without}


def parameters(entry_point: str) -> dict[str, Any]:
    return {
        name: value if isinstance(value, str) else str(value["default"])
        for name, value in MLPROJECT["entry_points"][entry_point]["parameters"].items()
    }


def test_mlproject_is_what_make_mlproject_writes() -> None:
    assert (ROOT / "MLproject").read_text() == mlproject(), "run make mlproject"
    assert len(mlproject().splitlines()) <= 140


def test_mlflow_reads_it_as_it_is_meant() -> None:
    from mlflow.projects._project_spec import load_project

    project = load_project(str(ROOT))
    for name in MLPROJECT["entry_points"]:
        read = project.get_entry_point(name).parameters
        assert {
            entry.name: entry.type if entry.type != "string" else str(entry.default) for entry in read.values()
        } == (parameters(name))


def test_main_has_every_option_with_its_default_as_python_prints_it() -> None:
    assert parameters("main") == defaults(Names, TrainOptions, ReadOptions, without=FILE_OPTIONS)


def test_files_has_them_too_and_needs_an_input() -> None:
    expected = {**defaults(Names, TrainOptions, ReadOptions), "input": "path", "source": "file"}
    assert parameters("files") == expected


def test_score_has_every_option() -> None:
    assert parameters("score") == defaults(Names, ScoreOptions)


def test_tune_has_what_train_has_and_its_own() -> None:
    assert parameters("tune") == defaults(Names, TrainOptions, TuneOptions, ReadOptions, without=FILE_OPTIONS)
    assert parameters("tune_files") == {
        **defaults(Names, TrainOptions, TuneOptions, ReadOptions),
        "input": "path",
        "source": "file",
    }


@pytest.mark.parametrize(("entry_point", "own"), [("promote", {"model"}), ("rollback", set())])
def test_promote_and_rollback_have_the_defaults_of_their_commands(entry_point: str, own: set[str]) -> None:
    options = {parameter.name: parameter for parameter in get_command(app).commands[entry_point].params}
    assert parameters(entry_point) == {
        name: "none" if options[name].default is None else str(options[name].default)
        for name in parameters(entry_point)
    }
    # By force nobody promotes in passing.
    apart = {"promote": {"force", "reason"}, "rollback": {"table", "keep", "accept_changes"}}[entry_point]
    assert set(options) - set(parameters(entry_point)) - {"as_json", "log_format", "debug", "help", "config"} == apart
    assert {name for name, parameter in options.items() if parameter.param_type_name == "argument"} == own


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
    [
        ("train", (TrainOptions, ReadOptions)),
        ("tune", (TrainOptions, TuneOptions, ReadOptions)),
        ("score", (ScoreOptions,)),
    ],
)
def test_help_shows_every_option_and_its_default_and_the_rule_of_the_variables(
    command: str, specs: tuple[type, ...]
) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "pipeline", command, "--help-all"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "250", "TERM": "dumb"},
        check=True,
    ).stdout
    for name, default in defaults(*specs).items():
        option = "--" + name.replace("_", "-")
        line = next(line for line in shown.splitlines() if re.search(rf"{option}\s", line))
        if default != "none":
            assert f"[default: {default}]" in re.sub(r"\s+", " ", line + shown.split(option, 1)[1][:700])
    assert f"Examples:\n  rankline {command}" in shown
    assert "Each option may come from the environment: --max-iter from RANKLINE_MAX_ITER." in shown
    assert "env var" not in shown


def test_every_option_of_these_classes_comes_from_its_variable() -> None:
    for command, specs in (("train", (TrainOptions, ReadOptions)), ("score", (ScoreOptions,))):
        variables = {
            parameter.name: getattr(parameter, "envvar", None)
            for parameter in get_command(app).commands[command].params
        }
        for name in defaults(*specs):
            assert variables[name] == f"RANKLINE_{name.upper()}"


def test_the_page_of_options_is_what_make_mlproject_writes() -> None:
    page = options_page()
    assert (ROOT / "docs" / "options.md").read_text() == page, "run make mlproject"
    assert "| `max_iter` | 200 | INTEGER | Most iterations. " in page


def test_the_readme_is_short_and_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 200
    table = readme[readme.index("## Commands") : readme.index("## When something breaks")]
    for name in get_command(app).commands:
        assert re.search(rf"`{name}\b", table), name


def test_every_link_of_the_pages_leads_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_mlflow_folder_is_no_package_and_names_nothing_that_python_imports() -> None:
    names = {path.stem for path in (ROOT / "mlflow").glob("*.py")}
    assert "__init__" not in names
    assert not names & set(sys.stdlib_module_names)
    assert not names & {"sklearn", "numpy", "pandas", "pipeline"}


def test_conda_and_lock_pin_the_same_versions() -> None:
    pins = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    lock = (ROOT / "requirements.lock").read_text()
    assert "python=3.11" in pins
    for pin in next(entry["pip"] for entry in pins if isinstance(entry, dict)):
        assert re.search(rf"^{re.escape(pin)}(?: |$)", lock, re.MULTILINE), pin
    assert "://" not in lock


def test_every_locked_package_has_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"\n(?=[a-z0-9])", lock)
    assert all("--hash=sha256:" in entry for entry in entries if "==" in entry.split("\n")[0])


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pipeline.cli import main as cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "names = 'optuna numpy scipy pandas mlflow sklearn pyarrow pydantic clickhouse_connect numba'\n"
        "heavy = set(names.split())\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
