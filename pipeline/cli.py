"""The command line: arguments → a command, errors → one line and an exit status.

Heavy imports wait until a command needs them: ``rankline --help`` answers at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

import typer

from pipeline.commands import app
from pipeline.console import Console
from pipeline.errors import RanklineError

__all__ = ["app", "main"]

INTERRUPTED = 130


def _interrupt(signum: int, frame: object) -> None:
    """A scheduler's SIGTERM is Ctrl-C: the run says so, nothing is half done (--on-interrupt keep: it ends the fit)."""
    # In the middle of a statement the store's library logs the traceback of what it then rolls back.
    logging.getLogger("sqlalchemy").setLevel(logging.CRITICAL + 1)
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> None:
    """Run a command; never returns. The scripts that MLproject runs come in here too."""
    arguments = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    status = 0
    try:
        result = app(args=arguments, standalone_mode=False, prog_name="rankline")
        status = result if isinstance(result, int) else 0
        if status == INTERRUPTED:  # Typer's answer to Ctrl-C
            Console.failed("interrupted", arguments)
    except KeyboardInterrupt:
        Console.failed("interrupted", arguments)
        status = INTERRUPTED
    except typer.Exit as leave:
        status = leave.exit_code
    except RanklineError as error:
        if _debugging(arguments):
            raise
        Console.failed(str(error), arguments)
        status = error.exit_status
    except typer.Abort:
        Console.failed("interrupted", arguments)
        status = INTERRUPTED
    except typer.TyperException as error:
        # A wrong option or value; asking for nothing shows the help, and has no message.
        if message := error.format_message():
            Console.failed(f"{message} (rankline --help, or rankline COMMAND --help)", arguments)
        status = getattr(error, "exit_code", 2)
    except BrokenPipeError:
        # Whoever read our output has gone (`rankline sql … | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except Exception as error:
        if _debugging(arguments):
            raise
        Console.failed(f"{type(error).__name__}: {error} (a fault of Rankline: --debug shows where)", arguments)
        status = 1
    sys.stdout.flush()
    sys.exit(status)


def _debugging(arguments: list[str]) -> bool:
    return "--debug" in arguments or os.environ.get("RANKLINE_DEBUG", "").lower() in ("1", "true", "yes")
