"""`recommend`: a user's list, with titles and the items that the user rated highest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.data.sources.warehouse import history, titles
from pipeline.errors import ServerError
from pipeline.jobs.inputs import open_warehouse
from pipeline.jobs.load_model import loaded
from pipeline.jobs.rules import under_snapshot
from pipeline.publishing.rules import read_rules
from pipeline.ranking.scorer import Ranking, Scorer
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.tracking import run
from pipeline.warehouse import Warehouse

__all__ = ["UserListing", "recommend_job", "titles_and_liked"]


@dataclass(frozen=True, eq=False)
class UserListing:
    """A user's list with titles, and the items that the user rated highest."""

    user: int | str
    model: str
    ranking: Ranking
    titles: dict[str, str]
    liked: list[dict[str, Any]]


def recommend_job(
    user: str,
    k: int,
    model: str | None,
    popular_if_unknown: bool,
    settings: Settings,
    reporter: Reporter,
    limits: tuple[int | None, int | None] = (None, None),
) -> UserListing:
    """A user's list from the model, under the rules of the warehouse, with titles where the warehouse has them.

    limits : items of one genre, and of one series, at most
    """
    run.open_store(settings.tracking_uri)
    with loaded(model, reporter, settings.names.model) as (scorer, version):
        user_id = scorer.users.parse(user)
        scorer = scorer.limited(*limits)

        def rank(allowed: Scorer) -> Ranking:
            return allowed.recommend(user_id, k, unknown="popular" if popular_if_unknown else "error")

        try:
            with open_warehouse(settings) as warehouse:
                ranking = rank(scorer.under(read_rules(warehouse, settings.names)))
                names, liked = titles_and_liked(scorer, warehouse, user_id, ranking.items.tolist(), k, reporter)
        except ServerError as error:
            reporter.say(f"titles could not be read: {error}")
            ranking = rank(under_snapshot(scorer, settings, reporter))
            names, liked = {}, []
        return UserListing(user_id, version.label, ranking, names, liked)


def titles_and_liked(
    scorer: Scorer, warehouse: Warehouse, user: int | str, items: list[int | str], k: int, reporter: Reporter
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Titles of the items, and the items that the user rated highest.

    Both are empty for a model trained on a file, whose ids may mean other items in the warehouse, and for a
    warehouse with other tables.
    """
    if scorer.model.meta.get("source") == "file":
        return {}, []
    try:
        return titles(warehouse, items), history(warehouse, user, k)
    except ServerError as error:
        reporter.say(f"titles could not be read: {error}")
        return {}, []
