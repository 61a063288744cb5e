"""`examine(interactions, …) → Outcome`: checks the data against its limits and the champion's data before a fit.

A fact past a limit that was set is a breach, and nothing is trained. Without a limit, a fact past the usual level
(`USUAL`) gives a warning. Data from another source than the champion's is reported but not compared with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from typing import Any, Literal

import numpy as np

from pipeline.data.interactions import Interactions
from pipeline.data.profile import DataProfile, IdChanges, ReferenceData, Source, profile_of
from pipeline.errors import DataGateError
from pipeline.options import DataLimits

__all__ = ["USUAL", "DataFinding", "DataLimits", "DataQuality", "examine"]


# Levels for warnings if no limit is set. A day before 1980 is a missing time, or seconds read as milliseconds.
USUAL = DataLimits(
    min_users=10,
    min_items=10,
    max_bad_share=0.01,
    max_duplicate_share=0.5,
    max_age_days=30,
    max_future_days=1,
    earliest=date(1980, 1, 1),
    max_users_lost=0.2,
    max_items_lost=0.2,
    max_shrink=0.2,
    max_score_change=2.0,
)


@dataclass(frozen=True)
class DataFinding:
    """A fact past a level: `limit` is the field of `DataLimits`, `breach` says whether that limit was set."""

    limit: str
    sentence: str
    breach: bool

    @property
    def setting(self) -> str:
        """The environment variable."""
        return f"RANKLINE_LIMIT_{self.limit.upper()}"


@dataclass(frozen=True)
class DataQuality:
    """The result of the data gate; `notes` are for information and are no findings."""

    facts: DataProfile
    limits: DataLimits
    findings: tuple[DataFinding, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def verdict(self) -> Literal["passed", "warned", "stopped"]:
        """``stopped`` if a fact is past a limit that was set."""
        if any(finding.breach for finding in self.findings):
            return "stopped"
        return "warned" if self.findings else "passed"

    @property
    def words(self) -> str:
        """The findings in one line, breaches first; "" if there are none."""
        return "; ".join(finding.sentence for finding in self._breaches_first())

    def check(self) -> None:
        """Raise DataGateError, which names the limit and its setting, if a fact is past a limit."""
        if self.verdict != "stopped":
            return
        first, *others = self._breaches_first()
        more = f" (and {len(others)} more finding(s))" if others else ""
        raise DataGateError(
            f"The data gate stopped this before the fit: {first.sentence}{more}. "
            f"data_gate.json has the facts; look at the data, or set {first.setting} otherwise"
        )

    def as_json(self) -> dict[str, Any]:
        """For ``data_gate.json``: the verdict, the findings, the facts, and each limit with its usual level."""
        return {
            "verdict": self.verdict,
            "findings": [asdict(finding) | {"setting": finding.setting} for finding in self._breaches_first()],
            "notes": list(self.notes),
            "facts": asdict(self.facts),
            "limits": _plain(asdict(self.limits)),
            "usual": _plain(asdict(USUAL)),
        }

    def _breaches_first(self) -> list[DataFinding]:
        return sorted(self.findings, key=lambda finding: not finding.breach)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in values.items()}


def examine(
    x: Interactions,
    limits: DataLimits,
    *,
    n_rows: int,
    n_bad: int,
    now: np.datetime64,
    source: Source,
    before: ReferenceData | None = None,
    old_is_usual: bool = False,
) -> DataQuality:
    """The facts of the data, and those of them that are past a limit or a usual level.

    Parameters
    ----------
    n_rows, n_bad : rows of the source, and those of them that are not in `x`
    now : the clock, UTC
    before : the champion's data; None if there is no champion
    old_is_usual : the data may be old, like public data and files: age is then compared with a set limit only
    """
    notes = []
    comparable = before is not None and before.source == source
    facts = profile_of(x, n_rows=n_rows, n_bad=n_bad, now=now, before=before if comparable else None)
    if before is None:
        notes.append("no champion yet: users and items gained and lost are not checked")
    elif not comparable:
        notes.append(
            f"another source than that of {before.label} ({_in_words(before.source, source)}): "
            "users and items gained and lost are not checked"
        )
    elif before.filtered:
        notes.append(f"{before.label} left users out by their number of interactions: who is new can't be told")
    usual = {limit_field.name: getattr(USUAL, limit_field.name) for limit_field in fields(USUAL)}
    if old_is_usual:
        usual["max_age_days"] = None
    findings = []
    for name, measured in _MEASURED.items():
        limit = getattr(limits, name)
        fact = measured(facts)
        if fact is None:
            # Without a champion, or with another source, there is nothing to compare with; a note says so.
            if limit is not None and name in _OF_TIMES:
                setting = DataFinding(name, "", False).setting
                findings.append(
                    DataFinding(name, f"{setting} can't be checked: these interactions have no times", False)
                )
            continue
        bound = usual[name] if limit is None else limit
        if bound is not None and _past(name, fact.value, bound):
            findings.append(DataFinding(name, _sentence(name, fact, bound, limit is not None), limit is not None))
    return DataQuality(facts, limits, tuple(findings), tuple(notes))


@dataclass(frozen=True)
class _Measured:
    """A fact that has a limit: its value, and the fact in words."""

    value: Any
    words: str


def _count(name: str) -> Callable[[DataProfile], _Measured | None]:
    def measured(facts: DataProfile) -> _Measured | None:
        n = getattr(facts, f"n_{name}")
        return _Measured(n, f"there are {n:,} {name}" if n != 1 else f"there is 1 {name[:-1]}")

    return measured


def _score(which: str, words: str) -> Callable[[DataProfile], _Measured | None]:
    def measured(facts: DataProfile) -> _Measured | None:
        value = getattr(facts, which)
        return None if value is None else _Measured(value, f"the {words} score is {value:g}")

    return measured


def _lost(name: str) -> Callable[[DataProfile], _Measured | None]:
    def measured(facts: DataProfile) -> _Measured | None:
        moved: IdChanges | None = getattr(facts, name)
        if moved is None:
            return None
        some = ", ".join(map(repr, moved.examples))
        such = f", such as {some}" if some else ""
        return _Measured(
            moved.lost_share,
            f"{_percent(moved.lost_share)} of the champion's {name} are gone "
            f"({moved.lost:,} of {moved.before:,}{such})",
        )

    return measured


def _age(facts: DataProfile) -> _Measured | None:
    if facts.age_days is None or facts.newest is None:
        return None
    return _Measured(facts.age_days, f"the newest interaction is {max(facts.age_days, 0):,.1f} days old")


def _future(facts: DataProfile) -> _Measured | None:
    if facts.age_days is None or facts.newest is None:
        return None
    return _Measured(-facts.age_days, f"the newest interaction, {facts.newest[:19]}, is past the clock")


def _earliest(facts: DataProfile) -> _Measured | None:
    if facts.oldest is None:
        return None
    return _Measured(np.datetime64(facts.oldest), f"the oldest interaction is of {facts.oldest[:10]}")


def _shrink(facts: DataProfile) -> _Measured | None:
    if facts.shrink is None or facts.n_before is None:
        return None
    pairs = facts.n_interactions - facts.n_duplicates
    return _Measured(
        facts.shrink,
        f"{_percent(facts.shrink)} fewer interactions than the champion's ({pairs:,}, not {facts.n_before:,})",
    )


def _score_change(facts: DataProfile) -> _Measured | None:
    if facts.score_change is None:
        return None
    return _Measured(
        facts.score_change,
        f"the mean score is {facts.score_mean:.3g}, and the champion's is {facts.score_mean_before:.3g}: "
        f"a factor of {facts.score_change:.3g}",
    )


# In the order of the report.
_MEASURED: dict[str, Callable[[DataProfile], _Measured | None]] = {
    "min_interactions": _count("interactions"),
    "min_users": _count("users"),
    "min_items": _count("items"),
    "max_users_lost": _lost("users"),
    "max_items_lost": _lost("items"),
    "max_shrink": _shrink,
    "max_score_change": _score_change,
    "max_bad_share": lambda facts: _Measured(
        facts.bad_share, f"{_percent(facts.bad_share)} of the rows are bad ({facts.n_bad:,} of {facts.n_rows:,})"
    ),
    "max_duplicate_share": lambda facts: _Measured(
        facts.duplicate_share, f"{_percent(facts.duplicate_share)} of the interactions repeat a user and item"
    ),
    "min_score": _score("score_min", "lowest"),
    "max_score": _score("score_max", "highest"),
    "max_age_days": _age,
    "max_future_days": _future,
    "earliest": _earliest,
}
_OF_TIMES = ("max_age_days", "max_future_days", "earliest")
_SHARES = ("max_users_lost", "max_items_lost", "max_shrink", "max_bad_share", "max_duplicate_share")


def _past(name: str, value: Any, bound: Any) -> bool:
    if name == "earliest":
        return bool(value < np.datetime64(bound))
    return bool(value < bound) if name.startswith("min_") else bool(value > bound)


def _sentence(name: str, fact: _Measured, bound: Any, is_limit: bool) -> str:
    shown = _percent(bound) if name in _SHARES else bound.isoformat() if isinstance(bound, date) else f"{bound:,}"
    days = " days" if name.endswith("_days") else ""
    most = "at least" if name.startswith("min_") else "not before" if name == "earliest" else "at most"
    setting = f"RANKLINE_LIMIT_{name.upper()}"
    how = (
        f"limit: {most} {shown}{days}, {setting}"
        if is_limit
        else f"usual: {most} {shown}{days}; {setting} sets a limit"
    )
    return f"{fact.words} ({how})"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _in_words(before: Source, now: Source) -> str:
    if before.kind != now.kind:
        return f"{now.kind}, not {before.kind}"
    return "another query" if before.address == now.address else f"{now.address}, not {before.address}"
