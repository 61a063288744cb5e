"""GET why an item is recommended, the items like an item, and the users like a user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.models.saved_model import SavedModel
from pipeline.ranking.content import CONTENT
from pipeline.ranking.explain import Explanation, explain
from pipeline.ranking.neighbours import Neighbours, nearest, similar_items, similar_users
from pipeline.ranking.reasons import Reasons, reasons_for
from pipeline.serving.content import Place, content_explanation, item_place, own_items
from pipeline.serving.gate import Scope
from pipeline.serving.interactions import Known
from pipeline.serving.lists import FOLD_IN, POPULAR
from pipeline.serving.overlay import history_of
from pipeline.serving.problems import Code, Problem
from pipeline.serving.routes.get import Answer, Get, json_answer
from pipeline.serving.routes.lists import NOT_READ, USER_ID, forgotten_of, known_of
from pipeline.serving.routes.parameters import Parameter
from pipeline.serving.routes.schemas import EXPLANATION, SIMILAR_ITEMS, SIMILAR_USERS
from pipeline.serving.served_model import ServedModel
from pipeline.serving.service import Service

__all__ = ["explain_routes", "explanation"]

_ITEM_ID = Parameter("item_id", str, "The item.", None, 1, 256, required=True)
_PARTS = Parameter("parts", int, "Parts of each sort, at most: the largest.", 3, 1, 100)
_K = Parameter("k", int, "How many, at most.", 10, 1, 100)
_USER, _ITEM = {"user_id": "The user."}, {"item_id": "The item."}


def explain_routes(service: Service) -> list[Get]:
    """The routes, by path and by query, and their aliases."""

    def reasons(scope: Scope, values: Mapping[str, Any]) -> Answer:
        user, item = _asked(scope, values, "user_id"), _asked(scope, values, "item_id")
        served = service.model.served_for(user)
        return json_answer(explanation(service, served, user, item, values["parts"]), served.served_by)

    def like_item(scope: Scope, values: Mapping[str, Any]) -> Answer:
        served = service.model.served()
        item = served.scorer.items.parse(_asked(scope, values, "item_id"))
        place = item_place(served, item)
        if place.col < 0:
            return _near_items(served, item, nearest(served.content.similarities(place.other), values["k"]), CONTENT)
        return _near_items(served, item, similar_items(served.scorer.model, place.col, values["k"]))

    def like_user(scope: Scope, values: Mapping[str, Any]) -> Answer:
        return _near_users(service, _asked(scope, values, "user_id"), values["k"])

    codes = (Code.UNKNOWN_ITEM, Code.NO_MODEL)
    why = "Why an item is recommended to a user: the parts of its score, and other reasons."
    return [
        Get("/api/v1/explain/{user_id}/{item_id}", why, reasons, EXPLANATION, (_PARTS,), codes,
            path_parameters=_USER | _ITEM),
        Get("/api/ml/explain/{user_id}/{item_id}", why, reasons, EXPLANATION, (_PARTS,), codes,
            path_parameters=_USER | _ITEM),
        Get("/api/v1/explain", why, reasons, EXPLANATION, (USER_ID, _ITEM_ID, _PARTS), codes),
        Get("/api/v1/items/{item_id}/similar", "The items most like an item.", like_item, SIMILAR_ITEMS, (_K,), codes,
            path_parameters=_ITEM),
        Get("/api/v1/items/similar", "The items most like an item.", like_item, SIMILAR_ITEMS, (_ITEM_ID, _K), codes),
        Get("/api/v1/users/{user_id}/similar", "The users most like a user.", like_user, SIMILAR_USERS, (_K,),
            (Code.UNKNOWN_USER, Code.NO_MODEL), path_parameters=_USER),
        Get("/api/v1/users/similar", "The users most like a user.", like_user, SIMILAR_USERS, (USER_ID, _K),
            (Code.UNKNOWN_USER, Code.NO_MODEL)),
    ]  # fmt: skip


def _asked(scope: Scope, values: Mapping[str, Any], name: str) -> str:
    in_path = scope["path_params"].get(name)
    return str(values[name] if in_path is None else in_path)


# ---- why -----------------------------------------------------------------------------------------


def explanation(service: Service, served: ServedModel, user_text: str, item_text: str, n_parts: int) -> dict[str, Any]:
    """The answer: the parts of the score, and other reasons. Raises Problem for an item that nobody has heard of."""
    scorer = served.scorer
    place, user = item_place(served, scorer.items.parse(item_text)), scorer.users.parse(user_text)
    if service.reader is not None:
        service.reader.look()
    known = known_of(service, served, user)
    row = -1 if known.forgotten else scorer.users.row(user)
    head = {"user_id": user, **_named(served, place), "model_version": served.pointer.label}
    head["run_id"] = served.pointer.run_id
    if place.col < 0:
        own = own_items(served, row, known.new)
        body = {**head, **content_explanation(served, service.config, place.other, own, n_parts)}
    else:
        body = {**head, **_of_model(service, served, known, row, place.col, n_parts)}
    if not known.readable:
        body["degraded"] = NOT_READ
    return body


def _of_model(service: Service, served: ServedModel, known: Known, row: int, col: int, n_parts: int) -> dict[str, Any]:
    """The explanation of one of the model's items."""
    scorer, model = served.scorer, served.scorer.model
    source, explained, reasons = scorer.source, None, None
    if row >= 0 and (not known.new or model.seen.dtype != np.float32):
        explained = explain(model, row, col, n_parts, scorer.folding)
        reasons = reasons_for(model, row, col, served.snapshot)
    elif known.new and (history := history_of(model, row, known.new)).n_new:
        now = scorer.with_cells(history.cells)
        source, explained = FOLD_IN, explain(now, 0, col, n_parts, scorer.folding)
        reasons = reasons_for(now, 0, col, served.snapshot, among=model, itself=row)
    return _body(service, served, col, source, explained, reasons)


def _named(served: ServedModel, place: Place) -> dict[str, Any]:
    """The item, with its fields, and under the names of films besides."""
    (item,) = served.items(np.array([place.col], np.int32)) if place.col >= 0 else served.other_items([place.other])
    return {**item, "movie_id": item["item_id"], "movie_title": item.get("title", "")}


def _body(
    service: Service,
    served: ServedModel,
    col: int,
    source: str,
    explained: Explanation | None,
    reasons: Reasons | None,
) -> dict[str, Any]:
    model = served.scorer.model
    if explained is None:  # nobody: the item is as popular for them as for all
        count = int(served.snapshot.popularity[col])
        empty = {"factors": [], "your_items": [], "level": 0.0}
        known = {"source": POPULAR, "score": None, "predicted_rating": None, "confidence": None, "rank": None}
        return {**known, "n_interactions": count, "reasons": _no_reasons(served, col), "contributions": empty}
    options = service.config.options
    return {
        "source": source,
        "score": np.float32(explained.score),  # with the digits of a list
        "predicted_rating": min(max(explained.score, options.min_rating), options.max_rating),
        "calibrated": model.meta.get("fold_in") == "rating",
        "confidence": explained.confidence,
        "rank": explained.rank,
        "n_unseen": explained.n_unseen,
        # Of the model's users; a user who was folded in is none.
        "n_interactions": int(served.snapshot.popularity[col]),
        "reasons": _no_reasons(served, col) if reasons is None else _reasons(served, col, reasons),
        "contributions": _contributions(served, explained),
    }


def _contributions(served: ServedModel, explained: Explanation) -> dict[str, Any]:
    parts = {
        "factors": [{"factor": part.component, "part": part.contribution} for part in explained.factors],
        "your_items": [
            {**_title(served, part.row), "rating": part.score, "part": part.contribution}
            for part in explained.past_items
        ],
        "level": explained.level,
    }
    if explained.members:
        parts["members"] = [{"model": member.name, "part": member.contribution} for member in explained.members]
    return parts


def _reasons(served: ServedModel, col: int, reasons: Reasons) -> dict[str, Any]:
    """Those that there are; how popular the item is where there is none of them, so that one always is."""
    match, users = reasons.genre_match, reasons.other_users
    if not (reasons.similar_items or (match is not None and match.score > 0) or users.count):
        return _no_reasons(served, col)
    return {
        "similar_movies": [
            {**_title(served, item.row), "similarity": item.similarity, "rating": item.score}
            for item in reasons.similar_items
        ],
        "genre_match": None if match is None else {"score": match.score, "genres": match.shares},
        "similar_users": {"count": users.count, "among": users.among, "average": users.average},
    }


def _no_reasons(served: ServedModel, col: int) -> dict[str, Any]:
    return {
        "similar_movies": [],
        "genre_match": None,
        "similar_users": {"count": 0, "among": 0, "average": None},
        "popularity": int(served.snapshot.popularity[col]),
    }


def _title(served: ServedModel, row: int) -> dict[str, Any]:
    snapshot = served.snapshot
    title = "" if snapshot.titles is None else str(snapshot.titles[row])
    return {"item_id": snapshot.ids.values[row].item(), "title": title}


# ---- neighbours ----------------------------------------------------------------------------------


def _near_items(served: ServedModel, item: int | str, near: Neighbours, source: str = "") -> Answer:
    items = served.items(near.rows.astype(np.int32))
    similar = [{**one, "similarity": value} for one, value in zip(items, near.similarities.tolist(), strict=True)]
    body = {"item_id": item, "model_version": served.pointer.label, "run_id": served.pointer.run_id, "items": similar}
    return json_answer({**body, "source": source} if source else body, served.served_by)


def _near_users(service: Service, text: str, k: int) -> Answer:
    served = service.model.served()
    scorer, model = served.scorer, served.scorer.model
    user = scorer.users.parse(text)
    if service.reader is not None:
        service.reader.look()
    known = known_of(service, served, user)
    row = -1 if known.forgotten else scorer.users.row(user)
    of: SavedModel = model
    at = row
    if known.new and (history := history_of(model, row, known.new)).n_new and model.seen.dtype == np.float32:
        of, at = scorer.with_cells(history.cells), 0
    if at < 0:
        raise Problem(Code.UNKNOWN_USER, f"Nothing is known of user {text[:80]!r}")
    similar: list[dict[str, Any]] = []
    asked = k
    while True:  # the forgotten are nobody's neighbours, so that more may have to be asked for
        near = similar_users(of, at, asked, among=model, itself=row)
        ids = scorer.users.ids(near.rows).tolist()
        gone = forgotten_of(service, ids)
        pairs = zip(ids, near.similarities.tolist(), strict=True)
        similar = [{"user_id": other, "similarity": value} for other, value in pairs if other not in gone][:k]
        if len(similar) == k or len(ids) < asked:
            break
        asked *= 2
    body = {"user_id": user, "model_version": served.pointer.label, "run_id": served.pointer.run_id, "users": similar}
    return json_answer(body, served.served_by)
