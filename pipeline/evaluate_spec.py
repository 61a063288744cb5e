"""What `rankline evaluate` is asked to do: which files, among what each item is ranked, which models, which k.

Nothing heavy is imported: ``rankline --help`` reads this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from pipeline.errors import UsageError
from pipeline.spec import FileFormat, OnBadRows, _help

__all__ = ["EvaluateSpec", "ModelName", "as_ks", "as_models"]

ModelName = Literal["popular", "recent", "item-knn", "nmf"]
_NAMES: tuple[ModelName, ...] = get_args(ModelName)


@dataclass(frozen=True)
class EvaluateSpec:
    """Files and protocol. Raises UsageError where a value makes no sense."""

    train: Path | None = field(
        default=None,
        metadata=_help(
            "What the models learn from: CSV, Parquet or JSON, or tab-separated user item rating time without a header."
        ),
    )
    test: Path | None = field(
        default=None, metadata=_help("What they are judged by: every row is relevant. Same forms as --train.")
    )
    negatives_file: Path | None = field(
        default=None,
        metadata=_help(
            "Rank each held-out item among the items of its line: (user,item), then item ids, with tabs between them."
        ),
    )
    negatives: int | None = field(
        default=None,
        metadata=_help(
            "Rank each held-out item among so many that its user has nowhere, drawn by --random-state (99 is usual). "
            "Default: among all training items."
        ),
    )
    format: FileFormat | None = field(
        default=None, metadata=_help("Format of --train and --test. Default: by the extension.")
    )
    user_column: str | None = field(default=None, metadata=_help("Column of the user ids. Default: user_id, userId, …"))
    item_column: str | None = field(
        default=None, metadata=_help("Column of the item ids. Default: item_id, movieId, …")
    )
    rating_column: str | None = field(
        default=None,
        metadata=_help("Column of the scores. Default: rating, score, …; where there is none, 1.0 each."),
    )
    timestamp_column: str | None = field(
        default=None, metadata=_help("Column of the times. Default: timestamp, at, … where there is one.")
    )
    on_bad_rows: OnBadRows = field(
        default="error", metadata=_help("error: stop and show the first five; drop: leave out and count.")
    )

    def __post_init__(self) -> None:
        missing = [f"--{name} FILE" for name in ("train", "test") if getattr(self, name) is None]
        if missing:
            raise UsageError(f"{' and '.join(missing)} must be given")
        if self.negatives is not None and self.negatives_file is not None:
            raise UsageError("--negatives draws them and --negatives-file gives them: leave one out")
        if self.negatives is not None and self.negatives < 1:
            raise UsageError(f"--negatives must be at least 1, got {self.negatives}")
        for name, choices in (("format", get_args(FileFormat)), ("on_bad_rows", get_args(OnBadRows))):
            value = getattr(self, name)
            if value not in choices and not (name == "format" and value is None):
                raise UsageError(f"{name} must be one of {choices}, got {value!r}")


def as_models(texts: Sequence[str]) -> tuple[ModelName, ...]:
    """``["nmf,popular", "recent"]`` → the three names, each once, in order. Raises UsageError."""
    found: list[ModelName] = []
    for word in _words(texts):
        name = next((one for one in _NAMES if one == word.lower().replace("_", "-")), None)
        if name is None:
            raise UsageError(f"--model is one or more of {', '.join(_NAMES)}, got {word!r}")
        found.append(name)
    if not found:
        raise UsageError(f"--model is one or more of {', '.join(_NAMES)}, got nothing")
    return tuple(dict.fromkeys(found))


def as_ks(texts: Sequence[str]) -> tuple[int, ...]:
    """``["10,20"]`` → (10, 20), each once, ascending. Raises UsageError."""
    found = set()
    for word in _words(texts):
        if not (word.isascii() and word.isdigit() and 1 <= int(word) <= 65535):
            raise UsageError(f"--k is one or more lengths of lists from 1 to 65535, such as 10,20; got {word!r}")
        found.add(int(word))
    if not found:
        raise UsageError("--k is one or more lengths of lists, such as 10,20; got nothing")
    return tuple(sorted(found))


def _words(texts: Sequence[str]) -> list[str]:
    return [word.strip() for text in texts for word in str(text).split(",") if word.strip()]
