"""Options of `rankline evaluate`: its files, the negatives, the models and k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge

from pipeline.errors import UsageError
from pipeline.options.base import Options, Several, YesNo, as_text, option
from pipeline.options.columns import RowOptions, refuse_addresses

__all__ = ["EvaluateOptions", "as_ks"]


@dataclass(frozen=True)
class _EvaluationFiles(Options):
    train: Annotated[Path, Several()] | None = option(
        None,
        "What the models learn from: CSV, Parquet or JSON, or tab-separated user item rating time without a header.",
    )
    test: Annotated[Path, Several()] | None = option(None, "What they are measured on. Same forms as --train.")
    negatives_file: Path | None = option(
        None, "Rank each held-out item among the items of its line: (user,item), then item ids, with tabs between them."
    )
    negatives: Annotated[int, Ge(1)] | None = option(
        None,
        "Rank each held-out item among so many that its user has nowhere, drawn by --random-state (99 is usual). "
        "Default: among all training items.",
    )
    folds: Annotated[int, Ge(2)] | None = option(
        None, "Without --test: parts of --train, drawn by --random-state; each is the test side once."
    )
    folds_of: Literal["interactions", "items"] = option(
        "interactions",
        "What --folds parts. items: whole items, which training then lacks; lists are of these alone (--cold-items).",
    )
    repeats: Annotated[int, Ge(1)] = option(
        1, "Evaluations with different seeds: --random-state, the next one, and so on."
    )
    relevant_from: float | None = option(
        None, "A row of --test is relevant if its score is at least this, such as 4 stars. Default: every row."
    )
    clip: YesNo = option("yes", "Cut estimated ratings to the range of those of training before rmse and mae.")


@dataclass(frozen=True)
class EvaluateOptions(RowOptions, _EvaluationFiles):
    """Files and protocol of an evaluation. Raises UsageError for an invalid value."""

    PANEL: ClassVar[str] = "What to measure"

    def __post_init__(self) -> None:
        super().__post_init__()
        needed = ("train",) if self.folds is not None else ("train", "test")
        missing = [f"--{name} FILE" for name in needed if getattr(self, name) is None]
        if missing:
            raise UsageError(f"{' and '.join(missing)} must be given")
        if self.folds is not None and self.test is not None:
            raise UsageError("--folds makes the test sides of --train, and --test gives one: leave one out")
        if self.folds is not None and self.negatives_file is not None:
            raise UsageError("--negatives-file is for given test sides: take --negatives with --folds")
        if self.negatives is not None and self.negatives_file is not None:
            raise UsageError("--negatives draws them and --negatives-file gives them: leave one out")
        if self.folds_of == "items" and self.folds is None:
            raise UsageError("--folds-of items is for --folds, such as 5: each holds out so many of the items whole")
        if self.folds_of == "items" and self.negatives is not None:
            raise UsageError("--folds-of items ranks the held-out items among themselves: leave --negatives out")
        refuse_addresses("train", self.train)
        refuse_addresses("test", self.test)
        refuse_addresses("negatives-file", self.negatives_file)

    def of_folds(self) -> list[EvaluateOptions]:
        """The options of each fold: ``--train a,b --test c,d`` are two, of a and c, and of b and d.

        Raises UsageError where the options name different numbers of files.
        """
        named = {name: _with_commas(getattr(self, name)) for name in ("train", "test", "negatives_file")}
        count = {name: len(paths) for name, paths in named.items() if paths}
        if max(count.values(), default=1) == 1:
            return [self]
        if len(set(count.values())) > 1:
            counted = ", ".join(f"--{name.replace('_', '-')} {n}" for name, n in count.items())
            raise UsageError(f"Each fold has one file of each option, and the numbers of files differ: {counted}")
        paths_of_folds = zip(*(paths for paths in named.values() if paths), strict=True)
        return [replace(self, **dict(zip(count, paths, strict=True))) for paths in paths_of_folds]

    @property
    def train_name(self) -> str:
        """The training file or files, for messages."""
        return as_text(self.train)

    @property
    def test_name(self) -> str:
        """The test file or files, for messages."""
        return as_text(self.test)


def _with_commas(given: Path | tuple[Path, ...] | None) -> list[Path]:
    """The files of an option with commas; [] where there is none. A file whose name has a comma is itself."""
    if not isinstance(given, Path) or "," not in str(given) or given.exists():
        return [] if given is None or isinstance(given, tuple) else [given]
    return [Path(part.strip()) for part in str(given).split(",") if part.strip()]


def as_ks(texts: Sequence[str]) -> tuple[int, ...]:
    """Lengths of lists, distinct and ascending: ``["10,20"]`` → (10, 20). Raises UsageError."""
    ks = set()
    for word in _words(texts):
        if not (word.isascii() and word.isdigit() and 1 <= int(word) <= 65535):
            raise UsageError(f"--k is one or more lengths of lists from 1 to 65535, such as 10,20; got {word!r}")
        ks.add(int(word))
    if not ks:
        raise UsageError("--k is one or more lengths of lists, such as 10,20; got nothing")
    return tuple(sorted(ks))


def _words(texts: Sequence[str]) -> list[str]:
    return [word.strip() for text in texts for word in str(text).split(",") if word.strip()]
