"""Made-up evaluations with known answers, in memory and as a training writes them down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.evaluation.metrics import SEGMENTS
from pipeline.evaluation.storage import StoredEvaluation
from pipeline.models.factor_model import FactorModel
from support.processes import Home


def stored_evaluation(
    ndcg: Any,
    popular: Any = 0.1,
    *,
    label: str = "rankline/2",
    users: Any = None,
    segment: Any = None,
    data: str = "d" * 64,
    split: str = "5" * 64,
    name: str = "latest",
    params: dict[str, Any] | None = None,
    items: list[list[Any]] | None = None,
) -> StoredEvaluation:
    """n users with these values; by default ids 0, 1, …, a third of them in each segment, and the list [1, 2]."""
    ndcg = np.asarray(ndcg, float)
    n = ndcg.size
    lists = [[1, 2]] * n if items is None else items
    return StoredEvaluation(
        label,
        name,
        {"share": 0.2, "seed": 42} if params is None else params,
        split,
        data,
        np.arange(n) if users is None else np.asarray(users),
        np.arange(n) + 5,
        (np.arange(n) % 3).astype(np.int8) if segment is None else np.asarray(segment, np.int8),
        {"ndcg_at_10": ndcg, "popular_ndcg_at_10": np.broadcast_to(np.asarray(popular, float), n).copy()},
        np.array([item for items_of_user in lists for item in items_of_user]),
        np.cumsum([len(items_of_user) for items_of_user in lists]),
    )


def write(evaluation: StoredEvaluation, folder: Path) -> Path:
    """The two files, as the contract of a run's artifacts has them."""
    folder.mkdir(parents=True, exist_ok=True)
    lists = np.split(evaluation.items, evaluation.ends[:-1]) if len(evaluation) else []
    table = {
        "user_id": evaluation.user_ids,
        "n_train": evaluation.n_train,
        "n_relevant": np.full(len(evaluation), 2),
        "segment": [SEGMENTS[code] for code in evaluation.segment],
        **evaluation.columns,
        "items": [part.tolist() for part in lists],
    }
    pq.write_table(pa.table(table), folder / "per_user.parquet")
    summary = {
        "split": {
            "name": evaluation.split_name,
            "params": dict(evaluation.split_params),
            "digest": evaluation.split_digest,
        },
        "data_digest": evaluation.data_digest,
        "candidates": {},
        "intervals": {},
        "lift_over_popular": [0.2, 0.1, 0.3],
        "better_than_popular": "yes",
        "segments": {},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def add_version(
    home: Home, model: FactorModel, evaluation: StoredEvaluation | None, name: str = "NMF k=3"
) -> tuple[str, str]:
    """A finished run with the model's artifacts and, unless None, its evaluation; its id, and its version."""
    client = home.client()
    experiment = client.get_experiment_by_name("rankline")
    run = client.create_run(experiment.experiment_id, run_name=name)
    run_id = run.info.run_id
    folder = home.folder / "artifacts" / run_id / "artifacts"
    model.save(folder)
    if evaluation is not None:
        write(evaluation, folder / "evaluation")
    client.set_terminated(run_id)
    if not client.search_registered_models("name = 'rankline'"):
        client.create_registered_model("rankline")
    version = client.create_model_version("rankline", folder.as_uri(), run_id=run_id)
    return run_id, str(version.version)
