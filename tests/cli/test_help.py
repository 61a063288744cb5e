"""What --help prints: a screen for the commands, two for the longest of them, an example for each."""

from __future__ import annotations

import shlex

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.cli.commands import app as with_commands

COMMANDS = sorted(get_command(with_commands).commands)  # type: ignore[attr-defined]


def shown(*arguments: str, columns: int = 80) -> str:
    done = CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": str(columns)}, prog_name="rankline")
    assert done.exit_code == 0, done.output
    return done.output


def test_the_commands_fit_a_screen() -> None:
    lines = shown().splitlines()
    assert 24 <= len(lines) <= 44
    assert max(map(len, lines)) < 80
    for heading in ("The warehouse:", "Models:", "Recommendations:", "Examples:"):
        assert heading in lines
    for command in COMMANDS:
        (line,) = [line for line in lines if line.startswith(f"  {command} ")]
        assert not line.endswith("...")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_that_names_it(command: str) -> None:
    text = shown(command)
    examples = text[text.index("Examples:") :].splitlines()[1:]
    assert examples
    for line in examples:
        words = shlex.split(line)
        assert words[words.index("rankline") + 1] == command
    assert "env var" not in text


def test_train_fits_two_screens() -> None:
    assert len(shown("train").splitlines()) <= 80


def test_help_names_the_advanced_options_and_help_all_shows_them() -> None:
    brief = shown("train")
    assert "--help-all        has more: --init, --learning-rate, " in brief
    assert "Starting values" not in brief
    done = CliRunner().invoke(app, ["train", "--help-all"], prog_name="rankline")
    assert done.exit_code == 0
    assert "Starting values" in done.output
    assert "has more" not in done.output
    assert "--help-all" not in shown("promote"), "nothing is left out there"
