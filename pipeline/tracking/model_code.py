"""The code inside a registered model: copies of the modules that scoring needs, as a package with relative imports.

A model that imports `pipeline` by name would get the package of that name in its process, which may be another
version or another project. The copied modules import one another relatively instead, and `model_loader.py` loads
them under a unique package name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from pipeline import __version__

__all__ = ["ENTRY", "imported_packages", "module_sources", "write_package"]

ROOT = "pipeline"
# The module that the loader imports; all other modules follow from its imports.
ENTRY = "pipeline.tracking.pyfunc"


class _Import(NamedTuple):
    """An import of a module of this package.

    Attributes
    ----------
    node : the statement
    modules : the imported modules and the package they are imported from
    """

    node: ast.ImportFrom
    modules: frozenset[str]


def write_package(folder: Path) -> Path:
    """Write the modules that scoring needs into a new folder, as a package; returns the folder."""
    for name, source in module_sources().items():
        path = folder.joinpath(*name.split(".")[1:])
        path = path / "__init__.py" if _is_package(name) else path.with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return folder


@cache
def module_sources() -> Mapping[str, str]:
    """Name of a module in `pipeline` → its source with relative imports, for each module that scoring needs."""
    # Replace the package's own __init__: its public names would import the whole package.
    sources = {ROOT: f'"""The scorer of Rankline {__version__}, as it was when the model was logged."""\n'}
    queue = [ENTRY]
    while queue:
        name = queue.pop()
        if name in sources:
            continue
        source = _source(name)
        tree = ast.parse(source)
        imports = list(_imports(tree, name))
        sources[name] = _relative(source, imports, name)
        run = set(_that_run(tree))
        needed = {module for each in imports if each.node in run for module in each.modules}
        needed |= {f"{ROOT}.kernels.{kernel}" for kernel in _kernels(tree)}
        queue += sorted(_with_parents(needed | {name}) - sources.keys())
    return MappingProxyType(dict(sorted(sources.items())))


def imported_packages(source: str) -> set[str]:
    """The top-level packages that a module imports, the standard library included, relative imports left out."""
    tree = ast.parse(source)
    names: set[str] = set()
    for node in _that_run(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").partition(".")[0])
    return names


def _imports(tree: ast.Module, name: str) -> Iterator[_Import]:
    """The imports of modules of this package. Raises ValueError for a form that can't be made relative."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == ROOT for alias in node.names):
            raise ValueError(f"{name}, line {node.lineno}: write `from {ROOT}… import …`, which models can bring along")
        if isinstance(node, ast.ImportFrom) and node.level:
            raise ValueError(f"{name}, line {node.lineno}: write `from {ROOT}… import …`, not a relative import")
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == ROOT:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            yield _Import(node, frozenset({node.module} | {module for module in inside if _exists(module)}))


def _relative(source: str, imports: list[_Import], name: str) -> str:
    """The source with each `from pipeline.x import y` written as a relative import."""
    lines = source.splitlines(keepends=True)
    depth = name.count(".") + _is_package(name)
    for node, _ in imports:
        below = (node.module or "").removeprefix(ROOT).removeprefix(".")
        row, column = node.lineno - 1, node.col_offset
        before, statement = lines[row][:column], lines[row][column:]
        lines[row] = before + re.sub(r"from\s+[\w.]+", f"from {'.' * depth}{below}", statement, count=1)
    return "".join(lines)


def _kernels(tree: ast.Module) -> set[str]:
    """The names of the compiled kernels that a module loads: `compiled("topk")`."""
    return {
        str(argument.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "compiled"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }


def _that_run(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree, without those inside `if TYPE_CHECKING`, which never run."""
    children: Iterable[ast.AST] = ast.iter_child_nodes(tree)
    if isinstance(tree, ast.If) and isinstance(tree.test, ast.Name) and tree.test.id == "TYPE_CHECKING":
        children = tree.orelse
    for child in children:
        yield child
        yield from _that_run(child)


def _with_parents(names: set[str]) -> set[str]:
    return {name.rsplit(".", up)[0] for name in names for up in range(name.count(".") + 1)}


def _is_package(name: str) -> bool:
    return files(ROOT).joinpath(*name.split(".")[1:], "__init__.py").is_file()


def _exists(name: str) -> bool:
    return _is_package(name) or files(ROOT).joinpath(*name.split(".")[1:-1], f"{name.rsplit('.', 1)[1]}.py").is_file()


def _source(name: str) -> str:
    path = files(ROOT).joinpath(*name.split(".")[1:])
    if _is_package(name):
        return path.joinpath("__init__.py").read_text(encoding="utf-8")
    return files(ROOT).joinpath(*name.split(".")[1:-1], f"{name.rsplit('.', 1)[1]}.py").read_text(encoding="utf-8")
