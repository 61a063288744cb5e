"""A command in this process, as if it had been typed."""

from __future__ import annotations

import pytest

from pipeline.cli.main import main

__all__ = ["one_line", "typed"]


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command, in this process."""
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    return int(str(left.value.code)), *capsys.readouterr()


def one_line(text: str) -> str:
    """The one line of what went wrong."""
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in text
    assert len(lines) == 1
    return lines[0]
