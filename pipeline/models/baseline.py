"""What can be recommended where no model can be loaded: the most popular items, from a snapshot of items alone."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.models.item_snapshot import ItemSnapshot
from pipeline.models.popularity_model import PopularityModel

__all__ = ["BASELINE", "popular_baseline"]

BASELINE = "baseline"  # in metadata: true of such a model


def popular_baseline(snapshot: ItemSnapshot) -> PopularityModel:
    """A model without users, whose scores are the numbers of interactions in the snapshot."""
    n = len(snapshot.ids)
    scores = snapshot.popularity.astype(np.float32)
    nobody = sparse.csr_matrix((0, n), dtype=np.float32)
    return PopularityModel(scores, IdMap(np.zeros(0, np.int64)), snapshot.ids, nobody, {BASELINE: True})
