"""The errors that the service answers with: one enumeration of codes, as ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

__all__ = ["MEDIA_TYPE", "Code", "Problem", "fault", "problem_body", "status_of"]

MEDIA_TYPE = "application/problem+json"


class Code(StrEnum):
    """What went wrong, for a program. A code never changes its meaning."""

    UNKNOWN_USER = "UNKNOWN_USER"
    UNKNOWN_ITEM = "UNKNOWN_ITEM"
    UNKNOWN_GENRE = "UNKNOWN_GENRE"
    NO_EMBEDDINGS = "NO_EMBEDDINGS"
    UNKNOWN_VERSION = "UNKNOWN_VERSION"
    UNKNOWN_JOB = "UNKNOWN_JOB"
    INVALID_REQUEST = "INVALID_REQUEST"
    INVALID_JSON = "INVALID_JSON"
    NOT_AUTHENTICATED = "NOT_AUTHENTICATED"
    NOT_ALLOWED = "NOT_ALLOWED"
    FOREIGN_REQUEST = "FOREIGN_REQUEST"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    IDEMPOTENCY_CONFLICT = "IDEMPOTENCY_CONFLICT"
    FORGOTTEN_USER = "FORGOTTEN_USER"
    JOB_RUNS = "JOB_RUNS"
    IS_CHAMPION = "IS_CHAMPION"
    VERSION_IN_USE = "VERSION_IN_USE"
    NO_FORMER_CHAMPION = "NO_FORMER_CHAMPION"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    TOO_MANY_REQUESTS = "TOO_MANY_REQUESTS"
    NO_MODEL = "NO_MODEL"
    DRAINING = "DRAINING"
    TOO_BUSY = "TOO_BUSY"
    LOG_UNAVAILABLE = "LOG_UNAVAILABLE"
    JOBS_UNAVAILABLE = "JOBS_UNAVAILABLE"
    NOT_KNOWN_YET = "NOT_KNOWN_YET"
    INTERNAL_ERROR = "INTERNAL_ERROR"


class _Kind(NamedTuple):
    status: int
    title: str


_KINDS: Mapping[Code, _Kind] = {
    Code.UNKNOWN_USER: _Kind(404, "Unknown user"),
    Code.UNKNOWN_ITEM: _Kind(404, "Unknown item"),
    Code.UNKNOWN_GENRE: _Kind(404, "Unknown genre"),
    Code.NO_EMBEDDINGS: _Kind(404, "The model has no embeddings"),
    Code.UNKNOWN_VERSION: _Kind(404, "Unknown version"),
    Code.UNKNOWN_JOB: _Kind(404, "Unknown job"),
    Code.INVALID_REQUEST: _Kind(422, "Invalid request"),
    Code.INVALID_JSON: _Kind(422, "The body is no JSON"),
    Code.NOT_AUTHENTICATED: _Kind(401, "A key is needed"),
    Code.NOT_ALLOWED: _Kind(403, "The key does not allow this"),
    Code.FOREIGN_REQUEST: _Kind(403, "Without keys only this machine may ask"),
    Code.NOT_FOUND: _Kind(404, "Not found"),
    Code.METHOD_NOT_ALLOWED: _Kind(405, "Method not allowed"),
    Code.IDEMPOTENCY_CONFLICT: _Kind(409, "The Idempotency-Key was used for another content"),
    Code.FORGOTTEN_USER: _Kind(409, "The user was forgotten"),
    Code.JOB_RUNS: _Kind(409, "Another job of this kind runs"),
    Code.IS_CHAMPION: _Kind(409, "The version is the champion"),
    Code.VERSION_IN_USE: _Kind(409, "The version is in use"),
    Code.NO_FORMER_CHAMPION: _Kind(409, "There is no former champion"),
    Code.REQUEST_TIMEOUT: _Kind(408, "The request did not arrive in time"),
    Code.BODY_TOO_LARGE: _Kind(413, "The body is too large"),
    Code.TOO_MANY_REQUESTS: _Kind(429, "Too many requests"),
    Code.NO_MODEL: _Kind(503, "No model is served yet"),
    Code.DRAINING: _Kind(503, "The service is stopping"),
    Code.TOO_BUSY: _Kind(503, "Too busy"),
    Code.LOG_UNAVAILABLE: _Kind(503, "New interactions can't be kept"),
    Code.JOBS_UNAVAILABLE: _Kind(503, "Jobs can't be taken"),
    Code.NOT_KNOWN_YET: _Kind(503, "Not known yet"),
    Code.INTERNAL_ERROR: _Kind(500, "A fault of the service"),
}


class Problem(Exception):  # noqa: N818  # its name in RFC 9457
    """An answer that is an error.

    Parameters
    ----------
    code : what went wrong
    detail : one sentence for people
    headers : further headers of the answer
    more : further members of the answer, JSON-able
    """

    def __init__(self, code: Code, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.code, self.detail, self.headers, self.more = code, detail, dict(headers or {}), more
        self.status = _KINDS[code].status
        if self.status in (429, 503):
            self.headers.setdefault("Retry-After", "1")
        if self.status == 401:
            self.headers.setdefault("WWW-Authenticate", "Bearer")


def fault() -> Problem:
    """What a client is told of an error that nothing foresaw."""
    return Problem(Code.INTERNAL_ERROR, "A fault of the service; its log has it")


def problem_body(problem: Problem, request_id: str) -> bytes:
    """The body of the answer."""
    kind = _KINDS[problem.code]
    body = {
        "type": "about:blank",
        "title": kind.title,
        "status": kind.status,
        "code": problem.code.value,
        "detail": problem.detail,
        "request_id": request_id,
        **problem.more,
    }
    return orjson.dumps(body)


def status_of(code: Code) -> int:
    """The HTTP status of a code."""
    return _KINDS[code].status
