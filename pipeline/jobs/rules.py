"""`rules`: what holds of the rules about items, and rules from a file. Also their snapshot, for other commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError
from pipeline.jobs.inputs import open_warehouse
from pipeline.publishing.rules import MOVIES, known_items, push_rules, read_rules
from pipeline.publishing.rules_file import bad_rules, read_rules_file
from pipeline.ranking.rules import Rule, Rules, now_ms
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.files import reason_of
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.warehouse import Warehouse

__all__ = ["RulesView", "push_job", "show_rules_job", "under_snapshot", "write_snapshot"]


@dataclass(frozen=True)
class RulesView:
    """The rules for a model, and where they are.

    Attributes
    ----------
    at : the time that counts, milliseconds since 1970
    n_added : rules that a file added; None if no file was read
    unknown : items of the file that `raw.movies` does not have
    """

    rules: Rules
    at: int
    address: str
    snapshot: Path
    n_added: int | None = None
    unknown: tuple[str, ...] = ()


def show_rules_job(settings: Settings) -> RulesView:
    """The rules of the warehouse. Nothing is written."""
    with open_warehouse(settings) as warehouse:
        return RulesView(read_rules(warehouse, settings.names), now_ms(), warehouse.address, settings.rules_path)


def push_job(file: Path, replace: bool, settings: Settings, reporter: Reporter) -> RulesView:
    """Load the rules of a CSV file into the warehouse, and write the snapshot anew. A bad row: nothing is loaded."""
    rows = read_rules_file(file)
    if not rows and not replace:
        raise InputError(f"{file} has no rules; --replace would take all rules away")
    with open_warehouse(settings) as warehouse:
        unknown = _unknown(file, rows, warehouse)
        push_rules(warehouse, [(model, rule) for _, model, rule in rows], replace, reporter.say, settings.lock_expiry)
        rules = read_rules(warehouse, settings.names)
        write_snapshot(rules, settings, reporter)
        return RulesView(rules, now_ms(), warehouse.address, settings.rules_path, len(rows), unknown)


def _unknown(file: Path, rows: list[tuple[int, str, Rule]], warehouse: Warehouse) -> tuple[str, ...]:
    """Items of the rules that `raw.movies` does not have. Raises BadRowsError for ids that can't be its."""
    known = known_items(warehouse)
    if known is None:
        return ()
    ids, faults = [], []
    for line, model, rule in rows:
        if rule.item_id and model in ("", "rankline"):
            try:
                known.same_kind([rule.item_id])
                ids.append(rule.item_id)
            except InputError as error:
                faults.append(f"line {line} ({error}, as in {MOVIES})")
    if faults:
        raise bad_rules(file, faults, len(rows))
    absent = known.rows(ids, missing="negative") < 0
    return tuple(dict.fromkeys(item for item, missing in zip(ids, absent.tolist(), strict=True) if missing))


def write_snapshot(rules: Rules, settings: Settings, reporter: Reporter) -> None:
    """Write the rules to the settings' file, if there are any or there is such a file. Failures are reported."""
    path = settings.rules_path
    if not rules.rules and not path.exists():
        return
    try:
        rules.write(path)
    except OSError as error:
        reporter.say(f"the snapshot of the rules was not written ({reason_of(error)}); RANKLINE_RULES names its file")


def under_snapshot(scorer: Scorer, settings: Settings, reporter: Reporter) -> Scorer:
    """The scorer under the rules of the snapshot, where the warehouse can't be read; it is said which rules hold."""
    path = settings.rules_path
    if not path.exists():
        reporter.say(f"no rules could be read, and there is no snapshot {path}: the list is without rules")
        return scorer
    reporter.say(f"the rules are those of the snapshot {path}")
    return scorer.under(Rules.read(path))
