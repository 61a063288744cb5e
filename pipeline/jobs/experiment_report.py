"""`experiment report`: what was seen of an experiment so far, what follows, and the file decision.json."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import InputError
from pipeline.experiments.decision import Decision, Evidence, Guardrail, decide
from pipeline.experiments.definition import ARMS, Experiment, check_name
from pipeline.experiments.off_policy import check_propensities
from pipeline.experiments.statistics import (
    ArmSums,
    difference,
    power_at,
    sample_ratio,
    users_needed,
    variance_of,
)
from pipeline.jobs.inputs import open_warehouse
from pipeline.jobs.ship import drain
from pipeline.runtime.files import replace_text
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.shipping.exposures import make_tables
from pipeline.tracking import experiments, store
from pipeline.warehouse import Warehouse, sql

__all__ = ["ArmReport", "Channel", "ExperimentReport", "evidence_of", "report_job"]

Channel = Literal["auto", "api", "table"]
# What b must not make worse: limits of the difference, and the size of differences that are looked for.
_ERRORS, _EMPTY, _SLOWER = (0.005, 0.01), (0.01, 0.02), (math.log(1.2), math.log(1.2))


@dataclass(frozen=True)
class ArmReport:
    """An arm: its version, how many users were shown how many lists, how many have an outcome, and the mean."""

    arm: str
    version: str
    n_users: int
    n_answers: int
    n_active: int
    mean: float


@dataclass(frozen=True)
class ExperimentReport:
    """Attributes
    ----------
    channel : where the lists were shown that are compared: ``api`` or ``table``
    n_other : lists that were shown in the other one
    path : of decision.json
    """

    experiment: Experiment
    channel: Literal["api", "table"]
    n_other: int
    arms: tuple[ArmReport, ...]
    evidence: Evidence
    decision: Decision
    at: datetime
    path: Path
    address: str

    @property
    def data(self) -> dict[str, Any]:
        """As decision.json has it; what is infinite is null."""
        seen = self.evidence
        value = {
            "experiment": {**asdict(self.experiment), "shares": self.experiment.shares},
            "decision": self.decision.action,
            "winner": self.decision.winner,
            "reasons": list(self.decision.reasons),
            "too_early": self.decision.too_early,
            "join_rate": seen.join_rate,
            "channel": self.channel,
            "lists_of_other_channel": self.n_other,
            "arms": [asdict(arm) for arm in self.arms],
            "difference": seen.difference._asdict(),
            "sample_ratio": {**seen.ratio._asdict(), "mismatch": seen.ratio.mismatch},
            "guardrails": [
                {"name": rail.name, "a": rail.a, "b": rail.b, "limit": rail.limit, "broken": rail.broken,
                 **rail.difference._asdict()}
                for rail in seen.guardrails
            ],
            "power": {"reached": seen.power, "wanted": seen.wanted_power, "users_needed": seen.n_needed},
            "exposures": {"logged": seen.n_exposures, "lost": seen.n_lost},
            "outcomes": {"named": seen.n_outcomes, "joined": seen.n_joined},
            "days": seen.days,
            "at": self.at.isoformat(timespec="seconds"),
        }  # fmt: skip
        return dict(_finite(value))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def report_job(
    name: str,
    channel: Channel,
    settings: Settings,
    reporter: Reporter,
    now: datetime,
    off_policy: bool = False,
    path: Path | None = None,
) -> ExperimentReport:
    """Ship what waits, compare the arms, decide, and write decision.json.

    Parameters
    ----------
    channel : ``auto``: lists of the API where there are some, else those of the published table
    off_policy : ask for an estimate for versions that were not shown
    path : of decision.json; default, in a folder of the experiment beside MLflow's store

    Raises
    ------
    InputError
        There is no such experiment, or an off-policy estimate is asked for and lists have no propensities.
    """
    store.open_store(settings.tracking_uri)
    one = experiments.experiment(check_name(name), settings.names.model)
    with open_warehouse(settings) as warehouse:
        drain(warehouse, settings, reporter)
        make_tables(warehouse) if warehouse.embedded else None
        chosen: Literal["api", "table"] = "table" if channel == "table" else "api"
        rows = _arms(warehouse, one, chosen)
        if channel == "auto" and not rows:
            chosen = "table"
            rows = _arms(warehouse, one, chosen)
        until = one.stopped or int(now.timestamp() * 1000)
        parameters = {"experiment": one.name, "channel": chosen, "until": until}
        join = warehouse.rows(sql.load("queries/experiment_join").text, parameters)[0]
        address = warehouse.address
    if off_policy:
        check_propensities(*(sum(int(row[key]) for row in rows.values()) for key in ("n_answers", "n_propensity")))
    evidence = evidence_of(one, rows, join, (until - one.started) / 86_400_000)
    made = ExperimentReport(
        one,
        chosen,
        int(join["n_other"]),
        tuple(_arm_report(one, arm, rows.get(arm, {})) for arm in ARMS),
        evidence,
        decide(evidence),
        now.astimezone(UTC),
        path or settings.experiments_path / one.name / "decision.json",
        address,
    )
    _write(made)
    return made


def _arms(warehouse: Warehouse, one: Experiment, channel: str) -> dict[str, dict[str, Any]]:
    parameters = {"experiment": one.name, "channel": channel, "outcome_from": one.relevant_from or 0.0}
    rows = warehouse.rows(sql.load("queries/experiment_arms").text, parameters)
    return {str(row["arm"]): row for row in rows}


def evidence_of(one: Experiment, rows: dict[str, dict[str, Any]], join: dict[str, Any], days: float) -> Evidence:
    """What was seen, from the rows of sql/queries/experiment_arms.sql by arm, and that of experiment_join.sql."""
    of = [_ArmRow(rows.get(arm, {})) for arm in ARMS]
    a, b = (row.outcomes(one) for row in of)
    shares, scale = one.shares, one.min_effect
    counts = of[0].n("n_users"), of[1].n("n_users")
    spread = a.variance, b.variance
    level = one.alpha / 3  # of each guardrail: three of them, together at most alpha
    pairs = (("errors", "failed", _ERRORS), ("empty lists", "empty", _EMPTY), ("latency", "slow", _SLOWER))
    rails = []
    for label, key, (limit, wide) in pairs:
        x, y = (row.sums(key) for row in of)
        rails.append(Guardrail(label, _shown(key, x), _shown(key, y), difference(x, y, level, wide), limit))
    return Evidence(
        n_outcomes=int(join["n_outcomes"]),
        n_joined=int(join["n_joined"]),
        n_exposures=sum(row.n("n_answers") for row in of),
        n_lost=int(join["n_lost"]),
        n_both=sum(row.n("n_both") for row in of),
        users=counts,
        n_active=sum(row.n("n_active") for row in of),
        ratio=sample_ratio(counts, shares),
        difference=difference(a, b, one.alpha, scale),
        guardrails=tuple(rails),
        power=power_at(variance_of(a, b), scale, one.alpha, scale) if max(spread) > 0 else 0.0,
        wanted_power=one.power,
        n_needed=users_needed(spread, shares, scale, one.alpha, one.power, scale) if max(spread) > 0 else 0,
        days=days,
        min_days=one.min_days,
    )


class _ArmRow:
    """A row of the query; an arm without users has none."""

    def __init__(self, row: dict[str, Any]) -> None:
        self._row = row

    def n(self, key: str) -> int:
        return int(self._row.get(key, 0))

    def sums(self, key: str) -> ArmSums:
        n = self.n("n_timed" if key == "slow" else "n_users")
        return ArmSums(n, float(self._row.get(key, 0.0)), float(self._row.get(f"{key}_2", 0.0)))

    def outcomes(self, one: Experiment) -> ArmSums:
        if one.metric == "conversion":
            active = float(self.n("n_active"))
            return ArmSums(self.n("n_users"), active, active)
        return self.sums("outcomes")


def _shown(key: str, sums: ArmSums) -> float:
    """The mean as a person reads it: of the time the geometric mean, in milliseconds."""
    return math.exp(sums.mean) / 1000 if key == "slow" and sums.n else sums.mean


def _arm_report(one: Experiment, arm: str, row: dict[str, Any]) -> ArmReport:
    of = _ArmRow(row)
    version = one.versions[ARMS.index(arm)]
    return ArmReport(arm, version, of.n("n_users"), of.n("n_answers"), of.n("n_active"), of.outcomes(one).mean)


def _write(made: ExperimentReport) -> None:
    try:
        made.path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(made.path, json.dumps(made.data, indent=2) + "\n")
    except OSError as error:
        raise InputError(
            f"{made.path} can't be written ({error.strerror}): --decision PATH names another file"
        ) from None
