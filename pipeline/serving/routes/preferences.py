"""GET and PUT the genres that a user likes: their list before they have done anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from pipeline.errors import ForgottenUserError, InvalidInteractionError, ServerError
from pipeline.interaction_log import Preference
from pipeline.serving.gate import Scope
from pipeline.serving.problems import Code, Problem
from pipeline.serving.routes.bodies import Preferences
from pipeline.serving.routes.get import Answer, Get, json_answer
from pipeline.serving.routes.lists import USER_ID
from pipeline.serving.routes.openapi import answers
from pipeline.serving.routes.schemas import PREFERENCES
from pipeline.serving.service import Service

__all__ = ["preference_gets", "preference_puts"]

_PATH, _BY_QUERY = "/api/v1/users/{user_id}/preferences", "/api/v1/users/preferences"
_CODES = (Code.LOG_UNAVAILABLE,)


def preference_gets(service: Service) -> list[Get]:
    """The routes of GET, by path and by query."""

    def by_path(scope: Scope, values: Mapping[str, Any]) -> Answer:
        return _kept(service, scope["path_params"]["user_id"])

    def by_query(scope: Scope, values: Mapping[str, Any]) -> Answer:
        return _kept(service, values["user_id"])

    said = "The genres that a user likes."
    return [
        Get(_PATH, said, by_path, PREFERENCES, (), _CODES, path_parameters={"user_id": "The user."}),
        Get(_BY_QUERY, said, by_query, PREFERENCES, (USER_ID,), _CODES),
    ]


def preference_puts(service: Service) -> APIRouter:
    """The routes of PUT, by path and by query."""
    router = APIRouter()

    async def by_path(user_id: str, body: Preferences) -> Response:
        return await _keep(service, user_id, body)

    async def by_query(user_id: Annotated[str, Query(min_length=1, max_length=256)], body: Preferences) -> Response:
        return await _keep(service, user_id, body)

    for path, put in ((_PATH, by_path), (_BY_QUERY, by_query)):
        router.add_api_route(
            path,
            put,
            methods=["PUT"],
            summary="Keep the genres that a user likes; they are on disk when this answers.",
            responses=answers(PREFERENCES, (Code.UNKNOWN_GENRE, Code.FORGOTTEN_USER, Code.LOG_UNAVAILABLE)),
            operation_id="put_" + path.strip("/").replace("/", "_").replace("{", "").replace("}", ""),
        )
    return router


def _kept(service: Service, user: str) -> Answer:
    try:
        if service.reader is None:
            raise Problem(Code.LOG_UNAVAILABLE, "The log of new interactions can't be opened")
        user_id, kept = service.reader.preference(user)
    except ServerError as error:
        raise Problem(Code.LOG_UNAVAILABLE, "The log can't be read just now") from error
    return json_answer({"user_id": user_id, "genres": []} if kept is None else _body(kept))


async def _keep(service: Service, user: str, asked: Preferences) -> Response:
    if service.writer is None:
        raise Problem(Code.LOG_UNAVAILABLE, "Nothing was kept: the log of new interactions can't be opened")
    if not user.isprintable():
        raise Problem(Code.INVALID_REQUEST, "user_id must be printable text")
    _check(service, asked.genres)
    try:
        kept = await service.writer.set_preference(user, asked.genres)
    except InvalidInteractionError as error:
        raise Problem(Code.INVALID_REQUEST, str(error)) from None
    except ForgottenUserError as error:
        raise Problem(Code.FORGOTTEN_USER, str(error)) from None
    return Response(json_answer(_body(kept)).body, media_type="application/json")


def _check(service: Service, genres: list[str]) -> None:
    """Raise Problem for a genre that no item of the model has: it would be ignored. Without a model any is taken."""
    try:
        served = service.model.served()
    except Problem:
        return
    for genre in genres:
        served.known_genre(genre)


def _body(kept: Preference) -> dict[str, Any]:
    return {"user_id": kept.user_id, "genres": list(kept.genres), "updated_at": kept.at.isoformat()}
