"""`recommend` and `show`: lists and figures for people to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline import tracking
from pipeline.errors import InputError, ServerError
from pipeline.jobs.model import loaded
from pipeline.jobs.reporter import Reporter
from pipeline.scorer import Ranking, Scorer
from pipeline.settings import Settings
from pipeline.sinks import PUBLISHED
from pipeline.sources.choice import open_warehouse
from pipeline.sources.warehouse import history, titles
from pipeline.sql import load
from pipeline.warehouse import Warehouse

__all__ = ["Listing", "Shown", "recommend_job", "show_job"]


@dataclass(frozen=True, eq=False)
class Listing:
    """A user's list, and what they liked, for people to look at."""

    user: int | str
    model: str
    ranking: Ranking
    titles: dict[str, str]
    liked: list[dict[str, Any]]


def recommend_job(
    user: str, k: int, model: str | None, popular_if_unknown: bool, settings: Settings, reporter: Reporter
) -> Listing:
    """A user's list from the model, with titles where the warehouse has them."""
    tracking.open_store(settings.tracking_uri)
    with loaded(model, reporter) as (scorer, version):
        user_id = scorer.users.parse(user)
        ranking = scorer.recommend(user_id, k, unknown="popular" if popular_if_unknown else "error")
        try:
            with open_warehouse(settings) as warehouse:
                names, liked = _known_of(scorer, warehouse, user_id, ranking.items.tolist(), k, reporter)
        except ServerError as error:
            reporter.say(f"no titles: {error}")
            names, liked = {}, []
        return Listing(user_id, version.label, ranking, names, liked)


def _known_of(
    scorer: Scorer, warehouse: Warehouse, user: int | str, items: list[int | str], k: int, reporter: Reporter
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Titles of the items and what the user liked.

    None for a model that was trained on a file (the warehouse's ids may be others'), or where the
    warehouse's tables are of another shape.
    """
    if scorer.model.meta.get("source") == "file":
        return {}, []
    try:
        return titles(warehouse, items), history(warehouse, user, k)
    except ServerError as error:
        reporter.say(f"no titles: {error}")
        return {}, []


@dataclass(frozen=True, eq=False)
class Shown:
    """The end of a training, for people to look at."""

    run_id: str
    run_name: str
    metrics: dict[str, float]
    listing: Listing | None
    published: list[dict[str, Any]]
    address: str


def show_job(model: str | None, settings: Settings, reporter: Reporter, user: str | None = None) -> Shown:
    """A version's metrics, one user's published list beside what they rated highest, and where all is."""
    tracking.open_store(settings.tracking_uri)
    with loaded(model, reporter) as (scorer, version):
        metrics = dict(scorer.model.meta.get("metrics", {}))
        with open_warehouse(settings) as warehouse:
            published = []
            listing = None
            if warehouse.engine(PUBLISHED) is not None:
                published = warehouse.rows(load("queries/published_summary").text)
                user_id = scorer.users.parse(user) if user is not None else scorer.users.values[0].item()
                rows = warehouse.rows(load("queries/published").text, {"user": str(user_id)})
                if user is not None and not rows:
                    raise InputError(f"{PUBLISHED} has no rows for user {user!r}")
                names, liked = _known_of(scorer, warehouse, user_id, [row["item_id"] for row in rows], 10, reporter)
                if rows:
                    ranking = Ranking([row["item_id"] for row in rows], [row["score"] for row in rows])  # type: ignore[arg-type]
                    listing = Listing(user_id, version.label, ranking, names, liked)
            address = warehouse.address
    return Shown(
        version.run_id,
        tracking.run_name(version.run_id) if version.run_id else "",
        metrics,
        listing,
        published,
        address,
    )
