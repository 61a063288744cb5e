"""`Alert`: that something needs a look; and `notify`, which tells people of it, once while it lasts.

An alert holds no data of users: its texts are made here of measures, versions and times, and the names of its facts
are those of `FACTS`. What an error said is not among them, since it may quote rows.

Nothing here raises for a target that is down: it is said, and tried again the next time. A process that is killed
between sending and writing that down sends again; nothing is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from pipeline.errors import LockedError
from pipeline.monitoring.notify_delivery import Letter, deliver
from pipeline.monitoring.notify_state import SentAlerts
from pipeline.monitoring.notify_targets import Target, parse_target
from pipeline.runtime.file_lock import FileLock
from pipeline.runtime.files import reason_of

__all__ = [
    "FACTS",
    "Alert",
    "Kind",
    "Notifier",
    "NotifyResult",
    "drift_past",
    "gate_refused",
    "log_aged",
    "notify",
    "table_aged",
    "training_failed",
]

Kind = Literal["training_failed", "gate_refused", "drift", "interaction_log_age", "table_age"]
# All that an alert may tell besides its message: numbers, and names that are nobody's.
FACTS = frozenset(
    (
        "model", "version", "versions", "run_id", "table", "measure", "value", "low", "high", "limit", "n", "popular",
        "hours", "pending", "oldest_hours", "count", "published_at", "measured_at", "cause", "step", "night", "day",
    )
)  # fmt: skip
_LONGEST = 500
_HOURS = 20.0
_WAIT = 60.0  # seconds for another process that sends


@dataclass(frozen=True)
class Alert:
    """Attributes
    ----------
    kind : what it is about
    subject : what of; two alerts of the same kind and subject are the same alert
    message : one sentence
    facts : by names of `FACTS`

    Raises ValueError for another kind or fact, and for a text of more than a line: that is a mistake in the program.
    """

    kind: Kind
    subject: str
    message: str
    facts: Mapping[str, str | int | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"{self.kind!r} is no kind of alert")
        if unknown := sorted(set(self.facts) - FACTS):
            raise ValueError(f"{', '.join(unknown)}: an alert tells no such fact; alerts.FACTS has those that it may")
        for text in (self.subject, self.message, *(value for value in self.facts.values() if isinstance(value, str))):
            if len(text) > _LONGEST or not text.isprintable():
                raise ValueError("a text of an alert is one line of at most 500 characters")

    @property
    def as_json(self) -> dict[str, object]:
        """For a webhook, a command and ``--json``."""
        return {"kind": self.kind, "subject": self.subject, "message": self.message, "facts": dict(self.facts)}


# ---- the five kinds ------------------------------------------------------------------------------


def training_failed(model: str, run_id: str = "", cause: str = "") -> Alert:
    """The last training of the model failed.

    cause : the name of the error's class. Never its text, which may quote rows of the data
    """
    where = f": run {run_id[:8]} in MLflow says why" if run_id else ""
    because = f" ({cause})" if cause else ""
    facts = {"model": model, "run_id": run_id, "cause": cause}
    return Alert(
        "training_failed",
        model,
        f"The last training of {model} failed{because}{where}",
        {name: value for name, value in facts.items() if value},
    )


def gate_refused(model: str, versions: Sequence[str]) -> Alert:
    """The gate refused the newest versions, one after the other; the newest first."""
    named = ", ".join(versions[:5]) + (", …" if len(versions) > 5 else "")
    return Alert(
        "gate_refused",
        model,
        f"The gate refused the last {len(versions)} versions of {model} ({named}): the champion grows old",
        {"model": model, "count": len(versions), "version": versions[0]},
    )


def drift_past(model: str, measure: str, sentence: str, facts: Mapping[str, str | int | float]) -> Alert:
    """A measure is past its limit, in a sentence."""
    return Alert("drift", f"{model} {measure}", sentence, {"model": model, "measure": measure, **facts})


def log_aged(hours: float, limit: float, pending: int) -> Alert:
    """The oldest interaction in this host's log waits for longer than the limit."""
    return Alert(
        "interaction_log_age",
        "interactions.db",
        f"{pending:,} interaction(s) wait in the log, the oldest for {hours:.1f} hours (limit: {limit:g}): "
        "look whether rankline ship reaches the warehouse",
        {"oldest_hours": round(hours, 2), "limit": limit, "pending": pending},
    )


def table_aged(table: str, hours: float, limit: float) -> Alert:
    """The published table is older than the limit."""
    return Alert(
        "table_age",
        table,
        f"{table} is {hours:.1f} hours old (limit: {limit:g}): look whether the nightly job runs",
        {"table": table, "hours": round(hours, 2), "limit": limit},
    )


# ---- telling -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NotifyResult:
    """Attributes
    ----------
    sent : (target without its secrets, alerts that it took)
    failed : (target without its secrets, why it did not take them)
    repeated : alerts that no target was told of, since all were told within the window
    notes : what else should be said
    """

    sent: tuple[tuple[str, int], ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    repeated: int = 0
    notes: tuple[str, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """One for each target, and the notes."""
        return [
            *(f"{shown} was told of {n} alert(s)" for shown, n in self.sent),
            *(f"{shown} was not told ({reason}); the next run tries again" for shown, reason in self.failed),
            *self.notes,
        ]

    @property
    def as_json(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "sent": [{"target": shown, "alerts": n} for shown, n in self.sent],
            "failed": [{"target": shown, "reason": reason} for shown, reason in self.failed],
            "repeated": self.repeated,
        }


class Notifier:
    """Tells targets of alerts. One that lives on remembers what it sent, also where its file can't be written.

    Parameters
    ----------
    targets : as `notify_targets` describes them. Raises UsageError
    state_folder : the folder of ``alerts.json``, which several processes share
    hours : an alert that lasts is sent again after so long
    seconds : that a target may take in all
    """

    def __init__(
        self, targets: Sequence[str], state_folder: Path, *, hours: float = _HOURS, seconds: float = 10.0
    ) -> None:
        self._targets: list[Target] = []
        for text in targets:
            target = parse_target(text)
            n_same = sum(other.shown == target.shown for other in self._targets)
            self._targets.append(target.numbered(n_same))
        self._path, self._hours, self._seconds = state_folder / "alerts.json", hours, seconds
        self._sent = SentAlerts()

    def notify(self, alerts: Sequence[Alert], now: datetime | None = None) -> NotifyResult:
        """Send each target the alerts that it was not sent within the window, all in one message. Never raises."""
        at = now or datetime.now(UTC)
        alerts = list({(alert.kind, alert.subject): alert for alert in alerts}.values())
        if not alerts or not self._targets:
            return NotifyResult()
        notes: list[str] = []
        with ExitStack() as stack:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(self._path.with_suffix(".lock"), _WAIT))
            except (LockedError, OSError) as error:
                notes.append(f"alerts are sent without a lock, and may come twice ({_reason(error)})")
            damaged = self._sent.read(self._path)
            notes += [f"{damaged}: alerts of before may be sent again"] if damaged else []
            return self._told(alerts, at, notes)

    def _told(self, alerts: Sequence[Alert], at: datetime, notes: list[str]) -> NotifyResult:
        letters = []
        for target in self._targets:
            due = [
                alert for alert in alerts if self._sent.is_due(alert.kind, alert.subject, target.name, at, self._hours)
            ]
            if due:
                letters.append((target, due))
        reasons = deliver(
            [(target, Letter.of([alert.as_json for alert in due], at)) for target, due in letters], self._seconds
        )
        sent, failed = [], []
        for (target, due), reason in zip(letters, reasons, strict=True):
            if reason:
                failed.append((target.shown, reason))
                continue
            sent.append((target.shown, len(due)))
            for alert in due:
                self._sent.add(alert.kind, alert.subject, target.name, at)
        if sent and (fault := self._sent.write(self._path, at)):
            notes.append(f"{fault}: these alerts may be sent again")
        told = {id(alert) for _, due in letters for alert in due}
        return NotifyResult(tuple(sent), tuple(failed), len(alerts) - len(told), tuple(notes))


def notify(
    alerts: Sequence[Alert],
    targets: Sequence[str],
    state_folder: Path,
    *,
    now: datetime | None = None,
    hours: float = _HOURS,
    seconds: float = 10.0,
) -> NotifyResult:
    """As `Notifier.notify`, once. Raises UsageError for a target that can't be read, and nothing else."""
    return Notifier(targets, state_folder, hours=hours, seconds=seconds).notify(alerts, now)


def _reason(error: Exception) -> str:
    return reason_of(error) if isinstance(error, OSError) else str(error)
