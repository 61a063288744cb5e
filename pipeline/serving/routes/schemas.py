"""JSON Schemas of answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

__all__ = [
    "ACCEPTED",
    "BATCH",
    "EMBEDDING",
    "EXPLANATION",
    "HEALTH",
    "ID",
    "INFORMATION",
    "ITEMS",
    "PREDICTIONS",
    "PREFERENCES",
    "PROBLEM",
    "READY",
    "SIMILAR_ITEMS",
    "SIMILAR_USERS",
    "STATUS",
    "USER_LIST",
]

ID: dict[str, Any] = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
_FIELDS: dict[str, Any] = {
    "item_id": ID,
    "title": {"type": "string"},
    "genres": {"type": "array", "items": {"type": "string"}},
    "popularity": {"type": "integer"},
}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


_VERSION = {"model_version": {"type": "string"}, "run_id": {"type": "string"}}
_LISTED = {
    "type": "array",
    "items": _object(
        ["rank", "item_id", "score"],
        rank={"type": "integer"},
        score={"type": "number"},
        source={"type": "string", "description": "promoted or promoted:<label>, where a rule put the item there"},
        **_FIELDS,
    ),
}
USER_LIST = _object(
    ["user_id", "model_version", "run_id", "source", "recommendations"],
    user_id=ID,
    **_VERSION,
    source={
        "type": "string",
        "description": "the model's name, fold_in, popular or popular:<genre>|<genre>",
    },
    recommendations=_LISTED,
    unknown_items={"type": "array", "items": ID},
    degraded={"type": "string", "description": "there where new interactions can't be read"},
)
ITEMS = _object(
    ["model_version", "items"],
    **_VERSION,
    items={
        "type": "array",
        "items": _object(
            ["item_id", "popularity"],
            **_FIELDS,
            in_model={"const": False, "description": "of an item that the model has not yet"},
        ),
    },
)
STATUS = _object(["status"], status={"type": "string"})
READY = _object(["status", "model_version"], status={"type": "string"}, **_VERSION)
HEALTH = _object(["status"], status={"enum": ["ok", "degraded"]})
INFORMATION = _object(["service", "version"], service={"type": "string"}, version={"type": "string"})
PROBLEM = _object(
    ["type", "title", "status", "code", "detail", "request_id"],
    type={"type": "string"},
    title={"type": "string"},
    status={"type": "integer"},
    code={"type": "string"},
    detail={"type": "string"},
    request_id={"type": "string"},
)
ACCEPTED = _object(
    ["accepted", "seq", "duplicate"],
    accepted={"type": "integer"},
    seq={"type": "integer", "description": "the last interaction's place in the log"},
    duplicate={"type": "boolean"},
)
PREFERENCES = _object(
    ["user_id", "genres"],
    user_id=ID,
    genres={"type": "array", "items": {"type": "string"}},
    updated_at={"type": "string", "format": "date-time", "description": "there where genres were kept"},
)
_ONE_OF_SEVERAL = {key: value for key, value in USER_LIST["properties"].items() if key not in _VERSION}
BATCH = _object(
    ["model_version", "run_id", "lists"],
    **_VERSION,
    lists={"type": "array", "items": _object(["source", "recommendations"], **_ONE_OF_SEVERAL)},
)
EMBEDDING = _object(
    ["user_id", "model_version", "run_id", "source", "embedding"],
    user_id=ID,
    **_VERSION,
    source={"type": "string", "description": "the model's name, or fold_in"},
    embedding={"type": "array", "items": {"type": "number"}},
    degraded={"type": "string", "description": "there where new interactions can't be read"},
)
_NUMBER = {"type": ["number", "null"]}
PREDICTIONS = _object(
    ["user_id", "model_version", "run_id", "source", "calibrated", "predictions"],
    user_id=ID,
    **_VERSION,
    source={"type": "string"},
    calibrated={"type": "boolean", "description": "whether the model estimates ratings"},
    predictions={
        "type": "array",
        "items": _object(
            ["item_id", "score", "predicted_rating"],
            score=_NUMBER,
            predicted_rating=_NUMBER,
            source={"type": "string", "description": "content, for an item that the model has not"},
            **_FIELDS,
        ),
    },
)
_TITLED: dict[str, Any] = {"item_id": ID, "title": {"type": "string"}}
EXPLANATION = _object(
    ["user_id", "item_id", "model_version", "run_id", "source", "score", "confidence", "reasons", "contributions"],
    user_id=ID,
    **_FIELDS,
    movie_id=ID,
    movie_title={"type": "string"},
    **_VERSION,
    source={"type": "string", "description": "the model's name, fold_in, popular or content"},
    score=_NUMBER,
    predicted_rating=_NUMBER,
    calibrated={"type": "boolean"},
    confidence={**_NUMBER, "description": "share of the user's other unseen items that score lower"},
    rank={"type": ["integer", "null"]},
    n_unseen={"type": "integer"},
    n_interactions={"type": "integer"},
    reasons=_object(
        ["similar_movies", "genre_match", "similar_users"],
        similar_movies={
            "type": "array",
            "items": _object(["item_id", "similarity"], **_TITLED, similarity=_NUMBER, rating=_NUMBER),
        },
        genre_match={"anyOf": [_object(["score", "genres"], score=_NUMBER, genres={"type": "object"}),
                               {"type": "null"}]},
        similar_users=_object(["count"], count={"type": "integer"}, among={"type": "integer"}, average=_NUMBER),
        popularity={"type": "integer"},
        content=_object(
            ["genres", "tags"],
            genres={"type": "array", "items": {"type": "string"}},
            tags={"type": "array", "items": {"type": "string"}},
        ),
    ),
    contributions=_object(
        ["factors", "your_items"],
        factors={"type": "array", "items": _object(["factor", "part"], factor={"type": "integer"}, part=_NUMBER)},
        your_items={"type": "array", "items": _object(["item_id", "part"], **_TITLED, rating=_NUMBER, part=_NUMBER)},
        members={"type": "array", "items": _object(["model", "part"], model={"type": "string"}, part=_NUMBER)},
        level=_NUMBER,
    ),
)  # fmt: skip
SIMILAR_ITEMS = _object(
    ["item_id", "model_version", "items"],
    item_id=ID,
    source={"type": "string", "description": "content, for an item that the model has not"},
    **_VERSION,
    items={"type": "array", "items": _object(["item_id", "similarity"], **_FIELDS, similarity=_NUMBER)},
)
SIMILAR_USERS = _object(
    ["user_id", "model_version", "users"],
    user_id=ID,
    **_VERSION,
    users={"type": "array", "items": _object(["user_id", "similarity"], user_id=ID, similarity=_NUMBER)},
)
