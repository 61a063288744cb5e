"""What `rankline experiment` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from pipeline.cli.output.model import Block, Output, Table
from pipeline.errors import InputError, NotPromotedError
from pipeline.experiments.decision import Evidence, Guardrail
from pipeline.experiments.definition import ARMS, Experiment
from pipeline.jobs.experiment import StopResult
from pipeline.jobs.experiment_aa import AaResult
from pipeline.jobs.experiment_report import ExperimentReport
from pipeline.options import Names

__all__ = ["aa_output", "list_output", "report_output", "start_output", "stop_output"]

_UNITS = {"conversion": "share of users with an outcome", "outcomes": "outcomes a user"}


def start_output(begun: Experiment, names: Names) -> Output:
    """What began, and what is to be done by the clients."""
    parts = [
        f"{arm} {names.model}/{version} {share:.4g} %"
        for arm, version, share in zip(ARMS, begun.versions, [100 * share for share in begun.shares], strict=True)
    ]
    lines = [
        f"the experiment {begun.name} runs: {', '.join(parts)}; compared: {_UNITS[begun.metric]}",
        "the service assigns users within seconds, the table with the next rankline score",
        "send the X-Request-ID of each answer back as request_id with the interactions that follow it",
        f"next: rankline experiment report {begun.name}{names.typed}",
    ]
    return Output("experiment started", asdict(begun), lines)


def list_output(known: Sequence[Experiment]) -> Output:
    """All experiments, the newest first."""
    data = {"experiments": [asdict(one) for one in known]}
    if not known:
        return Output("experiments", data, ("there are no experiments (rankline experiment start begins one)",))
    rows = [
        (
            one.name,
            ", ".join(one.versions),
            ",".join(f"{100 * share:g}" for share in one.shares),
            _day(one.started),
            "runs" if one.running else f"stopped {_day(one.stopped or 0)}",
            one.winner or ("" if one.running else "none"),
        )
        for one in known
    ]
    columns = ("experiment", "versions", "split", "started", "state", "winner")
    return Output("experiments", data, (Table(columns, rows, left=columns),))


def report_output(made: ExperimentReport) -> Output:
    """The join rate first, then the arms, the difference, what it must not make worse, and the decision."""
    seen, one = made.evidence, made.experiment
    blocks: list[Block] = [_join(made), _losses(seen)]
    if made.n_other:
        blocks.append(f"{made.n_other:,} lists were shown in the other channel and are not compared (--channel)")
    columns = ("arm", "version", "users", "lists", "with an outcome", _UNITS[one.metric])
    rows = [
        (arm.arm, arm.version, f"{arm.n_users:,}", f"{arm.n_answers:,}", f"{arm.n_active:,}", f"{arm.mean:.4g}")
        for arm in made.arms
    ]
    blocks += ["", Table(columns, rows, left=("arm",)), ""]
    d = seen.difference
    blocks.append(
        f"b − a: {d.value:+.4g}, {1 - one.alpha:.0%} interval at every look {_range(d.low, d.high)} "
        f"(of one look {_range(d.fixed_low, d.fixed_high)}), p {d.p_value:.2g}"
    )
    (x, y), ratio = seen.ratio.expected, seen.ratio
    what = "MISMATCH" if ratio.mismatch else "fits"
    blocks.append(
        f"sample ratio: {ratio.counts[0]:,} and {ratio.counts[1]:,}, expected {x:,.0f} and {y:,.0f}: {what} "
        f"(p {ratio.p_value:.2g})"
    )
    blocks.append(
        f"power to see {one.min_effect:g}: {seen.power:.0%} of {seen.wanted_power:.0%}; "
        f"{sum(seen.users):,} of some {seen.n_needed:,} users; day {seen.days:.1f} of at least {seen.min_days:g}"
    )
    blocks += [_rail(rail) for rail in seen.guardrails if made.channel == "api" or rail.name == "empty lists"]
    blocks += ["", f"{made.decision.action.upper()}: {made.decision.reasons[0]}"]
    blocks += [f"  {reason}" for reason in made.decision.reasons[1:]]
    blocks.append(f"written to {made.path}")
    return Output("experiment report", {**made.data, "path": str(made.path)}, blocks)


def stop_output(result: StopResult, names: Names) -> Output:
    """What became of the winner; a refusal by the gate ends in NotPromotedError."""
    one, promoted = result.experiment, result.promoted
    data = {
        "experiment": asdict(one),
        "already": result.already,
        "winner": one.winner,
        "promotion": None if promoted is None else promoted.outcome,
        "version": None if promoted is None else promoted.version,
    }
    if result.already:
        won = f"{one.winner} was its winner" if one.winner else "it had no winner"
        return Output("experiment stopped", data, (f"the experiment {one.name} is stopped already: {won}",))
    blocks: list[Block] = []
    if promoted is not None:
        blocks += [f"{'✓' if check.passed else '✗'} {check.summary}" for check in promoted.decision.checks]
    if promoted is not None and result.refused:
        failure = NotPromotedError(
            f"{promoted.version} is not promoted: {promoted.decision.failed[0].summary}. The experiment {one.name} "
            f"goes on; --winner none ends it without a promotion"
        )
        return Output("experiment goes on", data, blocks, failure=failure)
    if promoted is None:
        blocks.append(f"the experiment {one.name} is stopped without a winner: everybody gets the champion")
    else:
        again = "stays" if promoted.outcome == "already" else "is"
        blocks.append(f"the experiment {one.name} is stopped: {promoted.version} ({one.winner}) {again} the champion")
    blocks.append(f"next: rankline score{names.typed} publishes one version's lists for everybody")
    return Output("experiment stopped", data, blocks)


def aa_output(result: AaResult) -> Output:
    """How many splits found something; too many end in InputError."""
    data = {**asdict(result), "passed": result.passed}
    blocks = [
        f"{result.n_users:,} users of {result.address}, split {result.n_runs} times; what they did in the last "
        f"{result.days:g} days of the data, {result.mean:.4g} on average",
        f"{result.n_found} of {result.n_runs} splits find a difference at {result.alpha:g}; "
        f"{result.n_runs * result.alpha:.0f} are expected, at most {result.most} pass",
        f"{result.n_mismatched} of {result.n_runs} have a sample ratio mismatch",
    ]
    if result.smallest is not None:
        blocks.append(f"as many users show a difference of {result.smallest:.4g} with the planned power")
    failure = None
    if not result.passed:
        failure = InputError(
            "Users who are treated alike differ too often: what one user does hangs together with what others do, or "
            "few users do most of it. Intervals would be too narrow; take --outcome conversion"
        )
    return Output("aa-check", data, blocks, failure=failure)


def _join(made: ExperimentReport) -> str:
    seen = made.evidence
    if seen.join_rate is None:
        return "join rate: no outcome names an answer yet"
    return (
        f"join rate: {seen.join_rate:.1%} ({seen.n_joined:,} of {seen.n_outcomes:,} outcomes that name an answer name "
        "one that was logged for that user)"
    )


def _losses(seen: Evidence) -> str:
    return f"exposures: {seen.n_exposures:,} logged, {seen.n_lost:,} lost ({seen.lost_share:.2%})"


def _rail(rail: Guardrail) -> str:
    state = "WORSE" if rail.broken else "not worse"
    unit = " ms, of the logarithm" if rail.name == "latency" else ""
    return (
        f"{rail.name}: {rail.a:.4g} → {rail.b:.4g}{unit} {_range(rail.difference.low, rail.difference.high)}, "
        f"limit {rail.limit:+.4g}: {state}"
    )


def _range(low: float, high: float) -> str:
    return "[?]" if math.isinf(low) or math.isinf(high) else f"[{low:+.4g}, {high:+.4g}]"


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
