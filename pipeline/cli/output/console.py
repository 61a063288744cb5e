"""Prints messages and bars on stderr and results on stdout, as text or as JSON."""

from __future__ import annotations

import itertools
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.output.escape import printable, printable_json
from pipeline.cli.output.model import Block, Exact, Output
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.runtime.progress import Reporter

__all__ = ["Console"]

_LOG = logging.getLogger("rankline")


class _TextLines(logging.Formatter):
    """Formats a record as its message, with control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(record.getMessage())


class _JsonLines(logging.Formatter):
    """Formats a record as one JSON object: timestamp, level, service, message, metadata."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": "rankline",
            "message": record.getMessage(),
            "metadata": getattr(record, "metadata", {}),
        }
        return printable_json(json.dumps(line, ensure_ascii=False, default=str))


class Console:
    """One command's output.

    Parameters
    ----------
    log_format : ``text``, or ``json``: messages and results are log lines on stderr
    as_json : whether each result is printed as one JSON object on stdout
    """

    def __init__(self, log_format: str = "text", as_json: bool = False) -> None:
        if log_format not in ("text", "json"):
            raise UsageError(f"--log-format must be text or json, got {log_format!r}")
        self._json_log, self._as_json = log_format == "json", as_json
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_JsonLines() if self._json_log else _TextLines())
        _LOG.handlers[:] = [handler]
        _LOG.setLevel(logging.INFO)
        _LOG.propagate = False

    @staticmethod
    def failed(message: str, arguments: list[str], error: str = "") -> None:
        """Print the one line of a failed command; `error`, a name of `pipeline.errors`, stands in a JSON log."""
        # The error may be in the options themselves, so read --log-format from the arguments as typed.
        typed = ("--log-format", "json") in itertools.pairwise(arguments)
        variable = os.environ.get("RANKLINE_LOG_FORMAT") == "json"
        line = " ".join(message.split())
        if typed or "--log-format=json" in arguments or variable:
            Console("json")
            _LOG.error(line, extra={"metadata": {"error": error} if error else {}})
        else:
            sys.stderr.write(f"error: {printable(line)}\n")

    @contextmanager
    def working(self) -> Iterator[Reporter]:
        """A reporter that shows messages, and bars if stderr is a terminal."""
        if not self._json_log and sys.stderr.isatty():
            from pipeline.cli.output.bars import terminal_reporter

            with terminal_reporter() as reporter:
                yield reporter
            return
        from pipeline.runtime.progress import Reporter, silent

        progress = _log_stages() if self._json_log and not self._as_json else silent
        if path := os.environ.get("RANKLINE_PROGRESS_FILE"):
            from pipeline.cli.output.progress_file import progress_file

            progress = progress_file(Path(path), progress)
        yield Reporter(_LOG.info, progress)

    def show(self, output: Output) -> None:
        """Print a result: its object with --json or in a JSON log, else its lines and tables."""
        if self._as_json:
            # JSON has no NaN: fail here and not in the program that reads the output.
            line = json.dumps(dict(output.data), ensure_ascii=False, default=str, allow_nan=False)
            sys.stdout.write(printable_json(line) + "\n")
        elif self._json_log and not output.always_blocks:
            _LOG.info(output.event, extra={"metadata": dict(output.data)})
        else:
            for block in output.blocks:
                _print(block)


def _log_stages() -> Any:
    """A progress function that logs one line when a stage begins."""
    begun: set[str] = set()

    def progress(stage: str, done: int, total: int | None, note: str = "") -> None:
        if stage not in begun:
            begun.add(stage)
            _LOG.info(stage, extra={"metadata": {"stage": stage}})

    return progress


def _print(block: Block) -> None:
    if isinstance(block, str):
        sys.stdout.write(printable(block) + "\n")
        return
    if isinstance(block, Exact):
        sys.stdout.write(block.text + "\n")
        return
    from pipeline.cli.output.tables import print_table

    print_table(block)
