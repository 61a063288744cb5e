"""A judgement as files that others read: ``per_user.parquet`` to compare runs by, ``summary.json`` to look at.

per_user.parquet, a row a judged user, by user id:

    user_id                        int64 or string
    n_train, n_relevant            int64, interactions known and held out
    segment                        string: cold, warm, hot
    ndcg_at_10, recall_at_10, …    double, the model's metrics of this user; NaN where there is no value
    popular_ndcg_at_10, …          double, a baseline's: ndcg, recall, hit_rate; so recent_…, item_knn_…
    items                          list of int64 or string: the model's ten items, best first
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.judge import Judgement
from pipeline.judged import PER_USER, SUMMARY

__all__ = ["write_judgement"]

_BESIDE = ("ndcg_at_10", "recall_at_10", "hit_rate_at_10", "precision_at_10", "map_at_10", "mrr_at_10")


def write_judgement(judgement: Judgement, data_digest: str, folder: Path) -> Path:
    """Write both files into the folder, which is made; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(_per_user(judgement), folder / Path(PER_USER).name, compression="zstd")
    summary = json.dumps(_summary(judgement, data_digest), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / Path(SUMMARY).name).write_text(summary + "\n")
    return folder


def _per_user(judgement: Judgement) -> pa.Table:
    columns: dict[str, Any] = dict(judgement.evaluations["nmf"].columns())
    for name, evaluation in judgement.evaluations.items():
        if name != "nmf":
            columns |= {f"{name}_{metric}": evaluation.per_user[metric] for metric in _BESIDE}
    return pa.table({**columns, "items": _items(judgement)})


def _items(judgement: Judgement) -> pa.ListArray:
    """Each user's list as external ids; places that are left empty are not there."""
    lists = judgement.evaluations["nmf"].lists
    if lists is None:
        raise ValueError("The model was judged without keeping its lists")
    there = lists >= 0
    ids = judgement.split.train.item_ids.ids(lists[there])
    offsets = np.append(0, np.cumsum(there.sum(axis=1))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids))


def _summary(judgement: Judgement, data_digest: str) -> dict[str, Any]:
    split, lift = judgement.split, judgement.lift
    return {
        "split": {"name": split.name, "params": dict(split.params), "digest": split.digest},
        "data_digest": data_digest,
        "candidates": {name: dict(found.metrics) for name, found in judgement.evaluations.items()},
        "intervals": {name: {"ndcg_at_10": _numbers(found)} for name, found in judgement.intervals.items()},
        "lift_over_popular": _numbers(lift.lift) if lift is not None and lift.lift is not None else None,
        "better_than_popular": judgement.better_than_popular,
        "segments": {
            name: {
                segment: {key: int(value) if key == "n_users" else value for key, value in values.items()}
                for segment, values in found.by_segment.items()
            }
            for name, found in judgement.evaluations.items()
        },
        "ratings": {**judgement.ratings.metrics, **judgement.averages},
        "messages": list(judgement.messages),
    }


def _numbers(values: Iterable[float]) -> list[float | None]:
    """JSON has no infinity: an end that lies there is null."""
    return [value if math.isfinite(value) else None for value in values]
