"""The names that `pipeline` itself offers: each the one that stands in its room, imported when it is asked for."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import pipeline

# The names as type checkers see them; at run time they come from `__getattr__`.
TYPED = {
    alias.name: str(statement.module)
    for block in ast.parse(Path(pipeline.__file__).read_text()).body
    if isinstance(block, ast.If)
    for statement in block.body
    if isinstance(statement, ast.ImportFrom)
    for alias in statement.names
}


def run(code: str) -> None:
    root = Path(pipeline.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr


def test_the_names_are_listed_once_for_all() -> None:
    expected = {"Scorer", "FactorModel", "Interactions", "IdMap", "TrainOptions", "train", "evaluate"}
    assert {*expected, "__version__"} == set(pipeline.__all__)
    assert set(TYPED) == expected == set(pipeline._PLACES)
    assert set(pipeline.__all__) <= set(dir(pipeline))


@pytest.mark.parametrize("name", TYPED)
def test_a_name_is_the_one_in_its_room(name: str) -> None:
    assert getattr(pipeline, name) is getattr(import_module(TYPED[name]), name)
    assert TYPED[name] == pipeline._PLACES[name]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'pipeline' has no attribute 'Scorers'"):
        pipeline.Scorers  # noqa: B018


def test_importing_the_package_imports_nothing_else() -> None:
    run(
        "import sys; before = set(sys.modules); import pipeline; new = set(sys.modules) - before\n"
        "assert {name for name in new if name.startswith('pipeline')} == {'pipeline'}, new\n"
        "assert not {name.split('.')[0] for name in new} - {*sys.stdlib_module_names, 'pipeline'}, new"
    )


def test_the_scorer_alone_imports_no_trainer() -> None:
    run(
        "import sys; from pipeline import FactorModel, IdMap, Interactions, Scorer\n"
        "heavy = {'mlflow', 'pandas', 'sklearn', 'pyarrow', 'numba', 'clickhouse_connect', 'typer', 'pydantic'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
