"""Options of files that are given several times."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.cli.repeated import joined
from pipeline.errors import UsageError
from pipeline.options import ReadOptions

OFFERED = {(ReadOptions, name) for name in ("input", "query", "user_column", "source")}


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["--input", "a"], ["--input", "a"]),
        (["--input", "a", "--source", "file", "--input=b c"], ["--input", "a\0b c", "--source", "file"]),
        (["--user-column", "x", "--user-column", "y"], ["--user-column", "x", "--user-column", "y"]),
        (["--input", "-", "--", "--input", "b"], ["--input", "-", "--", "--input", "b"]),
        (["--input", "a", "--input"], ["--input", "a", "--input"]),
    ],
)
def test_values_of_one_option_are_joined(typed, expected):
    assert joined(typed, OFFERED) == expected


def test_a_path_that_is_taken_once_is_refused_twice():
    with pytest.raises(UsageError, match=r"--query takes one file, and is given twice: a\.sql and b\.sql"):
        joined(["--query", "a.sql", "--query=b.sql"], OFFERED)


def test_all_files_are_read_and_said(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("RANKLINE_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    Path("a b.csv").write_text("user_id,item_id\n1,10\n1,11\n2,10\n")
    Path("c.csv").write_text("user_id,item_id,note\n3,10,x\n4,12,y\n")
    train = ["evaluate", "--model", "popular", "--json", "--test", "c.csv"]
    Path("c.csv").write_text("user_id,item_id\n1,12\n3,10\n")
    Path("d.csv").write_text("user_id,item_id\n3,12\n")
    done = CliRunner().invoke(app, [*train, "--train", "a b.csv", "--train", "d.csv"])
    assert done.exit_code == 0, done.output
    assert '"n_users":2' in done.output.replace(" ", "")
    monkeypatch.setenv("RANKLINE_TRAIN", "a b.csv")
    alone = CliRunner().invoke(app, train)
    assert '"n_users":1' in alone.output.replace(" ", "")
