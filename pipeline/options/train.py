"""Options of a training: the algorithm and its solver, the interactions, and the split."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt

from pipeline.errors import UsageError
from pipeline.options.base import AtLeast0, Options, Rule, Share, YesNo, option

__all__ = ["Duplicates", "Init", "OnInterrupt", "Solver", "SplitWay", "TrainOptions", "Transform"]

Duplicates = Literal["last", "sum", "max", "mean"]
Init = Literal["random", "nndsvd", "nndsvda", "nndsvdar"]
OnInterrupt = Literal["stop", "keep"]
Solver = Literal["fast", "sklearn", "sgd", "als"]
SplitWay = Literal["auto", "latest", "random", "last", "time", "users", "items"]
Transform = Literal["none", "log1p", "binary"]


_UNITS, _MOST_UNITS = re.compile(r"[1-9]\d{0,3}(-[1-9]\d{0,3}){0,7}"), 4096


def _is_moment(value: str) -> bool:
    """Whether the text is a date or time in ISO 8601, with dashes and without a time zone."""
    try:
        return "-" in value and datetime.fromisoformat(value).tzinfo is None
    except ValueError:
        return False


def _are_units(value: str) -> bool:
    """Whether the text is numbers of units such as ``64-32-16``."""
    return bool(_UNITS.fullmatch(value)) and all(int(units) <= _MOST_UNITS for units in value.split("-"))


LayerUnits = Annotated[str, Rule(_are_units, "numbers of units from 1 to 4096 such as 64-32-16", _UNITS.pattern)]
Moment = Annotated[str, Rule(_is_moment, "a date or time such as 2024-03-31", r"^\d{4}-\d{2}-\d{2}")]


@dataclass(frozen=True)
class TrainOptions(Options):
    """What to train. Raises UsageError for invalid and conflicting values."""

    PANEL: ClassVar[str] = "What to train"
    SECTION: ClassVar[str] = "algorithm"

    algorithm: str = option(
        "NMF",
        "NMF, als, ease, elsa, svd, bpmf, neumf, item-knn, popular, recent, ensemble, rerank or auto.",
        details="auto: the one that ranks best on a validation part, with its options ([tuning.md](tuning.md)).",
    )
    budget_minutes: Annotated[float, Gt(0)] = option(10.0, "Minutes for auto, at most.")
    n_components: Annotated[int, Ge(1)] | Literal["auto"] = option(
        "auto",
        "Factors; auto: at most 10.",
        details="auto is min(10, min(users, items) - 1), but at least 1, and at least 2 with --biases yes. "
        "For als it is 64 instead of 10, for elsa 256, for svd 32, for bpmf 12; for neumf 32, whatever the matrix.",
    )
    init: Init = option("random", "Starting values.", advanced=True)
    max_iter: Annotated[int, Ge(1)] = option(
        200,
        "Most iterations.",
        details="An iteration of elsa takes a tenth of the users, one of neumf a hundredth of the interactions.",
    )
    tol: AtLeast0 = option(
        1e-4,
        "Stop when the loss falls by less than this share in ten iterations (sklearn: the gradient).",
        details="--solver sklearn stops when the projected gradient is down to this share of its first value.",
    )
    solver: Solver = option(
        "fast",
        "fast: our compiled solver; sklearn: scikit-learn's own steps; svd: sgd or als.",
        details="fast runs on all cores. For svd it is sgd, which runs on one.",
    )
    learning_rate: Annotated[float, Gt(0)] | None = option(
        None, "Step of gradient descent (svd 0.01, elsa 0.1, neumf 0.001).", advanced=True
    )
    threads: Annotated[int, Ge(1)] | None = option(
        None, "Threads of the fast solver. Default: all cores.", details="The factors are the same for any number."
    )
    memory_limit: Annotated[int, Ge(1)] | None = option(
        None,
        "Megabytes of memory that the training may take. Default: what is free.",
        details="Where the transposed matrix of nmf or als does not fit, it is kept in a temporary file (TMPDIR); "
        "where the interactions do not, they are, too. The model is the same. It replaces RANKLINE_MEMORY_LIMIT_MB.",
        advanced=True,
    )
    on_interrupt: OnInterrupt = option(
        "stop",
        "Ctrl-C while it fits. stop: the run ends; keep: the fit ends, and the run goes on with it.",
        details="With keep the run uses the factors found so far. SIGTERM counts as Ctrl-C.",
    )
    random_state: Annotated[int, Ge(0), Le(2**32 - 1)] = option(42, "Seed of the start and of the holdout.")
    alpha_W: AtLeast0 = option(0.0, "Regularisation of the user factors.")  # noqa: N815
    alpha_H: AtLeast0 | Literal["same"] = option(  # noqa: N815 (scikit-learn's names)
        "same", "Of the items'; same: as alpha_W.", advanced=True
    )
    l1_ratio: Share = option(0.0, "Share of L1 in the regularisation, 0 to 1.", advanced=True)
    unobserved_weight: Share | None = option(
        None,
        "How much an empty cell counts, as a score of 0 (NMF: 1, als: 0.1). 1: for ranking; 0: observed scores alone, "
        "for rating prediction; between: implicit feedback.",
    )
    confidence: AtLeast0 = option(
        0.0, "How much more a cell counts for each unit of its score: 1 + confidence * score.", advanced=True
    )
    dislike_weight: AtLeast0 = option(
        1.0,
        "How much a cell of score 0 counts, such as a dislike; at least --unobserved-weight.",
        details="Where it is more, the user's scores of the item and of those like it are lower. Where it is as much, "
        "the item is seen, and that is all.",
        advanced=True,
    )
    reg_exponent: AtLeast0 = option(
        1.0,
        "Regularisation grows with a row's weight of cells to this power; 0: the same for every row.",
        advanced=True,
    )
    biases: YesNo = option(
        "no", "yes: a user's and an item's level as two of the factors (--unobserved-weight 0).", advanced=True
    )
    regularization: AtLeast0 | None = option(
        None,
        "L2 penalty (als: 0.01, ease: 200, svd: 1.2, neumf: 0.01).",
        details="als multiplies it by the mean score and, as --reg-exponent says, by a row's weight of cells; ease "
        "multiplies it by the mean squared score. So one value suits scores of any scale. That of neumf is its als.",
    )
    n_neighbours: Annotated[int, Ge(1)] = option(200, "item-knn: similar items kept of each.", advanced=True)
    shrinkage: AtLeast0 = option(
        100.0,
        "item-knn: penalty on pairs of few users.",
        details="The larger, the less two items count as similar that few users have both of.",
        advanced=True,
    )
    members: str | None = option(
        None,
        "Models of ensemble, or the first of rerank.",
        details="With commas; default ease,als,item-knn,recent, and ease for rerank. Options may follow a name: "
        "ease:regularization=300,als:n_components=128; weight=2 behind each of ensemble's gives the weights.",
    )
    layers: LayerUnits = option("64-32-16", "neumf: units of each layer.", advanced=True)
    dropout: Annotated[float, Ge(0), Lt(1)] = option(
        0.2, "neumf: share of units left out of a step.", details="It is rounded to 1/256.", advanced=True
    )
    negatives_per_positive: Annotated[int, Ge(1)] = option(
        4, "neumf: unseen items drawn for each interaction.", advanced=True
    )
    cold_items: Annotated[int, Ge(1)] | None = option(
        None,
        "Items with fewer interactions get factors from their genres and tags; so do items without any (usual: 5).",
        details="For models of factors: nmf, als, elsa, svd, bpmf. Genres come from raw.movies, or from --items.",
        advanced=True,
    )
    transform: Transform = option(
        "none", "Scores in the matrix: as they are, log(1 + score), or 1 for a score > 0.", section="interactions"
    )
    half_life_days: Annotated[float, Gt(0)] | None = option(
        None,
        "Scores in the matrix fade: half is left after so many days, counted from the newest.",
        section="interactions",
    )
    duplicates: Duplicates = option(
        "last",
        "How several interactions of one user and item become one.",
        section="interactions",
        details="last: the score of the latest, without times that of the last row; sum, max, mean: of their scores.",
    )
    min_interactions: Annotated[int, Ge(1)] | None = option(
        None, "Leave out users with fewer (usual: 5).", section="interactions"
    )
    max_interactions: Annotated[int, Ge(1)] | None = option(
        None, "Leave out users with more (usual: 10000).", section="interactions"
    )
    min_data: Annotated[int, Ge(0)] = option(
        100, "Refuse to train on fewer interactions.", section="interactions", advanced=True
    )
    holdout: Annotated[float, Ge(0), Lt(1)] = option(
        0.2,
        "Share held out to measure by: of each user's interactions, of all (time), of users or items; 0: none.",
        section="split",
    )
    split: SplitWay = option(
        "auto",
        "Held out: each user's latest or random share, or last few; all after a time; whole users or items. "
        "auto: latest, else random.",
        section="split",
        details="auto is random where the interactions have no times. items is for --cold-items: lists are made of "
        "the held-out items alone.",
    )
    split_last: Annotated[int, Ge(1)] = option(1, "Rows per user, for --split last.", section="split")
    split_cutoff: Moment | None = option(
        None, "Date or time (UTC) that --split time holds out from. Default: by the share --holdout.", section="split"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.min_interactions, self.max_interactions
        if high is not None and high < (low or 1):
            raise UsageError(f"max_interactions must be at least {low}, or none, got {high!r}")
        if self.split_last != 1 and self.split != "last":
            raise UsageError(f"--split-last {self.split_last} is for --split last (it is {self.split})")
        if self.split_cutoff is not None and self.split != "time":
            raise UsageError(f"--split-cutoff {self.split_cutoff} is for --split time (it is {self.split})")
        if self.split == "items" and self.cold_items is None:
            raise UsageError(
                "--split items needs --cold-items, such as 5: no model knows whole items that are held out"
            )
        self._check_objective()

    def _check_objective(self) -> None:
        if self.biases == "yes":
            if self.unobserved_weight != 0:
                weight = 1.0 if self.unobserved_weight is None else self.unobserved_weight
                raise UsageError(
                    f"--biases yes is for observed scores alone: add --unobserved-weight 0 (it is {weight:g})"
                )
            if self.init != "random":
                raise UsageError(f"--init {self.init} knows nothing of biases: take --init random, or --biases no")
            if self.n_components == 1:
                raise UsageError("--biases yes makes two of the factors biases: --n-components must be at least 2")
        if self.solver == "sklearn" and not self.plain:
            raise UsageError(
                "--solver sklearn fits all cells alike: take --solver fast with --unobserved-weight, "
                "--confidence, --dislike-weight, --reg-exponent or --biases"
            )

    @property
    def is_auto(self) -> bool:
        """Whether a search chooses the model."""
        return self.algorithm.strip().lower() == "auto"

    @property
    def plain(self) -> bool:
        """Whether the objective is the one of scikit-learn's NMF."""
        weights = self.confidence, self.dislike_weight, self.reg_exponent
        return self.unobserved_weight in (None, 1) and (*weights, self.biases) == (0, 1, 1, "no")

    @property
    def layer_units(self) -> tuple[int, ...]:
        """Units of each layer of a network."""
        return tuple(int(units) for units in self.layers.split("-"))

    def components_for(self, shape: tuple[int, int]) -> int:
        """The number of factors for a matrix of this shape, with ``auto`` resolved."""
        least = 2 if self.biases == "yes" else 1
        return max(least, min(10, min(shape) - 1)) if self.n_components == "auto" else self.n_components

    def estimator_params(self, n_components: int) -> dict[str, Any]:
        """Parameters of `sklearn.decomposition.NMF`."""
        names = ("init", "max_iter", "tol", "random_state", "alpha_W", "alpha_H", "l1_ratio")
        return {"n_components": n_components, **{name: getattr(self, name) for name in names}}
