"""The output of `drift`."""

from __future__ import annotations

from pipeline.cli.output.model import Block, Cell, Output, Styled, Table
from pipeline.jobs.drift import DriftResult
from pipeline.monitoring.alerts import NotifyResult
from pipeline.monitoring.drift import MEANINGS, Measure

__all__ = ["drift_output"]

_PAST = 3  # exit status where a limit is passed
_STYLES = {"past": "bold red", "ok": "green"}


def drift_output(result: DriftResult, told: NotifyResult | None = None) -> Output:
    """Every measure beside its limit, what could not be measured, and the alerts."""
    measured = [row for row in result.rows if row.value is not None]
    blocks: list[Block] = [
        Table(
            ["measure", "what", "value", "95 % interval", "limit", "of", "state"],
            [_row(row) for row in measured],
            left=("measure", "what"),
            short=("what",),
            title=f"Drift of {result.champion}, {result.now:%Y-%m-%d %H:%M} UTC",
        )
    ]
    if result.since is not None:
        blocks.append(
            f"new interactions: since {result.since:%Y-%m-%d %H:%M} UTC, when {result.compared_with} had learned"
        )
    reasons: dict[str, list[str]] = {}
    for row in result.rows:
        if row.note:
            reasons.setdefault(row.note, []).append(row.name)
    blocks += [f"{', '.join(names)}: {why}" for why, names in reasons.items()]
    blocks += [f"alert: {alert.message}" for alert in result.alerts]
    blocks += told.sentences if told is not None else []
    data = {**result.to_json(), "alerts": [alert.as_json for alert in result.alerts]}
    if told is not None:
        data["told"] = told.as_json
    return Output("measured drift", data, blocks, exit_status=_PAST if result.exceeded else 0)


def _row(row: Measure) -> list[Cell]:
    interval = "" if row.low is None or row.high is None else f"{row.low:.4f} – {row.high:.4f}"
    limit = "" if row.limit is None else f"{'≤' if row.bound == 'at most' else '≥'} {row.limit:g}"
    state = Styled(row.state, _STYLES[row.state]) if row.state in _STYLES else row.state
    n = "" if row.n is None else f"{row.n:,}"
    shown = f"{row.value:,.1f}" if row.name.endswith("_hours") else f"{row.value:.4f}"
    return [row.name, MEANINGS[row.name], shown, interval, limit, n, state]
