"""Log-in with a key: it gives a session, whose id is in a cookie that no script can read; the key is kept nowhere."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response

from pipeline.serving.access import Access, session_id_of
from pipeline.serving.gate import has_no_keys
from pipeline.serving.page.answers import asked_for, form, html
from pipeline.serving.problems import Code, Problem
from pipeline.serving.sessions import COOKIE, LIFE_SECONDS, Sessions

__all__ = ["log_in", "log_in_page", "log_out"]

# Where somebody may be led after the log-in: into this page, and nowhere else.
_NEXT = re.compile(r"/(?:page/(?:of/[\w%.~-]+/?)?(?:models|training|health)?)?(?:\?[\w=&%+.~-]*)?", re.ASCII)


def log_in_page(request: Request) -> Response:
    """The form."""
    there = request.query_params.get("next") or asked_for(request.scope)
    return html(request, "log_in.html.j2", next=there if _NEXT.fullmatch(there) else "/")


async def log_in(request: Request, access: Access) -> Response:
    """Begin a session with the key of the form. Raises Problem."""
    if has_no_keys(request.scope):
        raise Problem(Code.INVALID_REQUEST, "There are no keys: nobody needs to log in")
    sessions, address = _sessions(access), request.client.host if request.client else ""
    given = await form(request)
    sessions.count_try(address)
    key = access.keys.find(given.get("key", "").strip())
    if key is None:
        raise Problem(Code.NOT_ALLOWED, "The key is not valid")
    sessions.forgive(address)
    if "read" not in key.scopes:
        raise Problem(Code.NOT_ALLOWED, f"The page needs the scope read, and the key has {', '.join(key.scopes)}")
    there = given.get("next", "/")
    answer = Response(status_code=204, headers={"HX-Redirect": there if _NEXT.fullmatch(there) else "/"})
    # Of before: a session id that somebody knows is not used on.
    if before := session_id_of(request.scope["headers"]):
        sessions.end(before)
    _set_cookie(request, answer, sessions.begin(key), LIFE_SECONDS)
    return answer


def log_out(request: Request, access: Access) -> Response:
    """End the session. Raises Problem."""
    if session_id := session_id_of(request.scope["headers"]):
        _sessions(access).end(session_id)
    answer = Response(status_code=204, headers={"HX-Redirect": "/"})
    _set_cookie(request, answer, "", 0)
    return answer


def _sessions(access: Access) -> Sessions:
    if access.sessions is None:
        raise Problem(Code.NOT_FOUND, "There are no sessions here")
    return access.sessions


def _set_cookie(request: Request, answer: Response, value: str, seconds: int) -> None:
    # A proxy says whether there is TLS before it. Who makes that up gets a cookie that is stricter.
    secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto", "") == "https"
    answer.set_cookie(COOKIE, value, max_age=seconds, path="/", secure=secure, httponly=True, samesite="strict")
