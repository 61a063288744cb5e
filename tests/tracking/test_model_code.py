"""The code that a registered model brings along: complete, small, and apart from any other `pipeline`."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest
from models.contract import FittedModel
from support.contract_data import make_interactions

from pipeline.models import registry
from pipeline.models.factor_model import FactorModel
from pipeline.ranking.scorer import Scorer
from pipeline.tracking import model_code
from pipeline.tracking.model_loader import load_package
from pipeline.tracking.upload import recommender_parts

# Loads the models in a process that has a `pipeline` of its own and none of what the trainer needs; prints their lists.
LISTS = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError("blocked: " + name)

BLOCKED = set(sys.argv[1].split())
sys.meta_path.insert(0, Blocked())
import mlflow, pipeline
models = [mlflow.pyfunc.load_model(path) for path in sys.argv[3:]]
rows = [{"user_id": user} for user in json.loads(sys.argv[2])]
lists = [model.predict(rows, params={"k": 4}).values.tolist() for model in models]
own = sorted(name for name in sys.modules if name.partition(".")[0] == "pipeline")
packages = sorted(name for name in sys.modules if name.startswith("rankline_model_") and "." not in name)
print(json.dumps({"lists": lists, "pipeline": [own, pipeline.whose], "packages": len(packages)}))
"""
TRAINER = (
    "sklearn skops pyarrow numba llvmlite clickhouse_connect chdb typer rich pydantic_settings tenacity optuna "
    "jax optax"
)


@pytest.fixture(autouse=True)
def none_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the packages that other tests of this process have loaded: one of the same code would be used again."""
    for name in [name for name in sys.modules if name.startswith("rankline_model_")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def saved(make_model, rng, tmp_path: Path) -> tuple[Path, list[list[object]]]:
    """A recommender as MLflow saves it, and what it has to answer."""
    model: FactorModel = make_model(rng, 12, 30)
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    model.save(artifacts)
    users = model.users.values.tolist()
    mlflow.pyfunc.save_model(str(tmp_path / "model"), **recommender_parts(artifacts, model, tmp_path / "scratch"))
    rows: list[list[object]] = []
    scorer = Scorer.load(artifacts)
    for user in (users[7], users[1]):
        recommended = scorer.recommend(user, 4)
        pairs = zip(recommended.items.tolist(), recommended.scores.tolist(), strict=True)
        rows += [[user, rank, item, score, "nmf"] for rank, (item, score) in enumerate(pairs, 1)]
    return tmp_path / "model", rows


def elsewhere(tmp_path: Path, users: list[object], *models: Path, blocked: str = TRAINER) -> dict[str, object]:
    """What `LISTS` prints, run in a folder of somebody else's project."""
    other = tmp_path / "other"
    other.mkdir(exist_ok=True)
    (other / "pipeline.py").write_text("whose = 'somebody else'\n")
    env = {**os.environ, "PYTHONPATH": str(other), "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-c", LISTS, blocked, json.dumps(users), *map(str, models)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=other, env=env)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    assert answer["pipeline"] == [["pipeline"], "somebody else"]
    return answer


def users_of(rows: list[list[object]]) -> list[object]:
    return list(dict.fromkeys(row[0] for row in rows))


def as_rows(rows: list[list[object]]) -> list[tuple[object, ...]]:
    """Comparable to the last bit of a float32."""
    return [(*row[:3], np.float32(row[3]).tobytes(), row[4]) for row in rows]


def test_nothing_but_what_scores_is_brought_along() -> None:
    sources = model_code.module_sources()
    rooms = {name.split(".")[1] for name in sources if "." in name}
    assert rooms == {"data", "errors", "kernels", "models", "ranking", "runtime", "tracking"}
    assert {name for name in sources if name.startswith("pipeline.tracking.")} == {model_code.ENTRY}
    assert {name for name in sources if name.startswith("pipeline.runtime.")} == {
        "pipeline.runtime.cgroups", "pipeline.runtime.cpus", "pipeline.runtime.file_lock", "pipeline.runtime.threads"
    }  # fmt: skip
    assert len(sources) < 80  # small files, and not the package
    # Compiled kernels are asked for by name, and bring what they import.
    assert {"pipeline.kernels.topk", "pipeline.kernels.half_step", "pipeline.kernels.simd"} <= set(sources)


def test_it_needs_no_package_but_numpy_scipy_pandas_and_mlflow() -> None:
    for name, source in model_code.module_sources().items():
        third = model_code.imported_packages(source) - set(sys.stdlib_module_names)
        allowed = {"numpy", "scipy", "pandas", "mlflow"} | ({"numba"} if name.startswith("pipeline.kernels") else set())
        assert third <= allowed, name


def test_no_module_is_named_by_its_place_in_the_checkout() -> None:
    """Neither in an import nor in text, such as of `import_module("pipeline.…")`."""
    for name, source in model_code.module_sources().items():
        tree = ast.parse(source)
        documentation = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                assert not node.value.startswith("pipeline"), f"{name}, line {node.lineno}"
    assert "pipeline" not in {
        package for s in model_code.module_sources().values() for package in model_code.imported_packages(s)
    }


@pytest.mark.parametrize("statement", ["import pipeline.errors", "from . import errors"])
def test_an_import_that_can_not_be_made_relative_is_refused(statement: str, monkeypatch) -> None:
    monkeypatch.setattr(model_code, "_source", lambda name: f"x = 1\n{statement}\n")
    # Past the cache: it holds the real sources for the other tests.
    with pytest.raises(ValueError, match=r"pipeline\.tracking\.pyfunc, line 2: write `from pipeline"):
        model_code.module_sources.__wrapped__()


def test_imports_are_made_relative_and_followed(monkeypatch) -> None:
    sources = {
        "pipeline.tracking.pyfunc": "from pipeline.errors import A\nif TYPE_CHECKING:\n    from pipeline.cli import B\n"
        "def f():\n    from pipeline.models import (\n        objective,\n    )\n",
    }
    monkeypatch.setattr(model_code, "_source", lambda name: sources.get(name, ""))
    result = model_code.module_sources.__wrapped__()
    assert set(result) == {"pipeline", "pipeline.tracking", *sources} | {
        "pipeline.errors",
        "pipeline.models",
        "pipeline.models.objective",
    }
    assert result["pipeline.tracking.pyfunc"].splitlines() == [
        "from ..errors import A",
        "if TYPE_CHECKING:",
        "    from ..cli import B",
        "def f():",
        "    from ..models import (",
        "        objective,",
        "    )",
    ]


def test_every_module_can_be_imported_from_where_it_was_written(tmp_path: Path) -> None:
    package = load_package(model_code.write_package(tmp_path / "code"))
    assert package.__name__.startswith("rankline_model_")
    program = "import importlib, sys\nsys.path.insert(0, sys.argv[1])\n"
    program += "for name in sys.argv[2:]: importlib.import_module(name)\nassert 'pipeline' not in sys.modules"
    (tmp_path / "code").rename(tmp_path / "renamed")
    names = [name.replace("pipeline", "renamed", 1) for name in model_code.module_sources()]
    command = [sys.executable, "-c", program, str(tmp_path), *names]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_it_answers_beside_somebody_elses_pipeline(saved: tuple[Path, list[list[object]]], tmp_path: Path) -> None:
    model, rows = saved
    answer = elsewhere(tmp_path, users_of(rows), model)
    assert as_rows(answer["lists"][0]) == as_rows(rows)
    assert answer["packages"] == 1


@pytest.mark.slow
def test_every_kind_of_model_answers_beside_somebody_elses_pipeline(tmp_path: Path) -> None:
    paths, expected = [], []
    for algorithm in registry.algorithms():
        fitted = FittedModel(algorithm, make_interactions("int"))
        folder = tmp_path / algorithm.name
        fitted.fitted.model.save(folder / "artifacts")
        scorer = Scorer.load(folder / "artifacts")
        parts = recommender_parts(folder / "artifacts", scorer.model, folder / "scratch")
        mlflow.pyfunc.save_model(str(folder / "model"), **parts)
        user = scorer.users.values[0].item()
        items, scores = scorer.recommend(user, 4)
        pairs = zip(items.tolist(), scores.tolist(), strict=True)
        expected.append([[user, rank, item, score, algorithm.name] for rank, (item, score) in enumerate(pairs, 1)])
        paths.append(folder / "model")
    answer = elsewhere(tmp_path, users_of(expected[0]), *paths)
    assert [as_rows(rows) for rows in answer["lists"]] == [as_rows(rows) for rows in expected]


@pytest.mark.slow
def test_versions_of_the_same_and_of_other_code_answer_side_by_side(
    saved: tuple[Path, list[list[object]]], tmp_path: Path
) -> None:
    import shutil

    model, rows = saved
    copy, other = (Path(shutil.copytree(model, tmp_path / name)) for name in ("copy", "changed"))
    module = other / "artifacts" / "code" / "tracking" / "pyfunc.py"
    text, n_changed = re.subn(r"\bscorer\.source\b", '"other"', module.read_text())
    assert n_changed
    module.write_text(text)
    answer = elsewhere(tmp_path, users_of(rows), model, other, copy, blocked=TRAINER.replace("numba llvmlite", ""))
    first, second, third = answer["lists"]
    assert as_rows(first) == as_rows(third) == as_rows(rows)
    assert as_rows(second) == as_rows([[*row[:4], "other"] for row in rows])
    assert answer["packages"] == 2


def test_code_whose_folder_is_gone_is_loaded_anew(tmp_path: Path) -> None:
    """MLflow loads from downloads, which are deleted; a kernel that is imported later must still be found."""
    first = load_package(model_code.write_package(tmp_path / "first"))
    again = load_package(model_code.write_package(tmp_path / "second"))
    assert again is first
    (tmp_path / "first").rename(tmp_path / "gone")
    third = load_package(tmp_path / "second")
    assert third is not first
    assert third.__name__ == first.__name__
    assert Path(str(third.__file__)).parent == tmp_path / "second"
