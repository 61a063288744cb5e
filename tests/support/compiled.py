"""Compiled kernels for a copy of the package: those of this checkout, instead of ten seconds of compiling."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from numba.core.caching import _CacheLocator

import pipeline.kernels as pipeline_kernels
from pipeline.kernels import cache_folder
from support.fork import the_fork_server

__all__ = ["share_kernels"]


def share_kernels(package: Path) -> None:
    """Put them where the package in that folder looks for its own.

    numba names the folder by the path of the sources, and takes no code of a source of another age.
    """
    the_fork_server()  # it has compiled what a training needs
    ours, theirs, cached = Path(pipeline_kernels.__file__).parent, package / "kernels", cache_folder()
    assert cached is not None
    folder = cached / _CacheLocator.get_suitable_cache_subpath(str(ours / "jit.py"))
    name = _CacheLocator.get_suitable_cache_subpath(str(theirs / "jit.py"))
    shutil.copytree(folder, theirs / "__pycache__" / cached.name / name, dirs_exist_ok=True)
    for source in ours.glob("*.py"):
        os.utime(theirs / source.name, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
