"""The champion beside another training: measured on its holdout for the promotion gate, and what the gate may know."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from pipeline.data.matrix import UserItems
from pipeline.errors import InputError, RanklineError
from pipeline.evaluation.gate_checks import ChampionOptions
from pipeline.evaluation.storage import BEFORE, StoredEvaluation
from pipeline.jobs.load_model import loaded
from pipeline.jobs.logged_run import TrainingJob
from pipeline.models.item_snapshot import ItemTexts
from pipeline.options import TrainOptions
from pipeline.tracking import champion as champions
from pipeline.tracking.champion_reference import newest_interaction, parameters_of
from pipeline.tracking.lookup import RunRef, run_record
from pipeline.tracking.registry import ModelVersion
from pipeline.training.other_options import measure_champion, same_model, stored_options
from pipeline.training.train import Trained

__all__ = ["options_beside", "options_of", "with_champion"]

_OF_ANOTHER = "evaluation_of"  # tag of a version that was folded in: the run whose evaluation it has


def options_of(version: ModelVersion) -> TrainOptions | None:
    """The options that the version was trained by; None where they, or its files, can't be read.

    Raises ServerError.
    """
    try:
        return stored_options(parameters_of(version))
    except InputError:  # its run or its files are gone, or damaged
        return None


def with_champion(job: TrainingJob, trained: Trained, champion: ModelVersion, texts: ItemTexts | None) -> Trained:
    """The training with the champion measured on its holdout; as it was, which is said, where that can't be done."""
    if trained.evaluation is None:
        return trained
    job.reporter.say(f"fitting the options of {champion.label}, the champion, to the same training side, for the gate")
    try:
        with job.stages("champion"), loaded(champion.label, job.reporter, champion.name, mapped=True) as (scorer, _):
            options = stored_options(scorer.model.meta.get("parameters"))
            if options is None:
                raise InputError("its options are none of this version of Rankline")
            knew = UserItems(scorer.model.seen, scorer.users, scorer.items)
            evaluation = measure_champion(trained, champion.run_id, options, knew, texts, job.reporter.progress)
    except (RanklineError, MemoryError) as error:
        reason = str(error) or type(error).__name__
        job.reporter.say(f"{champion.label} is not measured on this holdout: {reason}")
        return trained
    return replace(trained, evaluation=evaluation)


def options_beside(evaluation: StoredEvaluation | None, run: RunRef, champion: ModelVersion) -> ChampionOptions:
    """What the gate may know of the champion on the data of a version.

    evaluation, run : of the version

    Raises ServerError.
    """
    own, of_champion = options_of(ModelVersion(champion.name, run.version, run.run_id, "")), options_of(champion)
    if of_champion is None:
        return ChampionOptions()
    measured = None if evaluation is None else stored_options(evaluation.champion_options)
    same = own is not None and same_model(own, of_champion)
    columns = () if evaluation is None else evaluation.columns
    return ChampionOptions(
        same,
        not same and measured is not None and same_model(measured, of_champion),
        evaluation is not None
        and evaluation.champion_run == champion.run_id
        and any(name.startswith(BEFORE) for name in columns),
        _days_newer(_trained(run, champion.name), _trained(_ref(champion), champion.name)),
    )


def _ref(version: ModelVersion) -> RunRef:
    return RunRef(version.run_id, version.label, "", version.version)


def _trained(run: RunRef, model: str) -> RunRef:
    """The run of the training behind a version: its own, or that of the version that it was folded into."""
    run_id = champions.tags_of(run.version, model).get(_OF_ANOTHER)
    return RunRef(run_id, run.label, "", run.version) if run_id else run


def _days_newer(run: RunRef, than: RunRef) -> float | None:
    """By how much the newest interaction that `run` read is newer; without times of those, when it was trained."""
    try:
        newest, before = newest_interaction(run), newest_interaction(than)
        if newest is not None and before is not None:
            return timedelta(milliseconds=newest - before) / timedelta(days=1)
        return (run_record(run).trained - run_record(than).trained) / timedelta(days=1)
    except InputError:  # a run is gone
        return None
