"""The recommender as an MLflow pyfunc, loaded from this file (models from code): users in, ranked items out.

It answers `mlflow models serve`, and needs numpy, scipy, pandas and mlflow, not the trainer.
"""

from __future__ import annotations

from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from pipeline.errors import InputError, MissingColumnsError
from pipeline.scorer import Scorer

__all__ = ["Recommender", "signature_for"]

DEFAULTS = {"k": 10, "exclude_seen": True, "unknown": "error"}


class Recommender(PythonModel):
    """Ranks through the same `Scorer` as the batch job."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read and verify the artifacts."""
        self.scorer = Scorer.load(context.artifacts["model"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """A row for each user and rank.

        Parameters
        ----------
        model_input : column ``user_id``
        params : k; exclude_seen; unknown ("error", or "popular" for users not in the model)

        Returns
        -------
        DataFrame with user_id, rank (from 1), item_id, score, source
        """
        asked = {**DEFAULTS, **(params or {})}
        if "user_id" not in model_input.columns:
            raise MissingColumnsError(["user_id"], [str(name) for name in model_input.columns])
        k = int(asked["k"])
        if k < 1:
            raise InputError(f"k must be at least 1, got {k}")
        frames = []
        for user in model_input["user_id"].tolist():
            found = self.scorer.recommend(
                self.scorer.users.parse(user), k, exclude_seen=bool(asked["exclude_seen"]), unknown=asked["unknown"]
            )
            frames.append(
                pd.DataFrame(
                    {
                        "user_id": user,
                        "rank": range(1, len(found.items) + 1),
                        "item_id": found.items,
                        "score": found.scores,
                        "source": found.source,
                    }
                )
            )
        columns = ["user_id", "rank", "item_id", "score", "source"]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def signature_for(user_kind: str, item_kind: str) -> Any:
    """Input, output and parameters of `Recommender.predict`."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    kinds = {"int": DataType.long, "str": DataType.string}
    return ModelSignature(
        inputs=Schema([ColSpec(kinds[user_kind], "user_id")]),
        outputs=Schema(
            [
                ColSpec(kinds[user_kind], "user_id"),
                ColSpec(DataType.long, "rank"),
                ColSpec(kinds[item_kind], "item_id"),
                ColSpec(DataType.float, "score"),
                ColSpec(DataType.string, "source"),
            ]
        ),
        params=ParamSchema(
            [
                ParamSpec("k", DataType.long, DEFAULTS["k"]),
                ParamSpec("exclude_seen", DataType.boolean, DEFAULTS["exclude_seen"]),
                ParamSpec("unknown", DataType.string, DEFAULTS["unknown"]),
            ]
        ),
    )


mlflow.models.set_model(Recommender())
