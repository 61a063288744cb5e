"""GET a user's list: the hot route. Ready bytes come from the model's own cache, if nothing has happened since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.serving.gate import ROUTE, Receive, Scope, Send
from pipeline.serving.interactions import Known
from pipeline.serving.lists import FOLD_IN, POPULAR, ListOptions, as_json, list_of
from pipeline.serving.problems import Code
from pipeline.serving.routes.get import Answer, Get, send_answer
from pipeline.serving.routes.parameters import Parameter
from pipeline.serving.routes.schemas import USER_LIST
from pipeline.serving.served_model import CachedAnswer, ServedModel
from pipeline.serving.service import Service

__all__ = ["NOT_READ", "known_of", "list_routes"]

MOST = 100
NOT_READ = "new interactions can't be read just now"
PARAMETERS = (
    Parameter("k", int, "Items, at most.", 10, 1, MOST),
    Parameter("top_k", int, "Another name of k.", None, 1, MOST, stands_for="k"),
    Parameter("genre", str, "Only items of this genre.", None, 1, 256),
    Parameter("exclude_seen", bool, "Leave out what the user has interacted with.", True),
    Parameter("unknown", str, "A user of whom nothing is known: a popular list, or 404.", "popular",
              choices=("popular", "error")),
)  # fmt: skip
USER_ID = Parameter("user_id", str, "The user.", None, 1, 256, required=True)


class _Recommendations(Get):
    """Looks into the cache before anything is parsed: its key is the path and the query as they came."""

    service: Service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        service, scope[ROUTE] = self.service, self.path
        served = service.model.served()
        state = service.reader.look() if service.reader is not None else 0
        key = (scope["path"], scope["query_string"])
        cached = served.cache.get(key) if state >= 0 else None
        if cached is not None:
            if cached.state != state:
                cached = self._confirmed(served, key, cached, state)
            if cached is not None:
                service.metrics.process_hit.inc()
                if cached.source.startswith((FOLD_IN, POPULAR)):
                    service.metrics.fallback(cached.source.partition(":")[0]).inc()
                await send_answer(send, Answer(cached.body, served.version_header))
                return
        service.metrics.miss.inc()
        await super().__call__(scope, receive, send)

    def _confirmed(
        self, served: ServedModel, key: tuple[str, bytes], cached: CachedAnswer, state: int
    ) -> CachedAnswer | None:
        """The answer, if what the log has got since is not of its user."""
        reader = self.service.reader
        if reader is None or not reader.is_unchanged(cached.user, cached.seen_to, cached.forgotten, cached.genres):
            return None
        confirmed = cached._replace(state=state)
        served.store(key, confirmed)
        return confirmed


def list_routes(service: Service) -> list[Get]:
    """The routes of lists by user, by path and by query, and their aliases."""

    def by_path(scope: Scope, values: Mapping[str, Any]) -> Answer:
        return _answer(service, scope, scope["path_params"]["user_id"], values)

    def by_query(scope: Scope, values: Mapping[str, Any]) -> Answer:
        return _answer(service, scope, values["user_id"], values)

    routes = [
        _Recommendations(path, "The best unseen items of a user, now.", answer, USER_LIST, parameters,
                         (Code.UNKNOWN_USER, Code.UNKNOWN_GENRE, Code.NO_MODEL), path_parameters=in_path)
        for path, answer, parameters, in_path in (
            ("/api/v1/recommendations/{user_id}", by_path, PARAMETERS, {"user_id": "The user."}),
            ("/api/ml/recommendations/{user_id}", by_path, PARAMETERS, {"user_id": "The user."}),
            ("/api/v1/recommendations", by_query, (USER_ID, *PARAMETERS), {}),
        )
    ]  # fmt: skip
    for route in routes:
        route.service = service
    return list(routes)


def _answer(service: Service, scope: Scope, text: str, values: Mapping[str, Any]) -> Answer:
    served = service.model.served()
    user = served.user(text)
    state = service.reader.state if service.reader is not None else 0
    known = known_of(service, served, user)
    head: dict[str, Any] = {"user_id": user}
    if not known.readable:
        head["degraded"] = NOT_READ
    options = ListOptions(values["k"], values["genre"], values["exclude_seen"], values["unknown"])
    made = list_of(served, user, known.new, options, forgotten=known.forgotten, liked=known.genres)
    body = as_json(served, made, head)
    key = (scope["path"], scope["query_string"])
    if known.readable:
        genres = known.genres if made.source.startswith(POPULAR) else None
        served.store(key, CachedAnswer(body, made.source, user, known.seen_to, state, known.forgotten, genres))
    if made.source.startswith((FOLD_IN, POPULAR)):
        service.metrics.fallback(made.source.partition(":")[0]).inc()
    return Answer(body, served.version_header)


def known_of(service: Service, served: ServedModel, user: int | str) -> Known:
    """What the log has of the user."""
    return Known(readable=False) if service.reader is None else service.reader.known(user, served)
