"""`nightly`: data gate → train → gate → promote → score → retention → drift, as one job that can be gone on with.

Each step is a job of its own (`train`, `promote`, `score`, …); this file says in which order they run, and what each of
them is asked for. `nightly_steps` says what becomes of the night where one of them stops.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC

from pipeline.errors import UsageError
from pipeline.evaluation.gate_checks import Gate
from pipeline.jobs import nightly_watch
from pipeline.jobs.nightly_result import STEPS, NightlyRequest, NightlyResult, StepResult
from pipeline.jobs.nightly_state import night_state
from pipeline.jobs.nightly_steps import Night, Step
from pipeline.jobs.nightly_training import read_and_train
from pipeline.jobs.promote import promote_job
from pipeline.jobs.resume import resume_job
from pipeline.jobs.retain import RetainRequest, retain
from pipeline.jobs.score import score_job
from pipeline.options import ScoreOptions
from pipeline.tracking import champion as champions
from pipeline.tracking import run as tracking
from pipeline.tracking.outbox import pending_in

__all__ = ["NightlyRequest", "NightlyResult", "StepResult", "run_nightly"]


def run_nightly(request: NightlyRequest) -> NightlyResult:
    """Run the steps of a night, or go on with those of a night that was cut short.

    A step that stops does not stop the others: the table is published anew from the champion, whichever it is. Only
    where a server can't be used does the night end, unfinished: the same request goes on there.

    Raises UsageError, and LockedError where another nightly job is at work. What a step raises is in the result.
    """
    if os.environ.get("MLFLOW_RUN_ID"):
        raise UsageError("A nightly job makes runs of its own: unset MLFLOW_RUN_ID, which `mlflow run` sets")
    if request.now.tzinfo is None:
        request = replace(request, now=request.now.replace(tzinfo=UTC))
    notifier = nightly_watch.notifier_for(request)
    with night_state(request.settings.nightly_path, request.asked, request.now) as state:
        if state.continued:
            request.reporter.say("going on with the night that was cut short")
        night = Night(request, state)
        for names, run in _STEPS:
            if night.skip(*names):
                run(night)
        alerts = nightly_watch.alerts_of(night, night.drift)
        told = nightly_watch.tell(night, notifier, alerts)
        if night.server_failed() is None:
            state.finish()
        steps = sorted(night.results, key=lambda step: STEPS.index(step.name))
        return NightlyResult(request.now, night.model, state.continued, tuple(steps), alerts, told)


def _resume(night: Night) -> None:
    """Open MLflow's store, and upload trainings that an earlier night could not."""
    step, settings = Step(night, "resume"), night.request.settings
    try:
        tracking.open_or_make_store(settings.tracking_uri, night.request.reporter.say)
        if not pending_in(settings.unlogged_path):
            return step.ends("skipped", "no training waits to be uploaded")
        uploaded = resume_job(None, settings, night.request.reporter)
    except Exception as error:  # noqa: BLE001  # the other steps go on
        return step.fails(error)
    versions = [f"{one.model}/{one.version}" for one in uploaded]
    return step.ends("done", f"uploaded {', '.join(versions)}", versions=versions)


def _gate(night: Night) -> None:
    """The gate, and the alias behind it."""
    request, step = night.request, Step(night, "gate")
    trained = night.result("train")
    version = None if trained is None else str(trained.facts["version"])
    try:
        result = promote_job(version, Gate(**asdict(request.gate)), False, None, request.settings, request.reporter)
    except Exception as error:  # noqa: BLE001  # the champion stays, and the night goes on
        step.fails(error)
        night.skip("promote")
        return
    refused, reasons = result.outcome == "refused", list(result.decision.reasons)
    if refused:
        stays = f"{result.before} stays the champion" if result.before else "no version is champion yet"
        sentence = f"{result.version} is refused, and {stays}: {result.decision.failed[0].summary}"
        step.ends("stopped", sentence, 3, version=result.version, reasons=reasons)
        night.skip("promote")
        return
    step.ends("done", f"{result.version} passed", version=result.version, reasons=reasons)
    after = f", after {result.before}" if result.before else ", the first one"
    Step(night, "promote").ends("done", f"{result.version} is the champion{after}", version=result.version)


def _score(night: Night) -> None:
    """The champion's lists, whichever version that is: they leave out what users have seen by now."""
    request, step = night.request, Step(night, "score")
    try:
        if champions.champion(night.model) is None:
            return step.ends("skipped", "no version is champion, and no other is published by a nightly job")
        result = score_job(_score_options(request), request.settings, request.reporter)
    except Exception as error:  # noqa: BLE001  # what was published before stays
        return step.fails(error)
    return step.ends(
        "done",
        f"{result.outcome.action} {result.summary.n_rows:,} rows of {result.model} in {result.table}",
        model=result.model,
        table=result.table,
        action=result.outcome.action,
        n_users=result.summary.n_users,
        n_rows=result.summary.n_rows,
    )


def _score_options(request: NightlyRequest) -> ScoreOptions:
    """The champion; a query of the user's own says what is seen, too, if no other is given for that."""
    score, read = request.score, request.read
    score = replace(score, model=f"{request.settings.names.model}@champion")
    if read.query is None or score.query is not None:
        return score
    return replace(score, query=read.query, user_column=read.user_column, item_column=read.item_column)


def _retention(night: Night) -> None:
    request, step = night.request, Step(night, "retention")
    try:
        result = retain(RetainRequest(request.settings, request.reporter, request.now, request.retain))
    except Exception as error:  # noqa: BLE001  # what is old goes another night
        return step.fails(error)
    return step.ends("done", result.sentence, **result.to_json())


def _drift(night: Night) -> None:
    step = Step(night, "drift")
    try:
        if champions.champion(night.model) is None:
            return step.ends("skipped", "no version is champion: there is nothing to drift from")
        night.drift = nightly_watch.drift(night.request)
    except Exception as error:  # noqa: BLE001  # the table is published all the same
        return step.fails(error)
    reason, facts = nightly_watch.drift_facts(night.drift)
    return step.ends("done", reason, **facts)


# The names of some steps, and what runs them.
_STEPS: tuple[tuple[tuple[str, ...], Callable[[Night], None]], ...] = (
    (("resume",), _resume),
    (("data gate", "train"), read_and_train),
    (("gate", "promote"), _gate),
    (("score",), _score),
    (("retention",), _retention),
    (("drift",), _drift),
)
