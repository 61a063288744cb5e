"""What is served while no model can be loaded: the most popular of the items that the last good version had.

The agent keeps the items of the version that is served, with titles, genres and numbers of interactions, beside the
versions. A worker that has nothing else answers from them; health then says that it is degraded.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace

import numpy as np

from pipeline.errors import ArtifactError
from pipeline.models.baseline import BASELINE, popular_baseline
from pipeline.models.item_snapshot import ItemSnapshot
from pipeline.models.model_files import METADATA
from pipeline.models.popularity_model import PopularityModel
from pipeline.models.saved_model import load_item_snapshot
from pipeline.ranking.genres import GenreSource
from pipeline.ranking.scorer import Scorer
from pipeline.serving.live_folder import LiveFolder, Pointer
from pipeline.serving.served_model import Scale, ServedModel

__all__ = ["keep_items", "load_baseline"]

_OF = "items_of"  # in metadata: the digest of the version that the items are of


def keep_items(folder: LiveFolder, pointer: Pointer) -> None:
    """Keep the items of a version, unless they are kept. Raises ArtifactError, OSError."""
    with suppress(ArtifactError):
        if PopularityModel.load(folder.baseline).meta.get(_OF) == pointer.digest:
            return
    snapshot = load_item_snapshot(folder.model_folder(pointer.digest))
    if snapshot is None:  # saved before there were snapshots
        return
    model = popular_baseline(snapshot)
    replace(model, meta={**model.meta, _OF: pointer.digest}).save(folder.baseline, snapshot.texts)


def load_baseline(
    folder: LiveFolder, name: str, fields: tuple[str, ...], cache_bytes: int, scale: Scale | None = None
) -> ServedModel:
    """What is popular, as a version of the registered model `name`. Raises ArtifactError where nothing is kept."""
    model = PopularityModel.load(folder.baseline)
    if model.meta.get(BASELINE) is not True:
        raise ArtifactError(f"{folder.baseline} holds no items")
    texts = load_item_snapshot(folder.baseline)
    counts = model.item_scores.astype(np.int64)
    snapshot = ItemSnapshot.of_counts(model.items, counts, None if texts is None else texts.texts)
    digest = hashlib.sha256((folder.baseline / METADATA).read_bytes()).hexdigest()
    pointer = Pointer(digest, name, BASELINE, "", False, 0)
    scorer = Scorer(model)
    scorer.genre_source = GenreSource(lambda: snapshot)
    return ServedModel(pointer, scorer, snapshot, fields, cache_bytes, scale)
