"""The output of `compare`, `promote` and `rollback`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pipeline.cli.output.model import Block, Output, Table
from pipeline.cli.output.next_step import after_promotion
from pipeline.errors import NotPromotedError
from pipeline.evaluation.comparison import UserDifference
from pipeline.evaluation.significance import Comparison
from pipeline.jobs.compare import CompareResult
from pipeline.jobs.promote import PromoteResult
from pipeline.jobs.rollback import RollbackResult
from pipeline.options import Names

__all__ = ["compare_output", "promote_output", "rollback_output"]

_COLUMNS = ("users", "n", "A", "B", "B − A", "95 % interval", "p", "gain", "lose", "same", "overlap@10")


def compare_output(result: CompareResult) -> Output:
    """The runs, a table of differences, the users who gain and lose most, and the verdict."""
    comparison = result.comparison
    rows = [_row("overall", comparison.overall, comparison.overlap.get("overall"))]
    rows += [_row(name, segment, comparison.overlap.get(name)) for name, segment in comparison.segments.items()]
    blocks: list[Block] = [
        f"A  {result.a.label}  {result.a.name}",
        f"B  {result.b.label}  {result.b.name}",
        f"by {comparison.metric} of each user, split {result.split!r} ({result.split_digest[:8]})",
        *(f"rankline.yaml: {key}: {_value(a)} → {_value(b)}" for key, a, b in result.config),
        "",
        Table(_COLUMNS, rows, left=("users",)),
    ]
    for verb, users in (("gain", comparison.gained), ("lose", comparison.lost)):
        if users:
            blocks.append(f"who {verb}s most: " + ", ".join(map(_difference, users)))
    blocks.append(f"users who get the same items from both: {comparison.n_same_list:,}")
    if comparison.n_left_out:
        blocks.append(f"{comparison.n_left_out:,} users are left out: one of the two has no value for them")
    return Output("compared", _compared_data(result), [*blocks, comparison.verdict])


def promote_output(result: PromoteResult, names: Names) -> Output:
    """The gate's checks, and which version is champion now; a refusal ends in NotPromotedError."""
    checks = result.decision.checks
    data = {
        "version": result.version,
        "before": result.before,
        "outcome": result.outcome,
        "reason": result.reason,
        "checks": [check._asdict() for check in checks],
    }
    blocks = [f"{'✓' if check.passed else '✗'} {check.summary}" for check in checks]
    after = f", after {result.before}" if result.before else ", the first one"
    failure = None
    if result.outcome == "already":
        blocks.append(f"{result.version} is the champion already: nothing to do")
    elif result.outcome in ("promoted", "forced"):
        forced = f", against the gate: {result.reason}" if result.outcome == "forced" else ""
        blocks += [f"{result.version} is the champion now{after}{forced}", f"next: {after_promotion(names.typed)}"]
    else:
        blocks.append(f"{result.before} stays the champion" if result.before else "no version is champion yet")
        first, *others = result.decision.failed
        more = f" (and {len(others)} more of the gate's checks)" if others else ""
        failure = NotPromotedError(f"{result.version} is not promoted: {first.summary}{more}")
    return Output(result.outcome, data, blocks, failure=failure)


def rollback_output(result: RollbackResult, names: Names) -> Output:
    """Which version is champion again."""
    blocks = [f"version {version}, a champion in between, is deleted: it was skipped" for version in result.deleted]
    reason = f" ({result.reason})" if result.reason else ""
    blocks.append(f"{result.version} is the champion again, after {result.before}{reason}")
    return Output("rolled back", asdict(result), [*blocks, f"next: rankline score{names.typed} publishes its lists"])


def _value(text: str | None) -> str:
    return "(not there)" if text is None else text


def _row(name: str, compared: Comparison, overlap: float | None) -> tuple[str, ...]:
    return (
        name,
        f"{compared.n_users:,}",
        f"{compared.mean_a:.4f}",
        f"{compared.mean_b:.4f}",
        f"{compared.difference.value:+.4f}",
        f"[{compared.difference.low:+.4f}, {compared.difference.high:+.4f}]",
        f"{compared.p_value:.3g}",
        f"{compared.gain:.0%}",
        f"{compared.lose:.0%}",
        f"{compared.same:.0%}",
        "" if overlap is None else f"{overlap:.2f}",
    )


def _difference(user: UserDifference) -> str:
    return f"user {user.user_id} {user.difference:+.3f} ({user.a:.3f} → {user.b:.3f})"


def _compared_data(result: CompareResult) -> dict[str, Any]:
    comparison = result.comparison
    return {
        "metric": comparison.metric,
        "a": asdict(result.a),
        "b": asdict(result.b),
        "split": {"name": result.split, "digest": result.split_digest},
        "data_digest": result.data_digest,
        "config": [{"key": key, "a": a, "b": b} for key, a, b in result.config],
        "overall": _comparison_data(comparison.overall),
        "segments": {name: _comparison_data(segment) for name, segment in comparison.segments.items()},
        "overlap": dict(comparison.overlap),
        "n_same_list": comparison.n_same_list,
        "gained": [{**user._asdict(), "difference": user.difference} for user in comparison.gained],
        "lost": [{**user._asdict(), "difference": user.difference} for user in comparison.lost],
        "n_left_out": comparison.n_left_out,
        "b_is_better": comparison.overall.b_is_better,
        "verdict": comparison.verdict,
    }


def _comparison_data(compared: Comparison) -> dict[str, Any]:
    return {**asdict(compared), "difference": compared.difference._asdict()}
