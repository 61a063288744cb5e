"""One user's list, now: by the model's own row, folded in with what they did since, or what is popular."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from pipeline.data.id_map import distinct
from pipeline.errors import InputError
from pipeline.models.item_snapshot import SEPARATOR
from pipeline.models.saved_model import SavedModel
from pipeline.ranking.scorer import Scorer
from pipeline.ranking.topk import TopK
from pipeline.serving.overlay import History, Interaction, history_of
from pipeline.serving.problems import Code, Problem
from pipeline.serving.served_model import ServedModel

__all__ = [
    "FOLD_IN",
    "POPULAR",
    "ListOptions",
    "UserList",
    "allowed_rows",
    "as_json",
    "as_object",
    "limited",
    "list_of",
    "popular_list",
    "scores_of",
    "session_list",
]

POPULAR, FOLD_IN = "popular", "fold_in"


class ListOptions(NamedTuple):
    """What is asked of a list. `allow` and `deny` are ids; those that the model does not know are ignored.

    `max_per_genre` and `max_per_series` are how many items of one genre, or series, it may hold; None for any number.
    """

    k: int = 10
    genre: str | None = None
    exclude_seen: bool = True
    unknown: Literal["popular", "error"] = "popular"
    allow: tuple[int | str, ...] | None = None
    deny: tuple[int | str, ...] = ()
    max_per_genre: int | None = None
    max_per_series: int | None = None


@dataclass(frozen=True, eq=False)
class UserList:
    """Attributes
    ----------
    source : the model's name, ``fold_in``, ``popular`` or ``popular:<genre>``, of several genres with | between them
    top : item rows and scores, of one row
    unknown_items : new interactions' items that the model does not have
    """

    source: str
    top: TopK
    unknown_items: tuple[int | str, ...] = ()


def list_of(
    served: ServedModel,
    user: int | str,
    new: Sequence[Interaction],
    options: ListOptions,
    *,
    forgotten: bool = False,
    liked: Sequence[str] = (),
) -> UserList:
    """The list of a user with these new interactions; a user who was forgotten is unknown.

    liked : genres that the user likes, for a list before they have done anything; those of no item are ignored

    Raises Problem for a user of whom nothing is known, if that is asked.
    """
    row = -1 if forgotten else served.scorer.users.row(user)
    return _list(served, row, new, options, f"Nothing is known of user {user!r}", liked)


def session_list(served: ServedModel, new: Sequence[Interaction], options: ListOptions) -> UserList:
    """The list of somebody of whom only these interactions are known."""
    return _list(served, -1, new, options, "The model has none of these items")


def _list(
    served: ServedModel,
    row: int,
    new: Sequence[Interaction],
    options: ListOptions,
    unknown: str,
    liked: Sequence[str] = (),
) -> UserList:
    scorer = limited(served, options)
    k = min(options.k, max(1, len(scorer.items)))
    allow, deny = allowed_rows(served, options)
    if row >= 0 and not new:
        top = scorer.recommend_rows([row], k, exclude_seen=options.exclude_seen, allow=allow, deny=deny)
        return UserList(scorer.source, top)
    history = history_of(scorer.model, row, new) if new else None
    if history is None or (row < 0 and not history.n_new):
        if options.unknown == "error":
            raise Problem(Code.UNKNOWN_USER, unknown)
        left_out = () if history is None else history.unknown
        source, allow = _popular(served, options, allow, liked)
        return UserList(source, popular_list(scorer, k, allow, deny), left_out)
    source = _popular(served, options, allow, ())[0] if served.is_baseline else FOLD_IN
    return UserList(source, _folded(scorer, row, history, options, allow, deny), history.unknown)


def limited(served: ServedModel, options: ListOptions) -> Scorer:
    """The scorer, under the limits that are asked for. Raises Problem where the items have no genres, or no series."""
    if options.max_per_genre is None and options.max_per_series is None:
        return served.scorer
    try:
        return served.scorer.limited(options.max_per_genre, options.max_per_series)
    except InputError as error:
        raise Problem(Code.INVALID_REQUEST, str(error)) from None


def _folded(
    scorer: Scorer,
    row: int,
    history: History,
    options: ListOptions,
    allow: NDArray[np.int32] | None,
    deny: NDArray[np.int32] | None,
) -> TopK:
    k = min(options.k, max(1, len(scorer.items)))
    if row >= 0 and scorer.model.seen.dtype != np.float32:
        # Of before scores were saved: the user keeps their row, and sees nothing twice.
        also = history.cells if options.exclude_seen else None
        exclude = options.exclude_seen
        return scorer.recommend_rows([row], k, exclude_seen=exclude, also_seen=also, allow=allow, deny=deny)
    return scorer.rank_cells(history.cells, k, exclude_seen=options.exclude_seen, allow=allow, deny=deny)


def popular_list(
    scorer: Scorer, k: int, allow: NDArray[np.int32] | None = None, deny: NDArray[np.int32] | None = None
) -> TopK:
    """The most popular of the allowed items; their scores are numbers of interactions."""
    return scorer.popular_rows(1, min(k, max(1, len(scorer.items))), allow=allow, deny=deny)


def _popular(
    served: ServedModel, options: ListOptions, allow: NDArray[np.int32] | None, liked: Sequence[str]
) -> tuple[str, NDArray[np.int32] | None]:
    """The source of a popular list, and the items it may hold: of the genre that was asked for, else those liked."""
    if options.genre is not None:
        return f"{POPULAR}:{options.genre}", allow
    by_genre = {genre: rows for genre in liked if (rows := served.genre_rows(genre)) is not None}
    if not by_genre:
        return POPULAR, allow
    rows = distinct(*by_genre.values())
    return f"{POPULAR}:{SEPARATOR.join(by_genre)}", rows if allow is None else np.intersect1d(allow, rows)


def allowed_rows(
    served: ServedModel, options: ListOptions
) -> tuple[NDArray[np.int32] | None, NDArray[np.int32] | None]:
    """Sorted item rows to choose from (None: all), and to leave out. Raises Problem for an unknown genre."""
    allow = None if options.allow is None else _rows(served, options.allow)
    if options.genre is not None:
        of_genre = served.known_genre(options.genre)
        allow = of_genre if allow is None else np.intersect1d(allow, of_genre)
    return allow, _rows(served, options.deny) if options.deny else None


def _rows(served: ServedModel, ids: Sequence[int | str]) -> NDArray[np.int32]:
    rows = {served.scorer.items.row(value) for value in ids} - {-1}
    return np.array(sorted(rows), np.int32)


# ---- scores of given items -----------------------------------------------------------------------


def scores_of(
    served: ServedModel, row: int, new: Sequence[Interaction], cols: NDArray[np.int32]
) -> tuple[str, NDArray[np.float32] | None]:
    """What scores the items for the user, and the scores (n,); None for a user of whom nothing is known."""
    model: SavedModel = served.scorer.model
    if row >= 0 and (not new or model.seen.dtype != np.float32):
        return served.scorer.source, model.predict(np.full(cols.size, row), cols)
    history = history_of(model, row, new) if new else None
    if history is None or (row < 0 and not history.n_new):
        return POPULAR, None
    return FOLD_IN, served.scorer.with_cells(history.cells).predict(np.zeros(cols.size, np.intp), cols)


# ---- JSON ----------------------------------------------------------------------------------------


def as_json(served: ServedModel, made: UserList, head: dict[str, Any]) -> bytes:
    """The body of an answer: `head`, then version, source and items."""
    return orjson.dumps(as_object(served, made, head), option=orjson.OPT_SERIALIZE_NUMPY)


def as_object(served: ServedModel, made: UserList, head: dict[str, Any]) -> dict[str, Any]:
    """The answer; scores are float32, which `orjson` writes with as many digits as tell them apart."""
    rows = made.top.items[0]
    items = served.items(rows[rows >= 0])
    scores = made.top.scores[0]
    listed = [{"rank": place + 1, **item, "score": scores[place]} for place, item in enumerate(items)]
    for entry, source in zip(listed, made.top.sources(made.source)[0].tolist(), strict=False):
        if source != made.source:
            entry["source"] = source
    pointer = served.pointer
    body = {
        **head,
        "model_version": pointer.label,
        "run_id": pointer.run_id,
        "source": made.source,
        "recommendations": listed,
    }
    if made.unknown_items:
        body["unknown_items"] = list(made.unknown_items)
    return body
