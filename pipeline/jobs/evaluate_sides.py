"""The sides of an evaluation: read from files, or parted into folds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pipeline.data.interactions import Interactions
from pipeline.data.prepare import Preparation, PreparedInteractions, prepare_interactions
from pipeline.data.sources.files import read_file
from pipeline.data.splits import Split
from pipeline.errors import InputError, LeakageError
from pipeline.evaluation.files import Files, as_training_has_them
from pipeline.evaluation.negatives_file import read_negatives
from pipeline.jobs.inputs import columns_of, form_of
from pipeline.options import EvaluateOptions, TrainOptions
from pipeline.runtime.progress import Reporter

__all__ = ["folds_of", "read_sides", "rows_used", "split_of"]

_KINDS = {"int": "integers", "str": "text"}


def read_sides(files: EvaluateOptions, reporter: Reporter) -> Files:
    """The files of both sides, or those of `--train` alone for folds, with ids alike. Raises InputError."""

    def rows(option: str) -> Interactions:
        given, name = getattr(files, option), getattr(files, f"{option}_name")

        def progress(n: int) -> None:
            reporter.progress(f"read {option}", n, None)

        read = read_file(
            given if isinstance(given, tuple) else (given,),
            columns_of(files),
            files.format,
            files.on_bad_rows,
            progress,
            form=form_of(files),
            option=f"--{option}",
        )
        if read.columns is not None:
            reporter.say(f"columns of {name}: {read.columns.sentence}")
        for note in read.notes:
            reporter.say(note)
        if read.n_bad:
            reporter.say(f"{read.n_bad} bad row(s) of {read.n_rows} in {name} left out")
        return read.interactions

    train_side = rows("train")
    if files.folds is not None:
        return Files(train_side, train_side, None)
    test = rows("test")
    negatives = read_negatives(files.negatives_file) if files.negatives_file is not None else None
    alike = as_training_has_them(train_side, test, negatives)
    for what, known, other, converted in (
        ("user", train_side.user_ids, test.user_ids, alike.test.user_ids),
        ("item", train_side.item_ids, test.item_ids, alike.test.item_ids),
    ):
        if len(known) and len(other) and not bool((known.rows(converted.values, missing="negative") >= 0).any()):
            raise InputError(
                f"No {what} of {files.test_name} has a row in {files.train_name}: are they of the same data? "
                f"Its {what} ids are {_KINDS[other.kind]} such as {str(other.values[0])[:40]!r}, those of the "
                f"training file {_KINDS[known.kind]} such as {str(known.values[0])[:40]!r}"
            )
    return alike


def folds_of(x: Interactions, files: EvaluateOptions, spec: TrainOptions) -> Iterator[Files]:
    """Both sides of each fold: every interaction is in the test side of one, drawn by the seed; or every item whole."""
    n = files.folds or 2
    prepared = prepare_interactions(x, spec.duplicates, spec.min_interactions, spec.max_interactions).interactions
    by_item = files.folds_of == "items"
    drawn = np.random.default_rng(spec.random_state).permutation(len(prepared.item_ids if by_item else prepared)) % n
    fold = drawn[prepared.items] if by_item else drawn
    for number in range(n):
        yield Files(prepared.take(fold != number).compact(), prepared.take(fold == number).compact(), None)


def rows_used(files: EvaluateOptions, training: Preparation) -> list[str]:
    """A message where some training rows are not used: duplicates, or users outside of the bounds."""
    n = len(training.interactions)
    if n == training.n_read:
        return []
    return [
        f"{n:,} of {training.n_read:,} rows of {files.train_name} are learned from: the others repeat a user and item "
        f"(--duplicates), or are of {training.n_users_left_out:,} users with fewer or more than asked for"
    ]


def split_of(files: EvaluateOptions, train_side: PreparedInteractions, test: PreparedInteractions) -> Split:
    """The sides as a split; with whole items held out, lists are of these alone. Raises InputError, LeakageError."""
    if not len(train_side):
        raise InputError(
            f"No user of {files.train_name} is left to learn from: widen --min-interactions, --max-interactions"
        )
    try:
        split = Split(train_side, test)
    except LeakageError as error:
        raise LeakageError(
            f"{error}: {files.test_name} holds pairs that {files.train_name} has too, and a model is not measured by "
            "what it learned from. Take them out of one of the files."
        ) from None
    return replace(split, name="items", ranked=test.item_ids) if files.folds_of == "items" else split
