"""`evaluate`: fit models to one file and judge them by another, as published tables are made; no MLflow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import InputError, LeakageError
from pipeline.evaluate import evaluate
from pipeline.evaluate_spec import EvaluateSpec, ModelName
from pipeline.interactions import Interactions
from pipeline.jobs.reporter import Reporter
from pipeline.matrix import aggregate, content_digest, filter_users, in_order, to_matrix
from pipeline.models.item_knn import ItemKNNRanker, fit_item_knn
from pipeline.models.popular import popular_model, recent_model
from pipeline.ranker import Ranker
from pipeline.report import Report
from pipeline.sampled import Negatives, evaluate_sampled, sample_negatives
from pipeline.scorer import Scorer
from pipeline.sources.blocks import Columns
from pipeline.sources.negatives import read_negatives
from pipeline.sources.protocol import Files, as_one_kind, read_rows
from pipeline.spec import TrainSpec
from pipeline.splits import Split
from pipeline.train import train

__all__ = ["EvaluateResult", "evaluate_job"]


@dataclass(frozen=True)
class EvaluateResult:
    """Attributes
    ----------
    protocol : ``full``, ``given negatives`` or ``sampled negatives``
    ks : lengths of lists, ascending
    metrics : model → metric → value, finite; the models in the order they were asked for
    facts : n_users and n_held_out that were judged, digests of the data and of the split, the seed where one was used
    """

    protocol: str
    ks: tuple[int, ...]
    metrics: dict[str, dict[str, float]]
    facts: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The first model's metrics at the top level, all models' under ``models``."""
        first = next(iter(self.metrics))
        about = {"model": first, "protocol": self.protocol, "k": list(self.ks), **self.facts}
        return {**about, **self.metrics[first], "models": self.metrics}


def evaluate_job(
    files: EvaluateSpec, spec: TrainSpec, models: Sequence[ModelName], ks: tuple[int, ...], reporter: Reporter
) -> EvaluateResult:
    """Read the files, fit each model to the training side alone, and judge all on the same split.

    Raises
    ------
    InputError
        Files that can't be used, or where no user of the test file is known to training.
    LeakageError
        Where the two files share a pair.
    """
    read = _read(files, reporter)
    known = in_order(read.train)
    kept = filter_users(aggregate(known, spec.duplicates), spec.min_interactions, spec.max_interactions)
    for sentence in _counted(files, known, kept):
        reporter.say(sentence)
    split = _split(files, kept, aggregate(in_order(read.test)))
    negatives = read.negatives
    if files.negatives is not None:
        reporter.progress("negatives", 0, None)
        negatives = sample_negatives(split, files.negatives, spec.random_state)
    judged = _judged(files, split, negatives, reporter)
    if "recent" in models and split.train.at is None:
        reporter.say(f"recent ranks as popular does: {files.train} has no times")

    metrics: dict[str, dict[str, float]] = {}
    said: dict[str, tuple[str, ...]] = {}
    for name in models:
        reporter.progress(f"fit {name}", 0, None)
        ranker = _fitted(name, split, spec, reporter)
        found = _measured(ranker, split, negatives, ks, name, reporter)
        said[name] = found.messages
        metrics[name] = {key: value for key, value in found.metrics.items() if key != "n_users"}
    _say(said, reporter)
    protocol = "full" if negatives is None else "given negatives" if files.negatives is None else "sampled negatives"
    facts: dict[str, Any] = {
        "n_users": judged.users,
        "n_held_out": judged.interactions,
        "train_digest": content_digest(split.train),
        "split_digest": split.digest,
    }
    if files.negatives is not None or "nmf" in models:
        facts["random_state"] = spec.random_state
    return EvaluateResult(protocol, ks, metrics, facts)


def _read(files: EvaluateSpec, reporter: Reporter) -> Files:
    columns = Columns(files.user_column, files.item_column, files.rating_column, files.timestamp_column)

    def rows(option: str) -> Interactions:
        path = getattr(files, option)
        told: Callable[[int], None] = lambda n: reporter.progress(f"read {option}", n, None)  # noqa: E731  a line, used once
        read = read_rows(path, columns, files.format, files.on_bad_rows, told, option=f"--{option}")
        if read.n_bad:
            reporter.say(f"{read.n_bad} bad row(s) of {read.n_rows} in {path} left out")
        return read.interactions

    train_side, test = rows("train"), rows("test")
    negatives = read_negatives(files.negatives_file) if files.negatives_file is not None else None
    return as_one_kind(train_side, test, negatives)


def _counted(files: EvaluateSpec, read: Interactions, kept: Interactions) -> list[str]:
    """What became of training rows that no model sees."""
    if len(kept) == len(read):
        return []
    users = len(read.user_ids) - len(kept.user_ids)
    return [
        f"{len(kept):,} of {len(read):,} rows of {files.train} are learned from: the others repeat a user and item "
        f"(--duplicates), or are of {users:,} users with fewer or more than asked for"
    ]


def _split(files: EvaluateSpec, train_side: Interactions, test: Interactions) -> Split:
    if not len(train_side):
        raise InputError(
            f"No user of {files.train} is left to learn from: widen --min-interactions, --max-interactions"
        )
    try:
        return Split(train_side, test)
    except LeakageError as error:
        raise LeakageError(
            f"{error}: {files.test} holds pairs that {files.train} has too, and a model is not judged by what it "
            "learned from. Take them out of one of the files."
        ) from None


class _Judged(NamedTuple):
    users: int
    interactions: int


def _judged(files: EvaluateSpec, split: Split, negatives: Negatives | None, reporter: Reporter) -> _Judged:
    """How many are judged; the same for every model, since all of them know the whole training side."""
    users = split.test.user_ids.values[split.test.users] if negatives is None else negatives.users
    users = users[split.train.user_ids.rows(users, missing="negative") >= 0]
    if not users.size:
        raise InputError(
            f"No user of {files.negatives_file or files.test} has a row in {files.train}: are they of the same data?"
        )
    if negatives is not None and (n := len(split.test) - negatives.users.size) > 0:
        reporter.say(f"{n:,} held-out interactions are left out: {files.negatives_file} has no line for them")
    return _Judged(int(np.unique(users).size), int(users.size))


def _say(said: dict[str, tuple[str, ...]], reporter: Reporter) -> None:
    """What holds of every model once, the rest with the model's name."""
    every = set.intersection(*(set(messages) for messages in said.values()))
    for message in dict.fromkeys(message for messages in said.values() for message in messages if message in every):
        reporter.say(message)
    for name, messages in said.items():
        for message in messages:
            if message not in every:
                reporter.say(f"{name}: {message}")


def _fitted(name: ModelName, split: Split, spec: TrainSpec, reporter: Reporter) -> Ranker:
    """Of the training side alone."""
    if name == "nmf":
        trained = train(split.train, replace(spec, holdout=0.0), reporter.progress)
        for message in trained.report.messages:
            if "--holdout" not in message:
                reporter.say(message)
        return Scorer(trained.model)
    matrix = to_matrix(split.train, "none", spec.min_data)
    if name == "item-knn":
        return ItemKNNRanker(fit_item_knn(matrix))
    if name == "recent":
        return Scorer(recent_model(matrix, split.train), source="recent")
    return Scorer(popular_model(matrix), source="popular")


def _measured(
    ranker: Ranker, split: Split, negatives: Negatives | None, ks: tuple[int, ...], name: str, reporter: Reporter
) -> Report:
    if negatives is not None:
        reporter.progress(f"judge {name}", 0, None)
        return evaluate_sampled(ranker, split, negatives, ks)
    return evaluate(
        ranker, split, ks, progress=lambda stage, done, total, note="": reporter.progress(f"judge {name}", done, total)
    ).report("")
