"""`drift`: measures drift, records it on the champion's run, and says which alerts there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from pipeline.errors import InputError, RanklineError
from pipeline.jobs.inputs import open_warehouse
from pipeline.jobs.ship import open_log
from pipeline.monitoring.alerts import Alert, drift_past, gate_refused, log_aged, table_aged, training_failed
from pipeline.monitoring.drift import Measure, judged
from pipeline.monitoring.drift_interactions import OF_INTERACTIONS, interactions_in, measure_interactions
from pipeline.monitoring.drift_lists import OUTCOMES, Outcomes, measure_lists, outcomes, shown_sets
from pipeline.options import DriftLimits, DriftOptions, Names
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.tracking import run as tracking
from pipeline.tracking.champion_reference import ChampionReference, champion_reference, earlier_references
from pipeline.tracking.drift_log import log_drift
from pipeline.tracking.failures import last_training_failure, refused_in_a_row

__all__ = ["DriftRequest", "DriftResult", "measure_drift", "store_alerts"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REFUSALS = 3  # of the gate, in a row


@dataclass(frozen=True)
class DriftRequest:
    """Attributes
    ----------
    now : the clock, UTC; what is later does not count
    record : whether the measurement is logged on the champion's run
    """

    settings: Settings
    reporter: Reporter
    now: datetime
    options: DriftOptions = field(default_factory=DriftOptions)
    limits: DriftLimits = field(default_factory=DriftLimits)
    record: bool = True


@dataclass(frozen=True)
class DriftResult:
    """Attributes
    ----------
    champion : its label; its run has the metrics
    run_id : the champion's run
    now : when it was measured
    rows : every measure, with its limit and state
    alerts : what somebody should be told
    n_users, n_sets : users and published sets of the outcomes
    compared_with, since : new interactions are those since this version learned, and its newest interaction
    """

    champion: str
    run_id: str
    now: datetime
    rows: tuple[Measure, ...]
    alerts: tuple[Alert, ...]
    n_users: int = 0
    n_sets: int = 0
    compared_with: str = ""
    since: datetime | None = None

    @property
    def measures(self) -> dict[str, float]:
        """Name → value of what could be measured."""
        return {row.name: row.value for row in self.rows if row.value is not None}

    @property
    def exceeded(self) -> tuple[Measure, ...]:
        """The measures that are past their limit."""
        return tuple(row for row in self.rows if row.past)

    @property
    def metrics(self) -> dict[str, float]:
        """What is logged in MLflow: the values, and the ends of their intervals."""
        values = self.measures
        for row in self.rows:
            if row.low is not None and row.high is not None:
                values |= {f"{row.name}_low": row.low, f"{row.name}_high": row.high}
        return values

    def to_json(self) -> dict[str, Any]:
        """For ``--json``, the tag on the run, and the service's page."""
        return {
            "champion": self.champion,
            "run_id": self.run_id,
            "at": self.now.isoformat(timespec="seconds"),
            "exceeded": [row.name for row in self.exceeded],
            "measures": [row.as_json for row in self.rows],
            "n_users": self.n_users,
            "n_sets": self.n_sets,
            "compared_with": self.compared_with,
            "since": None if self.since is None else self.since.isoformat(timespec="seconds"),
        }


def measure_drift(request: DriftRequest) -> DriftResult:
    """Measure, judge, and record.

    A measure that can't be made (no times, nothing published, a file's model) is there without a value, and says why.
    Raises InputError where no version is champion, ServerError where MLflow or the warehouse can't be used.
    """
    settings, now_ms = request.settings, (request.now - _EPOCH) // timedelta(milliseconds=1)
    names = settings.names
    tracking.open_store(settings.tracking_uri)
    reference = champion_reference(names.model)
    measures, found, known = _measured(request, reference, now_ms)
    waiting = _log_age(request)
    rows = judged([*measures, *found.measures, *waiting.values()], request.limits, found.n_users)
    alerts = [*store_alerts(names), *_alerts(names, rows, next(iter(waiting), 0))]
    result = DriftResult(
        reference.label,
        reference.run_id,
        request.now,
        tuple(rows),
        tuple(alerts),
        found.n_users,
        found.n_sets,
        known.label,
        None if known.learned_ms is None else _EPOCH + timedelta(milliseconds=known.learned_ms),
    )
    if request.record:
        log_drift(reference.run_id, result.metrics, result.to_json(), request.now)
    return result


class _Found(NamedTuple):
    """What the warehouse knows, and whose knowledge the new interactions were compared with."""

    measures: list[Measure]
    outcomes: Outcomes
    compared_with: ChampionReference


def _measured(request: DriftRequest, reference: ChampionReference, now_ms: int) -> _Found:
    """All that the warehouse knows."""
    names, options, progress = request.settings.names, request.options, request.reporter.progress
    with open_warehouse(request.settings) as warehouse:
        progress("lists", 0, None)
        shown = shown_sets(warehouse, names, now_ms)
        measures = measure_lists(warehouse, names, reference, shown, now_ms)
        try:
            interactions = interactions_in(warehouse, options, reference)
        except InputError as error:
            if options.query is not None:
                raise  # what was asked for can't be read
            why = str(error)
            measures += [Measure.missing(name, why) for name in OF_INTERACTIONS]
            return _Found(measures, Outcomes([Measure.missing(name, why) for name in OUTCOMES]), reference)
        progress("interactions", 0, None)
        earlier = earlier_references(names.model)
        of_users, known = measure_interactions(
            warehouse, interactions, reference, now_ms, earlier, request.limits.least_interactions
        )
        progress("outcomes", 0, None)
        found = outcomes(warehouse, interactions, shown, options, now_ms)
        return _Found([*measures, *of_users], found, known)


def _log_age(request: DriftRequest) -> Mapping[int, Measure]:
    """The age of the oldest interaction that waits in this host's log, by their number; {} without a log."""
    name = "log_age_hours"
    try:
        log = open_log(request.settings)
        if log is None:
            return {}
        with log:
            pending, oldest = log.pending()
    except RanklineError as error:
        return {0: Measure.missing(name, str(error))}
    hours = 0.0 if oldest is None else max(0.0, (request.now - oldest) / timedelta(hours=1))
    return {pending: Measure(name, hours, n=pending)}


def store_alerts(names: Names) -> list[Alert]:
    """What MLflow knows: a last training that failed, a gate that refused three times. Raises ServerError."""
    alerts = []
    if (failed := last_training_failure(names.model)) is not None:
        alerts.append(training_failed(names.model, failed.run_id))
    if len(refused := refused_in_a_row(names.model)) >= _REFUSALS:
        alerts.append(gate_refused(names.model, refused))
    return alerts


def _alerts(names: Names, rows: list[Measure], pending: int) -> list[Alert]:
    alerts = []
    for row in rows:
        if not row.past or row.value is None or row.limit is None:
            continue
        if row.name == "table_age_hours":
            alerts.append(table_aged(names.table, row.value, row.limit))
        elif row.name == "log_age_hours":
            alerts.append(log_aged(row.value, row.limit, pending))
        else:
            alerts.append(drift_past(names.model, row.name, row.sentence, row.facts))
    return alerts
