"""`Ranker`: what can be judged and published: a `Scorer`, or anything that ranks as it does.

Lists are by score, ties by item id, both exact, and the same for any block size.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pipeline.ids import IdMap
from pipeline.scorer import TopK

__all__ = ["Model", "Ranker"]


class Model(Protocol):
    """What a ranker ranks by: `FactorModel`, `ItemKNN`, …"""

    @property
    def users(self) -> IdMap:
        """Ids of the users that can be ranked for."""

    @property
    def items(self) -> IdMap:
        """Ids of the items that can be recommended."""

    @property
    def seen(self) -> sparse.csr_matrix:
        """csr (n_users, n_items); a stored cell is a seen item, whatever its value."""

    def predict(self, user_rows: ArrayLike, item_rows: ArrayLike) -> NDArray[np.float32]:
        """Score of each pair (user_rows[i], item_rows[i]), (n,)."""


class Ranker(Protocol):
    """Ranks items for users, by row; `Scorer` is one."""

    source: str

    @property
    def model(self) -> Model:
        """What it ranks by."""

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
