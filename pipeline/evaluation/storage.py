"""A run's evaluation on the held-out part, as two files of the run: `write_evaluation` writes them, and
`read_evaluation` reads them as `StoredEvaluation`. Runs are compared by ``per_user.parquet``; ``summary.json`` is for
people.

per_user.parquet, one row per evaluated user, by user id:

    user_id                        int64 or string
    n_train, n_relevant            int64, interactions known and held out
    segment                        string: cold, warm, hot
    ndcg_at_10, recall_at_10, …    double, the model's metrics of this user; NaN where there is no value
    popular_ndcg_at_10, …          double, a baseline's: ndcg, recall, hit_rate; so recent_…, item_knn_…
    champion_ndcg_at_10, …         double, of the champion's options on the same sides, where a nightly job fitted them
    champion_before_ndcg_at_10, …  double, of these fitted to what the champion knew of the training side
    items                          list of int64 or string: the model's ten items, best first
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtifactError, EvaluationError, UsageError
from pipeline.evaluation.bounded_parquet import bounded_table
from pipeline.evaluation.metrics import SEGMENTS
from pipeline.models.safe_files import opened, read_json

if TYPE_CHECKING:  # reading a stored evaluation imports neither the models nor, before it is read, Arrow
    import pyarrow as pa

    from pipeline.evaluation.holdout import HoldoutEvaluation

__all__ = ["PER_USER", "SUMMARY", "StoredEvaluation", "leave_only", "read_evaluation", "write_evaluation"]

FOLDER = "evaluation"
PER_USER, SUMMARY = f"{FOLDER}/per_user.parquet", f"{FOLDER}/summary.json"
# A summary has a few kilobytes, and a table of users some fifty columns.
_LARGEST_SUMMARY, _MOST_COLUMNS = 4 << 20, 1000
_KEYS = ("user_id", "n_train", "n_relevant", "segment", "items")
POPULAR, CHAMPION, BEFORE = "popular_", "champion_", "champion_before_"
_OF_BASELINES = ("ndcg_at_10", "recall_at_10", "hit_rate_at_10", "precision_at_10", "map_at_10", "mrr_at_10")


@dataclass(frozen=True, eq=False)
class StoredEvaluation:
    """Attributes
    ----------
    label : its name in messages
    split_name, split_params, split_digest : the split it was evaluated on
    data_digest : of the data it was trained on
    user_ids : (n,) ascending
    n_train : (n,) training interactions of each
    segment : (n,) int8, position in `metrics.SEGMENTS`
    columns : metric → (n,) float64, NaN where a user has no such value; a baseline's begin with its name
    items : (total,) ids of all lists, one user after the other, best first
    ends : (n,) where each user's list ends in `items`
    champion_run, champion_options : of the champion that was measured beside it: its run, and its options by field of
        `TrainOptions`; "" and {} for none
    """

    label: str
    split_name: str
    split_params: Mapping[str, Any]
    split_digest: str
    data_digest: str
    user_ids: NDArray[Any]
    n_train: NDArray[np.int64]
    segment: NDArray[np.int8]
    columns: Mapping[str, NDArray[np.float64]]
    items: NDArray[Any]
    ends: NDArray[np.int64]
    champion_run: str = ""
    champion_options: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.user_ids.size)

    def metric(self, name: str) -> NDArray[np.float64]:
        """The model's values, (n,). Raises UsageError, with the known names, for an unknown one."""
        if name not in self.columns:
            raise UsageError(f"{self.label} has no metric {name!r} of each user; it has {', '.join(self.columns)}")
        return self.columns[name]

    def popular(self, name: str) -> NDArray[np.float64]:
        """Most popular's values for the same users, (n,)."""
        return self.metric(POPULAR + name)

    def of_champion(self, name: str) -> NDArray[np.float64]:
        """The values of the champion's options for the same users, (n,)."""
        return self.metric(CHAMPION + name)

    def of_champion_before(self, name: str) -> NDArray[np.float64]:
        """The same of a fit to what the champion knew, (n,); NaN for users whom it did not know."""
        return self.metric(BEFORE + name)


def read_evaluation(folder: Path, label: str) -> StoredEvaluation:
    """Read the two files of a run's `evaluation` from their folder.

    Raises EvaluationError where one can't be read or lacks a value.
    """
    import pyarrow as pa

    try:
        with opened(folder, Path(SUMMARY).name) as file:
            summary = read_json(file, _LARGEST_SUMMARY)
        split = summary["split"]
        name, params = str(split["name"]), dict(split["params"])
        split_digest, data_digest = str(split["digest"]), str(summary["data_digest"])
        champion = dict(summary.get("champion") or {})
        champion_run, champion_options = str(champion.get("run_id", "")), dict(champion.get("options") or {})
        table = bounded_table(folder, Path(PER_USER).name, _MOST_COLUMNS)
        table.validate(full=True)  # a code past its dictionary would be read past its end
    except (ArtifactError, OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise EvaluationError(f"The evaluation of {label} can't be read ({_reason(error)}); train again") from None
    if missing := [key for key in _KEYS if key not in table.column_names]:
        raise EvaluationError(f"{PER_USER} of {label} has no column {missing[0]!r}; train again")
    try:
        order = np.argsort(user_ids := _ids(table["user_id"]), kind="stable")
        lists = table["items"].combine_chunks().take(pa.array(order))
        columns = {
            key: np.asarray(table[key].to_numpy(), np.float64)[order]
            for key in table.column_names
            if key not in _KEYS and pa.types.is_floating(table.schema.field(key).type)
        }
        segment = np.array([SEGMENTS.index(name) for name in table["segment"].to_pylist()], np.int8)[order]
        n_train = np.asarray(table["n_train"].to_numpy(), np.int64)[order]
        ends = np.cumsum([0 if items is None else len(items) for items in lists.to_pylist()], dtype=np.int64)
        items = _ids(lists.flatten())
    except (ValueError, TypeError, AttributeError, pa.ArrowException) as error:
        raise EvaluationError(f"{PER_USER} of {label} can't be read ({_reason(error)}); train again") from None
    user_ids = user_ids[order]
    if bool((user_ids[1:] == user_ids[:-1]).any()):
        raise EvaluationError(f"{PER_USER} of {label} has a user twice; train again")
    return StoredEvaluation(
        label, name, params, split_digest, data_digest, user_ids, n_train, segment, columns, items, ends,
        champion_run, champion_options,
    )  # fmt: skip


def write_evaluation(evaluated: HoldoutEvaluation, data_digest: str, folder: Path) -> Path:
    """Write both files into the folder, which is created, and return it."""
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(_per_user(evaluated), folder / Path(PER_USER).name, compression="zstd")
    summary = json.dumps(_summary(evaluated, data_digest), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / Path(SUMMARY).name).write_text(summary + "\n")
    return folder


def leave_only(folder: Path, user_ids: NDArray[Any]) -> None:
    """Take the rows of all other users out of the evaluation in the folder.

    Raises EvaluationError where it can't be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / Path(PER_USER).name
    try:
        table = bounded_table(folder, path.name, _MOST_COLUMNS)
        kept = np.isin(_ids(table["user_id"]), user_ids)
        pq.write_table(table.filter(pa.array(kept)), path, compression="zstd")
    except (ArtifactError, OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise EvaluationError(f"{path} can't be read ({_reason(error)})") from None


def _per_user(evaluated: HoldoutEvaluation) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, Any] = dict(evaluated.own.columns())
    for name, evaluation in evaluated.baselines.items():
        columns |= {f"{name}_{metric}": evaluation.per_user[metric] for metric in _OF_BASELINES}
    if evaluated.champion is not None:
        for prefix, values in ((CHAMPION, evaluated.champion.per_user), (BEFORE, evaluated.champion.before)):
            columns |= {prefix + metric: values[metric] for metric in _OF_BASELINES if values}
    return pa.table({**columns, "items": _items(evaluated)})


def _items(evaluated: HoldoutEvaluation) -> pa.ListArray:
    """Each user's list as external ids, without the empty places."""
    import pyarrow as pa

    lists = evaluated.own.lists
    if lists is None:
        raise ValueError("The model was evaluated without keeping its lists")
    filled = lists >= 0
    ids = evaluated.split.items.ids(lists[filled])
    offsets = np.append(0, np.cumsum(filled.sum(axis=1))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids))


def _summary(evaluated: HoldoutEvaluation, data_digest: str) -> dict[str, Any]:
    split, lift, champion = evaluated.split, evaluated.lift, evaluated.champion
    return {
        "split": {"name": split.name, "params": dict(split.params), "digest": split.digest},
        "data_digest": data_digest,
        "model": evaluated.model,
        "champion": None if champion is None else {"run_id": champion.run_id, "options": dict(champion.options)},
        "candidates": {name: dict(evaluation.metrics) for name, evaluation in evaluated.evaluations.items()},
        "intervals": {name: {"ndcg_at_10": _numbers(interval)} for name, interval in evaluated.intervals.items()},
        "lift_over_popular": _numbers(lift.lift) if lift is not None and lift.lift is not None else None,
        "better_than_popular": evaluated.better_than_popular,
        "segments": {
            name: {
                segment: {key: int(value) if key == "n_users" else value for key, value in values.items()}
                for segment, values in evaluation.by_segment.items()
            }
            for name, evaluation in evaluated.evaluations.items()
        },
        "ratings": {**evaluated.ratings.metrics, **evaluated.averages},
        "messages": list(evaluated.messages),
    }


def _numbers(values: Iterable[float]) -> list[float | None]:
    """JSON has no infinity: an infinite end is null."""
    return [value if math.isfinite(value) else None for value in values]


def _ids(column: Any) -> NDArray[Any]:
    values = np.asarray(column.to_numpy(zero_copy_only=False) if hasattr(column, "flatten") else column)
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    return np.array(values, dtype=np.str_)


def _reason(error: BaseException) -> str:
    text = f"no {error}" if isinstance(error, KeyError) else str(getattr(error, "strerror", None) or error)
    return " ".join(text.split())[:200]
