"""The champion's options beside those of a version: for the promotion gate, and for the training that measures them."""

from __future__ import annotations

from datetime import timedelta

from pipeline.errors import InputError
from pipeline.evaluation.gate_checks import ChampionOptions
from pipeline.evaluation.storage import StoredEvaluation
from pipeline.options import TrainOptions
from pipeline.tracking import champion as champions
from pipeline.tracking.champion_reference import newest_interaction, parameters_of
from pipeline.tracking.lookup import RunRef, run_record
from pipeline.tracking.registry import ModelVersion
from pipeline.training.other_options import same_model, stored_options

__all__ = ["champion_options", "options_beside"]

_OF_ANOTHER = "evaluation_of"  # tag of a version that was folded in: the run whose evaluation it has


def champion_options(model: str) -> TrainOptions | None:
    """The options of the registered model's champion; None without a champion, and where they can't be read.

    Raises ServerError.
    """
    champion = champions.champion(model)
    return None if champion is None else _options_of(champion)


def options_beside(evaluation: StoredEvaluation | None, run: RunRef, champion: ModelVersion) -> ChampionOptions:
    """What the gate may know of the champion's options on the data of a version.

    evaluation : of the version
    run : of the version

    Raises ServerError.
    """
    own, of_champion = _options_of(ModelVersion(champion.name, run.version, run.run_id, "")), _options_of(champion)
    if of_champion is None:
        return ChampionOptions()
    measured = None if evaluation is None else stored_options(evaluation.champion_options)
    return ChampionOptions(
        own is not None and same_model(own, of_champion),
        measured is not None and same_model(measured, of_champion),
        _days_newer(_trained(run, champion.name), _trained(_ref(champion), champion.name)),
    )


def _options_of(version: ModelVersion) -> TrainOptions | None:
    try:
        return stored_options(parameters_of(version))
    except InputError:  # its run or its files are gone, or damaged
        return None


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
