"""What `compare`, `promote` and `rollback` print: tables and sentences for people, one JSON object for programs."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.comparison import Compared, Mover
    from pipeline.jobs.compare import CompareResult
    from pipeline.jobs.promote import PromoteResult, RollbackResult
    from pipeline.significance import Comparison

__all__ = ["compared", "promoted", "rolled_back"]

_LOG = logging.getLogger("rankline")


def compared(result: CompareResult, as_json: bool, log_lines: bool) -> None:
    """A comparison: a table, who gains and loses most, the verdict; or one JSON object, or else a line of the log."""
    found = result.found
    if as_json:
        sys.stdout.write(json.dumps(_as_json(result), ensure_ascii=False) + "\n")
        return
    if log_lines:
        _LOG.info("compared", extra={"metadata": _as_json(result)})
        return
    from rich.table import Table

    _print(f"A  {result.a.label}  {result.a.name}\nB  {result.b.label}  {result.b.name}")
    _print(f"by {found.metric} of each user, split {result.split!r} ({result.split_digest[:8]})\n")
    table = Table()
    for name in ("users", "n", "A", "B", "B − A", "95 % interval", "p", "gain", "lose", "same", "overlap@10"):
        table.add_column(name, justify="left" if name == "users" else "right")
    for name, one in {"overall": found.overall, **found.segments}.items():
        table.add_row(*_row(name, one, found.overlap.get(name)))
    _print(table)
    for title, movers in (("gains", found.gained), ("loses", found.lost)):
        if movers:
            _print(f"who {title} most: " + ", ".join(map(_mover, movers)))
    _print(f"{found.n_same_list:,} users get the same items from both")
    if found.n_left_out:
        _print(f"{found.n_left_out:,} users are left out: they have no value in one of the two")
    _print(found.verdict)


def _row(name: str, one: Comparison, overlap: float | None) -> tuple[str, ...]:
    return (
        name,
        f"{one.n_users:,}",
        f"{one.mean_a:.4f}",
        f"{one.mean_b:.4f}",
        f"{one.difference.value:+.4f}",
        f"[{one.difference.low:+.4f}, {one.difference.high:+.4f}]",
        f"{one.p_value:.3g}",
        f"{one.gain:.0%}",
        f"{one.lose:.0%}",
        f"{one.same:.0%}",
        "" if overlap is None else f"{overlap:.2f}",
    )


def _mover(mover: Mover) -> str:
    return f"user {mover.user_id} {mover.difference:+.3f} ({mover.a:.3f} → {mover.b:.3f})"


def _as_json(result: CompareResult) -> dict[str, Any]:
    found: Compared = result.found
    return {
        "metric": found.metric,
        "a": asdict(result.a),
        "b": asdict(result.b),
        "split": {"name": result.split, "digest": result.split_digest},
        "data_digest": result.data_digest,
        "overall": _comparison(found.overall),
        "segments": {name: _comparison(one) for name, one in found.segments.items()},
        "overlap": dict(found.overlap),
        "n_same_list": found.n_same_list,
        "gained": [{**one._asdict(), "difference": one.difference} for one in found.gained],
        "lost": [{**one._asdict(), "difference": one.difference} for one in found.lost],
        "n_left_out": found.n_left_out,
        "b_is_better": found.overall.b_is_better,
        "verdict": found.verdict,
    }


def _comparison(one: Comparison) -> dict[str, Any]:
    return {**asdict(one), "difference": one.difference._asdict()}


def promoted(result: PromoteResult, log_lines: bool) -> None:
    """What the gate found, check by check, and who is champion now."""
    decision = result.decision
    if log_lines:
        checks = [check._asdict() for check in decision.checks]
        metadata = {
            "version": result.version,
            "before": result.before,
            "outcome": result.outcome,
            "reason": result.reason,
            "checks": checks,
        }
        _LOG.info(result.outcome, extra={"metadata": metadata})
        return
    for check in decision.checks:
        _print(f"{'✓' if check.passed else '✗'} {check.summary}")
    after = f", after {result.before}" if result.before else ", the first one"
    if result.outcome == "already":
        _print(f"{result.version} is the champion already: nothing to do")
    elif result.outcome == "promoted":
        _print(f"{result.version} is the champion now{after} · next: rankline score · back: rankline rollback")
    elif result.outcome == "forced":
        _print(f"{result.version} is the champion now{after}, against the gate: {result.reason}")
        _print("next: rankline score · back: rankline rollback")
    elif result.before:
        _print(f"{result.before} stays the champion")
    else:
        _print("no version is champion yet")


def rolled_back(result: RollbackResult, log_lines: bool) -> None:
    """Who is champion again."""
    if log_lines:
        _LOG.info("rolled back", extra={"metadata": asdict(result)})
        return
    for version in result.deleted:
        _print(f"version {version}, champion in between, is deleted: passed over")
    why = f" ({result.reason})" if result.reason else ""
    _print(f"{result.version} is the champion again, after {result.before}{why} · next: rankline score")


def _print(what: Any) -> None:
    from rich.console import Console as Terminal

    plain = isinstance(what, str)
    width = None if sys.stdout.isatty() else 160
    Terminal(width=width, highlight=False, markup=False, soft_wrap=plain).print(what)
