"""The entry point: run the command that the arguments name; print an error as one line and set the exit status.

Heavy libraries are imported by the commands that need them, so that ``rankline --help`` is fast.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from types import FrameType

import typer

from pipeline.cli.commands import app
from pipeline.cli.options import forget_config
from pipeline.cli.other_names import is_debug
from pipeline.cli.output.console import Console
from pipeline.errors import RanklineError, ServerError
from pipeline.runtime.files import advice_for, reason_of

__all__ = ["app", "main"]

INTERRUPTED = 130


_AGAIN = 0.05  # seconds until a signal is sent again
# New objects before the garbage collector looks through them. Nearly all that a command makes are of its imports and
# stay: with Python's 700 it looked 800 times, a quarter of the CPU time of `rankline show`; with these, 55 times.
_NEW_OBJECTS = 10_000


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Treat SIGTERM, which schedulers send, as Ctrl-C: the run ends cleanly, or --on-interrupt keep ends the fit."""
    if _called_by_llvm(frame):
        again = threading.Timer(_AGAIN, os.kill, (os.getpid(), signum))
        again.daemon = True
        again.start()
        return
    # Interrupted within a statement, SQLAlchemy logs a traceback of the transaction that it rolls back.
    logging.getLogger("sqlalchemy").setLevel(logging.CRITICAL + 1)
    raise KeyboardInterrupt


def _called_by_llvm(frame: FrameType | None) -> bool:
    """Whether the main thread is in what LLVM calls while kernels are compiled: an exception there would be lost."""
    while frame is not None:
        if frame.f_code.co_name in ("_raw_object_cache_notify", "_raw_object_cache_getbuffer"):
            return True
        frame = frame.f_back
    return False


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit. The scripts that MLproject runs call this too."""
    arguments = sys.argv[1:] if arguments is None else arguments
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    forget_config()
    status = 0
    try:
        result = app(args=arguments, standalone_mode=False, prog_name="rankline")
        status = result if isinstance(result, int) else 0
        if status == INTERRUPTED:  # Typer returns this for Ctrl-C
            Console.failed("interrupted", arguments)
    except KeyboardInterrupt:
        Console.failed("interrupted", arguments)
        status = INTERRUPTED
    except typer.Exit as leave:
        status = leave.exit_code
    except RanklineError as error:
        if _debugging(arguments):
            raise
        Console.failed(str(error), arguments, type(error).__name__)
        status = error.exit_status
    except typer.Abort:
        Console.failed("interrupted", arguments)
        status = INTERRUPTED
    except typer.TyperException as error:
        # A wrong option or value. Without arguments Typer shows the help, and the message is empty.
        if message := error.format_message():
            Console.failed(f"{message} (rankline --help, or rankline COMMAND --help)", arguments)
        status = getattr(error, "exit_code", 2)
    except BrokenPipeError:
        # The reader of the output has closed the pipe (`rankline sql … | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except OSError as error:
        if _debugging(arguments):
            raise
        Console.failed(f"{reason_of(error)}; {advice_for(error)}", arguments)
        status = ServerError.exit_status
    except Exception as error:
        if _debugging(arguments):
            raise
        Console.failed(f"{type(error).__name__}: {error} (a fault of Rankline: --debug shows where)", arguments)
        status = 1
    sys.stdout.flush()
    sys.exit(status)


def _debugging(arguments: list[str]) -> bool:
    ours = os.environ.get("RANKLINE_DEBUG", "").lower()
    return "--debug" in arguments or (ours in ("1", "true", "yes") if ours else is_debug(arguments))
