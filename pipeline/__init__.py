"""Rankline: from the interactions in a warehouse to a table of recommendations."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.data.id_map import IdMap
    from pipeline.data.interactions import Interactions
    from pipeline.evaluation.evaluate import evaluate
    from pipeline.models.factor_model import FactorModel
    from pipeline.options import TrainOptions
    from pipeline.ranking.scorer import Scorer
    from pipeline.training.train import train

__all__ = ["FactorModel", "IdMap", "Interactions", "Scorer", "TrainOptions", "__version__", "evaluate", "train"]

__version__ = "0.1.0"

# Imported when they are asked for: a command, or a process that only scores, pays for what it uses.
_PLACES = {
    "FactorModel": "pipeline.models.factor_model",
    "IdMap": "pipeline.data.id_map",
    "Interactions": "pipeline.data.interactions",
    "Scorer": "pipeline.ranking.scorer",
    "TrainOptions": "pipeline.options",
    "evaluate": "pipeline.evaluation.evaluate",
    "train": "pipeline.training.train",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_PLACES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
