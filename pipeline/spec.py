"""What a command is asked to do: the one list that the command line, MLproject and the jobs follow.

Each field is an option (``max_iter`` is ``--max-iter``, ``RANKLINE_MAX_ITER`` and the parameter
``max_iter`` of MLproject); its default and its help stand here alone. Nothing heavy is imported:
``rankline --help`` reads this file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from pipeline.errors import UsageError

__all__ = [
    "Duplicates",
    "FileFormat",
    "Init",
    "OnBadRows",
    "OnInterrupt",
    "ReadSpec",
    "ScoreSpec",
    "Solver",
    "Source",
    "SplitWay",
    "TrainSpec",
    "Transform",
    "TuneMetric",
    "TuneSpec",
]

Duplicates = Literal["last", "sum", "max", "mean"]
FileFormat = Literal["csv", "parquet", "json"]
Solver = Literal["fast", "sklearn"]
OnInterrupt = Literal["stop", "keep"]
YesNo = Literal["yes", "no"]
Init = Literal["random", "nndsvd", "nndsvda", "nndsvdar"]
OnBadRows = Literal["error", "drop"]
Source = Literal["auto", "warehouse", "file"]
SplitWay = Literal["auto", "latest", "random", "last", "time", "users"]
Transform = Literal["none", "log1p", "binary"]
UnknownUsers = Literal["skip", "popular"]
TuneMetric = Literal["ndcg_at_10", "recall_at_10", "precision_at_10", "hit_rate_at_10", "map_at_10", "mrr_at_10"]


def _help(text: str) -> dict[str, str]:
    return {"help": text}


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_int(value) or isinstance(value, float)


def _is_moment(value: Any) -> bool:
    """Whether it is None, or a date or time without a zone, as ISO 8601 writes it with dashes."""
    if value is None:
        return True
    try:
        return isinstance(value, str) and "-" in value and datetime.fromisoformat(value).tzinfo is None
    except ValueError:
        return False


def _check(spec: Any, name: str, ok: bool, what: str) -> None:
    if not ok:
        raise UsageError(f"{name} must be {what}, got {getattr(spec, name)!r}")


@dataclass(frozen=True)
class TrainSpec:
    """What to train. Raises UsageError where a value makes no sense."""

    n_components: int | Literal["auto"] = field(
        default="auto", metadata=_help("Latent factors; auto: min(10, min(users, items) - 1).")
    )
    init: Init = field(default="random", metadata=_help("Start of the factorisation."))
    max_iter: int = field(default=200, metadata=_help("Most iterations."))
    tol: float = field(
        default=1e-4,
        metadata=_help(
            "When to stop. fast: the loss falls by less than this share in ten iterations; "
            "sklearn: the projected gradient is down to this share of its first value."
        ),
    )
    solver: Solver = field(
        default="fast", metadata=_help("fast: our compiled solver, on all cores; sklearn: scikit-learn's own steps.")
    )
    threads: int | None = field(
        default=None, metadata=_help("Threads of the fast solver. Default: all cores; the factors are the same.")
    )
    on_interrupt: OnInterrupt = field(
        default="stop",
        metadata=_help("Ctrl-C while it fits. stop: the run ends; keep: the fit ends, and the run goes on with it."),
    )
    random_state: int = field(default=42, metadata=_help("Seed of the start and of the holdout."))
    alpha_W: float = field(default=0.0, metadata=_help("Regularisation of the user factors."))  # noqa: N815
    alpha_H: float | Literal["same"] = field(  # noqa: N815 (scikit-learn's names)
        default="same", metadata=_help("Regularisation of the item factors; same: as alpha_W.")
    )
    l1_ratio: float = field(default=0.0, metadata=_help("Share of L1 in the regularisation, 0 to 1."))
    unobserved_weight: float = field(
        default=1.0,
        metadata=_help(
            "How much an empty cell counts, as a score of 0. 1: NMF, for ranking; 0: observed scores alone, "
            "for rating prediction; between: implicit feedback."
        ),
    )
    confidence: float = field(
        default=0.0, metadata=_help("How much more a cell counts for each unit of its score: 1 + confidence * score.")
    )
    reg_exponent: float = field(
        default=1.0,
        metadata=_help("Regularisation grows with a row's weight of cells to this power; 0: the same for every row."),
    )
    biases: YesNo = field(
        default="no",
        metadata=_help("yes: a user's and an item's level as two of the factors (--unobserved-weight 0)."),
    )
    transform: Transform = field(
        default="none", metadata=_help("Scores in the matrix: as they are, log(1 + score), or 1 for a score > 0.")
    )
    half_life_days: float | None = field(
        default=None,
        metadata=_help("Scores in the matrix fade: half is left after so many days, counted from the newest."),
    )
    duplicates: Duplicates = field(
        default="last", metadata=_help("How several interactions of one user and item become one.")
    )
    min_interactions: int | None = field(
        default=None, metadata=_help("Leave out users with fewer interactions (5 is usual).")
    )
    max_interactions: int | None = field(
        default=None, metadata=_help("Leave out users with more interactions (10000 is usual).")
    )
    min_data: int = field(default=100, metadata=_help("Refuse to train on fewer interactions."))
    holdout: float = field(
        default=0.2,
        metadata=_help("Share held out to measure by: of each user's interactions, of all (time), of users; 0: none."),
    )
    split: SplitWay = field(
        default="auto",
        metadata=_help(
            "Held out: each user's latest or random share, or last few; all after a time; whole users. "
            "auto: latest, else random."
        ),
    )
    split_last: int = field(default=1, metadata=_help("Interactions of each user that --split last holds out."))
    split_cutoff: str | None = field(
        default=None,
        metadata=_help("Date or time (UTC) that --split time holds out from. Default: by the share --holdout."),
    )

    def __post_init__(self) -> None:
        _check(self, "n_components", self.n_components == "auto" or _is_int(self.n_components), "auto or an integer")
        _check(self, "alpha_H", self.alpha_H == "same" or _is_number(self.alpha_H), "same or a number")
        for name in ("max_iter", "random_state", "min_data", "split_last"):
            _check(self, name, _is_int(getattr(self, name)), "an integer")
        for name in ("min_interactions", "max_interactions", "threads"):
            _check(self, name, getattr(self, name) is None or _is_int(getattr(self, name)), "an integer, or none")
        for name in ("tol", "alpha_W", "l1_ratio", "unobserved_weight", "confidence", "reg_exponent", "holdout"):
            _check(self, name, _is_number(getattr(self, name)), "a number")
        half_life = self.half_life_days
        _check(self, "half_life_days", half_life is None or _is_number(half_life), "a number, or none")
        for one in fields(self):
            value = getattr(self, one.name)
            _check(self, one.name, not isinstance(value, float) or math.isfinite(value), "finite")
        _check(self, "n_components", self.n_components == "auto" or self.n_components >= 1, "auto or at least 1")
        _check(self, "init", self.init in get_args(Init), f"one of {get_args(Init)}")
        _check(self, "solver", self.solver in get_args(Solver), f"one of {get_args(Solver)}")
        _check(self, "threads", self.threads is None or self.threads >= 1, "at least 1, or none")
        _check(self, "on_interrupt", self.on_interrupt in get_args(OnInterrupt), f"one of {get_args(OnInterrupt)}")
        _check(self, "max_iter", self.max_iter >= 1, "at least 1")
        _check(self, "tol", self.tol >= 0, "at least 0")
        _check(self, "random_state", 0 <= self.random_state < 2**32, "from 0 to 2**32 - 1")
        _check(self, "alpha_W", self.alpha_W >= 0, "at least 0")
        _check(self, "alpha_H", self.alpha_H == "same" or self.alpha_H >= 0, "same or at least 0")
        _check(self, "l1_ratio", 0 <= self.l1_ratio <= 1, "from 0 to 1")
        _check(self, "unobserved_weight", 0 <= self.unobserved_weight <= 1, "from 0 to 1")
        _check(self, "confidence", self.confidence >= 0, "at least 0")
        _check(self, "reg_exponent", self.reg_exponent >= 0, "at least 0")
        _check(self, "biases", self.biases in get_args(YesNo), f"one of {get_args(YesNo)}")
        _check(self, "transform", self.transform in get_args(Transform), f"one of {get_args(Transform)}")
        _check(self, "duplicates", self.duplicates in get_args(Duplicates), f"one of {get_args(Duplicates)}")
        low, high = self.min_interactions, self.max_interactions
        _check(self, "min_interactions", low is None or low >= 1, "at least 1, or none")
        _check(self, "max_interactions", high is None or high >= (low or 1), f"at least {low or 1}, or none")
        _check(self, "min_data", self.min_data >= 0, "at least 0")
        _check(self, "half_life_days", half_life is None or half_life > 0, "above 0, or none")
        _check(self, "holdout", 0 <= self.holdout < 1, "at least 0 and below 1")
        _check(self, "split", self.split in get_args(SplitWay), f"one of {get_args(SplitWay)}")
        _check(self, "split_last", self.split_last >= 1, "at least 1")
        _check(self, "split_cutoff", _is_moment(self.split_cutoff), "a date or time such as 2024-03-31, or none")
        if self.split_last != 1 and self.split != "last":
            raise UsageError(f"--split-last {self.split_last} is for --split last (it is {self.split})")
        if self.split_cutoff is not None and self.split != "time":
            raise UsageError(f"--split-cutoff {self.split_cutoff} is for --split time (it is {self.split})")
        self._check_objective()

    def _check_objective(self) -> None:
        if self.biases == "yes":
            if self.unobserved_weight != 0:
                raise UsageError(
                    "--biases yes is for observed scores alone: add --unobserved-weight 0 "
                    f"(it is {self.unobserved_weight:g})"
                )
            if self.init != "random":
                raise UsageError(f"--init {self.init} knows nothing of biases: take --init random, or --biases no")
            if self.n_components == 1:
                raise UsageError("--biases yes makes two of the factors biases: --n-components must be at least 2")
        if self.solver == "sklearn" and not self.plain:
            raise UsageError(
                "--solver sklearn fits all cells alike: take --solver fast with --unobserved-weight, "
                "--confidence, --reg-exponent or --biases"
            )

    @property
    def plain(self) -> bool:
        """Whether the objective is that of scikit-learn's NMF."""
        return (self.unobserved_weight, self.confidence, self.reg_exponent, self.biases) == (1, 0, 1, "no")

    def components_for(self, shape: tuple[int, int]) -> int:
        """The number of factors for a matrix of this shape: ``auto`` resolved."""
        least = 2 if self.biases == "yes" else 1
        return max(least, min(10, min(shape) - 1)) if self.n_components == "auto" else self.n_components

    def estimator_params(self, n_components: int) -> dict[str, Any]:
        """Parameters of `sklearn.decomposition.NMF`."""
        names = ("init", "max_iter", "tol", "random_state", "alpha_W", "alpha_H", "l1_ratio")
        return {"n_components": n_components, **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True)
class ReadSpec:
    """Where the interactions come from. Raises UsageError where options conflict."""

    source: Source = field(
        default="auto",
        metadata=_help(
            "auto: the file, where --input is given and RANKLINE_WAREHOUSE is not set; else the warehouse, "
            "and the file only where no warehouse answers."
        ),
    )
    query: Path | None = field(
        default=None,
        metadata=_help("A .sql file of your own: user_id, item_id, score and optionally at. Default: the mart."),
    )
    input: Path | None = field(default=None, metadata=_help("A .csv, .csv.gz, .parquet, .json or .jsonl file."))
    format: FileFormat | None = field(default=None, metadata=_help("Format of --input. Default: by its extension."))
    user_column: str | None = field(
        default=None, metadata=_help("Column of the user ids in --input. Default: user_id, userId, …")
    )
    item_column: str | None = field(
        default=None, metadata=_help("Column of the item ids in --input. Default: item_id, movieId, …")
    )
    rating_column: str | None = field(
        default=None,
        metadata=_help("Column of the scores in --input. Default: rating, score, …; where there is none, 1.0 each."),
    )
    timestamp_column: str | None = field(
        default=None, metadata=_help("Column of the times in --input. Default: timestamp, at, … where there is one.")
    )
    on_bad_rows: OnBadRows = field(
        default="error", metadata=_help("error: stop and show the first five; drop: leave out, count, keep a sample.")
    )

    def __post_init__(self) -> None:
        _check(self, "source", self.source in get_args(Source), f"one of {get_args(Source)}")
        formats = get_args(FileFormat)
        _check(self, "format", self.format is None or self.format in formats, f"one of {formats}, or none")
        _check(self, "on_bad_rows", self.on_bad_rows in get_args(OnBadRows), f"one of {get_args(OnBadRows)}")
        if self.source == "file" and self.input is None:
            raise UsageError("--source file needs --input PATH")
        if self.source == "warehouse" and self.input is not None:
            raise UsageError("--source warehouse reads no --input; leave one of them out")


@dataclass(frozen=True)
class ScoreSpec:
    """What to score and publish. Raises UsageError where a value makes no sense."""

    model: str | None = field(
        default=None,
        metadata=_help(
            "rankline@champion, rankline/3, runs:/RUN_ID or a folder of artifacts. "
            "Default: the champion, else the newest."
        ),
    )
    k: int = field(default=10, metadata=_help("Items a user, at most."))
    unknown: UnknownUsers = field(
        default="skip", metadata=_help("Users of the warehouse who are not in the model: skip, or popular for them.")
    )
    query: Path | None = field(
        default=None,
        metadata=_help("The .sql file that says what is seen by now. Default: the mart, where there is one."),
    )
    max_coverage_drop: float = field(
        default=0.2,
        metadata=_help("Refuse to publish where a larger share of the table's users, or rows, would be gone."),
    )
    max_fallback: float = field(
        default=0.5, metadata=_help("Refuse to publish where a larger share of rows is merely popular.")
    )
    accept_changes: YesNo = field(
        default="no", metadata=_help("yes: publish although one of these limits is passed; it is written down.")
    )
    keep: int = field(default=5, metadata=_help("Published tables to keep besides the newest, to roll back to."))

    def __post_init__(self) -> None:
        for name in ("max_coverage_drop", "max_fallback"):
            value = getattr(self, name)
            _check(self, name, _is_number(value), "a number")
            _check(self, name, 0 <= value <= 1, "from 0 to 1")
        _check(self, "accept_changes", self.accept_changes in get_args(YesNo), f"one of {get_args(YesNo)}")
        _check(self, "keep", _is_int(self.keep), "an integer")
        _check(self, "keep", 1 <= self.keep <= 1000, "from 1 to 1000")
        _check(self, "k", _is_int(self.k), "an integer")
        _check(self, "k", 1 <= self.k <= 65535, "from 1 to 65535")
        _check(self, "unknown", self.unknown in get_args(UnknownUsers), f"one of {get_args(UnknownUsers)}")


@dataclass(frozen=True)
class TuneSpec:
    """How to search for the options that rank best. Raises UsageError where a value makes no sense."""

    trials: int = field(
        default=40, metadata=_help("Trials in all, with those of an earlier search that this one goes on with.")
    )
    timeout: float | None = field(
        default=None,
        metadata=_help("Seconds to search for, at most (one trial is always finished)."),
    )
    metric: TuneMetric = field(default="ndcg_at_10", metadata=_help("What is made as high as possible."))
    search: str = field(
        default="auto",
        metadata=_help(
            "Options to search, with commas: n_components,alpha_W. auto: the usual ones; one that is given a value "
            "other than its default stays fixed."
        ),
    )
    resume: YesNo = field(
        default="yes",
        metadata=_help("Go on where an earlier search of the same data and options stopped; no: forget its trials."),
    )

    def __post_init__(self) -> None:
        _check(self, "trials", _is_int(self.trials), "an integer")
        _check(self, "trials", self.trials >= 1, "at least 1")
        _check(self, "timeout", self.timeout is None or _is_number(self.timeout), "a number, or none")
        _check(self, "timeout", self.timeout is None or 0 < self.timeout < math.inf, "above 0, or none")
        _check(self, "metric", self.metric in get_args(TuneMetric), f"one of {get_args(TuneMetric)}")
        _check(self, "search", isinstance(self.search, str) and bool(self.search), "auto, or names of options")
        _check(self, "resume", self.resume in get_args(YesNo), f"one of {get_args(YesNo)}")
