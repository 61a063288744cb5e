"""The recommender as an MLflow pyfunc: users in, ranked items out.

`mlflow models serve` and `mlflow.pyfunc.spark_udf` use it. It needs numpy, scipy, pandas and mlflow, but not the code
for training. A registered model holds copies of this module and of its imports (`model_code`) and loads them under a
unique name (`model_loader`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
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

# MLflow has no parameter without a value: an empty list and 0 stand for "not given".
DEFAULTS = {
    "k": 10, "exclude_seen": True, "unknown": "error", "allow": [], "deny": [], "genre": [], "max_per_genre": 0,
    "max_per_series": 0, "lists": False,
}  # fmt: skip
_UNKNOWN = ("error", "popular", "skip")
_ADVICE = "The users are asked for in a column user_id."
_MOST_VALUES = 100_000  # of allow, deny and genre: more than a request should carry
_BLOCK = 4096  # users that are ranked at a time
_COLUMNS = {
    False: ["user_id", "rank", "item_id", "score", "source"],
    True: ["user_id", "items", "scores", "sources"],
}


class Recommender(PythonModel):
    """Ranks through the same `Scorer` as the batch job, under the rules of the file that RANKLINE_RULES names."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read and verify the artifacts."""
        self.scorer = Scorer.load(context.artifacts["model"])
        self._rules = RulesFile.of_environment()

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return a row for each user and rank, or with `lists` a row for each user; users in the order of the input.

        Parameters
        ----------
        model_input : column ``user_id``; ids of the other kind are taken where that is certain (`IdMap.same_kind`)
        params : k; exclude_seen; unknown, for users who are not in the model: "error", "popular" (they get the most
            popular items) or "skip" (they get no rows); allow, the ids of the only items that lists may hold; deny, ids
            of items that they may not hold; genre, names of genres of which an item must have one; max_per_genre and
            max_per_series, how many items of one genre, and of one series, a list may hold; lists, for callers that
            need as many rows as they give, such as `spark_udf`. An empty list and 0 ask for nothing.

        Returns
        -------
        DataFrame with user_id, rank (from 1), item_id, score, source; with `lists`, with user_id, items, scores and
        sources, the last three a list in each row, best first, empty where there is nothing to recommend

        Raises
        ------
        MlflowException
            For input that can't be answered. It has the status of a client's error, so that a model server answers
            with the message.
        """
        given = {name: value for name, value in (params or {}).items() if value is not None}
        try:
            asked = _checked({**DEFAULTS, **given}, self.scorer)
            users = self.scorer.users.same_kind(_user_column(model_input)).tolist()
            rows = self._user_rows(users, asked.unknown)
            scorer = self.scorer if self._rules is None else self.scorer.under(self._rules.rules())
            scorer = scorer.limited(asked.max_per_genre or None, asked.max_per_series or None)
            blocks = [
                _ranked(scorer, users[start : start + _BLOCK], rows[start : start + _BLOCK], asked)
                for start in range(0, rows.size, _BLOCK)
            ]
        except (InputError, UsageError) as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        columns = _COLUMNS[asked.lists]
        return pd.concat(blocks, ignore_index=True) if blocks else pd.DataFrame(columns=columns)

    def _user_rows(self, users: list[Any], unknown: str) -> NDArray[np.int32]:
        """The row of each user, -1 for one who is not in the model. Raises UnknownUserError if `unknown` is "error"."""
        rows = self.scorer.users.rows(users, missing="negative")
        if unknown == "error" and rows.size and rows.min() < 0:
            self.scorer.recommend(users[int(np.argmin(rows))], 1)  # raises, and says why
        return rows


@dataclass(frozen=True, eq=False)
class _Asked:
    """The parameters of a call; `allow` and `deny` are rows of items, None where they were not given."""

    k: int
    exclude_seen: bool
    unknown: str
    max_per_genre: int
    max_per_series: int
    lists: bool
    allow: NDArray[np.int32] | None
    deny: NDArray[np.int32] | None


def _ranked(scorer: Scorer, users: list[Any], rows: NDArray[np.int32], asked: _Asked) -> pd.DataFrame:
    known, k = rows >= 0, asked.k
    allow, deny = asked.allow, asked.deny
    items = np.full((rows.size, k), -1, np.int32)
    scores = np.zeros((rows.size, k), np.float32)
    sources = np.full((rows.size, k), "", object)
    ranked = scorer.recommend_rows(rows[known], k, exclude_seen=asked.exclude_seen, allow=allow, deny=deny)
    items[known], scores[known] = ranked
    sources[known] = ranked.sources(scorer.source)
    if asked.unknown == "popular" and not known.all():
        popular = scorer.popular_rows(int((~known).sum()), k, allow=allow, deny=deny)
        items[~known], scores[~known] = popular
        sources[~known] = popular.sources(FALLBACK)
    if asked.lists:
        return _as_lists(scorer, users, items, scores, sources)
    place, rank = np.nonzero(items >= 0)
    return pd.DataFrame(
        {
            "user_id": pd.Series(users)[place].to_numpy(),
            "rank": rank + 1,
            "item_id": scorer.items.ids(items[place, rank]),
            "score": scores[place, rank],
            "source": sources[place, rank],
        }
    )


def _as_lists(
    scorer: Scorer, users: list[Any], items: NDArray[np.int32], scores: NDArray[np.float32], sources: NDArray[Any]
) -> pd.DataFrame:
    """A row for each user; the arrays are (n, k), padded at the end with items of -1."""
    counts = np.count_nonzero(items >= 0, axis=1).tolist()
    columns: dict[str, list[Any]] = {
        "user_id": users,
        "items": [scorer.items.ids(row[:n]).tolist() for row, n in zip(items, counts, strict=True)],
        "scores": [row[:n].tolist() for row, n in zip(scores, counts, strict=True)],
        "sources": [row[:n].tolist() for row, n in zip(sources, counts, strict=True)],
    }
    return pd.DataFrame(columns)


def _checked(options: dict[str, Any], scorer: Scorer) -> _Asked:
    """The parameters, each checked. Raises InputError."""
    unknown, exclude_seen = options["unknown"], options["exclude_seen"]
    for name, least in (("k", 1), ("max_per_genre", 0), ("max_per_series", 0)):
        value = options[name]
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise InputError(f"{name} must be an integer of at least {least}, got {value!r}")
    for name in ("exclude_seen", "lists"):
        if not isinstance(options[name], bool | np.bool_):
            raise InputError(f"{name} must be true or false, got {options[name]!r}")
    if unknown not in _UNKNOWN:
        raise InputError(f"unknown must be one of {_UNKNOWN}, got {unknown!r}")
    # No list is longer than there are items.
    k = min(int(options["k"]), max(1, len(scorer.items)))
    limits = int(options["max_per_genre"]), int(options["max_per_series"])
    said = bool(exclude_seen), str(unknown), *limits, bool(options["lists"])
    return _Asked(k, *said, *_filters(options, scorer))


def _filters(options: dict[str, Any], scorer: Scorer) -> tuple[NDArray[np.int32] | None, NDArray[np.int32] | None]:
    """Item rows to choose from, and to leave out; None where nothing was asked for. Raises InputError."""
    given = {name: _several(name, options[name]) for name in ("allow", "deny", "genre")}
    if not all(isinstance(name, str) for name in given["genre"]):
        raise InputError(f"genre must be names of genres, got {given['genre'][:5]!r}")
    allow, deny = (scorer.item_rows(given[name]) if given[name] else None for name in ("allow", "deny"))
    if given["genre"]:
        of_genre = scorer.items_of(given["genre"])
        allow = of_genre if allow is None else np.intersect1d(allow, of_genre)
    return allow, deny


def _several(name: str, value: Any) -> list[Any]:
    """The values as a list; one value is a list of it. Raises InputError."""
    if isinstance(value, str) or not isinstance(value, Collection | np.ndarray):
        value = [value]
    values: list[Any] = np.asarray(value).tolist() if isinstance(value, np.ndarray) else list(value)
    if len(values) > _MOST_VALUES:
        raise InputError(f"{name} has {len(values):,} values, and may have {_MOST_VALUES:,}")
    return values


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
                ParamSpec("allow", kinds[item_kind], DEFAULTS["allow"], (-1,)),
                ParamSpec("deny", kinds[item_kind], DEFAULTS["deny"], (-1,)),
                ParamSpec("genre", DataType.string, DEFAULTS["genre"], (-1,)),
                ParamSpec("max_per_genre", DataType.long, DEFAULTS["max_per_genre"]),
                ParamSpec("max_per_series", DataType.long, DEFAULTS["max_per_series"]),
                ParamSpec("lists", DataType.boolean, DEFAULTS["lists"]),
            ]
        ),
    )
