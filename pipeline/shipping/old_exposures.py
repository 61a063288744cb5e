"""Which exposures and outcomes nothing needs any more, and their deletion.

The tables grow by a row for each list that an experiment shows. They are no tables with a TTL: an age that is counted
from the engine's clock would take what a job of another time (a simulated past, a backfill) has just written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pipeline.experiments.definition import Experiment
from pipeline.shipping.exposures import EXPOSURES, OUTCOMES
from pipeline.warehouse import Warehouse, sql

__all__ = ["OldExposures", "delete_exposures", "find_old_exposures"]

_DAY_MS = 86_400_000
_MARGIN_MS = _DAY_MS  # hosts' clocks differ: an outcome may look older than the list that it follows


@dataclass(frozen=True)
class OldExposures:
    """Attributes
    ----------
    by_experiment : experiment → rows of it that are old
    n_outcomes : outcomes that are older than all lists that stay
    before_ms, outcomes_before_ms : rows of this time or later stay, milliseconds since 1970
    """

    by_experiment: Mapping[str, int] = field(default_factory=dict)
    n_outcomes: int = 0
    before_ms: int = 0
    outcomes_before_ms: int = 0


def find_old_exposures(
    warehouse: Warehouse, known: Mapping[str, Sequence[Experiment | None]], now: datetime, days: float
) -> OldExposures:
    """What is logged of experiments that ended, and were shown last, more than so many days ago.

    known : name → its definitions, of every model, since the table is one for all; None for one that can't be read.
        An experiment that nobody has defined stays: it may be that of another MLflow store
    now : the job's own clock, UTC

    Raises ServerError.
    """
    if any(warehouse.engine(table) is None for table in (EXPOSURES, OUTCOMES)):
        return OldExposures()
    try:
        before = int((now - timedelta(days=days)).timestamp() * 1000)
    except OverflowError:
        return OldExposures()  # more days than there were
    old, needed = {}, [before]
    for row in warehouse.rows(sql.load("queries/exposures_by_experiment").text):
        if _ended(known.get(str(row["experiment"]), ()), before) and int(row["newest_ms"]) < before:
            old[str(row["experiment"])] = int(row["n"])
        else:
            needed.append(int(row["oldest_ms"]) - _MARGIN_MS)
    defined = [one for definitions in known.values() for one in definitions if one is not None]
    # Of one that goes on, lists and outcomes may still lie in the log of a host.
    needed += [one.started - _MARGIN_MS for one in defined if not _ended((one,), before)]
    outcomes_before = min(needed)
    count = warehouse.rows(sql.load("queries/old_outcomes").text, {"before": outcomes_before})
    return OldExposures(old, int(count[0]["n"]), before, outcomes_before)


def _ended(definitions: Sequence[Experiment | None], before: int) -> bool:
    """Whether all experiments of a name are known to have ended before that time."""
    return bool(definitions) and all(
        one is not None and not one.running and one.stopped is not None and one.stopped < before for one in definitions
    )


def delete_exposures(warehouse: Warehouse, old: OldExposures) -> None:
    """Delete what `find_old_exposures` found. It may be stopped anywhere and run again.

    Raises RefusedError where the user may not delete.
    """
    if old.by_experiment:
        parameters = {"experiments": list(old.by_experiment), "before": old.before_ms}
        warehouse.command(sql.load("queries/delete_exposures").text, parameters, mutations_sync=2)
    if old.n_outcomes:
        parameters = {"before": old.outcomes_before_ms}
        warehouse.command(sql.load("queries/delete_outcomes").text, parameters, mutations_sync=2)
