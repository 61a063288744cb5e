"""`ServedModel`: one version in a worker's memory, under the rules of now, with its own cache of ready answers.

A request takes the reference once and uses nothing else. A swap or new rules make another object, whose cache is
empty, so that nothing is ever cleared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, MutableMapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from pipeline.interaction_log import Newest
from pipeline.models.baseline import BASELINE
from pipeline.models.item_snapshot import ItemSnapshot
from pipeline.models.saved_model import load_item_snapshot
from pipeline.ranking.content import ContentScorer, words_of
from pipeline.ranking.genres import GenreSource
from pipeline.ranking.rules import Rules
from pipeline.ranking.scorer import Scorer
from pipeline.serving.item_search import ItemSearch
from pipeline.serving.live_folder import Pointer
from pipeline.serving.problems import Code, Problem

__all__ = ["ENTRY_BYTES", "CachedAnswer", "Scale", "ServedBy", "ServedModel", "Shown", "load_served"]

Scale = tuple[float, float]
ENTRY_BYTES = 400  # of a key and its place in the cache, besides the answer


class ServedBy(NamedTuple):
    """What made an answer, as its headers say.

    Attributes
    ----------
    version : ``X-Model-Version``: the label
    manifest : ``X-Manifest``: one id of all that decides an answer besides the user and what is asked: the version, its
        files with the items, the rules in force, and the configuration. It is the same in all workers and on all hosts
    """

    version: bytes
    manifest: bytes


class Shown(NamedTuple):
    """What an exposure says of a list in an experiment.

    Attributes
    ----------
    arm : ``a`` or ``b``
    version : the number of the version that made it
    by : what made it
    items : the ids as text, in a JSON list
    """

    arm: str
    version: str
    by: ServedBy
    items: str


class CachedAnswer(NamedTuple):
    """Attributes
    ----------
    body : the answer
    source : what ranked it
    fallback : what stood in for the model's own row, for the metric: ``fold_in`` or ``popular``; "" where nothing did
    user : the user, as the interaction log has them
    seen_to : the last interactions of the log that it knows
    state : the state of the log (`InteractionReader.state`) for which that was found out
    forgotten : whether the user was forgotten then
    genres : those that the user liked then; None where these make no difference to the answer
    shown : of a list in an experiment; None of others
    """

    body: bytes
    source: str
    fallback: str
    user: int | str
    seen_to: Newest
    state: int
    forgotten: bool
    genres: tuple[str, ...] | None = None
    shown: Shown | None = None


class ServedModel:
    """Attributes
    ----------
    pointer : the version
    scorer : ranks under the rules
    snapshot : titles, genres and popularity of the items
    cache : ready answers by path and query
    fields : of items in answers
    scale : the smallest and the largest rating; None where nothing asks for them
    """

    def __init__(
        self,
        pointer: Pointer,
        scorer: Scorer,
        snapshot: ItemSnapshot,
        fields: tuple[str, ...],
        cache_bytes: int,
        scale: Scale | None = None,
    ) -> None:
        self.pointer, self.scorer, self.snapshot = pointer, scorer, snapshot
        self.fields, self.scale, self._cache_bytes = fields, scale, cache_bytes
        self.cache: MutableMapping[Hashable, CachedAnswer] = LRUCache(
            max(1, cache_bytes), getsizeof=lambda answer: len(answer.body) + ENTRY_BYTES
        )
        self._genre_rows: dict[str, NDArray[np.int32]] = {}
        watermark = scorer.model.meta.get("data_watermark")
        self.watermark: Mapping[str, int] = watermark if isinstance(watermark, Mapping) else {}

    @property
    def is_baseline(self) -> bool:
        """Whether there is no model, and what is popular stands in for one."""
        return bool(self.scorer.model.meta.get(BASELINE))

    def under(self, rules: Rules) -> ServedModel:
        """The same model under other rules, with a cache of its own. Raises InputError."""
        return self._again(self.pointer, self.scorer.under(rules))

    def named(self, pointer: Pointer) -> ServedModel:
        """The same model as another version, of the same files, with a cache of its own."""
        return self._again(pointer, self.scorer)

    def _again(self, pointer: Pointer, scorer: Scorer) -> ServedModel:
        served = ServedModel(pointer, scorer, self.snapshot, self.fields, self._cache_bytes, self.scale)
        for name in ("content", "search"):  # of the items alone
            if name in self.__dict__:
                setattr(served, name, getattr(self, name))
        return served

    def store(self, key: Hashable, answer: CachedAnswer) -> None:
        """Keep an answer, if it is not larger than the cache."""
        if len(answer.body) + ENTRY_BYTES <= self._cache_bytes:
            self.cache[key] = answer

    def user(self, given: int | str) -> int | str:
        """A user's id as the model has ids; one that can't be of that kind stays as it is, and is unknown."""
        return self.scorer.users.parse(given)

    @property
    def identity(self) -> bytes:
        """Tells models apart whose lists may differ: by their files, their label, or the rules in force."""
        pointer = self.pointer
        return b"|".join((pointer.digest.encode(), pointer.label.encode(), self._under_rules))

    @cached_property
    def served_by(self) -> ServedBy:
        """What its answers say of it."""
        decides = b"|".join((self.identity, repr(self.scale).encode()))  # the scale decides predictions, and no list
        manifest = hashlib.blake2b(decides, digest_size=8).hexdigest()
        return ServedBy(self.pointer.label.encode("latin-1", "replace"), manifest.encode())

    @cached_property
    def _under_rules(self) -> bytes:
        scorer, digest = self.scorer, hashlib.blake2b(repr(self.fields).encode(), digest_size=16)
        if scorer.hidden is not None:
            digest.update(scorer.hidden.tobytes())
        for promotion in scorer.promotions:
            digest.update(repr((promotion.label, promotion.quota)).encode() + promotion.items.tobytes())
        return digest.digest()

    @cached_property
    def search(self) -> ItemSearch:
        """Finds items by their titles."""
        return ItemSearch(self.snapshot)

    # ---- items ------------------------------------------------------------------------------

    def genre_rows(self, genre: str) -> NDArray[np.int32] | None:
        """Rows of the genre's items, ascending; None for a genre that no item has."""
        if genre not in self.snapshot.genre_names:
            return None
        if genre not in self._genre_rows:
            self._genre_rows[genre] = np.sort(self.snapshot.popular_in(genre))
        return self._genre_rows[genre]

    def known_genre(self, genre: str) -> NDArray[np.int32]:
        """`genre_rows`. Raises Problem for a genre that no item has."""
        rows = self.genre_rows(genre)
        if rows is None:
            known = list(self.snapshot.genre_names)
            said = f"there are {', '.join(known[:30])}" if known else "the model's items have no genres"
            raise Problem(Code.UNKNOWN_GENRE, f"No item has the genre {genre[:80]!r}; {said}")
        return rows

    def items(self, rows: NDArray[np.int32]) -> list[dict[str, Any]]:
        """What answers say of the items in `rows`, (n,), without rank and score."""
        known = self.snapshot
        return self._described(rows, known.ids.values, known.titles, known.genres, known.popularity)

    def other_row(self, item: int | str) -> int:
        """The row of an item outside the model among those that are known; -1 for an unknown one."""
        others = self.snapshot.others
        return -1 if others is None else others.ids.row(item)

    def other_items(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """`items` of items outside the model."""
        others = self.snapshot.others
        if others is None:
            return []
        nobody = np.zeros(len(others.ids), np.int64)
        return self._described(np.array(rows, np.int32), others.ids.values, others.titles, others.genres, nobody)

    @cached_property
    def content(self) -> ContentScorer:
        """Scores items outside the model."""
        return ContentScorer(self.snapshot)

    def _described(
        self,
        rows: NDArray[np.int32],
        ids: NDArray[Any],
        titles: NDArray[np.str_] | None,
        genres: NDArray[np.str_] | None,
        popularity: NDArray[np.int64],
    ) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = [{"item_id": value} for value in ids[rows].tolist()]
        for name in self.fields:
            values: list[Any]
            if name == "popularity":
                values = popularity[rows].tolist()
            elif name == "genres":
                values = [words_of(text) for text in ([""] * len(made) if genres is None else genres[rows].tolist())]
            else:
                values = [""] * len(made) if titles is None else titles[rows].tolist()
            for item, value in zip(made, values, strict=True):
                item[name] = value
        return made


def load_served(
    folder: Path, pointer: Pointer, fields: tuple[str, ...], cache_bytes: int, scale: Scale | None = None
) -> ServedModel:
    """Read and verify a version, and do the work of its first requests now. Raises ArtifactError."""
    scorer = Scorer.load(folder, mapped=True)
    snapshot = load_item_snapshot(folder)
    if snapshot is None:  # saved before there were snapshots
        snapshot = ItemSnapshot.of(scorer.items, scorer.model.seen)
    scorer.genre_source = GenreSource(lambda: snapshot)  # not read from the file a second time
    served = ServedModel(pointer, scorer, snapshot, fields, cache_bytes, scale)
    scorer.prepare()
    if snapshot.others is not None:
        _ = served.content
    if len(scorer.users) and len(scorer.items):
        scorer.recommend_rows([0], 10)
        scorer.rank_cells(scorer.model.seen[:1].astype(np.float32), 10)
        scorer.popular_rows(1, 10)
    return served
