"""All models, by name. A lookup imports no estimator: each is imported when it is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError
from pipeline.models.algorithms.als import ALSAlgorithm
from pipeline.models.algorithms.averages import (
    BiasesAlgorithm,
    GlobalMeanAlgorithm,
    ItemMeanAlgorithm,
    UserMeanAlgorithm,
)
from pipeline.models.algorithms.ease import EASEAlgorithm
from pipeline.models.algorithms.elsa import ELSAAlgorithm
from pipeline.models.algorithms.ensemble import EnsembleAlgorithm
from pipeline.models.algorithms.item_knn import ItemKNNAlgorithm
from pipeline.models.algorithms.neumf import NeuMFAlgorithm
from pipeline.models.algorithms.nmf import NMFAlgorithm, sklearn_estimator
from pipeline.models.algorithms.popularity import PopularAlgorithm, RecentAlgorithm
from pipeline.models.algorithms.ratings import BPMFAlgorithm, SVDAlgorithm
from pipeline.models.algorithms.rerank import RerankAlgorithm
from pipeline.models.base import Algorithm
from pipeline.options import TrainOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.models.factor_model import FactorModel

__all__ = [
    "DEFAULT",
    "NEIGHBOURS",
    "POPULAR",
    "REBUILT_ESTIMATOR",
    "algorithm_of",
    "algorithms",
    "averages",
    "baselines",
    "display_names",
    "find",
    "names",
    "rebuild_estimator",
]

_CLASSES: tuple[type[Algorithm], ...] = (
    NMFAlgorithm,
    ALSAlgorithm,
    EASEAlgorithm,
    ELSAAlgorithm,
    SVDAlgorithm,
    BPMFAlgorithm,
    NeuMFAlgorithm,
    ItemKNNAlgorithm,
    PopularAlgorithm,
    RecentAlgorithm,
)
# Models of `rankline evaluate` alone.
_AVERAGES: tuple[type[Algorithm], ...] = (GlobalMeanAlgorithm, UserMeanAlgorithm, ItemMeanAlgorithm, BiasesAlgorithm)
# Each model is compared with these baselines, in this order.
_BASELINES: tuple[type[Algorithm], ...] = (PopularAlgorithm, RecentAlgorithm, ItemKNNAlgorithm)

# The key of the baseline that a model has to beat.
POPULAR = PopularAlgorithm.name
# The estimator of `rebuild_estimator` is logged under this name.
REBUILT_ESTIMATOR = f"{NMFAlgorithm.name}_model"


@cache
def algorithms() -> tuple[Algorithm, ...]:
    """Every model, the default one first."""
    return (*(algorithm() for algorithm in _CLASSES), EnsembleAlgorithm(find), RerankAlgorithm(find))


@cache
def averages() -> tuple[Algorithm, ...]:
    """Averages of ratings, which `evaluate --model` takes too."""
    return tuple(average() for average in _AVERAGES)


def names() -> tuple[str, ...]:
    """The names of all models."""
    return tuple(algorithm.name for algorithm in algorithms())


def algorithm_of(name: str) -> Algorithm:
    """The algorithm of a saved model; the default one for a name that this version does not have."""
    return next((algorithm for algorithm in algorithms() if algorithm.name == name), DEFAULT)


def find(text: str, option: str = "--algorithm") -> Algorithm:
    """The model of this name, in any case; of ``--model`` an average too. Raises UsageError, which lists the names."""
    name = text.strip().lower().replace("_", "-")
    able = (*algorithms(), *(averages() if option == "--model" else ()))
    for algorithm in able:
        if algorithm.name == name:
            return algorithm
    known = ", ".join((able[0].display_name, *(algorithm.name for algorithm in able[1:])))
    if "@" in text or "/" in text or ":" in text or Path(text).exists():
        raise UsageError(
            f"{option} names a kind of model ({known}), and {text} names a version: that is --model MODEL "
            "of score, recommend, show, why, …"
        )
    auto = ", or auto" if option == "--algorithm" else ""
    raise UsageError(f"{option} is one of {known}{auto}, got {text!r}")


DEFAULT = find(TrainOptions.algorithm)
# Usually the strongest baseline: reports name it beside most popular.
NEIGHBOURS = find(ItemKNNAlgorithm.name)


def baselines() -> tuple[Algorithm, ...]:
    """The models that every model is compared with, in order."""
    return tuple(find(baseline.name) for baseline in _BASELINES)


def display_names() -> dict[str, str]:
    """``item_knn`` → ``item-kNN``, of every model: the display name by the part of a metric's name."""
    return {algorithm.key: algorithm.display_name for algorithm in algorithms()}


def rebuild_estimator(facts: Any, losses: Sequence[float] | NDArray[Any], model: FactorModel) -> Any:
    """The scikit-learn estimator of a saved fit, from `EstimatorFacts` as JSON, the losses and the factors.

    Raises KeyError, TypeError or ValueError if these are not valid.
    """
    import numpy as np

    # A copy: the logged estimator must not refer to a mapped file.
    factors = model.item_factors
    factors = np.array(factors) if isinstance(factors, np.memmap) else factors
    return sklearn_estimator(facts["params"], factors, len(losses), facts["error"])
