"""docs/options.md: every option of every command, with details that the help texts leave out."""

from __future__ import annotations

import re

from typer.main import get_command
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.cli.options_page import options_page
from pipeline.data.sources.columns import _SPELLINGS
from pipeline.options.sections import sections


def details_of(section: str, name: str) -> str:
    return sections()[section][name].field.metadata["details"]


def test_the_details_stand_after_the_help() -> None:
    assert "Factors; auto: at most 10. auto is min(10, min(users, items) - 1)" in options_page()


def test_the_page_has_details_that_the_help_leaves_out() -> None:
    page = options_page()
    shown = re.sub(r"\s+", " ", CliRunner().invoke(app, ["train", "--help"]).output)
    assert "Threads of the fast solver." in shown
    for section, name in (("algorithm", "n_components"), ("algorithm", "threads"), ("columns", "user_column")):
        details = details_of(section, name)
        assert details
        assert details in page
        assert details not in shown


def test_the_page_has_every_option_of_every_command() -> None:
    page = options_page()
    for command, entry in get_command(app).commands.items():
        for parameter in entry.params:
            option = [*parameter.opts, *parameter.secondary_opts]
            if option[0].startswith("--") and option[0] != "--help":
                spelled = [rf"`({command} )?{name}`" for name in option] + [f"`{parameter.name}`"]
                assert re.search("|".join(spelled), page), (command, option)


def test_the_page_has_every_known_name_of_a_column() -> None:
    for role, (own, others) in _SPELLINGS.items():
        assert f"Known names: {', '.join(own)}; else {', '.join(others)}." in details_of("columns", f"{role}_column")
