"""`Ranker`: what can be evaluated and published: a `Scorer`, or any class with its methods.

Lists are sorted by exact score, ties by item id, and are the same for any block size.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.models.protocols import Model
from pipeline.ranking.scorer import TopK

__all__ = ["Model", "Ranker"]


class Ranker(Protocol):
    """Ranks items for user rows; `Scorer` is one."""

    source: str

    @property
    def model(self) -> Model:
        """The model that scores the items."""

    @property
    def users(self) -> IdMap:
        """Ids of the users that can be ranked for."""

    @property
    def items(self) -> IdMap:
        """Ids of the items that can be recommended."""

    def recommend_rows(
        self,
        rows: ArrayLike,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        also_seen: sparse.csr_matrix | None = None,
        allow: NDArray[np.int32] | None = None,
        deny: NDArray[np.int32] | None = None,
    ) -> TopK:
        """The k best items of each user row, by score, ties by item id; arguments as `Scorer.recommend_rows`."""
