"""`promote`: runs the promotion gate and moves the alias `champion`."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import ArtifactError, InputError, MissingRunError, ServerError, UsageError
from pipeline.evaluation.gate_checks import Decision, Gate
from pipeline.evaluation.promotion_gate import ARTIFACTS, Candidate, decide
from pipeline.jobs.champion_options import options_beside
from pipeline.models.registry import find
from pipeline.models.saved_model import load_saved_model, model_name
from pipeline.options import Names
from pipeline.runtime.progress import Reporter
from pipeline.settings import CHECKOUT, Settings
from pipeline.tracking import champion as champions
from pipeline.tracking import model_page, registry
from pipeline.tracking import run as tracking
from pipeline.tracking.lookup import RunRef, evaluation_of, find_run

__all__ = ["PromoteResult", "find_version", "promote_job", "refresh_page", "why_unusable"]

_TRIES = 5


@dataclass(frozen=True)
class PromoteResult:
    """Attributes
    ----------
    version, before : e.g. ``rankline/3``; `before` is "" where there was no champion
    outcome : ``already`` means that the version is the champion, so the gate did not run
    decision : the gate's result, also where --force overruled it
    """

    version: str
    before: str
    outcome: Literal["promoted", "forced", "refused", "already"]
    decision: Decision
    reason: str = ""


def promote_job(
    model: str | None, gate: Gate, force: bool, reason: str | None, settings: Settings, reporter: Reporter
) -> PromoteResult:
    """Compare a version with the champion, and move the alias if it passes the gate. Both outcomes are recorded.

    Parameters
    ----------
    model : the version, see `lookup.find_run`; a run means the version it registered; None means the newest
    force : overrule the gate, for a `reason`; damaged artifacts are refused all the same
    """
    reason = " ".join((reason or "").split())
    if force and not reason:
        raise UsageError("--force needs --reason TEXT: the reason is recorded with the version")
    tracking.open_store(settings.tracking_uri)
    with tracking.run_of_mlflow(settings.tracking_uri, CHECKOUT) as given:
        run = find_version(model, settings.names)
        result = _promoted(run, settings.names.model, gate, force, reason, reporter)
        if given is not None:
            given.name_if_made_up(f"promote {result.version}")
            reasons = "\n".join(result.decision.reasons)
            given.tags({"promotion": result.outcome, "promotion_reasons": reasons or None})
    return result


def _promoted(run: RunRef, model: str, gate: Gate, force: bool, reason: str, reporter: Reporter) -> PromoteResult:
    label, number = run.label, run.version
    for _ in range(_TRIES):
        champion = champions.champion(model)
        if champion is not None and champion.version == number:
            return PromoteResult(label, label, "already", Decision(()))
        decision = _decision(run, model, champion, gate, reporter)
        forced = force and not decision.promote
        before = champion.label if champion is not None else ""
        if not (decision.promote or forced) or any(check.name == ARTIFACTS for check in decision.failed):
            champions.tag(number, {"promotion": "refused", "promotion_reasons": "\n".join(decision.reasons)}, model)
            return PromoteResult(label, before, "refused", decision)
        outcome: Literal["promoted", "forced"] = "forced" if forced else "promoted"
        instead_of = champion.version if champion is not None else ""
        at = champions.promote(number, instead_of=instead_of, how=outcome, reason=reason, model=model)
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
                "rolled_back_at": "",  # promoting it again overrules that
            },
            model,
        )
        refresh_page(model)
        return PromoteResult(label, before, outcome, decision, reason)
    raise InputError(f"{label} is not promoted: the champion changed {_TRIES} times during the checks; try again")


def _decision(
    run: RunRef, model: str, champion: registry.ModelVersion | None, gate: Gate, reporter: Reporter
) -> Decision:
    compared_with = (
        f" with {champion.label}, the champion"
        if champion is not None
        else " with most popular: no version is champion yet"
    )
    reporter.say(f"comparing {run.label}{compared_with}")
    tags = champions.tags_of(run.version, model)
    if champion is not None:
        _say_if_other_source(tags.get("source_name"), champion, model, reporter)
    rolled_back = ""
    if when := tags.get("rolled_back_at"):
        why = f" ({tags['rollback_reason']})" if tags.get("rollback_reason") else ""
        rolled_back = f"rolled back before: at {when}{why}; --force --reason … if it is fit again"
    own = evaluation_of(run)
    candidate = Candidate(
        own, why_unusable(run, model), rolled_back, tags.get("interrupted", ""), _impersonal(run, model)
    )
    if champion is None:
        return decide(candidate, None, gate)
    reigning = RunRef(champion.run_id, champion.label, "", champion.version)
    try:
        evaluation, lost = evaluation_of(reigning) if champion.run_id else None, ""
    except MissingRunError as error:  # deleted for good: no reason for that champion to stay for ever
        evaluation, lost = None, str(error)
    options = options_beside(own, run, champion)
    return decide(candidate, evaluation, gate, reigning=champion.label, lost=lost, options=options)


def _say_if_other_source(source: str | None, champion: registry.ModelVersion, model: str, reporter: Reporter) -> None:
    others = champions.tags_of(champion.version, model).get("source_name")
    if source and others and source != others:
        reporter.say(
            f"this version was trained on another source ({source}) than the champion ({others}); "
            "publishing it will need --accept-changes yes"
        )


def find_version(model: str | None, names: Names) -> RunRef:
    """The version asked for, with its run. Raises InputError where it is another registered model's."""
    registered = names.model
    text = f"{registered}/{model}" if model is not None and registry.is_number(model) else model
    run = find_run(registered if text is None else text, registered)
    if run.version and not run.label.startswith(f"{registered}/"):
        raise InputError(f"{run.label} is no version of {registered!r}: --name says of which model")
    number = run.version or champions.version_of_run(run.run_id, registered)
    return RunRef(run.run_id, f"{registered}/{number}", run.name, number)


def why_unusable(run: RunRef, model: str) -> str:
    """What is wrong with the version's artifacts, "" where they load and their checksums hold."""
    with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
        try:
            version = registry.ModelVersion(model, run.version, run.run_id, "")
            with registry.signature_named(version):
                saved = load_saved_model(registry.download(version, Path(scratch)), mapped=True)
            registry.check_run(saved, version)
        except ArtifactError as error:
            return str(error)
    return ""


def _impersonal(run: RunRef, model: str) -> str:
    """What the version's model is called where it gives everybody the same list, "" where it does not."""
    with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
        try:
            version = registry.ModelVersion(model, run.version, run.run_id, "")
            saved = load_saved_model(registry.download(version, Path(scratch)), mapped=True)
        except ArtifactError:
            return ""
        return find(model_name(saved)).display_name if saved.kind == "popularity" else ""


def refresh_page(model: str) -> None:
    """The text on the model's page names the champion; the change itself is made, whatever becomes of it."""
    with suppress(ServerError):
        model_page.refresh(model)
