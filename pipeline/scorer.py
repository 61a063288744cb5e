"""`Scorer`, where documents, reports of old runs and the code of models logged before import it from."""

from pipeline.ranking.scorer import Scorer

__all__ = ["Scorer"]
