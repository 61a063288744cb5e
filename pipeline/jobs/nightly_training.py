"""The data gate and the training of a night: one read, and one run, of a training or of what is folded in."""

from __future__ import annotations

from pipeline.data.mapped import is_mapped
from pipeline.data.profile import n_duplicates
from pipeline.errors import RanklineError, UsageError
from pipeline.jobs.champion_options import options_of
from pipeline.jobs.inputs import LoadedInput
from pipeline.jobs.logged_run import TrainingJob
from pipeline.jobs.nightly_fold_in import fold_in_night
from pipeline.jobs.nightly_plan import NightPlan, planned
from pipeline.jobs.nightly_steps import Night, Step
from pipeline.jobs.preflight import TrainingRequest, check_memory
from pipeline.jobs.train import reading, train_on
from pipeline.tracking import champion as champions
from pipeline.tracking.lookup import NIGHT
from pipeline.tracking.registry import ModelVersion
from pipeline.tracking.version_deletion import FOLDED_FROM
from pipeline.training.other_options import same_model

__all__ = ["read_and_train"]

_MOST_DEATHS = 2  # of the process while it trains, until a night goes on without a training


def read_and_train(night: Night) -> None:
    """Run the steps ``data gate`` and ``train``."""
    request = night.request
    if night.result("data gate") and _trained_before(night):
        return None
    night.again("data gate")
    step = Step(night, "data gate")
    try:
        with reading(
            request.train,
            request.read,
            request.settings,
            request.reporter,
            request.experiment,
            now=request.now,
            check_size=False,
        ) as (job, chosen):
            n = len(chosen.read.interactions)
            step.ends("done", f"{n:,} interactions passed", source=chosen.where, n_interactions=n)
            step = Step(night, "train")
            _train(night, step, job, chosen)
    except Exception as error:  # noqa: BLE001  # a fault in a training is no reason to let the table get old
        if step.ended:  # only the end of the run could not be written down
            return request.reporter.say(f"{step.name}: {error}")
        step.fails(error)
        night.skip("train")
    except BaseException:
        night.state.forget("train")  # interrupted, and not killed
        raise


def _trained_before(night: Night) -> bool:
    """Whether the training of this night had ended, although its process was killed right then."""
    run_id = night.state.run_id
    if not run_id:
        return False
    try:
        version = champions.version_of_run(run_id, night.model)
        how = "folded in" if champions.tags_of(version, night.model).get(FOLDED_FROM) else "trained"
    except RanklineError:  # it registered none; where the store fails, the next step says so
        return False
    label = f"{night.model}/{version}"
    Step(night, "train").ends("done", f"{label} was {how} before the job was cut short", version=label, how=how)
    return True


def _train(night: Night, step: Step, job: TrainingJob, chosen: LoadedInput) -> None:
    """Train, fold in, or do nothing, as the plan says."""
    request = night.request
    job.run.tags({NIGHT: request.now.isoformat()})
    deaths = night.state.begin("train", job.run.id)
    if deaths >= _MOST_DEATHS:
        job.run.name_if_made_up("nothing trained")
        why = f"its process was killed {deaths} times in this step: is there too little memory? (rankline estimate)"
        return step.ends("stopped", why, 3)
    with planned(job, chosen, request.train, request.nightly, request.now) as plan:
        request.reporter.say(f"{plan.do}: {plan.why}")
        if plan.do == "nothing":
            job.run.name_if_made_up(f"nothing new · {chosen.source}")
            job.run.tags({"nothing_new": "yes"})
            return step.ends("skipped", plan.why, how="nothing")
        if plan.fold_in is not None:
            try:
                done = fold_in_night(job, chosen, plan.fold_in)
            except UsageError as error:
                plan = NightPlan("train", f"nothing can be folded in ({error})")
            else:
                version = f"{night.model}/{done.version}"
                return step.ends("done", done.sentence, version=version, how="folded in", run_id=done.run_id)
    return _fit(night, step, job, chosen, plan)


def _fit(night: Night, step: Step, job: TrainingJob, chosen: LoadedInput, plan: NightPlan) -> None:
    request = night.request
    n_repeated = n_duplicates(chosen.read.interactions)
    beside = _champion_to_measure(night, job, chosen, n_repeated)
    wanted = TrainingRequest(request.train)
    chosen = check_memory(job.run, chosen, n_repeated, wanted, request.settings, request.reporter)
    # Where memory is so short that interactions lie in files, there is none for another fit.
    trained = train_on(job, chosen, request.train, None if is_mapped(chosen.read.interactions.users) else beside)
    step.ends(
        "done",
        f"trained {trained.run_name}: {plan.why}",
        version=f"{night.model}/{trained.version}",
        how="trained",
        run_id=trained.run_id,
        better_than_popular=trained.better_than_popular or "not measured",
    )


def _champion_to_measure(night: Night, job: TrainingJob, chosen: LoadedInput, n_repeated: int) -> ModelVersion | None:
    """The champion, where its options can be read, and there is the memory to fit them, too."""
    request = night.request
    champion = champions.champion(night.model)
    options = None if champion is None else options_of(champion)
    if options is None:
        return None
    if same_model(options, request.train):
        return champion
    try:
        wanted = TrainingRequest(options)
        fits = check_memory(job.run, chosen, n_repeated, wanted, request.settings, request.reporter)
    except RanklineError as error:
        request.reporter.say(f"the champion's options are not measured on tonight's holdout: {error}")
        return None
    return None if is_mapped(fits.read.interactions.users) else champion
