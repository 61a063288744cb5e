"""GET a user's embedding: their factors in the served model.

From the model in memory, with what the user has done since. Redis has the same numbers for other programs: to ask it
would cost a worker more than the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.models.factor_model import FactorModel
from pipeline.models.neural_model import NeuralModel
from pipeline.models.saved_model import SavedModel
from pipeline.serving.gate import Scope
from pipeline.serving.lists import FOLD_IN
from pipeline.serving.overlay import history_of
from pipeline.serving.problems import Code, Problem
from pipeline.serving.routes.get import Answer, Get, json_answer
from pipeline.serving.routes.lists import NOT_READ, USER_ID, known_of
from pipeline.serving.routes.schemas import EMBEDDING
from pipeline.serving.service import Service

__all__ = ["embedding_routes"]


def embedding_routes(service: Service) -> list[Get]:
    """The routes, by path and by query."""

    def embedding(scope: Scope, values: Mapping[str, Any]) -> Answer:
        in_path = scope["path_params"].get("user_id")
        return _embedding(service, str(values["user_id"] if in_path is None else in_path))

    summary = "A user's factors in the model."
    codes = (Code.UNKNOWN_USER, Code.NO_EMBEDDINGS, Code.NO_MODEL)
    return [
        Get("/api/v1/users/{user_id}/embedding", summary, embedding, EMBEDDING, (), codes,
            path_parameters={"user_id": "The user."}),
        Get("/api/v1/users/embedding", summary, embedding, EMBEDDING, (USER_ID,), codes),
    ]  # fmt: skip


def _embedding(service: Service, text: str) -> Answer:
    served = service.model.served()
    scorer, model = served.scorer, served.scorer.model
    if not isinstance(model, FactorModel | NeuralModel):
        raise Problem(Code.NO_EMBEDDINGS, f"{served.pointer.label} is a model without factors ({model.kind})")
    if service.reader is not None:
        service.reader.look()
    user = served.user(text)
    known = known_of(service, served, user)
    row = -1 if known.forgotten else scorer.users.row(user)
    of: SavedModel = model
    at, source = row, scorer.source
    if known.new and model.seen.dtype == np.float32 and (history := history_of(model, row, known.new)).n_new:
        of, at, source = scorer.with_cells(history.cells), 0, FOLD_IN
    if at < 0 or not isinstance(of, FactorModel | NeuralModel):
        raise Problem(Code.UNKNOWN_USER, f"Nothing is known of user {text[:80]!r}")
    body = {
        "user_id": user,
        "model_version": served.pointer.label,
        "run_id": served.pointer.run_id,
        "source": source,
        "embedding": np.ascontiguousarray(of.user_factors[at]),
    }
    if not known.readable:
        body["degraded"] = NOT_READ
    return json_answer(body, served.served_by)
