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
    from pipeline.compat.evaluation_service import EvaluationService
    from pipeline.compat.explainer_service import ExplainerService
    from pipeline.compat.matrix_factorization import MatrixFactorizationModel
    from pipeline.compat.model_manager import MLModelManager
    from pipeline.compat.neural_cf import NeuralCF
    from pipeline.compat.nmf_model import NMFModel
    from pipeline.compat.realtime_learner import RealtimeLearner
    from pipeline.compat.redis_connector import RedisConnector
    from pipeline.compat.trainer import EvaluationMetrics, ModelTrainer
    from pipeline.compat.training_service import TrainingService

__all__ = [
    "Constants",
    "DataLoader",
    "EvaluationMetrics",
    "EvaluationService",
    "ExplainerService",
    "MLModelManager",
    "MatrixFactorizationModel",
    "ModelTrainer",
    "NMFModel",
    "NeuralCF",
    "RealtimeLearner",
    "RedisConnector",
    "Settings",
    "TrainingService",
]

_PLACES = {
    "Constants": "configuration",
    "DataLoader": "data_loader",
    "EvaluationMetrics": "trainer",
    "EvaluationService": "evaluation_service",
    "ExplainerService": "explainer_service",
    "MLModelManager": "model_manager",
    "MatrixFactorizationModel": "matrix_factorization",
    "ModelTrainer": "trainer",
    "NMFModel": "nmf_model",
    "NeuralCF": "neural_cf",
    "RealtimeLearner": "realtime_learner",
    "RedisConnector": "redis_connector",
    "Settings": "configuration",
    "TrainingService": "training_service",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
