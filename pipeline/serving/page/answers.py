"""What the handlers of the page share: HTML from templates, forms, and problems as people read them."""

from __future__ import annotations

import hmac
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from pipeline import __version__
from pipeline.serving.access import session_id_of
from pipeline.serving.gate import Scope, has_no_keys, key_of, may, name_of
from pipeline.serving.page import filters
from pipeline.serving.problems import Code, Problem
from pipeline.serving.sessions import csrf_token

__all__ = [
    "NAMES",
    "STATIC",
    "asked_for",
    "check_sent_by_page",
    "form",
    "html",
    "is_htmx",
    "of_problem",
    "parameter",
    "wants_page",
]

NAMES = "rankline.names"  # in a scope: the models of the service
STATIC = Path(__file__).with_name("static")
_MOST_FIELDS, _LONGEST = 20, 512
_PARTS = (("/", "Lists"), ("/page/models", "Models"), ("/page/training", "Training"), ("/page/health", "Health"))


class _Link(NamedTuple):
    href: str
    text: str
    current: bool


@cache
def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,  # else the templates' times are looked at for each page
    )
    made.filters |= {name: getattr(filters, name) for name in filters.__all__}
    return made


def html(
    request: Request, template: str, status: int = 200, headers: dict[str, str] | None = None, /, **values: Any
) -> Response:
    """A page, or a part of one, from a template; every value that is put in is escaped."""
    scope = request.scope
    known = {
        "csrf": csrf_token(session_id_of(scope["headers"])),
        "key": key_of(scope),
        "has_no_keys": has_no_keys(scope),
        "may": {name: may(scope, name) for name in ("read", "write", "admin")},
        "release": __version__,
        "at": page_of(scope) or "/page",
        "home": page_of(scope) or "/",
        "parts": [_Link(_address(page_of(scope), path), text, path == scope["path"]) for path, text in _PARTS],
        "names": _names(scope),
    }
    return HTMLResponse(_templates().get_template(template).render({**known, **values}), status, headers)


def page_of(scope: Scope) -> str:
    """Where the page of the model is that was asked for: ``/page/of/NAME``; "" for the page of the first."""
    name = name_of(scope)
    return f"/page/of/{quote(name, safe='')}" if name else ""


def _address(page: str, path: str) -> str:
    """The address of a path, in the page of a model."""
    return page + (path.removeprefix("/page") if path != "/" else "") if page else path


def asked_for(scope: Scope) -> str:
    """Path and query that the browser asked for."""
    query = scope["query_string"].decode("latin-1")
    return _address(page_of(scope), scope["path"]) + (f"?{query}" if query else "")


def _names(scope: Scope) -> list[_Link]:
    """The models to choose from, each with this part of its page; the first has the page without a name."""
    names, path = scope.get(NAMES, ()), scope["path"]
    here = path if path in dict(_PARTS) else "/"
    pages = ["" if n == 0 else f"/page/of/{quote(name, safe='')}" for n, name in enumerate(names)]
    chosen = name_of(scope) or next(iter(names), "")
    return [_Link(_address(page, here), name, name == chosen) for page, name in zip(pages, names, strict=True)]


def is_htmx(scope: Scope) -> bool:
    """Whether a script of the page asks, for a part of it."""
    return any(name == b"hx-request" for name, _ in scope["headers"])


def wants_page(scope: Scope) -> bool:
    """Whether the client would rather have HTML than JSON, by ``Accept``; of two that it likes as much, the first."""
    accept = ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"accept")
    best, page = 0.0, False
    for part in accept.split(","):
        kind, *parameters = (text.strip().lower() for text in part.split(";"))
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            value = float(quality)
        except ValueError:
            continue
        if value > best and kind in ("text/html", "application/xhtml+xml", "application/json", "*/*"):
            best, page = value, "html" in kind
    return page


# ---- requests ------------------------------------------------------------------------------------


async def form(request: Request) -> dict[str, str]:
    """The fields of a form. Raises Problem for a body that is none."""
    try:
        pairs = parse_qsl(
            (await request.body()).decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict"
        )
    except ValueError:
        raise Problem(Code.INVALID_REQUEST, "The form can't be read") from None
    return dict(pairs)


def parameter(given: str | None, name: str) -> str:
    """A text that a person gave; "" for none. Raises Problem for one that is too long, or has control characters."""
    text = (given or "").strip()
    if len(text) > _LONGEST // 2 or not text.isprintable():
        raise Problem(Code.INVALID_REQUEST, f"{name} must be text of at most {_LONGEST // 2} characters")
    return text


def check_sent_by_page(request: Request) -> None:
    """Raise Problem unless the page itself has sent the request, and no page of another site."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    expected = csrf_token(session_id_of(request.scope["headers"]))
    given = request.headers.get("x-csrf-token", "")
    if site not in ("same-origin", "none") or not hmac.compare_digest(given.encode(), expected.encode()):
        raise Problem(Code.FOREIGN_REQUEST, "The page that sent this is not the one of now: load it anew")


# ---- problems ------------------------------------------------------------------------------------


def of_problem(request: Request, problem: Problem) -> Response:
    """The answer to a person. Whoever has to log in is sent there."""
    scope, headers = request.scope, dict(problem.headers)
    headers.pop("WWW-Authenticate", None)  # a browser would ask for a password
    must_log_in = problem.code == Code.NOT_AUTHENTICATED and not has_no_keys(scope)
    if is_htmx(scope):
        if must_log_in:
            return Response(status_code=problem.status, headers={**headers, "HX-Refresh": "true"})
        headers |= {"HX-Retarget": "#message", "HX-Reswap": "innerHTML"}
        return html(request, "message.html.j2", problem.status, headers, fault=problem.detail, text="")
    if must_log_in and scope["path"] != "/":
        return RedirectResponse("/?next=" + quote(asked_for(scope), safe=""), 303)
    return html(request, "problem.html.j2", problem.status, headers, problem=problem)
