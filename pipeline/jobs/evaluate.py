"""`evaluate`: fits models to a training file and evaluates them on a test file, without MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from pipeline.data.id_map import distinct
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import content_digest, prepare_interactions
from pipeline.data.splits import Split
from pipeline.errors import InputError, UsageError
from pipeline.evaluation.cold_items import references
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.files import Files
from pipeline.evaluation.results import Report
from pipeline.evaluation.sampled_negatives import Negatives, evaluate_sampled, sample_negatives
from pipeline.jobs.evaluate_result import EvaluateResult
from pipeline.jobs.evaluate_sides import folds_of, read_sides, rows_used, split_of
from pipeline.jobs.evaluated_models import fit_setting, rating_metrics, rating_sentence
from pipeline.jobs.item_texts import texts_of_files
from pipeline.jobs.model_settings import ModelSetting, settings_of
from pipeline.models import registry
from pipeline.models.item_features import ItemFeatures
from pipeline.models.item_snapshot import ItemTexts
from pipeline.options import EvaluateOptions, TrainOptions
from pipeline.ranking.protocols import Ranker
from pipeline.runtime.progress import Reporter

__all__ = ["EvaluateResult", "evaluate_job"]


def evaluate_job(
    files: EvaluateOptions,
    spec: TrainOptions,
    models: Sequence[str],
    ks: tuple[int, ...],
    reporter: Reporter,
    exclude_seen_negatives: bool = False,
) -> EvaluateResult:
    """Read the files, fit each model to the training side alone, and evaluate all on the same split.

    With several folds or repeats the metrics are means over all of them, with their spread.

    Parameters
    ----------
    models : as of `settings_of`
    exclude_seen_negatives : leave out given negatives that their user has in training

    Raises
    ------
    UsageError
        For an unknown model, or an option that a model does not have.
    InputError
        A file can't be used, or no user of the test file is in the training file.
    LeakageError
        A user-item pair is in both files.
    """
    settings = settings_of(models, spec, reporter)
    if files.folds_of == "items" and all(setting.options.cold_items is None for setting in settings):
        raise UsageError("--folds-of items needs --cold-items, such as 5: no model knows whole items that are held out")
    texts = texts_of_files(files)
    results = []
    for of_fold in files.of_folds():
        read = read_sides(of_fold, reporter)
        for sides in [read] if files.folds is None else folds_of(read.train, files, spec):
            for seed in range(spec.random_state, spec.random_state + files.repeats):
                seeded = tuple(setting.seeded(seed) for setting in settings)
                evaluation = _Evaluating(of_fold, replace(spec, random_state=seed), ks, reporter, texts)
                results.append(_evaluate(evaluation, sides, seeded, exclude_seen_negatives))
    return results[0] if len(results) == 1 else EvaluateResult.mean_of(results)


class _Evaluating(NamedTuple):
    """What all steps of one evaluation share."""

    files: EvaluateOptions
    spec: TrainOptions
    ks: tuple[int, ...]
    reporter: Reporter
    texts: ItemTexts | None = None


def _evaluate(
    evaluation: _Evaluating, read: Files, settings: tuple[ModelSetting, ...], exclude_seen_negatives: bool
) -> EvaluateResult:
    """Fit and evaluate the models on one split with one seed."""
    files, spec, ks, reporter, texts = evaluation
    training = prepare_interactions(read.train, spec.duplicates, spec.min_interactions, spec.max_interactions)
    for sentence in rows_used(files, training):
        reporter.say(sentence)
    split = split_of(files, training.interactions, prepare_interactions(read.test).interactions)
    if texts is not None and any(setting.options.cold_items is not None for setting in settings):
        split = replace(split, catalogue=ItemFeatures.of(texts, split.train.item_ids).ids)
    negatives = read.negatives
    if files.negatives is not None:
        reporter.progress("negatives", 0, None)
        negatives = sample_negatives(split, files.negatives, spec.random_state)
    rated = split  # also what its user did not like
    split, negatives = _relevant(files, split, negatives, reporter)
    if files.negatives_file is not None and negatives is not None:
        negatives = _not_seen(negatives, split, exclude_seen_negatives, reporter)
    counts = _evaluated(files, split, negatives, reporter)
    for setting in settings:
        if setting.algorithm.needs.times and split.train.at is None:
            reporter.say(f"{setting.label} ranks as {registry.POPULAR} does: {files.train_name} has no times")

    clipped = files.clip == "yes"
    if sentence := rating_sentence(settings, rated, clipped):
        reporter.say(sentence)
    metrics: dict[str, dict[str, float]] = {}
    messages: dict[str, tuple[str, ...]] = {}
    fits: dict[str, Mapping[str, Any]] = {}
    for setting in settings:
        reporter.progress(f"fit {setting.label}", 0, None)
        ranker, fits[setting.label] = fit_setting(setting, split, spec, reporter, texts)
        report = _measured(ranker, split, negatives, ks, setting.label, reporter)
        messages[setting.label] = report.messages
        ranking = {key: value for key, value in report.metrics.items() if key != "n_users"}
        metrics[setting.label] = {**ranking, **rating_metrics(setting, ranker, rated, clipped)}
    _say(messages, reporter)
    if split.ranked is not None:
        for name, ranker in references(to_matrix(split.train), split):
            metrics[name] = dict(_measured(ranker, split, None, ks, name, reporter).metrics)
            del metrics[name]["n_users"]
    facts: dict[str, Any] = {
        "n_users": counts.users,
        "n_held_out": counts.interactions,
        "train_digest": content_digest(split.train),
        "split_digest": split.digest,
        "fits": fits,
    }
    if files.negatives is not None or any(setting.algorithm.stepped for setting in settings):
        facts["random_state"] = spec.random_state
    return EvaluateResult(_protocol(files, negatives), ks, metrics, facts)


def _protocol(files: EvaluateOptions, negatives: Negatives | None) -> str:
    """What a held-out item is ranked among."""
    if files.folds_of == "items":
        return "held-out items"
    return "full" if negatives is None else "given negatives" if files.negatives is None else "sampled negatives"


def _not_seen(negatives: Negatives, split: Split, exclude: bool, reporter: Reporter) -> Negatives:
    """Count the given negatives that their user has in training, and leave them out if asked to."""
    seen = negatives.known_to(split.train)
    if not (n := int(np.count_nonzero(seen))):
        return negatives
    counted = f"{n:,} of {seen.size:,} given negatives are items that their user has in training"
    if not exclude:
        reporter.say(f"{counted}: held-out items are ranked among them too (--exclude-seen-negatives leaves them out)")
        return negatives
    reporter.say(f"{counted}: they are left out")
    return negatives.without(seen)


def _relevant(
    files: EvaluateOptions, split: Split, negatives: Negatives | None, reporter: Reporter
) -> tuple[Split, Negatives | None]:
    """The split with the relevant interactions alone held out, and their negatives.

    An item of the test file that its user did not like is drawn as no negative; among all items it is a wrong answer.
    """
    if files.relevant_from is None:
        return split, negatives
    test = split.test
    relevant = test.scores >= files.relevant_from
    if not relevant.any():
        raise InputError(
            f"No row of {files.test} has a score of at least {files.relevant_from:g} (the largest is "
            f"{test.scores.max():g}): lower --relevant-from"
        )
    reporter.say(
        f"{np.count_nonzero(relevant):,} of {len(test):,} held-out interactions are relevant: their score is at least "
        f"{files.relevant_from:g}"
    )
    of_relevant = replace(split, test=test.take(relevant))
    return of_relevant, negatives and negatives.of(of_relevant.test)


class _Evaluated(NamedTuple):
    users: int
    interactions: int


def _evaluated(files: EvaluateOptions, split: Split, negatives: Negatives | None, reporter: Reporter) -> _Evaluated:
    """The numbers of evaluated users and interactions. All models share them, since all know every training user."""
    users = split.test.user_ids.values[split.test.users] if negatives is None else negatives.users
    users = users[split.train.user_ids.rows(users, missing="negative") >= 0]
    if not users.size and files.folds is not None:
        raise InputError(
            f"Nobody in {files.train_name} has rows in both sides of a fold: --folds needs users with several items"
        )
    if not users.size:
        raise InputError(
            f"No user of {files.negatives_file or files.test_name} has a row in {files.train_name}: are they of the "
            "same data?"
        )
    if negatives is not None and (n := len(split.test) - negatives.users.size) > 0:
        reporter.say(f"{n:,} held-out interactions are left out: {files.negatives_file} has no line for them")
    return _Evaluated(int(distinct(users).size), int(users.size))


def _say(messages: dict[str, tuple[str, ...]], reporter: Reporter) -> None:
    """Report a message of all models once, and every other message with its model's name."""
    common = set.intersection(*(set(of_model) for of_model in messages.values()))
    for message in dict.fromkeys(
        message for of_model in messages.values() for message in of_model if message in common
    ):
        reporter.say(message)
    for name, of_model in messages.items():
        for message in of_model:
            if message not in common:
                reporter.say(f"{name}: {message}")


def _measured(
    ranker: Ranker, split: Split, negatives: Negatives | None, ks: tuple[int, ...], name: str, reporter: Reporter
) -> Report:
    if negatives is not None:
        reporter.progress(f"evaluate {name}", 0, None)
        return evaluate_sampled(ranker, split, negatives, ks)
    evaluation = evaluate(
        ranker,
        split,
        ks,
        progress=lambda stage, done, total, note="": reporter.progress(f"evaluate {name}", done, total),
    )
    return Report(evaluation.metrics, evaluation.messages)
