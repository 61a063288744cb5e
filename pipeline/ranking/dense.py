"""Exact lists from a model that scores a block of users against all items at once."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.ranking.topk_numpy import ListRequest, TopK, best_of_rows, cells_of
from pipeline.runtime.threads import ThreadPool

__all__ = ["BlockScores", "DenseFinder"]


class BlockScores(Protocol):
    """A model that scores a block of users against all items."""

    @property
    def users_a_block(self) -> int:
        """Users whose scores are in memory at once."""

    def scores(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Scores of all items for the users in `rows`, (n, n_items); the caller may write into them."""


class DenseFinder:
    """Finds the k best items of a model's users, block by block."""

    def __init__(self, model: BlockScores) -> None:
        self._model = model

    def find(self, request: ListRequest) -> TopK:
        """The k best items of each user row. The threads share the memory of one block."""
        lists = request.padding()
        with ThreadPool(request.n_threads) as threads:
            step = max(1, self._model.users_a_block // threads.n_threads)

            def find_block(number: int) -> None:
                block = slice(number * step, (number + 1) * step)
                part = request.part(block)
                scores = self._model.scores(part.rows)
                for cells in part.left_out:
                    scores[cells_of(cells)] = -np.inf
                if request.hidden is not None:
                    scores[:, request.hidden] = -np.inf
                lists.items[block], lists.scores[block] = best_of_rows(scores, request.k)

            n_blocks = -(-request.rows.size // step)
            if n_blocks > 1:
                self.prepare()  # not in each thread
            threads.run(find_block, n_blocks)
        return lists

    def prepare(self) -> None:
        """Do the work of the first call now."""
        self._model.scores(np.zeros(0, np.intp))
