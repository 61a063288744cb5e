"""`Judged`: how a run's model fared on what was held out, user by user, as the run's artifacts have it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtifactError, UsageError
from pipeline.metrics import SEGMENTS

__all__ = ["PER_USER", "SUMMARY", "Judged", "read_judged"]

FOLDER = "evaluation"
PER_USER, SUMMARY = f"{FOLDER}/per_user.parquet", f"{FOLDER}/summary.json"
_KEYS = ("user_id", "n_train", "n_relevant", "segment", "items")
POPULAR = "popular_"


@dataclass(frozen=True, eq=False)
class Judged:
    """Attributes
    ----------
    label : what to call it in a message
    split_name, split_params, split_digest : by what it was judged
    data_digest : of what it was trained on
    user_ids : (n,) ascending
    n_train : (n,) training interactions of each
    segment : (n,) int8, position in `metrics.SEGMENTS`
    columns : metric → (n,) float64, NaN where a user has no such value; a baseline's begin with its name
    items : (total,) ids of all lists, one user after the other, best first
    ends : (n,) where each user's list ends in `items`
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

    def __len__(self) -> int:
        return int(self.user_ids.size)

    def metric(self, name: str) -> NDArray[np.float64]:
        """The model's values, (n,). Raises UsageError naming those there are."""
        if name not in self.columns:
            raise UsageError(f"{self.label} has no metric {name!r} of each user; it has {', '.join(self.columns)}")
        return self.columns[name]

    def popular(self, name: str) -> NDArray[np.float64]:
        """Most popular's values for the same users, (n,)."""
        return self.metric(POPULAR + name)


def read_judged(folder: Path, label: str) -> Judged:
    """The two files of a run's `evaluation`, from the folder that holds them.

    Raises ArtifactError where one can't be read, or lacks something.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        summary = json.loads((folder / Path(SUMMARY).name).read_text())
        split = summary["split"]
        name, params = str(split["name"]), dict(split["params"])
        split_digest, data_digest = str(split["digest"]), str(summary["data_digest"])
        table = pq.read_table(folder / Path(PER_USER).name)
        table.validate(full=True)  # a code past its dictionary would be read past its end
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise ArtifactError(f"The evaluation of {label} can't be read ({_reason(error)}); train again") from None
    if missing := [key for key in _KEYS if key not in table.column_names]:
        raise ArtifactError(f"{PER_USER} of {label} has no column {missing[0]!r}; train again")
    try:
        order = np.argsort(user_ids := _ids(table["user_id"]), kind="stable")
        lists = table["items"].combine_chunks().take(pa.array(order))
        columns = {
            key: np.asarray(table[key].to_numpy(), np.float64)[order]
            for key in table.column_names
            if key not in _KEYS and pa.types.is_floating(table.schema.field(key).type)
        }
        segment = np.array([SEGMENTS.index(one) for one in table["segment"].to_pylist()], np.int8)[order]
        n_train = np.asarray(table["n_train"].to_numpy(), np.int64)[order]
        ends = np.cumsum([len(one) if one is not None else 0 for one in lists.to_pylist()], dtype=np.int64)
        items = _ids(lists.flatten())
    except (ValueError, TypeError, AttributeError, pa.ArrowException) as error:
        raise ArtifactError(f"{PER_USER} of {label} can't be read ({_reason(error)}); train again") from None
    user_ids = user_ids[order]
    if bool((user_ids[1:] == user_ids[:-1]).any()):
        raise ArtifactError(f"{PER_USER} of {label} has a user twice; train again")
    return Judged(label, name, params, split_digest, data_digest, user_ids, n_train, segment, columns, items, ends)


def _ids(column: Any) -> NDArray[Any]:
    values = np.asarray(column.to_numpy(zero_copy_only=False) if hasattr(column, "flatten") else column)
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    return np.array(values, dtype=np.str_)


def _reason(error: BaseException) -> str:
    text = f"no {error}" if isinstance(error, KeyError) else str(getattr(error, "strerror", None) or error)
    return " ".join(text.split())[:200]
