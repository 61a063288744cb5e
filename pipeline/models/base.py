"""`Algorithm`: the interface of a model to training, evaluation, tracking and the command line.

A new model is a subclass in `pipeline/models/algorithms/` and a line in `pipeline/models/registry.py`. It can then be
trained, tuned, evaluated, registered, published and explained, and must pass `tests/models/contract.py`.
No estimator is imported before it is fitted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pipeline.errors import UsageError
from pipeline.models.footprint import Footprint, Plan, Size
from pipeline.models.search_space import Dimension, IntegerRange, SearchSpace, select, sweep
from pipeline.options import TrainOptions

if TYPE_CHECKING:  # looking up a model's name must not load numpy
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.data.interactions import Interactions
    from pipeline.data.matrix import UserItems
    from pipeline.models.item_snapshot import ItemTexts
    from pipeline.models.solvers.steps import Engine

__all__ = ["Algorithm", "EstimatorFacts", "Fitted", "Kind", "Needs", "OnIteration"]

Kind = Literal["factors", "item_item", "popularity", "neural", "ensemble", "rerank"]
OnIteration = Callable[[int, float], None]

# Options of reading, holding out and progress, which every model has.
_COMMON = frozenset(
    {
        "algorithm", "random_state", "threads", "memory_limit", "on_interrupt", "duplicates", "min_interactions",
        "max_interactions", "min_data", "holdout", "split", "split_last", "split_cutoff",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Needs:
    """What a model learns from, besides the pairs of user and item."""

    ratings: bool = False
    times: bool = False
    genres: bool = False


@dataclass(frozen=True)
class EstimatorFacts:
    """What a fit's scikit-learn estimator needs besides the factors and the losses.

    Attributes
    ----------
    params : arguments of its constructor
    error : ‖X − WH‖_F
    """

    params: Mapping[str, Any]
    converged: bool
    error: float


@dataclass(frozen=True, eq=False)
class Fitted:
    """Attributes
    ----------
    model : the saved model; its `meta` has the facts that fold-in needs
    losses : loss after each iteration, (n_iter,); empty for a model that is not fitted in iterations
    converged : whether the fit met its stopping rule
    interrupted : whether Ctrl-C ended the fit early and the result so far was kept, as asked
    facts : values that the fit used or found, by the names that a run logs: ``n_components_used``
    messages : notes on the fit for the user
    estimator : facts of the scikit-learn estimator, if the model has one
    """

    model: Any
    losses: NDArray[np.float64] = field(default_factory=lambda: _no_losses())
    converged: bool = True
    interrupted: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[str, ...] = ()
    estimator: EstimatorFacts | None = None

    @property
    def n_iter(self) -> int:
        """Number of iterations."""
        return int(self.losses.size)


class Algorithm(ABC):
    """A kind of model that can be trained.

    Attributes
    ----------
    name : in code, in `algorithm_used` and as `source` of published rows: ``item-knn``
    display_name : what people read: ``item-kNN``
    kind : of the saved model
    options : fields of `TrainOptions` that it takes, besides those that every model takes
    own_defaults : values that a default of None stands for
    needs : the data that it learns from
    space : the options that tuning searches
    stepped : whether the fit runs in iterations, each with a loss
    reconstructs : whether its scores estimate the cells of the matrix; otherwise they only order items
    solvers : values of the option `solver` that it takes, if it has that option
    instead : names of models to take, the best first, where this one does not fit into memory
    stands_for : name of the model that it approximates; `auto` tries it where that one is slow or too large
    baseline : whether every training is compared with it, at its default options
    searched_by_auto : whether `--algorithm auto` tries it
    distributed : whether its fit consists of half-steps that another engine can carry out (`on`)
    learns_from_earlier : whether `refit` takes something from the earlier fit
    ranks : whether it learns which items a user chooses; a model of ratings learns how they score what they chose
    """

    name: ClassVar[str]
    display_name: ClassVar[str]
    kind: ClassVar[Kind]
    options: ClassVar[frozenset[str]] = frozenset()
    own_defaults: ClassVar[Mapping[str, Any]] = {}
    needs: ClassVar[Needs] = Needs()
    space: ClassVar[SearchSpace] = SearchSpace()
    stepped: ClassVar[bool] = False
    reconstructs: ClassVar[bool] = False
    solvers: ClassVar[tuple[str, ...]] = ("fast",)
    instead: ClassVar[tuple[str, ...]] = ()
    stands_for: ClassVar[str] = ""
    baseline: ClassVar[bool] = False
    distributed: ClassVar[bool] = False
    learns_from_earlier: ClassVar[bool] = False
    searched_by_auto: ClassVar[bool] = True
    ranks: ClassVar[bool] = True
    _engine: Engine | None = None

    def told(self, texts: ItemTexts | None) -> Algorithm:
        """The same algorithm, which learns from genres of items if it needs them (`needs.genres`)."""
        return self

    def on(self, engine: Engine) -> Self:
        """The same algorithm, whose half-steps `engine` carries out; of a `distributed` one alone."""
        same = copy(self)
        same._engine = engine
        return same

    @abstractmethod
    def fit(
        self,
        user_items: UserItems,
        options: TrainOptions,
        *,
        interactions: Interactions | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Fitted:
        """The model of this matrix.

        Parameters
        ----------
        interactions : the interactions of the matrix, with the same ids, for a model that needs their times
        on_iteration : called with the iteration, from 1, and the loss after it; its exceptions end the fit

        Raises
        ------
        UsageError
            For options that do not fit the matrix.
        InputError
            If the model can't be fitted to the data.
        """

    def refit(
        self,
        earlier: Fitted,
        user_items: UserItems,
        options: TrainOptions,
        *,
        interactions: Interactions | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Fitted:
        """The model of all interactions, after an earlier fit to a part of them was evaluated.

        What a fit decides by the data and metrics depend on, it takes from `earlier`. Else as `fit`.
        """
        return self.fit(user_items, options, interactions=interactions, on_iteration=on_iteration)

    @abstractmethod
    def footprint(self, size: Size, plan: Plan) -> Footprint:
        """Memory and time of the fit."""

    @property
    def key(self) -> str:
        """The name as part of a metric's or a column's name: ``item_knn``."""
        return self.name.replace("-", "_")

    def settled(self, options: TrainOptions, facts: Mapping[str, Any]) -> TrainOptions:
        """`options` with what a fit by them decided, so that the next one need not decide; `facts` are of `Fitted`."""
        return options

    def label(self, options: TrainOptions, facts: Mapping[str, Any] | None = None) -> str:
        """A few words for the name of a run; `facts` are those of `Fitted`, after a fit."""
        return self.display_name

    @property
    def defaults(self) -> dict[str, Any]:
        """The options that it takes, with their defaults."""
        usual = {option.name: option.default for option in fields(TrainOptions) if option.name in self.options}
        return {name: self.own_defaults.get(name, value) for name, value in usual.items()}

    def option(self, options: TrainOptions, name: str) -> Any:
        """The option's value, or the value that None stands for in this model."""
        value = getattr(options, name)
        return self.own_defaults.get(name) if value is None else value

    def check_options(self, options: TrainOptions) -> None:
        """Raise UsageError if an option was set that this model does not take."""
        taken = self.options | _COMMON
        idle = [
            _flag(option.name)
            for option in fields(TrainOptions)
            if option.name not in taken and getattr(options, option.name) != option.default
        ]
        if idle:
            flags = [_flag(option.name) for option in fields(TrainOptions) if option.name in self.options]
            able = ", ".join(flags) or "none"
            raise UsageError(f"{self.display_name} has no {', '.join(idle)}; options of its own: {able}")
        if "solver" in self.options and options.solver not in self.solvers:
            raise UsageError(f"--solver of {self.display_name} is {' or '.join(self.solvers)}, got {options.solver}")
        if "dislike_weight" in self.options:
            dislikes, empty = options.dislike_weight, self.option(options, "unobserved_weight")
            if dislikes < empty:
                raise UsageError(
                    "--dislike-weight must be at least --unobserved-weight: a dislike counts no less than an "
                    f"empty cell (they are {dislikes:g} and {empty:g})"
                )

    def own_options(self, options: TrainOptions) -> TrainOptions:
        """`options` for this model; options that it does not take are at their defaults."""
        taken = self.options | (_COMMON - {"algorithm"})
        values = {option.name: getattr(options, option.name) for option in fields(TrainOptions) if option.name in taken}
        if options.solver not in self.solvers:  # another model's
            values.pop("solver", None)
        return TrainOptions(algorithm=self.name, **values)

    def default_options(self, **changed: Any) -> TrainOptions:
        """Options of a training of this model as a baseline."""
        return TrainOptions(algorithm=self.name, **changed)

    # ---- search -----------------------------------------------------------------------------

    def search_space(
        self, options: TrainOptions, search: str, shape: tuple[int, int], *, times: bool
    ) -> tuple[Dimension, ...]:
        """The options that tuning searches, in a fixed order; arguments and errors as `search_space.select`."""
        if not self.space.dimensions:
            raise UsageError(f"{self.display_name} has no options to search: train it as it is")
        return select(self.space, options, search, shape, times=times)

    def first_points(
        self, space: tuple[Dimension, ...], options: TrainOptions, shape: tuple[int, int]
    ) -> list[dict[str, Any]]:
        """First points of a search, encoded: the defaults, then one move per trial from the best point so far."""
        return sweep(self.space, space, self.standing(options, shape))

    def standing(self, options: TrainOptions, shape: tuple[int, int]) -> dict[str, Any]:
        """Each searched option's value in `options`, as a number if it stands for one (``auto``)."""
        return {dimension.name: self.option(options, dimension.name) for dimension in self.space.dimensions}

    def untunable(self, options: TrainOptions) -> str:
        """Why a search can't score trials with these options; "" if it can."""
        return ""

    # ---- cost -------------------------------------------------------------------------------

    def resolved(self, options: TrainOptions, shape: tuple[int, int]) -> TrainOptions:
        """`options` with ``auto`` replaced by its value for the matrix, so that the holdout's fit has the same size."""
        return options

    def unfit(self, options: TrainOptions, shape: tuple[int, int], which: str) -> str:
        """Why a matrix of this shape, called `which`, can't be fitted with these options; "" if it can."""
        return ""

    def components(self, options: TrainOptions, shape: tuple[int, int]) -> int:
        """Number of factors for a matrix of this shape, 0 for a model that has none."""
        return 0

    def plan(self, options: TrainOptions, shape: tuple[int, int], cores: int) -> Plan:
        """The plan of a training on a matrix of this shape (n_users, n_items)."""
        return Plan.of(options, self.components(options, (max(shape[0], 2), max(shape[1], 2))), cores)

    def largest(self, plan: Plan, space: tuple[Dimension, ...]) -> Plan:
        """The plan of the largest model that a search of this space fits."""
        most = {dimension.name: dimension.high for dimension in space if isinstance(dimension, IntegerRange)}
        return replace(
            plan,
            n_components=max(plan.n_components, most.get("n_components", 0)),
            n_neighbours=max(plan.n_neighbours, most.get("n_neighbours", 0)),
        )

    def seconds_as_baseline(self, user_items: UserItems, n_evaluated: int) -> float:
        """Estimated seconds to fit the model and rank for so many users, on one core."""
        return 0.0


def _no_losses() -> NDArray[np.float64]:
    import numpy as np

    return np.empty(0)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
