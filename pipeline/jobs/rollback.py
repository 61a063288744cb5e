"""`rollback`: makes the previous champion the champion again, or with `--table` publishes the previous table again."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import ArtifactError, LockLostError, MissingRunError
from pipeline.jobs.inputs import open_warehouse
from pipeline.jobs.promote import find_version, refresh_page, why_unusable
from pipeline.options import Names
from pipeline.publishing import published_tables
from pipeline.publishing.lock import publish_lock
from pipeline.runtime.progress import Reporter
from pipeline.settings import CHECKOUT, Settings
from pipeline.tracking import champion as champions
from pipeline.tracking import run as tracking

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
    """The set that is published now, the one before the rollback, the warehouse's address, and the table."""

    now: published_tables.PublishedSet
    before: published_tables.PublishedSet
    address: str
    table: str


def rollback_table_job(keep: int, settings: Settings, reporter: Reporter) -> RollbackTableResult:
    """Swap the published set and the previous one. Raises InputError where there is no previous set."""
    with open_warehouse(settings) as warehouse:
        published_tables.create_log(warehouse)
        names, expiry = settings.names, settings.lock_expiry
        try:
            with publish_lock(warehouse, "rolling back", reporter.say, expiry=expiry, names=names) as lease:
                before, now = published_tables.roll_back(warehouse, keep, lease)
        except LockLostError:
            published_tables.settle(warehouse, keep, expiry, names)
            raise
        return RollbackTableResult(now, before, warehouse.address, names.table)
