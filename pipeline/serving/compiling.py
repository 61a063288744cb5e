"""What a model's kernels need compiled is compiled once on a machine, in a process that then ends.

A worker that compiles keeps the compiler and its work in memory, some 50 MB, and each worker would compile the same at
once. numba's cache is what the process leaves; workers load from it.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from pipeline.kernels import available, cache_folder
from pipeline.models.model_files import METADATA
from pipeline.serving.live_folder import Pointer
from pipeline.serving.served_model import load_served

__all__ = ["compile_for"]

_LOG = logging.getLogger("rankline")
_PROGRAM = (sys.executable, "-P", "-m", __name__)
_LOOK_SECONDS = 0.1


def compile_for(folder: Path, stopping: threading.Event) -> None:
    """Compile what the model in a folder needs, unless that was done for a model of its kind; until `stopping`.

    Never raises: what could not be compiled here the workers compile.
    """
    cache = cache_folder()
    if cache is None or not available():
        return
    with suppress(OSError, ValueError):
        kind = str(json.loads((folder / METADATA).read_bytes()).get("kind"))
        done = cache / f"served-{kind}" if kind.isidentifier() else None
        if done is None or done.exists():
            return
        _LOG.info("compiling for this machine, once: some 15 s of CPU")
        if _run(folder, stopping) == 0:
            done.touch()


def _run(folder: Path, stopping: threading.Event) -> int | None:
    """The status of the process; None where it was ended."""
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        [*_PROGRAM, str(folder)], stdin=quiet, stdout=quiet, stderr=quiet, env={**os.environ, "PYTHONPATH": path}
    )
    while process.poll() is None:
        if stopping.wait(_LOOK_SECONDS):
            process.kill()
            process.wait()
            return None
    return process.returncode


if __name__ == "__main__":
    load_served(Path(sys.argv[1]), Pointer("0" * 64, "compiled", "0", "", False, 0), (), 1)
