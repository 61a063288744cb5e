"""Errors of a Spark job in one line: what its task raised, and what is amiss with an executor."""

from __future__ import annotations

import re
from importlib.metadata import version

from pipeline import __version__, errors
from pipeline.errors import RanklineError, ServerError

__all__ = ["as_rankline_error", "check_package"]

# The last line of a Python traceback, which stands in Spark's text between lines of Java.
_OURS = re.compile(r"^pipeline\.errors\.(\w+): (.+)$", re.MULTILINE)
_ABSENT = re.compile(r"^ModuleNotFoundError: No module named '([\w.]+)'", re.MULTILINE)
_RAISED = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Warning)): (\S.*)$", re.MULTILINE)
_CRASHED = re.compile(r"Python worker (exited unexpectedly|failed to connect back)|ExecutorLostFailure|EOFException")
_LONGEST = 300


def check_package(expected: str) -> None:
    """On an executor: raise ServerError where Rankline is of another version than on the driver."""
    if __version__ != expected:
        raise ServerError(
            f"An executor has Rankline {__version__}, and the driver has {expected}: install {expected} on every one"
        )


def as_rankline_error(error: BaseException, what: str) -> RanklineError:
    """The error of a failed Spark job.

    An error that a task raised on purpose comes back as what it is. Anything else is a ServerError.

    what : the job, for the message: "scoring"
    """
    text = str(error)
    if ours := _OURS.findall(text):
        name, message = ours[-1]
        kind = getattr(errors, name, ServerError)
        return kind(message) if _takes_a_message(kind) else ServerError(message)
    if absent := _ABSENT.findall(text):
        package = absent[-1].partition(".")[0]
        named = "rankline" if package == "pipeline" else package
        return ServerError(
            f"An executor's Python has no {named}: install rankline[spark]=={version('rankline')} on every executor, "
            "and name its Python in PYSPARK_PYTHON"
        )
    if "PYTHON_VERSION_MISMATCH" in text:
        return ServerError(
            "An executor's Python is of another version than the driver's: name the same one in PYSPARK_PYTHON"
        )
    if raised := _python_line(text):
        return ServerError(f"{what} failed on an executor ({raised}); the executor's log has the rest")
    if _CRASHED.search(text):
        return ServerError(
            f"{what} failed: a Python process of an executor ended, again and again. If it ran out of memory, give "
            "executors more, or fewer cores each"
        )
    return ServerError(f"{what} failed in Spark ({_short(text)}); the driver's log has the rest")


def _python_line(text: str) -> str:
    """What a task raised, such as "OSError: …"; "" where the text has no traceback of Python."""
    _, traceback, rest = text.rpartition("Traceback (most recent call last)")
    found = _RAISED.search(rest) if traceback else None
    return _short(found.group()) if found else ""


def _takes_a_message(kind: object) -> bool:
    """Whether it is one of our errors that is made of its message alone."""
    return isinstance(kind, type) and issubclass(kind, RanklineError) and "__init__" not in vars(kind)


def _short(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]
