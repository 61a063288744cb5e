"""A process that imports everything once and then forks a process for each command it is asked for.

    python fork_server.py SOCKET          # ends when its standard input does

A request is a line of JSON with three file descriptors: standard input, output and error of the command. ``program``
is ``["rankline", …]``, ``["mlflow", …]``, ``["python", FILE, …]`` or ``["-c", CODE, …]``. The answers are the number of
the process and, when it has ended, its exit status (a signal's as −number). `support.fork` is the other end.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

# Not chdb: an engine's threads do not survive a fork. Some are what the others import only when they need them.
PRELOADED = (
    "pipeline.cli.main",
    "pipeline.jobs.train",
    "pipeline.jobs.score",
    "pipeline.jobs.tune",
    "pipeline.cli.output.console",
    "pipeline.cli.output.training",
    "pipeline.evaluation.report.plots",
    "pipeline.tracking.pyfunc",
    "mlflow.cli",
    "mlflow.sklearn",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "sklearn.decomposition",
    "skops.io",
    "optuna",
    "pandas",
    "jinja2",
    "clickhouse_connect",
    "clickhouse_connect.driver.httpclient",
    "matplotlib.figure",
    "matplotlib.backends.backend_svg",
    "scipy.stats",
    "numba",
    "git",
    "alembic.command",
    "sqlalchemy.dialects.sqlite",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "xml.etree.ElementTree",
    "mlflow.models.display_utils",
    "mlflow.pyfunc.utils.environment",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "mlflow.store.model_registry.sqlalchemy_workspace_store",
    "mlflow.tracing.export.utils",
    "mlflow.tracing.processor.base_mlflow",
    "mlflow.utils.search_logged_model_utils",
    "pipeline.cli.output.doctor",
    "pipeline.cli.output.promotion",
    "pipeline.cli.output.publishing",
    "pipeline.cli.output.recommendations",
    "pipeline.cli.output.rows",
    "pipeline.jobs.compare",
    "pipeline.jobs.doctor",
    "pipeline.jobs.promote",
    "pipeline.jobs.recommend",
    "pipeline.jobs.report",
    "pipeline.jobs.rollback",
    "pipeline.jobs.show",
)


def serve(address: str) -> None:
    """Fork for every connection; a child waits for the command, so that several can be under way."""
    gc.disable()  # until `_warm_up` has done: to look for garbage takes as long as the imports, and all workers wait
    for name in PRELOADED:
        importlib.import_module(name)
    _warm_up()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        print("ready", flush=True)
        inputs: list[Any] = [listener, sys.stdin]
        while len(inputs) > 1 or not _unused(address):
            ready = select.select(inputs, [], [], None if len(inputs) > 1 else 0.5)[0]
            if sys.stdin in ready:  # whoever started the server has closed the other end
                inputs.remove(sys.stdin)
            if listener in ready:
                connection, _ = listener.accept()
                with connection:
                    if os.fork() == 0:
                        listener.close()
                        _answer(connection)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _unused(address: str) -> bool:
    """Whether no other process uses the server; its folder is then removed. They hold a lock on the file of users."""
    users = Path(address).with_name("users")
    if not users.exists():
        return True
    with users.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(users.parent, ignore_errors=True)
    return True


def _warm_up() -> None:
    """What each command would do again, and nothing that leaves a thread."""
    import numpy as np
    import typer.main
    from mlflow.store.db import utils as store
    from mlflow.utils.requirements_utils import _init_modules_to_packages_map

    from pipeline.cli.commands import app
    from pipeline.data.interactions import Interactions
    from pipeline.evaluation.report import html, plots
    from pipeline.options import TrainOptions
    from pipeline.tracking.model_code import module_sources
    from pipeline.training.train import train

    module_sources()
    _init_modules_to_packages_map()  # it reads the list of files of each package that is installed
    # It is made of the signatures of all commands, with some 600 options, whenever one is run.
    typer.main.get_command = cache(typer.main.get_command)
    typer.main.get_command(app)
    # The newest schema, which each store is compared with, is found by importing all migrations.
    store._get_latest_schema_revision = cache(store._get_latest_schema_revision)
    store._get_latest_schema_revision()
    # Kernels are loaded from their cache, or compiled into it; figures look for their fonts.
    users, items = np.divmod(np.flatnonzero(np.arange(600) % 7 < 3), 30)
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the first of several servers compiles for all
        train(Interactions.of(users, items), TrainOptions(max_iter=2, threads=1))
    plots.loss_curve([2.0, 1.0])
    html._templates().get_template("report.html.j2")
    gc.collect()
    gc.freeze()  # a collection in a child would copy the pages of all that is here
    gc.enable()
    assert threading.active_count() == 1, threading.enumerate()


def _answer(connection: socket.socket) -> None:
    """Fork the command, say its number, and say its status when it has ended."""
    text, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    while not text.endswith(b"\n"):
        text += connection.recv(1 << 20)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _become(json.loads(text), files)
    for file in files:
        os.close(file)
    status = 0
    with contextlib.suppress(OSError):  # who asked may be gone
        connection.send(f"{pid}\n".encode())
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):
        connection.send(f"{status}\n".encode())
    os._exit(0)


def _become(request: dict[str, Any], files: list[int]) -> None:
    """Run the command in this process, and end it as Python does."""
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    compile_cache = sys.modules.get("pipeline.kernels.compile_cache")
    if compile_cache is not None:
        compile_cache.cache_folder.cache_clear()  # the command's own NUMBA_CACHE_DIR counts
    status = 1
    try:
        _run(request["program"])
        status = 0
    except SystemExit as leave:
        status = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
        if isinstance(leave.code, str):
            print(leave.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 (as Python itself shows it)
        sys.excepthook(*sys.exc_info())
    finally:
        _end(status)


def _end(status: int) -> None:
    """What the interpreter does at its end: threads, functions that are registered for it, the streams."""
    import atexit

    with contextlib.suppress(BaseException):
        threading._shutdown()
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status)


def _run(program: list[str]) -> None:
    name, *arguments = program
    sys.argv = program
    if name == "rankline":
        from pipeline.cli.main import main

        main(arguments)
    elif name == "mlflow":
        from mlflow.cli import cli

        if arguments[:1] == ["server"]:
            import mlflow.server

            mlflow.server._exec_cmd = _serve_here
        cli(arguments)
    elif name == "python":
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
    elif name == "-c":
        sys.argv = ["-c", *arguments[1:]]
        exec(compile(arguments[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        raise ValueError(program)


def _serve_here(command: list[str], *, extra_env: dict[str, str], **_: Any) -> None:
    """Be the server that `mlflow server` would start a new Python for, until it is ended."""
    from uvicorn.main import main

    os.environ.update(extra_env)
    main(command[command.index("uvicorn") + 1 :])


if __name__ == "__main__":
    serve(sys.argv[1])
