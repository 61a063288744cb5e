"""Variables by other names: ours, an option and the file of --config win, and each that counts is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from pipeline.cli import main as command_line
from pipeline.cli.options import forget_config, options_of, said_by_other_names
from pipeline.cli.other_names import OTHER_NAMES, is_debug
from pipeline.errors import UsageError
from pipeline.options import ServeOptions, TrainOptions


def made(spec: type, *arguments: str) -> tuple[object, list[str]]:
    """The options of a command that is called so, and what is said."""
    found = []
    app = typer.Typer()
    app.command()(options_of(spec)(lambda of: found.append((of, list(said_by_other_names())))))
    forget_config()
    app(list(arguments), standalone_mode=False)
    return found[0]


@pytest.fixture(autouse=True)
def none_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for (_, name), variable in OTHER_NAMES.items():
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(f"RANKLINE_{name.upper()}", raising=False)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)


def test_they_count_where_nothing_else_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("API_HOST", "0.0.0.0")
    monkeypatch.setenv("API_PORT", "9000")
    options, said = made(ServeOptions, "--workers", "3")
    assert (options.host, options.port, options.workers) == ("0.0.0.0", 9000, 3)
    assert said == ["host 0.0.0.0 is from API_HOST", "port 9000 is from API_PORT"]
    assert made(ServeOptions, "--port", "8001")[0].port == 8001, "a default that is typed is said"
    monkeypatch.setenv("RANKLINE_PORT", "8001")
    file = tmp_path / "rankline.yaml"
    file.write_text("serving:\n  host: localhost\n")
    options, said = made(ServeOptions, "--config", str(file))
    assert (options.host, options.port, said) == ("localhost", 8001, [])
    monkeypatch.setenv("RANKLINE_PORT", "")
    monkeypatch.setenv("API_PORT", "http")
    with pytest.raises(UsageError, match="API_PORT: 'http' is not"):
        made(ServeOptions)


@pytest.mark.parametrize("of_mlflow", [False, True])
def test_a_training_reads_them_too(monkeypatch: pytest.MonkeyPatch, of_mlflow: bool) -> None:
    monkeypatch.setenv("NMF_N_COMPONENTS", "7")
    monkeypatch.setenv("NMF_RANDOM_STATE", "3")
    if of_mlflow:  # which types every option
        monkeypatch.setenv("MLFLOW_RUN_ID", "a" * 32)
    typed = ("--n-components", str(TrainOptions.n_components), "--random-state", "8")
    options, said = made(TrainOptions, *(typed if of_mlflow else typed[2:]))
    assert (options.n_components, options.random_state) == (7, 8)
    assert said == ["n_components 7 is from NMF_N_COMPONENTS"]


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [
        (["serve"], {"DEBUG": "True"}, True),
        (["serve"], {"DEBUG": "*"}, False),
        (["serve"], {"DEBUG": "1", "RANKLINE_DEBUG": "no"}, False),
        (["train"], {"DEBUG": "1"}, False),
        (["train"], {"RANKLINE_DEBUG": "1"}, True),
    ],
)
def test_debug_is_of_serve(monkeypatch: pytest.MonkeyPatch, arguments, variables, expected) -> None:
    for name in ("DEBUG", "RANKLINE_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert command_line._debugging(arguments) == expected
    assert is_debug(["serve"]) == (variables.get("DEBUG", "") in ("True", "1"))
