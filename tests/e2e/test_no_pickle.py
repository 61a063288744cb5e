"""No pickle is read or written: not in the sources, not in what a real run leaves, not while it works."""

from __future__ import annotations

import ast
import base64
import io
import json
import pickle
import shutil
import sqlite3
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from support.pickles import pickles_in
from support.processes import ROOT, Home

pytest_plugins = ["support.homes"]

MODULES = {
    *("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "copyreg", "torch"),
    *("jsonpickle", "pickletools", "klepto", "hickle", "sklearn.externals"),
}
# Of numpy: what pickles objects unless told not to. Of pandas, mlflow and skops: what always does, or trusts.
SAFE_WITH = {"load": False, "save": False, "savez": False, "savez_compressed": False}
NEVER = {"read_pickle", "to_pickle", "loads_pickle", "get_untrusted_types", "set_sharing_strategy"}


def faults_of(source: str, where: str = "") -> list[str]:
    """Lines that could read or write a pickle."""
    faults = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            of_numpy = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in ("np", "numpy")
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if (of_numpy and name in SAFE_WITH and given.get("allow_pickle") != "False") or name in NEVER:
                faults.append(f"{where}:{node.lineno} {ast.unparse(node)[:80]}")
            if name == "__import__" or (name == "import_module" and node.args and MODULES & {_text(node.args[0])}):
                faults.append(f"{where}:{node.lineno} {ast.unparse(node)[:80]}")
            if given.get("allow_pickle", "False") != "False" or given.get("trusted"):
                faults.append(f"{where}:{node.lineno} {ast.unparse(node)[:80]}")
            of_sklearn = name == "log_model" and "sklearn" in ast.unparse(node.func)
            if of_sklearn and given.get("serialization_format") != "'skops'":
                faults.append(f"{where}:{node.lineno} {ast.unparse(node)[:80]}")
        faults += [f"{where}:{node.lineno} {name}" for name in names if {name, name.split(".")[0]} & MODULES]
    return faults


def _text(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def test_the_sources_neither_import_nor_call_one() -> None:
    files = [path for folder in ("pipeline", "mlflow", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    assert [line for path in files for line in faults_of(path.read_text(), str(path.relative_to(ROOT)))] == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "import torch.nn",
        "from sklearn.externals import joblib",
        "__import__('pickle')",
        "importlib.import_module('dill')",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "np.savez(path, a=a)",
        "np.save(path, a)",
        "pd.read_pickle(path)",
        "frame.to_pickle(path)",
        "mlflow.sklearn.log_model(m, name='x')",
        "mlflow.sklearn.log_model(m, serialization_format='cloudpickle')",
        "skops.io.load(path, trusted=names)",
    ],
)
def test_what_the_walk_through_the_sources_finds(line) -> None:
    assert faults_of(f"def f():\n    {line}\n")


def test_what_the_walk_through_the_files_finds(tmp_path) -> None:
    good = {
        "a.json": b'{"a": "gASV"}',
        "b.npy": _npy(np.arange(3)),
        "c.txt": b"Some text. And more.",
        "d.parquet": b"PAR1",
        "e.zip": _zip({"x.npy": _npy(np.arange(3))}),
        "f": zlib.compress(b"x" * 99),
    }
    for name, data in good.items():
        (tmp_path / name).write_bytes(data)
    with sqlite3.connect(tmp_path / "g.db") as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (x)")
    assert pickles_in(tmp_path) == []
    for protocol in range(6):
        data = pickle.dumps({"a": [1, "b", Path("x")]}, protocol)
        bad = {
            f"1{protocol}": data,
            f"2{protocol}": _zip({"y": data}),
            f"3{protocol}": zlib.compress(data),
            f"4{protocol}": _zip({"y": zlib.compress(data)}),
        }
        if protocol >= 4:
            bad[f"5{protocol}.yaml"] = b"model: " + base64.b64encode(data)
        for name, held in bad.items():
            (tmp_path / name).write_bytes(held)
            assert len(pickles_in(tmp_path)) == 1, (name, protocol)
            (tmp_path / name).unlink()
        db.execute("INSERT INTO t VALUES (?)", [data])
        db.commit()
        assert len(pickles_in(tmp_path)) == 1, protocol
        db.execute("DELETE FROM t")
        db.commit()
    db.close()
    for name, held in (
        ("h.npy", _npy(np.array([{}]))),
        ("i.npz", _zip({"x.npy": _npy(np.array([{}]))})),
        ("j.pkl", b""),
    ):
        (tmp_path / name).write_bytes(held)
        assert len(pickles_in(tmp_path)) == 1, name
        (tmp_path / name).unlink()


def _npy(array: np.ndarray) -> bytes:
    made = io.BytesIO()
    np.save(made, array, allow_pickle=True)
    return made.getvalue()


def _zip(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return made.getvalue()


# Python tells whoever listens whenever a pickle names a class or a function.
AUDITED = """
import json, sys, traceback
heard = set()
def hook(event, args):
    if event.startswith("pickle."):
        frames = [f.filename for f in traceback.extract_stack()]
        ours = [f for f in frames if "site-packages" in f]
        heard.add("/".join(ours[-1].split("site-packages/")[1].split("/")[:3]) if ours else frames[-2])
sys.addaudithook(hook)
from pipeline.cli.main import main
for command in json.loads(sys.argv[1]):
    try:
        main(command)
    except SystemExit as left:
        assert not left.code, command
print(json.dumps(sorted(heard)), file=sys.stderr)
"""
# numba keeps compiled kernels beside the sources (or in NUMBA_CACHE_DIR), which their owner alone may write: see
# docs/security.md. It is neither an artifact nor outside input.
ALLOWED = {"numba/core/caching.py"}


@pytest.mark.slow
def test_a_search_a_training_and_a_scoring_leave_none_and_read_none(trained_copy: Home) -> None:
    commands = (
        ("tune", "--trials", "2", "--max-iter", "5", "--search", "n_components"),
        ("score", "--accept-changes", "yes"),
        ("compare", "rankline/1", "rankline/2"),
    )
    done = trained_copy.run(sys.executable, "-c", AUDITED, json.dumps(commands))
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stderr.splitlines()[-1])) <= ALLOWED
    assert (trained_copy.folder / "tuning.db").is_file()
    # ClickHouse's own files begin with checksums, which may be any bytes.
    shutil.rmtree(trained_copy.folder / "warehouse")
    assert sum(path.is_file() for path in trained_copy.folder.rglob("*")) > 50
    assert pickles_in(trained_copy.folder) == []
