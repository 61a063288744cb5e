"""Classes under the names that two API documents give them, thin over Rankline's own: see docs/api-map.md.

    from pipeline.compat import DataLoader, ModelTrainer

    loader = DataLoader()
    matrix = loader.create_user_item_matrix(loader.load_user_interactions("ratings.csv"))
    items, scores = ModelTrainer().train_nmf_model(matrix, n_components=50).get_top_recommendations(0)

Of the collaborative-filtering reference: `NMFModel`, `DataLoader`, `ModelTrainer`, `EvaluationMetrics`,
`RedisConnector`, `Settings`, `Constants`. Of the machine-learning design: `MLModelManager`, `MatrixFactorizationModel`,
`NeuralCF`, `TrainingService`, `EvaluationService`, `ExplainerService`, `RealtimeLearner`.

New code is better off with `pipeline.Scorer` and `pipeline.train`, which have all options.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.compat.configuration import Constants, Settings
    from pipeline.compat.data_loader import DataLoader
    from pipeline.compat.nmf_model import NMFModel
    from pipeline.compat.redis_connector import RedisConnector
    from pipeline.compat.trainer import EvaluationMetrics, ModelTrainer

__all__ = [
    "Constants",
    "DataLoader",
    "EvaluationMetrics",
    "ModelTrainer",
    "NMFModel",
    "RedisConnector",
    "Settings",
]

_PLACES = {
    "Constants": "configuration",
    "DataLoader": "data_loader",
    "EvaluationMetrics": "trainer",
    "ModelTrainer": "trainer",
    "NMFModel": "nmf_model",
    "RedisConnector": "redis_connector",
    "Settings": "configuration",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
