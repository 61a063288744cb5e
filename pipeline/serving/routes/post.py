"""POST: interactions that are kept, lists of several users or of a session, scores of given items."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Header, Request, Response

from pipeline.errors import ForgottenUserError, IdempotencyConflictError, InvalidInteractionError
from pipeline.interaction_log import Accepted, Batch, Interaction, Logged
from pipeline.interaction_log.columns import AHEAD_MS
from pipeline.ranking.content import CONTENT
from pipeline.serving.arms import Arms, exposure, shown_in
from pipeline.serving.content import content_prediction, item_place, own_items
from pipeline.serving.gate import Scope, key_of, request_id_of
from pipeline.serving.lists import ListOptions, as_object, list_of, scores_of, session_list
from pipeline.serving.problems import Code, Problem
from pipeline.serving.routes.bodies import BatchRequest, NewInteraction, NewInteractions, PredictRequest
from pipeline.serving.routes.get import json_answer
from pipeline.serving.routes.lists import NOT_READ, forgotten_of, known_of
from pipeline.serving.routes.openapi import answers
from pipeline.serving.routes.schemas import ACCEPTED, BATCH, PREDICTIONS
from pipeline.serving.served_model import ServedModel
from pipeline.serving.service import Service

__all__ = ["keep", "post_routes"]

MOST_ITEMS, MOST_FOLDED = 5_000, 200  # in the lists of one request; users who are folded in for it
_LATEST = timedelta(milliseconds=AHEAD_MS)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def post_routes(service: Service) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.post(
        "/api/v1/interactions",
        status_code=201,
        summary="Keep one or up to 1,000 interactions; they are on disk when this answers.",
        responses=answers(ACCEPTED, (Code.IDEMPOTENCY_CONFLICT, Code.FORGOTTEN_USER, Code.LOG_UNAVAILABLE), 201, 200),
    )
    async def interactions(
        request: Request,
        body: NewInteractions,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=256)] = None,
    ) -> Response:
        batch = body if isinstance(body, list) else [body]
        accepted = await keep(service, batch, key_of(request.scope), idempotency_key or "")
        answer = {"accepted": accepted.count, "seq": accepted.last_seq, "duplicate": accepted.duplicate}
        return _response(answer, 200 if accepted.duplicate else 201)

    @router.post(
        "/api/v1/recommendations",
        summary="Lists of up to 1,000 users, or the list of a session, of which nothing is kept.",
        responses=answers(BATCH, (Code.UNKNOWN_GENRE, Code.NO_MODEL)),
    )
    async def recommendations(request: Request, body: BatchRequest) -> Response:
        return await _lists(service, request.scope, body)

    async def predict(body: PredictRequest) -> Response:
        return _predict(service, body)

    for path in ("/api/v1/predict", "/api/ml/predict"):
        router.add_api_route(
            path,
            predict,
            methods=["POST"],
            summary="Scores of given items for a user.",
            responses=answers(PREDICTIONS, (Code.UNKNOWN_ITEM, Code.NO_MODEL)),
            operation_id=path.strip("/").replace("/", "_"),
        )
    return router


# ---- interactions --------------------------------------------------------------------------------


async def keep(service: Service, batch: list[NewInteraction], key_id: str, idempotency_key: str) -> Accepted:
    """Keep interactions; they are on disk when this returns. Raises Problem."""
    if service.writer is None:
        raise Problem(Code.LOG_UNAVAILABLE, "Nothing was kept: the log of new interactions can't be opened")
    _check(service, batch)
    rows = [
        Interaction(event.user_id, event.item_id, event.rating, event.at, event.request_id or "") for event in batch
    ]
    try:
        accepted = await service.writer.append(Batch(rows, key_id, idempotency_key))
    except InvalidInteractionError as error:
        raise Problem(Code.INVALID_REQUEST, str(error)) from None
    except ForgottenUserError as error:
        raise Problem(Code.FORGOTTEN_USER, str(error)) from None
    except IdempotencyConflictError as error:
        raise Problem(Code.IDEMPOTENCY_CONFLICT, str(error)) from None
    if not accepted.duplicate:
        service.metrics.interactions.inc(accepted.count)
    return accepted


def _check(service: Service, batch: list[NewInteraction]) -> None:
    """Raise Problem for a rating outside the scale, or a time that has not come."""
    low, high = service.config.options.min_rating, service.config.options.max_rating
    latest = datetime.now(UTC) + _LATEST
    for place, event in enumerate(batch):
        where = f"[{place}]." if len(batch) > 1 else ""
        if event.rating is not None and not low <= event.rating <= high:
            raise Problem(Code.INVALID_REQUEST, f"{where}rating must be from {low:g} to {high:g}, got {event.rating:g}")
        if event.at is not None and not _EPOCH <= event.at <= latest:
            raise Problem(Code.INVALID_REQUEST, f"{where}timestamp is before 1970 or has not come yet")


# ---- lists ---------------------------------------------------------------------------------------


async def _lists(service: Service, scope: Scope, asked: BatchRequest) -> Response:
    served, arms = service.model.served(), service.model.arms
    if asked.user_ids is not None and len(asked.user_ids) * asked.k > MOST_ITEMS:
        raise Problem(Code.INVALID_REQUEST, f"user_ids × k must be at most {MOST_ITEMS:,} items in one request")
    options = ListOptions(
        asked.k,
        asked.genre,
        asked.exclude_seen,
        allow=None if asked.allow is None else tuple(asked.allow),
        deny=tuple(asked.deny or ()),
        max_per_genre=asked.max_per_genre,
        max_per_series=asked.max_per_series,
    )
    if asked.interactions is not None:
        session = [Logged(0, "", event.item_id, event.rating, _EPOCH, _EPOCH) for event in asked.interactions]
        lists = [as_object(served, session_list(served, session, options), {})]
    elif arms is not None:
        begun = time.perf_counter_ns()
        lists = await _lists_of_users(service, served, arms, asked.user_ids or [], options)
        _expose(service, arms, lists, request_id_of(scope), begun)
    else:
        lists = await _lists_of_users(service, served, None, asked.user_ids or [], options)
    if arms is None or asked.interactions is not None:  # else each list says which version made it
        for one in lists:
            one.pop("model_version"), one.pop("run_id")
    head = {"model_version": served.pointer.label, "run_id": served.pointer.run_id}
    return _response({**head, "lists": lists}, served=served)


async def _lists_of_users(
    service: Service, served: ServedModel, arms: Arms | None, users: list[int | str], options: ListOptions
) -> list[dict[str, Any]]:
    if service.reader is not None:
        service.reader.look()
    by = [(user, served if arms is None else arms.of(user).served) for user in map(served.user, users)]
    known = [(user, model, known_of(service, model, user)) for user, model in by]
    if sum(bool(of.new) for _, _, of in known) > MOST_FOLDED:
        raise Problem(
            Code.INVALID_REQUEST, f"More than {MOST_FOLDED} of these users have new interactions: ask for fewer at once"
        )

    def make() -> list[dict[str, Any]]:
        return [
            as_object(
                model,
                list_of(model, user, of.new, options, forgotten=of.forgotten, liked=of.genres),
                {"user_id": user} if of.readable else {"user_id": user, "degraded": NOT_READ},
            )
            for user, model, of in known
        ]

    # Many lists would keep other requests waiting.
    return await asyncio.to_thread(make) if len(users) > 8 else make()


def _expose(service: Service, arms: Arms, lists: list[dict[str, Any]], request_id: str, begun: int) -> None:
    """Note what each user was shown; not of those who were forgotten."""
    users = [one["user_id"] for one in lists]
    gone = forgotten_of(service, users)
    for user, one in zip(users, lists, strict=True):
        if user not in gone:
            shown = shown_in(arms.of(user), one["recommendations"])
            service.exposures.add(exposure(arms, shown, request_id, user, one["source"], 200, begun))


# ---- scores --------------------------------------------------------------------------------------


def _predict(service: Service, asked: PredictRequest) -> Response:
    served = service.model.served_for(asked.user_id)
    scorer, options = served.scorer, service.config.options
    places = [item_place(served, item) for item in asked.items]
    if service.reader is not None:
        service.reader.look()
    user = served.user(asked.user_id)
    known = known_of(service, served, user)
    row = -1 if known.forgotten else scorer.users.row(user)
    cols = np.array([place.col for place in places if place.col >= 0], np.int32)
    source, scores = scores_of(served, row, known.new, cols)
    calibrated = scores is not None and scorer.model.meta.get("fold_in") == "rating"
    of_model = []
    for place, item in enumerate(served.items(cols)):
        score = None if scores is None else scores[place]
        rating = None if score is None else min(max(float(score), options.min_rating), options.max_rating)
        of_model.append({**item, "score": score, "predicted_rating": rating})
    if cols.size < len(places):
        source = source if cols.size else CONTENT
        own = own_items(served, row, known.new)
    given = iter(of_model)
    predictions = [
        next(given) if place.col >= 0 else content_prediction(served, service.config, place.other, own)
        for place in places
    ]
    body = {
        "user_id": user,
        "model_version": served.pointer.label,
        "run_id": served.pointer.run_id,
        "source": source,
        "calibrated": calibrated and bool(cols.size),
        "predictions": predictions,
    }
    if not known.readable:
        body["degraded"] = NOT_READ
    return _response(body, served=served)


def _response(body: dict[str, Any], status: int = 200, served: ServedModel | None = None) -> Response:
    headers = {}
    if served is not None:
        version, manifest = served.served_by
        headers = {"X-Model-Version": version.decode("latin-1"), "X-Manifest": manifest.decode()}
    return Response(json_answer(body).body, status, headers, "application/json")
