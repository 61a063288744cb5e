"""`show`: a version, its metrics and one published list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.errors import InputError
from pipeline.evaluation.metric_names import current_names
from pipeline.jobs.inputs import open_warehouse
from pipeline.jobs.load_model import loaded
from pipeline.jobs.recommend import UserListing, titles_and_liked
from pipeline.models import registry
from pipeline.models.base import Algorithm
from pipeline.models.cold_items import ColdItems, cold_items_of
from pipeline.models.saved_model import model_name
from pipeline.options import Names
from pipeline.ranking.scorer import Ranking
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.tracking import champion as champions
from pipeline.tracking import run
from pipeline.tracking.registry import ModelVersion
from pipeline.warehouse.sql import load

__all__ = ["VersionView", "show_job"]


@dataclass(frozen=True, eq=False)
class VersionView:
    """A version, its metrics and one published list.

    Attributes
    ----------
    version : e.g. ``rankline/3``; "" for a model that is not registered
    cold_items : what its metadata say of them; None for a model without such
    better_than_popular : ``yes``, ``no`` or ``unclear``; None where it was not measured
    """

    run_id: str
    run_name: str
    metrics: dict[str, float]
    listing: UserListing | None
    published: list[dict[str, Any]]
    address: str
    names: Names
    version: str = ""
    better_than_popular: str | None = None
    is_champion: bool = False
    algorithm: Algorithm = registry.DEFAULT
    cold_items: ColdItems | None = None


def show_job(model: str | None, settings: Settings, reporter: Reporter, user: str | None = None) -> VersionView:
    """A version's metrics, and one user's published list beside the items that they rated highest."""
    names = settings.names
    run.open_store(settings.tracking_uri)
    with loaded(model, reporter, names.model) as (scorer, version):
        cold = cold_items_of(scorer.model)
        metrics = current_names(scorer.model.meta.get("metrics", {}))
        with open_warehouse(settings) as warehouse:
            published = []
            listing = None
            if warehouse.engine(names.table) is not None:
                published = warehouse.rows(load("queries/published_summary").text, {"table": names.sets})
                user_id = scorer.users.parse(user) if user is not None else scorer.users.values[0].item()
                rows = warehouse.rows(load("queries/published").text, {"table": names.sets, "user": str(user_id)})
                if user is not None and not rows:
                    raise InputError(f"{names.table} has no rows for user {user!r}")
                known, liked = titles_and_liked(
                    scorer, warehouse, user_id, [row["item_id"] for row in rows], 10, reporter
                )
                if rows:
                    # Lists of Python values serve for printing, where a ranking has arrays.
                    ranking = Ranking([row["item_id"] for row in rows], [row["score"] for row in rows])  # type: ignore[arg-type]
                    ranking.source = rows[0]["source"]
                    listing = UserListing(user_id, version.label, ranking, known, liked)
            address = warehouse.address
    label, better, is_champion = _standing(version)
    return VersionView(
        version.run_id,
        run.run_name(version.run_id) if version.run_id else "",
        metrics,
        listing,
        published,
        address,
        names,
        label,
        better,
        is_champion,
        registry.algorithm_of(model_name(scorer.model)),
        None if cold is None else cold[0],
    )


def _standing(version: ModelVersion) -> tuple[str, str | None, bool]:
    """The version's name, whether it is better than most popular, and whether it is the champion."""
    if not version.version:
        return "", None, False
    champion = champions.champion(version.name)
    tags = champions.tags_of(version.version, version.name)
    return (
        version.label,
        tags.get("better_than_popular"),
        champion is not None and champion.version == version.version,
    )
