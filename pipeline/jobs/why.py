"""`why`: a served row, made again from the artifacts of the version that the table names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline import tracking
from pipeline.errors import CheckFailedError, InputError, UnknownItemError, UnknownUserError
from pipeline.ids import IdMap
from pipeline.jobs.model import loaded
from pipeline.jobs.reporter import Reporter
from pipeline.lineage import Factor, factors_of, rank_of
from pipeline.scorer import Scorer
from pipeline.settings import Settings
from pipeline.sinks import PUBLISHED
from pipeline.sources.choice import open_warehouse
from pipeline.sources.warehouse import titles
from pipeline.sql import load

__all__ = ["Why", "why_job"]


@dataclass(frozen=True, eq=False)
class Why:
    """Attributes
    ----------
    user, item : external ids
    model : the version that made the table
    served_rank, served_score : of the table's row, None where the item is not in the user's list
    source : who ranked: nmf, popular
    score : by the artifacts, float32
    rank, n_unseen : its place among the items that the artifact has as unseen (None for a seen item, or a fallback)
    factors : what put in most
    n_components : how many factors there are
    titles : of the item and the seen ones, by id as text
    items : external ids of the seen items in `factors`, a list a factor
    """

    user: int | str
    item: int | str
    model: str
    served_rank: int | None
    served_score: float | None
    source: str
    score: float
    rank: int | None
    n_unseen: int
    factors: list[Factor]
    n_components: int
    titles: dict[str, str]
    items: list[list[int | str]]

    def check(self) -> None:
        """Raises CheckFailedError where the table's score is not what the artifacts give, bit for bit."""
        if (
            self.served_score is not None
            and np.float32(self.served_score).tobytes() != np.float32(self.score).tobytes()
        ):
            raise CheckFailedError(
                f"{PUBLISHED} says {self.served_score!r} for user {self.user!r} and item {self.item!r}, and "
                f"{self.model} gives {self.score!r}: the row was changed, or made by other artifacts; "
                "rankline score publishes again",
                "why",
            )


def why_job(user: str, item: str, model: str | None, settings: Settings, reporter: Reporter) -> Why:
    """Why an item is, or is not, in a user's published list.

    Parameters
    ----------
    model : other artifacts than those of the run that the table names (needed where it names none)
    """
    tracking.open_store(settings.tracking_uri)
    with open_warehouse(settings) as warehouse:
        if warehouse.engine(PUBLISHED) is None:
            raise InputError(f"{PUBLISHED} is not there in {warehouse.address}; rankline score publishes it")
        rows = warehouse.rows(load("queries/published").text, {"user": user})
        made_by = rows or warehouse.rows(load("queries/published_summary").text)
        version, run_id = str(made_by[0]["model_version"]), str(made_by[0]["run_id"])
        if model is None and not run_id:
            raise InputError(f"{PUBLISHED} names no run that made it; --model FOLDER says which artifacts did")
        with loaded(model or f"runs:/{run_id}", reporter) as (scorer, found):
            label = f"rankline/{version}" if version and model is None else found.label
            served = next((row for row in rows if row["item_id"] == str(scorer.items.parse(item))), None)
            made = _explained(scorer, user, item, label, served)
            ids = [made.item, *(one for items in made.items for one in items)]
            if scorer.model.meta.get("source") != "file":
                made.titles.update(titles(warehouse, ids))
            return made


def _explained(scorer: Scorer, user: str, item: str, label: str, served: dict[str, object] | None) -> Why:
    user_id, item_id = scorer.users.parse(user), scorer.items.parse(item)
    col = _row(scorer.items, item_id)
    if col < 0:
        raise UnknownItemError(f"Unknown item {item_id!r}: not among the {len(scorer.items)} items of {label}")
    row = _row(scorer.users, user_id)
    model = scorer.model
    rank, n_unseen, factors = None, 0, []
    source = str(served["source"]) if served else (scorer.source if row >= 0 else "popular")
    if row < 0 and served is None:
        raise UnknownUserError(
            f"Unknown user {user_id!r}: neither in {PUBLISHED} with item {item_id!r} nor among the "
            f"{len(scorer.users)} users of {label}"
        )
    if source == "popular":
        score = float(np.count_nonzero(model.seen.indices == col))
    else:
        score = float(scorer.predict(user_id, [item_id])[0])
        rank, n_unseen = rank_of(model, row, col)
        factors = factors_of(model, row, col)
    return Why(
        user_id,
        item_id,
        label,
        int(str(served["rank"])) if served else None,
        float(str(served["score"])) if served else None,
        source,
        score,
        rank,
        n_unseen,
        factors,
        model.n_components,
        {},
        [scorer.items.ids(one.seen).tolist() for one in factors],
    )


def _row(ids: IdMap, one: int | str) -> int:
    if isinstance(one, int) and not -(2**63) <= one < 2**63:
        return -1
    return int(ids.rows([one], missing="negative")[0])
