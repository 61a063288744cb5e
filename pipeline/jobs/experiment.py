"""`experiment start` and `stop`: begin an A/B test of two versions, and end it by promoting the winner."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from pipeline.errors import ArtifactError, InputError, UsageError
from pipeline.evaluation.gate_checks import Gate
from pipeline.experiments.assignment import split_of
from pipeline.experiments.definition import ARMS, Experiment, check_name
from pipeline.jobs.experiment_report import ExperimentReport, report_job
from pipeline.jobs.inputs import open_warehouse
from pipeline.jobs.promote import PromoteResult, find_version, promote_job, why_unusable
from pipeline.options import ExperimentOptions
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.shipping.exposures import make_tables
from pipeline.tracking import champion as champions
from pipeline.tracking import experiments, store

__all__ = ["StopResult", "Winner", "list_job", "start_job", "stop_job"]

Winner = Literal["auto", "a", "b", "none"]


@dataclass(frozen=True)
class StopResult:
    """Attributes
    ----------
    experiment : as it is now
    already : whether it had been stopped before
    report : what the winner was chosen by; None where it was named
    promoted : what the gate said of the winner; None without one. Where it refused, the experiment goes on
    """

    experiment: Experiment
    already: bool = False
    report: ExperimentReport | None = None
    promoted: PromoteResult | None = None

    @property
    def refused(self) -> bool:
        """Whether the gate refused the winner."""
        return self.promoted is not None and self.promoted.outcome == "refused"


def start_job(
    name: str,
    versions: str,
    shares: str,
    spec: ExperimentOptions,
    settings: Settings,
    reporter: Reporter,
    now: datetime,
) -> Experiment:
    """Begin an experiment. The service and the next `score` assign users by it from then on.

    Parameters
    ----------
    versions : two versions with a comma between them: numbers, ``rankline/3``, ``rankline@champion`` or runs
    shares : percentages of the users, of each arm

    Raises
    ------
    InputError
        A version that is not there, a name that was used, another experiment that runs.
    ArtifactError
        The artifacts of a version are damaged.
    """
    check_name(name)
    named = [text.strip() for text in versions.split(",")]
    if len(named) != len(ARMS) or not all(named):
        raise UsageError(f"--versions must be two versions, such as 3,7 or rankline@champion,7; got {versions!r}")
    split = split_of(shares, len(ARMS))
    store.open_store(settings.tracking_uri)
    model, numbers = settings.names.model, []
    for arm, text in zip(ARMS, named, strict=True):
        run = find_version(text, settings.names)
        if fault := why_unusable(run, model):
            raise ArtifactError(f"{run.label} can't be the arm {arm}: {fault}")
        numbers.append(run.version)
    if not settings.warehouse_dsn.startswith("chdb:"):  # an embedded one gets its tables with what is shipped
        with open_warehouse(settings) as warehouse:
            make_tables(warehouse)
    begun = experiments.start(
        Experiment(
            name, (numbers[0], numbers[1]), (split[0], split[1]), secrets.token_hex(16), _ms(now), spec.outcome,
            spec.min_effect, spec.alpha, spec.power, spec.min_days, spec.outcome_from,
        ),
        model,
    )  # fmt: skip
    champion = champions.champion(model)
    if numbers[0] == numbers[1]:
        reporter.say("a and b are the same version: an A/A test, in which no difference is to be found")
    elif champion is not None and champion.version != numbers[0]:
        reporter.say(f"a is not the champion ({champion.label}), whom nobody gets while the experiment runs")
    return begun


def list_job(settings: Settings) -> list[Experiment]:
    """All experiments of the model, the newest first."""
    store.open_store(settings.tracking_uri)
    return experiments.experiments(settings.names.model)


def stop_job(
    name: str, winner: Winner, gate: Gate, settings: Settings, reporter: Reporter, now: datetime
) -> StopResult:
    """End an experiment: promote the winner through the gate, then let everybody have the champion.

    It may be interrupted anywhere and run again. Where the gate refuses the winner, the experiment goes on.

    winner : ``auto``: as the report decides; ``none``: nobody is promoted

    Raises InputError where the report decides for neither.
    """
    store.open_store(settings.tracking_uri)
    model = settings.names.model
    one = experiments.experiment(check_name(name), model)
    if not one.running:
        experiments.stop(one, model)  # aliases that a killed process left
        return StopResult(one, already=True)
    report: ExperimentReport | None = None
    arm: str = winner if winner in ARMS else ""
    if winner == "auto":
        report = report_job(name, "auto", settings, reporter, now)
        arm = report.decision.winner
        if not arm:
            raise InputError(
                f"The experiment {name} decides for neither yet: {report.decision.reasons[0]}. It goes on; "
                "--winner a, b or none ends it all the same"
            )
    promoted = None
    if arm:
        version = f"{model}/{one.versions[ARMS.index(arm)]}"
        promoted = promote_job(version, gate, False, None, settings, reporter)
        if promoted.outcome == "refused":
            return StopResult(one, report=report, promoted=promoted)
    ended = replace(one, state="stopped", stopped=_ms(now), winner=arm)
    experiments.stop(ended, model)
    return StopResult(ended, report=report, promoted=promoted)


def _ms(now: datetime) -> int:
    return int(now.timestamp() * 1000)
