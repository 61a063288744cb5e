"""`rollback`: makes the previous champion the champion again, or with `--table` publishes the previous table again."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.errors import ArtifactError, CheckFailedError, InputError, LockLostError, MissingRunError, ServerError
from pipeline.jobs.inputs import open_warehouse
from pipeline.jobs.promote import find_version, refresh_page, why_unusable
from pipeline.options import Names
from pipeline.publishing import published_tables
from pipeline.publishing.lock import publish_lock
from pipeline.publishing.rules import HiddenRows, hidden_rows, read_rules
from pipeline.ranking.rules import now_ms
from pipeline.runtime.progress import Reporter
from pipeline.settings import CHECKOUT, Settings
from pipeline.tracking import champion as champions
from pipeline.tracking import run as tracking
from pipeline.warehouse import Warehouse

__all__ = ["RollbackResult", "RollbackTableResult", "rollback_job", "rollback_table_job"]


@dataclass(frozen=True)
class RollbackResult:
    """The new champion, the one before the rollback, and versions that were skipped since they are deleted."""

    version: str
    before: str
    reason: str
    deleted: tuple[str, ...]


def rollback_job(reason: str | None, settings: Settings, reporter: Reporter) -> RollbackResult:
    """Give the alias back to the previous champion, if its artifacts are intact.

    Raises InputError where there is no previous champion, ArtifactError where it is damaged.
    """
    reason = " ".join((reason or "").split())
    tracking.open_store(settings.tracking_uri)
    with tracking.run_of_mlflow(settings.tracking_uri, CHECKOUT) as given:
        result = _rolled_back(reason, settings.names)
        if given is not None:
            given.name_if_made_up(f"rollback to {result.version}")
            given.tags(
                {"promotion": "champion again", "champion_before": result.before, "rollback_reason": reason or None}
            )
    return result


def _rolled_back(reason: str, names: Names) -> RollbackResult:
    model = names.model
    change, deleted = champions.roll_back(reason, lambda version: _check_whole(version, names), model)
    at = change.at.isoformat(timespec="seconds")
    champions.tag(change.before, {"promotion": "rolled back", "rolled_back_at": at, "rollback_reason": reason}, model)
    champions.tag(change.version, {"promotion": "champion again", "promoted_at": at}, model)
    refresh_page(model)
    label = f"{model}/"
    return RollbackResult(label + change.version, label + change.before, reason, tuple(deleted))


def _check_whole(version: str, names: Names) -> None:
    """Raise ArtifactError where the version can't be used for scoring."""
    try:
        fault = why_unusable(find_version(f"{names.model}/{version}", names), names.model)
    except MissingRunError as error:
        fault = str(error)
    if fault:
        raise ArtifactError(
            f"The champion before, {names.model}/{version}, can't take over: {fault}. "
            f"Name another: rankline promote MODEL{names.typed} --force --reason …"
        )


@dataclass(frozen=True)
class RollbackTableResult:
    """The set that is published now, the one before the rollback, the warehouse's address, and the table.

    hidden : rows that are published again although rules hide their items
    """

    now: published_tables.PublishedSet
    before: published_tables.PublishedSet
    address: str
    table: str
    hidden: HiddenRows = field(default_factory=HiddenRows)


def rollback_table_job(keep: int, accept_changes: bool, settings: Settings, reporter: Reporter) -> RollbackTableResult:
    """Swap the published set and the previous one.

    accept_changes : go back to a set with items that rules hide now

    Raises InputError where there is no previous set, CheckFailedError where it has such items.
    """
    with open_warehouse(settings) as warehouse:
        published_tables.create_log(warehouse)
        names, expiry, hidden = settings.names, settings.lock_expiry, HiddenRows()

        def look(previous: published_tables.PublishedSet) -> None:
            nonlocal hidden
            hidden = _hidden(warehouse, previous, accept_changes, names, reporter)

        try:
            with publish_lock(warehouse, "rolling back", reporter.say, expiry=expiry, names=names) as lease:
                before, now = published_tables.roll_back(warehouse, keep, lease, look)
        except LockLostError:
            published_tables.settle(warehouse, keep, expiry, names)
            raise
        return RollbackTableResult(now, before, warehouse.address, names.table, hidden)


def _hidden(
    warehouse: Warehouse, previous: published_tables.PublishedSet, accepted: bool, names: Names, reporter: Reporter
) -> HiddenRows:
    """Rows of the previous set whose items rules hide now. Unless that is accepted, raises CheckFailedError for any."""
    try:
        hidden = hidden_rows(warehouse, previous.table, read_rules(warehouse, names), now_ms())
    except (InputError, ServerError) as error:
        if not accepted:
            raise
        # A rollback must be possible while the rules can't be read.
        reporter.say(f"the set was not compared with the rules: {error}")
        return HiddenRows()
    if hidden.items and not accepted:
        raise CheckFailedError(
            f"Not rolled back: the set before has {hidden} that rules leave out by now. `rankline score{names.typed}` "
            "publishes without them; --accept-changes yes goes back all the same",
            "rules",
        )
    return hidden
