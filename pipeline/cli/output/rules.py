"""The output of `rules`: which rules there are, which hold, and how many items they are about."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

from pipeline.cli.output.model import Block, Output, Table
from pipeline.jobs.rules import RulesView
from pipeline.ranking.rules import Rule

__all__ = ["rules_output"]

_SHOWN = 50


def rules_output(view: RulesView) -> Output:
    """The rules in a table, their number and their digest."""
    rules = view.rules.rules
    n_holding = sum(rule.holds(view.at) for rule in rules)
    blocks: list[Block] = []
    if view.n_added is not None:
        blocks.append(f"loaded {view.n_added:,} rule(s) into analytics.rules in {view.address}")
    if view.unknown:
        shown = ", ".join(view.unknown[:5]) + (" …" if len(view.unknown) > 5 else "")
        blocks.append(f"{len(view.unknown):,} item(s) are not in raw.movies, so look whether they are right: {shown}")
    if rules:
        promoting = any(rule.action == "promote" for rule in rules)
        rows = [_row(rule, view, promoting) for rule in rules[:_SHOWN]]
        columns = [
            "action",
            "of",
            "items",
            *(["quota", "label"] if promoting else []),
            "from",
            "until",
            "state",
            "reason",
        ]
        blocks.append(Table(columns, rows, left=("of", "label", "reason")))
    if len(rules) > _SHOWN:
        blocks.append(f"and {len(rules) - _SHOWN:,} more")
    blocks.append(
        f"{len(rules):,} rule(s) in {view.address}, {n_holding:,} in force; digest {view.rules.digest[:12]}"
        if rules
        else f"no rules in {view.address}: every item may be recommended"
    )
    data = {
        "n_rules": len(rules),
        "n_in_force": n_holding,
        "digest": view.rules.digest,
        "added": view.n_added,
        "unknown_items": list(view.unknown),
        "rules": [
            {**asdict(rule), "n_items": len(view.rules.items_of(rule)), "state": _state(rule, view.at)}
            for rule in rules
        ],
    }
    return Output("rules", data, blocks)


def _row(rule: Rule, view: RulesView, promoting: bool) -> list[str]:
    of = f"item {rule.item_id}" if rule.item_id else f"genre {rule.genre}"
    times = [_time(rule.valid_from), _time(rule.valid_until)]
    quota = [str(rule.quota or 1) if rule.action == "promote" else "", rule.label] if promoting else []
    n_items = f"{len(view.rules.items_of(rule)):,}"
    return [rule.action, of, n_items, *quota, *times, _state(rule, view.at), rule.reason]


def _state(rule: Rule, at: int) -> str:
    if rule.holds(at):
        return "in force"
    return "ended" if rule.has_begun(at) else "to come"


def _time(ms: int | None) -> str:
    return "" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
