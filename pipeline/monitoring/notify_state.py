"""``alerts.json``: which target was sent which alert, and when. It holds no address and no secret."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.runtime.files import reason_of

__all__ = ["SentAlerts"]

_LARGEST = 1 << 20  # bytes
_KEPT = timedelta(days=400)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_Key = tuple[str, str, str]


class SentAlerts:
    """(kind, subject, target) → when it was sent last."""

    def __init__(self) -> None:
        self._at: dict[_Key, int] = {}

    def is_due(self, kind: str, subject: str, target: str, now: datetime, hours: float) -> bool:
        """Whether it was not sent within so many hours before `now`. A time after `now` is of a clock set back."""
        at = self._at.get((kind, subject, target))
        return at is None or not 0 <= _ms(now) - at < hours * 3_600_000

    def add(self, kind: str, subject: str, target: str, now: datetime) -> None:
        """It was sent."""
        self._at[kind, subject, target] = _ms(now)

    def read(self, path: Path) -> str:
        """Add what a file says. Returns what is wrong with it, "" where it can be read or is not there."""
        try:
            if path.stat().st_size > _LARGEST:
                return f"{path} is no list of alerts"
            rows = json.loads(path.read_text(encoding="utf-8"))["sent"]
            read = {(str(kind), str(subject), str(target)): int(at) for kind, subject, target, at in rows}
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"{path} can't be read ({reason_of(error)})"
        except (ValueError, KeyError, TypeError, RecursionError):
            return f"{path} is damaged"
        self._at = {**read, **{key: max(at, read.get(key, at)) for key, at in self._at.items()}}
        return ""

    def write(self, path: Path, now: datetime) -> str:
        """Replace the file in one step. Returns why that failed, "" where it did not."""
        oldest = _ms(now - _KEPT)
        rows = [[*key, at] for key, at in sorted(self._at.items()) if at >= oldest]
        try:
            handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump({"sent": rows}, file)
                    file.flush()
                    os.fsync(file.fileno())
                Path(partial).replace(path)
            except BaseException:  # Ctrl-C, too: nothing half written stays
                with suppress(OSError):
                    Path(partial).unlink()
                raise
        except OSError as error:
            return f"{path} can't be written ({reason_of(error)})"
        return ""


def _ms(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)
