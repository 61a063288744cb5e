"""`retain`: deletes old versions with their files, staged tables, kept trainings and logs that nothing needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.errors import LockedError, RefusedError
from pipeline.jobs.inputs import open_warehouse
from pipeline.jobs.promote import refresh_page
from pipeline.monitoring.retention import Needs, plan_retention
from pipeline.options import RetainOptions
from pipeline.publishing.lock import publish_lock
from pipeline.publishing.publication_log import published_names
from pipeline.publishing.published_sets import sets
from pipeline.publishing.published_tables import tidy
from pipeline.publishing.stale_tables import drop_stale, stale_tables
from pipeline.runtime.file_lock import FileLock
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.shipping.old_exposures import OldExposures, delete_exposures, find_old_exposures
from pipeline.tracking import champion as champions
from pipeline.tracking import experiments
from pipeline.tracking import run as tracking
from pipeline.tracking.outbox import FACTS, pending_in, remove_pending
from pipeline.tracking.version_deletion import (
    aliases_of,
    all_versions,
    bytes_of,
    delete_old,
    finish_deletions,
)
from pipeline.tracking.versions import last_good
from pipeline.warehouse import Warehouse
from pipeline.warehouse.dsn import split

__all__ = ["RetainRequest", "RetainResult", "retain"]

_ALL = 1000  # published sets: which of them go is for `score --keep` to say


@dataclass(frozen=True)
class RetainRequest:
    """Attributes
    ----------
    now : the time that ages are counted from, UTC
    dry_run : say what would go, and delete nothing
    """

    settings: Settings
    reporter: Reporter
    now: datetime
    options: RetainOptions = field(default_factory=RetainOptions)
    dry_run: bool = False


@dataclass(frozen=True)
class RetainResult:
    """What went, or would go.

    Attributes
    ----------
    kept : version → why it stays, the newest first
    versions : that went, the oldest first
    finished : versions whose deletion an earlier process had begun
    tables : staged tables, in analytics
    trainings : folders of trainings that MLflow never took
    logs : files
    n_bytes : of the files of the versions, as far as they are on this machine
    exposures : rows of analytics.exposures, by A/B test, and of the outcomes beside them
    """

    model: str
    dry_run: bool
    kept: Mapping[str, tuple[str, ...]]
    versions: tuple[str, ...] = ()
    finished: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    trainings: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()
    n_bytes: int = 0
    exposures: OldExposures = field(default_factory=OldExposures)

    @property
    def sentence(self) -> str:
        """In a line."""
        parts = [
            f"{len(found)} {what}"
            for found, what in (
                (self.versions, f"version(s) of {self.model} ({self.n_bytes / 2**20:,.1f} MB)"),
                (self.finished, "deletion(s) that were cut short"),
                (self.tables, "staged table(s)"),
                (self.trainings, "kept training(s)"),
                (self.logs, "log(s)"),
            )
            if found
        ]
        if n_rows := sum(self.exposures.by_experiment.values()) + self.exposures.n_outcomes:
            parts.append(f"{n_rows:,} row(s) of A/B tests that ended")
        if not parts:
            return f"nothing is old enough to go; {len(self.kept)} version(s) stay"
        verb = "would go" if self.dry_run else "deleted"
        return f"{verb}: {', '.join(parts)}; {len(self.kept)} version(s) stay"

    def to_json(self) -> dict[str, Any]:
        """As an object of JSON."""
        return {
            "model": self.model,
            "dry_run": self.dry_run,
            "kept": {version: list(reasons) for version, reasons in self.kept.items()},
            "versions": list(self.versions),
            "finished": list(self.finished),
            "tables": list(self.tables),
            "trainings": list(self.trainings),
            "logs": list(self.logs),
            "exposures": dict(self.exposures.by_experiment),
            "outcomes": self.exposures.n_outcomes,
            "bytes": self.n_bytes,
        }


def retain(request: RetainRequest) -> RetainResult:
    """Delete what is old and nothing needs: no alias, no published table, no rollback, no folded version.

    Without the warehouse it is not known which versions published tables need; then nothing is deleted. Two at once:
    the second is refused. A process that is killed in the middle leaves what the next one finishes.

    Raises ServerError, LockedError.
    """
    settings, reporter, options = request.settings, request.reporter, request.options
    model = settings.names.model
    tracking.open_or_make_store(settings.tracking_uri, reporter.say)
    with _alone(settings):
        reporter.progress("retention", 0, None)
        published, tables, exposures = _warehouse(request)
        plan = plan_retention(
            all_versions(model),
            Needs(aliases_of(model), champions.changes(model), _champion(model), last_good(model), published),
            keep_versions=options.keep_versions,
            keep_champions_days=options.keep_champions_days,
            now=request.now,
        )
        finished = () if request.dry_run else tuple(finish_deletions(model))
        kept, gone, n_bytes = dict(plan.kept), [], 0
        for n_done, version in enumerate(plan.old):
            reporter.progress("retention", n_done, len(plan.old))
            size = bytes_of(version)
            if request.dry_run or delete_old(version, model):
                gone.append(version.version)
                n_bytes += size
            else:
                kept[version.version] = ("it got an alias just now",)
        trainings, logs = _files(request)
        if gone and not request.dry_run:
            refresh_page(model)
    return RetainResult(
        model, request.dry_run, kept, tuple(gone), finished, tuple(tables), tuple(trainings), tuple(logs), n_bytes,
        exposures,
    )  # fmt: skip


def _champion(model: str) -> str:
    now = champions.champion(model)
    return "" if now is None else now.version


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    path = settings.nightly_path.with_name(f"retain_{settings.names.name}.lock")
    try:
        lock = FileLock(path)
    except LockedError as error:
        raise LockedError(f"{error}: old versions are being deleted already; run the command again") from None
    with lock:
        yield


def _warehouse(request: RetainRequest) -> tuple[dict[str, str], list[str], OldExposures]:
    """Run → table for every published set that is there, of all names; and what went, or would."""
    settings = request.settings
    address = split(settings.warehouse_dsn)
    if address.scheme == "chdb" and not Path(address.path).exists():
        return {}, [], OldExposures()  # nothing was ever published there, and looking would make it
    with open_warehouse(settings) as warehouse:
        published = {
            one.run_id: f"analytics.{one.table}"
            for name in published_names(warehouse)
            for one in sets(warehouse, name).values()
        }
        stale = _stale(warehouse, request) if warehouse.engine("analytics.publications") else []
        return published, stale, _exposures(warehouse, request)


def _exposures(warehouse: Warehouse, request: RetainRequest) -> OldExposures:
    """What went, or would go; nothing, which is said, where the warehouse's user may not delete it."""
    old = find_old_exposures(warehouse, experiments.by_name(), request.now, request.options.keep_exposures_days)
    if not request.dry_run:
        try:
            delete_exposures(warehouse, old)
        except RefusedError as error:
            request.reporter.say(f"what was logged of A/B tests that ended stays: {error}")
            return OldExposures()
    return old


def _stale(warehouse: Warehouse, request: RetainRequest) -> list[str]:
    settings, names = request.settings, request.settings.names
    tables = stale_tables(warehouse, names)
    if request.dry_run or not tables:
        return tables
    with publish_lock(warehouse, "retention", request.reporter.say, expiry=settings.lock_expiry, names=names) as lock:
        tidy(warehouse, _ALL, lock)
        return drop_stale(warehouse, names)


def _files(request: RetainRequest) -> tuple[list[str], list[str]]:
    """The folders of kept trainings, and the logs, that went, or would go."""
    settings = request.settings
    oldest = request.now - timedelta(days=request.options.keep_logs_days)
    trainings = [folder for folder in pending_in(settings.unlogged_path) if _written(folder / FACTS) < oldest]
    logs = [
        path
        for pattern in ("jobs/*.log", "jobs/*.progress", "*/jobs/*.log", "*/jobs/*.progress")
        for path in sorted(settings.live_path.glob(pattern))
        if _written(path) < oldest
    ]
    if not request.dry_run:
        trainings = [folder for folder in trainings if remove_pending(folder)]
        for path in logs:
            path.unlink(missing_ok=True)
    return [str(folder) for folder in trainings], [str(path) for path in logs]


def _written(path: Path) -> datetime:
    """When the file was written; the end of time for one that is gone."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return datetime.max.replace(tzinfo=UTC)
