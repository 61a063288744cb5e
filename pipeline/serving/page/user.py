"""The page's first part: a user's list and history, reasons on demand, a search for titles, and rating them."""

from __future__ import annotations

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from pipeline.serving.gate import key_of
from pipeline.serving.invalid import problem_of
from pipeline.serving.page.answers import form, html, parameter
from pipeline.serving.page.view import UserView, examples, item_of, listed, source_in_words, user_view
from pipeline.serving.page.view import search as find
from pipeline.serving.problems import Code, Problem
from pipeline.serving.routes.bodies import NewInteraction
from pipeline.serving.routes.explain import explanation
from pipeline.serving.routes.post import keep
from pipeline.serving.service import Service

__all__ = ["rate", "search", "show", "why"]

_FOUND, _PARTS, _MOST_RATINGS = 6, 6, 21
_WATCHED = "watched"


async def show(request: Request, service: Service) -> Response:
    """A user: the one who is asked for, else the first of the model."""
    served = service.model.served()
    known = examples(service, served)
    user = parameter(request.query_params.get("user"), "user") or next(iter(known), "")
    genre = parameter(request.query_params.get("genre"), "genre")
    view = await user_view(service, user, genre)
    return html(
        request,
        "user.html.j2",
        **_of_view(service, view),
        examples=known,
        genres=served.snapshot.genre_names,
        has_titles=served.snapshot.titles is not None or served.snapshot.others is not None,
    )


async def search(request: Request, service: Service) -> Response:
    """Titles, with a form to rate each."""
    served = service.model.served()
    words = parameter(request.query_params.get("q"), "q")
    return html(
        request,
        "found.html.j2",
        items=find(served, words, _FOUND),
        words=words,
        user=parameter(request.query_params.get("user"), "user"),
        genre=parameter(request.query_params.get("genre"), "genre"),
        ratings=_ratings(service),
    )


async def why(request: Request, service: Service) -> Response:
    """Why an item is in the list."""
    user, item = (parameter(request.query_params.get(name), name) for name in ("user", "item"))
    served = service.model.served_for(user)
    genre = parameter(request.query_params.get("genre"), "genre")
    explained = explanation(service, served, user, item, _PARTS)
    parts = explained["contributions"]["your_items"]
    return html(
        request,
        "why.html.j2",
        why=explained,
        widest=max((abs(part["part"]) for part in parts), default=0.0) or 1.0,
        item=item_of(served, served.scorer.items.parse(item)),
        user=user,
        genre=genre,
        ratings=_ratings(service),
    )


async def rate(request: Request, service: Service) -> Response:
    """Keep a rating, and answer with the list as it is now."""
    given = await form(request)
    user, text, genre = (parameter(given.get(name), name) for name in ("user", "item", "genre"))
    served = service.model.served()
    item_id = served.scorer.items.parse(text)
    if served.scorer.items.row(item_id) < 0 and served.other_row(item_id) < 0:
        raise Problem(Code.UNKNOWN_ITEM, f"No item has the id {text[:80]!r}")
    before = listed(service, user, genre)
    rating = _rating(given.get("rating", ""))
    event = _event(served.user(user), item_id, rating)
    await keep(service, [event], key_of(request.scope), "")
    after = await user_view(service, user, genre, before)
    item = item_of(served, item_id)
    said = f"{item.title}: {'watched' if rating is None else f'{rating:g}'} is kept."
    then = _changes(after) if item.known else "It is not yet in the model: lists know it after the next training."
    return html(request, "board.html.j2", **_of_view(service, after), said=f"{said} {then}")


def _event(user: int | str, item: int | str, rating: float | None) -> NewInteraction:
    try:
        return NewInteraction(user_id=user, item_id=item, rating=rating)
    except ValidationError as error:
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]
        raise problem_of(faults, {"user_id": user, "item_id": item, "rating": rating}) from None


def _rating(text: str) -> float | None:
    if text == _WATCHED:
        return None
    try:
        return float(text)
    except ValueError:
        raise Problem(Code.INVALID_REQUEST, "The rating must be a number") from None


def _changes(view: UserView) -> str:
    """How the list has changed, in a sentence."""
    new = sum(place.change is None for place in view.places)
    moved = sum(bool(place.change) for place in view.places)
    if not new and not moved:
        return "The list stays as it is."
    said = [f"{new} new in the list"] if new else []
    said += [f"{moved} in another place"] if moved else []
    return f"{' and '.join(said)}."


def _of_view(service: Service, view: UserView) -> dict[str, object]:
    served = service.model.served()
    made_by = source_in_words(view)
    return {
        "view": view,
        "made_by": made_by,
        "calibrated": served.scorer.model.meta.get("fold_in") == "rating",
        "ratings": _ratings(service),
    }


def _ratings(service: Service) -> list[tuple[str, str]]:
    """Value and text of what a form offers, the best first."""
    low, high = service.config.options.min_rating, service.config.options.max_rating
    step = next(step for step in (0.5, 1.0, 5.0, 10.0, 50.0, 1e9) if (high - low) / step < _MOST_RATINGS)
    values = [high - n * step for n in range(int((high - low) / step) + 1)]
    return [*((f"{value:g}", f"{value:g}") for value in values), (_WATCHED, "watched")]
