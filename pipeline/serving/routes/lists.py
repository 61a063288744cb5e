"""GET a user's list: the hot route. Ready bytes come from the model's own cache, if nothing has happened since."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from pipeline.serving.arms import Arms, exposure, shown_in
from pipeline.serving.gate import ROUTE, Receive, Scope, Send, request_id_of
from pipeline.serving.interactions import Known
from pipeline.serving.lists import FOLD_IN, POPULAR, ListOptions, as_json, list_of
from pipeline.serving.problems import Code, Problem
from pipeline.serving.routes.get import Answer, Get, send_answer
from pipeline.serving.routes.parameters import Parameter, parse
from pipeline.serving.routes.schemas import USER_LIST
from pipeline.serving.served_model import CachedAnswer, ServedModel
from pipeline.serving.service import Service
from pipeline.serving.shared_cache.lists import key_of, source_of
from pipeline.serving.shared_cache.tier import SharedCache

__all__ = ["LIMITS", "NOT_READ", "forgotten_of", "known_of", "list_routes"]

MOST = 100
NOT_READ = "new interactions can't be read just now"
LIMITS = (
    Parameter("max_per_genre", int, "Items of one genre, at most; by default any number.", None, 1, MOST),
    Parameter("max_per_series", int, "Items of one series, at most; by default any number.", None, 1, MOST),
)
PARAMETERS = (
    Parameter("k", int, "Items, at most.", 10, 1, MOST),
    Parameter("top_k", int, "Another name of k.", None, 1, MOST, stands_for="k"),
    Parameter("genre", str, "Only items of this genre.", None, 1, 256),
    *LIMITS,
    Parameter("exclude_seen", bool, "Leave out what the user has interacted with.", True),
    Parameter("unknown", str, "A user of whom nothing is known: a popular list, or 404.", "popular",
              choices=("popular", "error")),
)  # fmt: skip
USER_ID = Parameter("user_id", str, "The user.", None, 1, 256, required=True)


class _Asked(NamedTuple):
    """A list that is asked for, and what was known when it was.

    `served` and `known` are those of one moment: the list may be made later, and is then that moment's.
    In an experiment `served` is the model of the user's arm, and `arms` keeps the ready list.
    """

    served: ServedModel
    user: int | str
    options: ListOptions
    known: Known
    state: int
    place: tuple[str, bytes]
    arms: Arms | None = None

    @property
    def kept_in(self) -> ServedModel | Arms:
        """Whose cache the list is kept in."""
        return self.served if self.arms is None else self.arms


class _Recommendations(Get):
    """Looks into the cache before anything is parsed: its key is the path and the query as they came."""

    service: Service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        service, scope[ROUTE] = self.service, self.path
        served, arms = service.model.served(), service.model.arms
        begun = 0 if arms is None else time.perf_counter_ns()
        kept_in = served if arms is None else arms
        state = service.reader.look() if service.reader is not None else 0
        place = (scope["path"], scope["query_string"])
        answer = kept_in.cache.get(place) if state >= 0 else None
        if answer is not None and answer.state != state:
            answer = self._confirmed(kept_in, place, answer, state)
        if answer is not None:
            service.metrics.process_hit.inc()
        else:
            answer = await self._anew(scope, served, arms, begun)
        by = served.served_by
        if arms is not None and answer.shown is not None:
            by = answer.shown.by
            if not answer.forgotten:
                service.exposures.add(
                    exposure(arms, answer.shown, request_id_of(scope), answer.user, answer.source, 200, begun)
                )
        if answer.fallback:
            service.metrics.fallback(answer.fallback).inc()
        await send_answer(send, Answer(answer.body, by))

    async def _anew(self, scope: Scope, served: ServedModel, arms: Arms | None, begun: int) -> CachedAnswer:
        """The list, where no ready one is right. Raises Problem; in an experiment the failure is an exposure."""
        service, place = self.service, (scope["path"], scope["query_string"])
        values = parse(place[1], self.parameters)
        text = values["user_id"] if "user_id" in values else scope["path_params"]["user_id"]
        user = served.user(text)
        arm = None if arms is None else arms.of(user)
        asked = _asked(service, served if arm is None else arm.served, user, values, place)
        if arms is None or arm is None:
            return await _made_or_shared(service, asked)
        try:
            return await _made_or_shared(service, asked._replace(arms=arms))
        except Exception as error:
            status = error.status if isinstance(error, Problem) else 500
            if not asked.known.forgotten:
                service.exposures.add(exposure(arms, arm, request_id_of(scope), user, "", status, begun))
            raise

    def _confirmed(
        self, kept_in: ServedModel | Arms, place: tuple[str, bytes], cached: CachedAnswer, state: int
    ) -> CachedAnswer | None:
        """The answer, if what the log has got since is not of its user."""
        reader = self.service.reader
        if reader is None or not reader.is_unchanged(cached.user, cached.seen_to, cached.forgotten, cached.genres):
            return None
        confirmed = cached._replace(state=state)
        kept_in.store(place, confirmed)
        return confirmed


def list_routes(service: Service) -> list[Get]:
    """The routes of lists by user, by path and by query, and their aliases."""

    def unused(scope: Scope, values: Mapping[str, Any]) -> Answer:
        raise NotImplementedError  # these routes answer by themselves

    routes = [
        _Recommendations(path, "The best unseen items of a user, now.", unused, USER_LIST, parameters,
                         (Code.UNKNOWN_USER, Code.UNKNOWN_GENRE, Code.NO_MODEL), path_parameters=in_path)
        for path, parameters, in_path in (
            ("/api/v1/recommendations/{user_id}", PARAMETERS, {"user_id": "The user."}),
            ("/api/ml/recommendations/{user_id}", PARAMETERS, {"user_id": "The user."}),
            ("/api/v1/recommendations", (USER_ID, *PARAMETERS), {}),
        )
    ]  # fmt: skip
    for route in routes:
        route.service = service
    return list(routes)


def _asked(
    service: Service, served: ServedModel, user: int | str, values: Mapping[str, Any], place: tuple[str, bytes]
) -> _Asked:
    state = service.reader.state if service.reader is not None else 0
    options = ListOptions(
        values["k"],
        values["genre"],
        values["exclude_seen"],
        values["unknown"],
        **{limit.name: values[limit.name] for limit in LIMITS},
    )
    return _Asked(served, user, options, known_of(service, served, user), state, place)


async def _made_or_shared(service: Service, asked: _Asked) -> CachedAnswer:
    shared = service.shared
    if shared is None or not shared.usable or not _is_shared(asked):
        return _made(service, asked)
    return await _of_all(service, shared, asked)


def _made(service: Service, asked: _Asked) -> CachedAnswer:
    """The list, made now. Raises Problem."""
    service.metrics.miss.inc()
    served, known = asked.served, asked.known
    head: dict[str, Any] = {"user_id": asked.user}
    if not known.readable:
        head["degraded"] = NOT_READ
    made = list_of(served, asked.user, known.new, asked.options, forgotten=known.forgotten, liked=known.genres)
    return _stored(asked, as_json(served, made, head), made.source)


def _stored(asked: _Asked, body: bytes, source: str) -> CachedAnswer:
    known = asked.known
    genres = known.genres if source.startswith(POPULAR) else None
    shown = None if asked.arms is None else shown_in(asked.arms.of(asked.user), orjson.loads(body)["recommendations"])
    fallback = _fallback(asked, source)
    answer = CachedAnswer(
        body, source, fallback, asked.user, known.seen_to, asked.state, known.forgotten, genres, shown
    )
    if known.readable:
        asked.kept_in.store(asked.place, answer)
    return answer


def _fallback(asked: _Asked, source: str) -> str:
    """What stood in for the model's own row; a model may itself rank by popularity."""
    kind = source.partition(":")[0]
    if kind == POPULAR and kind == asked.served.scorer.source:
        in_model = not asked.known.forgotten and asked.served.scorer.users.row(asked.user) >= 0
        return "" if in_model else kind
    return kind if kind in (FOLD_IN, POPULAR) else ""


# ---- the cache of all hosts ----------------------------------------------------------------------


def _is_shared(asked: _Asked) -> bool:
    """Not for strangers: there are as many of them as somebody cares to invent, and their list is a cheap one.

    Nor without a model: what is popular is no version, whose files a key could name.
    """
    known = asked.known
    return (
        known.readable
        and not asked.served.is_baseline
        and (bool(known.new) or (not known.forgotten and asked.served.scorer.users.row(asked.user) >= 0))
    )


async def _of_all(service: Service, shared: SharedCache, asked: _Asked) -> CachedAnswer:
    """The list from Redis, else made now and stored there. Raises Problem."""
    key = key_of(asked.served, asked.user, asked.options, asked.known)

    async def found_or_made() -> CachedAnswer:
        body = await shared.get(key)
        source = None if body is None else source_of(body, asked.served, asked.user, asked.options)
        if body is not None and source is not None:
            service.metrics.redis_hit.inc()
            return _stored(asked, body, source)
        answer = _made(service, asked)
        if answer.source in (FOLD_IN, asked.served.scorer.source):
            shared.put(key, answer.body)
        return answer

    def found_by_another() -> CachedAnswer | None:
        answer = asked.kept_in.cache.get(asked.place)
        if answer is None or answer.seen_to != asked.known.seen_to:
            return None
        service.metrics.process_hit.inc()
        return answer

    return await shared.once(key, found_or_made, found_by_another)


def known_of(service: Service, served: ServedModel, user: int | str) -> Known:
    """What the log has of the user. Where it can't be read, who was forgotten is known from the copy beside it."""
    known = Known(readable=False) if service.reader is None else service.reader.known(user, served)
    return known if known.readable else known._replace(forgotten=service.tombstones.has(user))


def forgotten_of(service: Service, users: Sequence[int | str]) -> set[int | str]:
    """Those of the users who were forgotten, known as in `known_of`."""
    found = None if service.reader is None else service.reader.forgotten(users)
    return {user for user in users if service.tombstones.has(user)} if found is None else found
