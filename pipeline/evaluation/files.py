"""The interactions of a published evaluation over ids of the kinds that the training file has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.data.id_map import IdMap, distinct
from pipeline.data.interactions import Interactions
from pipeline.evaluation.sampled_negatives import Negatives

__all__ = ["Files", "as_training_has_them"]

_INTEGER = r"^(?:0|-?[1-9][0-9]{0,18})$"
_SURE = 18  # characters of a number that fits into 64 bits


class Files(NamedTuple):
    """The three, over ids of the same kinds."""

    train: Interactions
    test: Interactions
    negatives: Negatives | None


def as_training_has_them(train: Interactions, test: Interactions, negatives: Negatives | None = None) -> Files:
    """The three over ids of the kinds that `train` has; `train` is not changed.

    Integers become text where training has text. Text becomes integers where training has those: what is no integer
    (not ``007``) is an id that training can't know, and gets an integer that none of the files has.
    """
    users = _Ids(train.user_ids, [test.user_ids.values, *([negatives.users] if negatives else [])])
    items = _Ids(train.item_ids, [test.item_ids.values, *([negatives.items, negatives.negatives] if negatives else [])])
    user_rows, user_ids = users.remapped(test.users, test.user_ids)
    item_rows, item_ids = items.remapped(test.items, test.item_ids)
    test = replace(test, users=user_rows, items=item_rows, user_ids=user_ids, item_ids=item_ids)
    if negatives is not None:
        negatives = replace(
            negatives,
            users=users.converted(negatives.users),
            items=items.converted(negatives.items),
            negatives=items.converted(negatives.negatives),
        )
    return Files(train, test, negatives)


class _Ids:
    """Converts ids to the kind that training has; `others` are all ids that may be converted."""

    def __init__(self, known: IdMap, others: list[NDArray[Any]]) -> None:
        self._kind = known.kind
        self._strange: NDArray[Any] = np.empty(0, "<U1")
        self._stand_ins = np.empty(0, np.int64)
        if known.kind == "str" or all(ids.dtype.kind != "U" for ids in others):
            return
        numbers = [known.values, *(ids for ids in others if ids.dtype.kind != "U")]
        strange = []
        for ids in others:
            if ids.dtype.kind == "U":
                whole = _whole(ids)
                numbers.append(ids[whole].astype(np.int64))
                strange.append(ids[~whole])
        self._strange = distinct(*strange)
        taken = np.concatenate(numbers)
        # As many numbers from 0 on as there are ids: some are free for those that are none.
        free = np.setdiff1d(np.arange(taken.size + self._strange.size), distinct(taken), assume_unique=True)
        self._stand_ins = free[: self._strange.size]

    def converted(self, ids: NDArray[Any]) -> NDArray[Any]:
        """The ids, (n,), in training's kind."""
        if self._kind == "str":
            return ids.astype(str)
        if ids.dtype.kind != "U":
            return ids
        whole = _whole(ids)
        numbers = np.empty(ids.size, np.int64)
        numbers[whole] = ids[whole].astype(np.int64)
        numbers[~whole] = self._stand_ins[np.searchsorted(self._strange, ids[~whole])]
        return numbers

    def remapped(self, codes: NDArray[np.int32], ids: IdMap) -> tuple[NDArray[np.int32], IdMap]:
        """Codes into converted ids, in their order."""
        if ids.kind == self._kind:
            return codes, ids
        values = self.converted(ids.values)
        order = np.argsort(values)
        place = np.empty(order.size, np.int32)
        place[order] = np.arange(order.size, dtype=np.int32)
        return place[codes], IdMap(values[order])


def _whole(ids: NDArray[Any]) -> NDArray[np.bool_]:
    """Which texts are integers of 64 bits as Python would print them, (n,)."""
    texts = pa.array(ids, pa.large_string())
    whole: NDArray[np.bool_] = pc.match_substring_regex(texts, _INTEGER).to_numpy(zero_copy_only=False).copy()
    for position in np.flatnonzero(whole & (np.char.str_len(ids) > _SURE)):
        whole[position] = -(2**63) <= int(ids[position]) < 2**63
    return whole
