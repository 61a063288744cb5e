"""What the page says of a user: their history, their list, what each place of it comes from, and how it has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from pipeline.interaction_log import Logged
from pipeline.models.ensemble_model import EnsembleModel
from pipeline.models.factor_model import FactorModel
from pipeline.models.item_item_model import ItemItemModel
from pipeline.models.item_snapshot import SEPARATOR
from pipeline.models.rerank_model import RerankModel
from pipeline.models.saved_model import SavedModel
from pipeline.ranking.explain import item_contributions
from pipeline.serving.interactions import Known
from pipeline.serving.lists import FOLD_IN, POPULAR, ListOptions, UserList, list_of
from pipeline.serving.overlay import history_of, raw_score
from pipeline.serving.routes.lists import known_of
from pipeline.serving.served_model import ServedModel
from pipeline.serving.service import Service

__all__ = [
    "Item",
    "Place",
    "Seen",
    "UserView",
    "examples",
    "item_of",
    "listed",
    "search",
    "source_in_words",
    "user_view",
]

PLACES = 10
_MOST_SEEN = 300  # of a history
_BECAUSE = 2  # items of the history that a place names


@dataclass(frozen=True)
class Item:
    """An item in words. Ids are text here: a script would round those of over 2^53.

    known : whether the model has it
    """

    id: str
    title: str
    genres: tuple[str, ...] = ()
    known: bool = True


@dataclass(frozen=True)
class Place:
    """One place of a list.

    Attributes
    ----------
    share : the score beside the list's highest, 0–1
    source : of this item, where a rule has put it there; else ""
    because : titles of the user's own items with the largest parts in the score
    change : places up since before; None for an item that was not in the list; 0 also where there is no before
    """

    rank: int
    item: Item
    score: float
    share: float
    source: str
    because: tuple[str, ...]
    change: int | None = 0


@dataclass(frozen=True)
class Seen:
    """One item of a history.

    Attributes
    ----------
    rating : None where it was watched, or the model does not keep scores
    at : when, of what the model has not read yet; else None
    """

    item: Item
    rating: float | None
    at: datetime | None = None


@dataclass(frozen=True)
class UserView:
    """A user, now.

    Attributes
    ----------
    source : what made the list
    new, old : the history: what the model has not read yet, the latest first; and the best of what it has
    n_seen : items of the whole history
    in_model : whether the model has a row of the user
    readable : whether new interactions can be read
    """

    user: str
    genre: str
    model: str
    source: str
    places: Sequence[Place]
    new: Sequence[Seen]
    old: Sequence[Seen]
    n_seen: int
    in_model: bool
    readable: bool = True


async def user_view(service: Service, user_text: str, genre: str = "", before: Sequence[str] | None = None) -> UserView:
    """What is known of a user, and their list, beside the items of the list of before. Raises Problem."""
    served = service.model.served_for(user_text)
    if service.reader is not None:
        service.reader.look()
    user = served.user(user_text)
    known = known_of(service, served, user)  # here: the log is read by one thread
    # Reasons cost some milliseconds, for which no other request is to wait.
    return await asyncio.to_thread(_view, served, user, known, genre, before)


def listed(service: Service, user_text: str, genre: str = "") -> tuple[str, ...]:
    """The items of the list alone. Raises Problem."""
    served = service.model.served_for(user_text)
    if service.reader is not None:
        service.reader.look()
    user = served.user(user_text)
    made = _list(served, user, known_of(service, served, user), genre)
    return tuple(item.id for item in _items(served, _cols(made)))


def _list(served: ServedModel, user: int | str, known: Known, genre: str) -> UserList:
    options = ListOptions(PLACES, genre or None)
    return list_of(served, user, known.new, options, forgotten=known.forgotten, liked=known.genres)


def _cols(made: UserList) -> NDArray[np.int32]:
    cols: NDArray[np.int32] = made.top.items[0]
    return cols[cols >= 0]


def _view(served: ServedModel, user: int | str, known: Known, genre: str, before: Sequence[str] | None) -> UserView:
    made = _list(served, user, known, genre)
    row = -1 if known.forgotten else served.scorer.users.row(user)
    model, at = _explained_by(served, row, known)
    cols, scores = _cols(made), made.top.scores[0].tolist()
    sources = made.top.sources(made.source)[0].tolist()
    top = max((abs(score) for score in scores[: cols.size]), default=0.0)
    earlier = {item: rank for rank, item in enumerate(before or ())}
    places = []
    for rank, (col, item) in enumerate(zip(cols.tolist(), _items(served, cols), strict=True)):
        change = 0 if before is None else earlier[item.id] - rank if item.id in earlier else None
        because = _because(served, model, at, col) if model is not None else ()
        share = max(0.0, scores[rank] / top) if top else 0.0
        source = sources[rank] if sources[rank] != made.source else ""
        places.append(Place(rank + 1, item, scores[rank], share, source, because, change))
    new = _new(served, known.new)
    old, n_old = _old(served, row, {seen.item.id for seen in new}) if row >= 0 else ([], 0)
    label = served.pointer.label
    return UserView(str(user), genre, label, made.source, places, new, old, len(new) + n_old, row >= 0, known.readable)


# ---- history -------------------------------------------------------------------------------------


def _new(served: ServedModel, new: Sequence[Logged]) -> list[Seen]:
    """One row for each item, as the log has it last."""
    latest: dict[str, Seen] = {}
    for event in new:
        item = item_of(served, event.item_id)
        latest.pop(item.id, None)
        latest[item.id] = Seen(item, event.rating, event.at)
    return list(latest.values())[::-1]


def _old(served: ServedModel, row: int, without: set[str]) -> tuple[list[Seen], int]:
    """What the model has of a user, and of how many items it is."""
    model, snapshot = served.scorer.model, served.snapshot
    own = slice(int(model.seen.indptr[row]), int(model.seen.indptr[row + 1]))
    cols, cells = model.seen.indices[own], model.seen.data[own]
    left_out = [col for item in without if (col := served.scorer.items.row(served.scorer.items.parse(item))) >= 0]
    is_old = ~np.isin(cols, left_out)
    cols, cells = cols[is_old], cells[is_old]
    order = np.lexsort((-snapshot.popularity[cols], -cells.astype(np.float64)))[:_MOST_SEEN]
    scored = model.seen.dtype == np.float32
    values = [raw_score(float(cell), model.meta) if scored else None for cell in cells[order].tolist()]
    seen = [Seen(item, value) for item, value in zip(_items(served, cols[order]), values, strict=True)]
    return seen, int(cols.size)


# ---- reasons in a line ---------------------------------------------------------------------------


def _explained_by(served: ServedModel, row: int, known: Known) -> tuple[SavedModel | None, int]:
    """The model whose scores the list has, and the user's row in it; None where it splits no score into parts."""
    model = served.scorer.model
    if known.new and model.seen.dtype == np.float32:
        history = history_of(model, row, known.new)
        if row < 0 and not history.n_new:
            return None, -1
        model, row = served.scorer.with_cells(history.cells), 0
    if isinstance(model, EnsembleModel | RerankModel) and model.alone is not None:
        model = model.alone
    return (model, row) if row >= 0 and isinstance(model, FactorModel | ItemItemModel) else (None, -1)


def _because(served: ServedModel, model: SavedModel, row: int, col: int) -> tuple[str, ...]:
    split = item_contributions(model, row, col, served.scorer.folding)
    if split is None:
        return ()
    own = model.seen.indices[int(model.seen.indptr[row]) : int(model.seen.indptr[row + 1])]
    largest = np.argsort(-split.parts, kind="stable")[:_BECAUSE]
    return tuple(item.title for item in _items(served, own[largest[split.parts[largest] > 0]]))


# ---- items ---------------------------------------------------------------------------------------


def _items(served: ServedModel, cols: NDArray[np.int32]) -> list[Item]:
    snapshot = served.snapshot
    ids = [str(value) for value in snapshot.ids.values[cols].tolist()]
    titles = ids if snapshot.titles is None else snapshot.titles[cols].tolist()
    genres = [""] * len(ids) if snapshot.genres is None else snapshot.genres[cols].tolist()
    return [
        Item(item, title or f"Item {item}", tuple(filter(None, text.split(SEPARATOR))))
        for item, title, text in zip(ids, titles, genres, strict=True)
    ]


def item_of(served: ServedModel, item_id: int | str) -> Item:
    """An item, in words; of one that nothing is known of, the id."""
    row = served.scorer.items.row(item_id)
    if row >= 0:
        return _items(served, np.array([row], np.int32))[0]
    other = served.other_row(item_id)
    return Item(str(item_id), f"Item {item_id}", (), known=False) if other < 0 else _others(served, [other])[0]


def _others(served: ServedModel, rows: Sequence[int]) -> list[Item]:
    """Items that the model has not, and the snapshot knows."""
    others = served.snapshot.others
    if others is None:
        return []
    texts = zip(
        others.ids.values[rows].tolist(), others.titles[rows].tolist(), others.genres[rows].tolist(), strict=True
    )
    return [
        Item(str(item), title or f"Item {item}", tuple(filter(None, genres.split(SEPARATOR))), known=False)
        for item, title, genres in texts
    ]


def search(served: ServedModel, words: str, most: int) -> list[Item]:
    """Items by words of their title, the most popular first; then those that the model has not yet."""
    found = served.search.find(words, most)
    return [*_items(served, np.array(found.rows, np.int32)), *_others(served, found.others)]


# ---- users to begin with -------------------------------------------------------------------------

_EXAMPLES: WeakKeyDictionary[ServedModel, Mapping[str, str]] = WeakKeyDictionary()


def examples(service: Service, served: ServedModel) -> dict[str, str]:
    """User → what they are an example of. The first of the model, those with most, fewest and middling, and nobody."""
    if served not in _EXAMPLES:
        users, counts = served.scorer.users, np.diff(served.scorer.model.seen.indptr)
        made: dict[str, str] = {}
        if len(users):
            middle = int(np.argpartition(counts, counts.size // 2)[counts.size // 2])
            rows = {"first": 0, "long history": int(counts.argmax()), "middling": middle, "short": int(counts.argmin())}
            for what, row in rows.items():
                made.setdefault(str(users.ids([row]).tolist()[0]), what)
        stranger = str(int(users.values.max()) + 1) if len(users) and users.kind == "int" else "somebody-new"
        _EXAMPLES[served] = {**made, stranger: "nobody knows them yet"}
    return {user: what for user, what in _EXAMPLES[served].items() if not _is_forgotten(service, served, user)}


def _is_forgotten(service: Service, served: ServedModel, user: str) -> bool:
    return known_of(service, served, served.user(user)).forgotten


def source_in_words(view: UserView) -> str:
    """What made the list."""
    kind, _, genre = view.source.partition(":")
    if kind == FOLD_IN:
        return f"{view.model}, with what the user did since"
    if kind != POPULAR:
        return f"{view.model} ({view.source})"
    if view.in_model:  # the model is the one that is called popular
        return f"{view.model}, which lists what is most popular among what the user has not seen"
    why = "the model has none of the user's items" if view.n_seen else "nothing is known of the user"
    return f"what is most popular{f' in {genre}' if genre else ''}, since {why}"
