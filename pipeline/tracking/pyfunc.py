"""The recommender as an MLflow pyfunc: users in, ranked items out.

`mlflow models serve` uses it. It needs numpy, scipy, pandas and mlflow, but not the code for training. A registered
model holds copies of this module and of its imports (`model_code`) and loads them under a unique name (`model_loader`).
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from numpy.typing import NDArray

from pipeline.errors import InputError, MissingColumnsError, UsageError
from pipeline.ranking.rules import RulesFile
from pipeline.ranking.scorer import FALLBACK, Scorer

__all__ = ["Recommender", "signature_for"]

DEFAULTS = {"k": 10, "exclude_seen": True, "unknown": "error"}
_UNKNOWN = ("error", "popular", "skip")
_ADVICE = "The users are asked for in a column user_id."
_BLOCK = 4096  # users that are ranked at a time


class Recommender(PythonModel):
    """Ranks through the same `Scorer` as the batch job, under the rules of the file that RANKLINE_RULES names."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read and verify the artifacts."""
        self.scorer = Scorer.load(context.artifacts["model"])
        self._rules = RulesFile.of_environment()

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return a row for each user and rank, users in the order of the input.

        Parameters
        ----------
        model_input : column ``user_id``; ids of the other kind are taken where that is certain (`IdMap.same_kind`)
        params : k; exclude_seen; unknown, for users who are not in the model: "error", "popular" (they get the most
            popular items) or "skip" (they get no rows)

        Returns
        -------
        DataFrame with user_id, rank (from 1), item_id, score, source

        Raises
        ------
        MlflowException
            For input that can't be answered. It has the status of a client's error, so that a model server answers
            with the message.
        """
        given = {name: value for name, value in (params or {}).items() if value is not None}
        try:
            k, exclude_seen, unknown = _checked({**DEFAULTS, **given})
            users = self.scorer.users.same_kind(_user_column(model_input)).tolist()
            rows = self._user_rows(users, unknown)
            # No list is longer than there are items.
            k = min(k, max(1, len(self.scorer.items)))
            scorer = self.scorer if self._rules is None else self.scorer.under(self._rules.rules())
            blocks = [
                _ranked(scorer, users[start : start + _BLOCK], rows[start : start + _BLOCK], k, exclude_seen, unknown)
                for start in range(0, rows.size, _BLOCK)
            ]
        except (InputError, UsageError) as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        columns = ["user_id", "rank", "item_id", "score", "source"]
        return pd.concat(blocks, ignore_index=True) if blocks else pd.DataFrame(columns=columns)

    def _user_rows(self, users: list[Any], unknown: str) -> NDArray[np.int32]:
        """The row of each user, -1 for one who is not in the model. Raises UnknownUserError if `unknown` is "error"."""
        rows = self.scorer.users.rows(users, missing="negative")
        if unknown == "error" and rows.size and rows.min() < 0:
            self.scorer.recommend(users[int(np.argmin(rows))], 1)  # raises, and says why
        return rows


def _ranked(
    scorer: Scorer, users: list[Any], rows: NDArray[np.int32], k: int, exclude_seen: bool, unknown: str
) -> pd.DataFrame:
    known = rows >= 0
    items = np.full((rows.size, k), -1, np.int32)
    scores = np.zeros((rows.size, k), np.float32)
    items[known], scores[known] = scorer.recommend_rows(rows[known], k, exclude_seen=exclude_seen)
    if unknown == "popular" and not known.all():
        items[~known], scores[~known] = scorer.popular_rows(int((~known).sum()), k)
    place, rank = np.nonzero(items >= 0)
    return pd.DataFrame(
        {
            "user_id": pd.Series(users)[place].to_numpy(),
            "rank": rank + 1,
            "item_id": scorer.items.ids(items[place, rank]),
            "score": scores[place, rank],
            "source": np.where(known, scorer.source, FALLBACK)[place],
        }
    )


def _checked(options: dict[str, Any]) -> tuple[int, bool, str]:
    """k, exclude_seen and unknown. Raises InputError."""
    k, exclude_seen, unknown = options["k"], options["exclude_seen"], options["unknown"]
    if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
        raise InputError(f"k must be an integer of at least 1, got {k!r}")
    if not isinstance(exclude_seen, bool | np.bool_):
        raise InputError(f"exclude_seen must be true or false, got {exclude_seen!r}")
    if unknown not in _UNKNOWN:
        raise InputError(f"unknown must be one of {_UNKNOWN}, got {unknown!r}")
    return int(k), bool(exclude_seen), str(unknown)


def _user_column(model_input: pd.DataFrame) -> list[Any]:
    """The users. Raises InputError for a missing one."""
    if "user_id" not in model_input.columns:
        raise MissingColumnsError(["user_id"], [str(name) for name in model_input.columns], advice=_ADVICE)
    column = model_input["user_id"]
    if (missing := np.flatnonzero(column.isna())).size:
        raise InputError(f"user_id is missing in {missing.size} row(s); the first is row {missing[0]}, counted from 0")
    users: list[Any] = column.tolist()
    return users


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
