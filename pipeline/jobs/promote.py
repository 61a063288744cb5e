"""`promote` and `rollback`: the gate, and the alias it guards."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline import champions, registry, tracking
from pipeline.artifact import FactorModel
from pipeline.errors import ArtifactError, InputError, UsageError
from pipeline.jobs.reporter import Reporter
from pipeline.promotion import ARTIFACTS, Candidate, Decision, Gate, decide
from pipeline.runs import Named, evaluation_of, find_run
from pipeline.settings import PROJECT_ROOT, Settings

__all__ = ["PromoteResult", "RollbackResult", "promote_job", "rollback_job"]

_TRIES = 5


@dataclass(frozen=True)
class PromoteResult:
    """Attributes
    ----------
    version, before : e.g. ``rankline/3``; `before` is "" where there was no champion
    outcome : ``already``: it is the champion, and nothing was judged
    decision : what the gate found, also where it was overruled
    """

    version: str
    before: str
    outcome: Literal["promoted", "forced", "refused", "already"]
    decision: Decision
    reason: str = ""


@dataclass(frozen=True)
class RollbackResult:
    """The champion now, the one before, and versions that were passed over since they are deleted."""

    version: str
    before: str
    reason: str
    deleted: tuple[str, ...]


def promote_job(
    model: str | None, gate: Gate, force: bool, reason: str | None, settings: Settings, reporter: Reporter
) -> PromoteResult:
    """Judge a version beside the champion and move the alias if the gate holds; either way that is written down.

    Parameters
    ----------
    model : the version, see `runs.find_run`; a run stands for the version it registered; None: the newest
    force : overrule the gate, for a `reason`; damaged artifacts it does not overrule
    """
    reason = " ".join((reason or "").split())
    if force and not reason:
        raise UsageError("--force needs --reason: why this version is promoted against the gate is recorded with it")
    tracking.open_store(settings.tracking_uri)
    with tracking.run_of_mlflow(settings.tracking_uri, PROJECT_ROOT) as given:
        result = _promoted(_version(model), gate, force, reason, reporter)
        if given is not None:
            given.name_if_made_up(f"promote {result.version}")
            reasons = "\n".join(result.decision.reasons)
            given.tags({"promotion": result.outcome, "promotion_reasons": reasons or None})
    return result


def _promoted(run: Named, gate: Gate, force: bool, reason: str, reporter: Reporter) -> PromoteResult:
    label, number = run.label, run.version
    for _ in range(_TRIES):
        champion = champions.champion()
        if champion is not None and champion.version == number:
            return PromoteResult(label, label, "already", Decision(()))
        decision = _judge(run, champion, gate, reporter)
        forced = force and not decision.promote
        before = champion.label if champion is not None else ""
        if not (decision.promote or forced) or any(check.name == ARTIFACTS for check in decision.failed):
            champions.tag(number, {"promotion": "refused", "promotion_reasons": "\n".join(decision.reasons)})
            return PromoteResult(label, before, "refused", decision)
        outcome: Literal["promoted", "forced"] = "forced" if forced else "promoted"
        instead_of = champion.version if champion is not None else ""
        at = champions.crown(number, instead_of=instead_of, how=outcome, reason=reason)
        if at is None:
            reporter.say(f"{label} is not champion yet: another version became it meanwhile, the one to beat now")
            continue
        champions.tag(
            number,
            {
                "promotion": outcome,
                "promotion_reasons": "\n".join(decision.reasons),
                "promotion_reason": reason,
                "promoted_at": at.isoformat(timespec="seconds"),
                "champion_before": instead_of,
                "rolled_back_at": "",  # whoever promotes it again has overruled that
            },
        )
        return PromoteResult(label, before, outcome, decision, reason)
    raise InputError(f"{label} is not promoted: the champion changed {_TRIES} times while it was judged; try again")


def _judge(run: Named, champion: registry.ModelVersion | None, gate: Gate, reporter: Reporter) -> Decision:
    beside = f" beside {champion.label}, the champion" if champion is not None else ": no version is champion yet"
    reporter.say(f"judging {run.label}{beside}")
    tags = champions.tags_of(run.version)
    rolled_back = ""
    if when := tags.get("rolled_back_at"):
        why = f" ({tags['rollback_reason']})" if tags.get("rollback_reason") else ""
        rolled_back = f"rolled back before: at {when}{why}; --force --reason … if it is fit again"
    candidate = Candidate(evaluation_of(run), _fault(run), rolled_back, tags.get("interrupted", ""))
    if champion is None:
        return decide(candidate, None, gate)
    reigning = Named(champion.run_id, champion.label, "", champion.version)
    return decide(candidate, evaluation_of(reigning) if champion.run_id else None, gate, reigning=champion.label)


def _version(model: str | None) -> Named:
    """The version asked for, with its run."""
    text = f"{registry.MODEL_NAME}/{model}" if model is not None and model.isdecimal() and len(model) < 7 else model
    run = find_run(registry.MODEL_NAME if text is None else text)
    if run.version and not run.label.startswith(f"{registry.MODEL_NAME}/"):
        raise InputError(f"{run.label} is no version of {registry.MODEL_NAME!r}")
    number = run.version or champions.version_of_run(run.run_id)
    return Named(run.run_id, f"{registry.MODEL_NAME}/{number}", run.name, number)


def _fault(run: Named) -> str:
    """What is wrong with the version's artifacts, "" where they load and their checksums hold."""
    with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
        try:
            version = registry.ModelVersion(registry.MODEL_NAME, run.version, run.run_id, "")
            FactorModel.load(registry.download(version, Path(scratch)), mapped=True)
        except ArtifactError as error:
            return str(error)
    return ""


def rollback_job(reason: str | None, settings: Settings, reporter: Reporter) -> RollbackResult:
    """Give the alias back to the champion before, if its artifacts are whole.

    Raises InputError where there is none, ArtifactError where it is damaged.
    """
    reason = " ".join((reason or "").split())
    tracking.open_store(settings.tracking_uri)
    with tracking.run_of_mlflow(settings.tracking_uri, PROJECT_ROOT) as given:
        result = _rolled_back(reason)
        if given is not None:
            given.name_if_made_up(f"rollback to {result.version}")
            given.tags(
                {"promotion": "champion again", "champion_before": result.before, "rollback_reason": reason or None}
            )
    return result


def _rolled_back(reason: str) -> RollbackResult:
    change, deleted = champions.roll_back(reason, _check_whole)
    at = change.at.isoformat(timespec="seconds")
    champions.tag(change.before, {"promotion": "rolled back", "rolled_back_at": at, "rollback_reason": reason})
    champions.tag(change.version, {"promotion": "champion again", "promoted_at": at})
    label = f"{registry.MODEL_NAME}/"
    return RollbackResult(label + change.version, label + change.before, reason, tuple(deleted))


def _check_whole(version: str) -> None:
    """Raise ArtifactError where the version could not be scored with."""
    if fault := _fault(_version(f"{registry.MODEL_NAME}/{version}")):
        raise ArtifactError(
            f"The champion before, {registry.MODEL_NAME}/{version}, can't take over: {fault}. "
            "Name another: rankline promote MODEL --force --reason …"
        )
