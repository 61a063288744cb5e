"""`pip install` of a file of pins, with its progress: how many packages are there, which one is on its way.

On a terminal one line is drawn anew; in a log a line is written at each stage and every quarter of a minute.
What pip itself says is shown where it fails.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

EVERY = 15.0  # seconds between two lines of a log
_FILE = re.compile(r"\s+(?:Downloading|Using cached) (?P<name>[^/\s]+?)-\d\S*(?P<size> \([^)]*\))?")


class Progress:
    """What pip is at, from the lines that it prints and the packages that are there."""

    def __init__(self, total: int, site: Path, out: TextIO) -> None:
        self._total, self._site, self._out = total, site, out
        self._began = time.monotonic()
        self._said = -EVERY
        self._stage, self._collected, self._file, self._before = "", 0, "", 0

    def line(self, line: str) -> None:
        """A line of pip's."""
        if line.startswith(("Collecting ", "Requirement already satisfied: ", "Ignoring ")):
            self._collected += 1
            self._enter("collecting")
        elif match := _FILE.match(line):
            self._file = f": {match['name']}{match['size'] or ''}"
        elif line.startswith("Installing collected packages: "):
            self._total, self._file = line.count(",") + 1, ""
            self._before = self._installed()
            self._enter("installing")

    def tick(self) -> None:
        """Show where it is, if it is time to."""
        if not self._stage:
            return
        done = self._collected if self._stage == "collecting" else self._installed() - self._before
        seconds = int(time.monotonic() - self._began)
        done = max(0, min(done, self._total))
        text = f"  {self._stage} {done} of {self._total} packages{self._file} ({seconds // 60}:{seconds % 60:02d})"
        if self._out.isatty():
            self._out.write(f"\r\033[K{text[: shutil.get_terminal_size().columns - 1]}")
        elif time.monotonic() - self._said >= EVERY:
            self._out.write(text + "\n")
            self._said = time.monotonic()
        self._out.flush()

    def end(self) -> None:
        """Leave the terminal's line."""
        if self._out.isatty() and self._stage:
            self._out.write("\n")

    def _enter(self, stage: str) -> None:
        if stage != self._stage:
            self._stage, self._said = stage, -EVERY

    def _installed(self) -> int:
        return sum(1 for _ in self._site.glob("*.dist-info"))


def run(command: Sequence[str], total: int, site: Path, out: TextIO) -> int:
    """The exit status of the command, whose progress is shown; its last lines where it fails."""
    progress, last, over = Progress(total, site, out), deque[str](maxlen=40), threading.Event()
    lock = threading.Lock()

    def watch() -> None:
        while not over.wait(0.5):
            with lock:
                progress.tick()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            last.append(line)
            with lock:
                progress.line(line)
                progress.tick()
    over.set()
    watcher.join()
    progress.end()
    if process.returncode:
        out.writelines(last)
    return process.returncode


def main(lock: Path) -> int:
    """Install the pins of a file into the environment of this Python."""
    total = len(re.findall(r"^[^\s#].*==", lock.read_text(encoding="utf-8"), re.MULTILINE))
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    return run([*pip, "--require-hashes", "-r", str(lock)], total, Path(sysconfig.get_path("purelib")), sys.stdout)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
