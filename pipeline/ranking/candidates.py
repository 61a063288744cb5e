"""Lists of a model that orders the items which a factor model proposes."""

from __future__ import annotations

import numpy as np

from pipeline.models.neural_model import NeuralModel
from pipeline.ranking.topk import Finder
from pipeline.ranking.topk_numpy import ListRequest, TopK, ranked
from pipeline.runtime.threads import ThreadPool

__all__ = ["CandidateFinder"]

_USERS_A_BLOCK = 64


class CandidateFinder:
    """Finds the k best of the factor model's best items, ties by item row.

    The factor model proposes items that the list may hold: seen and hidden ones take no place. For a list that is
    longer than the model's number of candidates it proposes k.
    """

    def __init__(self, model: NeuralModel) -> None:
        self._model = model
        # The kernels find no lists that are so long.
        self._proposals = Finder(model.item_factors, model.user_factors, compiled=False)

    def find(self, request: ListRequest) -> TopK:
        """The k best items of each user row."""
        lists, n_items = request.padding(), len(self._model.items)
        most = min(max(self._model.candidates, request.k), n_items)
        if not most:
            return lists

        def find_block(number: int) -> None:
            block = slice(number * _USERS_A_BLOCK, (number + 1) * _USERS_A_BLOCK)
            part = request.part(block)
            proposed = self.propose(part._replace(k=most, n_threads=1)).items
            of, place = np.nonzero(proposed >= 0)
            items = proposed[of, place].astype(np.intp)
            scores = self._model.network.scores(np.asarray(self._model.user_factors[part.rows]), of, items)
            lists.items[block], lists.scores[block] = ranked(of, items, scores, part.rows.size, request.k)

        n_blocks = -(-request.rows.size // _USERS_A_BLOCK)
        if n_blocks > 1:
            self.prepare()  # not in each thread
        with ThreadPool(request.n_threads if n_blocks > 1 else 1) as threads:
            threads.run(find_block, n_blocks)
        return lists

    def propose(self, request: ListRequest) -> TopK:
        """The k best items of each user row by the factor model."""
        return self._proposals.find(self._model.user_factors, request)

    def prepare(self) -> None:
        """Compute the items' halves of the first layer."""
        _ = self._model.network.item_halves
