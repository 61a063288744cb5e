"""`recommend` and `show`: lists and figures for people to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline import tracking
from pipeline.errors import InputError, ServerError
from pipeline.jobs.model import loaded
from pipeline.jobs.reporter import Reporter
from pipeline.scorer import Ranking
from pipeline.settings import PROJECT_ROOT, Settings
from pipeline.sinks import PUBLISHED
from pipeline.sources.choice import open_warehouse
from pipeline.sources.warehouse import history, titles
from pipeline.sql import load

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
    tracking.open_store(settings.tracking_uri, PROJECT_ROOT)
    with loaded(model, reporter) as (scorer, version):
        user_id = scorer.users.parse(user)
        ranking = scorer.recommend(user_id, k, unknown="popular" if popular_if_unknown else "error")
        try:
            with open_warehouse(settings) as warehouse:
                names = titles(warehouse, ranking.items.tolist())
                liked = history(warehouse, user_id, k)
        except ServerError as error:
            reporter.say(f"no titles: {error}")
            names, liked = {}, []
        return Listing(user_id, version.label, ranking, names, liked)


@dataclass(frozen=True, eq=False)
class Shown:
    """The end of a training, for people to look at."""

    run_id: str
    run_name: str
    metrics: dict[str, float]
    listing: Listing | None
    published: list[dict[str, Any]]
    address: str
    store: str


def show_job(model: str | None, settings: Settings, reporter: Reporter, user: str | None = None) -> Shown:
    """A version's metrics, one user's published list beside what they rated highest, and where all is."""
    tracking.open_store(settings.tracking_uri, PROJECT_ROOT)
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
                names = titles(warehouse, [row["item_id"] for row in rows])
                if rows:
                    ranking = Ranking([row["item_id"] for row in rows], [row["score"] for row in rows])  # type: ignore[arg-type]
                    listing = Listing(user_id, version.label, ranking, names, history(warehouse, user_id))
            address = warehouse.address
    return Shown(
        version.run_id,
        tracking.run_name(version.run_id) if version.run_id else "",
        metrics,
        listing,
        published,
        address,
        tracking.address_of_store(settings.tracking_uri),
    )
