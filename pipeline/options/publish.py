"""Options of `rankline score`: the model, its lists, and the limits of publishing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le

from pipeline.options.base import Options, Share, YesNo, option

__all__ = ["ScoreOptions", "UnknownUsers"]

UnknownUsers = Literal["skip", "popular"]


@dataclass(frozen=True)
class ScoreOptions(Options):
    """What to score and publish. Raises UsageError for an invalid value."""

    PANEL: ClassVar[str] = "What to score"
    SECTION: ClassVar[str] = "publishing"

    model: str | None = option(
        None,
        "rankline@champion, rankline/3, runs:/RUN_ID or a folder of artifacts. Default: the champion, else the newest.",
    )
    k: Annotated[int, Ge(1), Le(65535)] = option(10, "Items a user, at most.")
    max_per_genre: Annotated[int, Ge(1)] | None = option(
        None,
        "Items of one genre in a list, at most. Default: any number.",
        details="An item counts for each of its genres, which come with the model; an item without genres for none.",
    )
    max_per_series: Annotated[int, Ge(1)] | None = option(
        None,
        "Items of one series in a list, at most. Default: any number.",
        details="The series come with the model: from a column series in the files of --items.",
    )
    unknown: UnknownUsers = option(
        "skip", "Users of the warehouse who are not in the model: skip, or popular for them."
    )
    query: Path | None = option(
        None, "The .sql file that says what is seen by now. Default: the mart, where there is one."
    )
    user_column: str | None = option(None, "Column of user ids in --query. Default: user_id.", advanced=True)
    item_column: str | None = option(None, "Column of item ids in --query. Default: item_id.", advanced=True)
    max_coverage_drop: Share = option(
        0.2, "Refuse to publish where a larger share of the table's users, or rows, would be gone."
    )
    max_fallback: Share = option(
        0.5,
        "Refuse to publish where a larger share of rows is merely popular.",
        details="These are the rows of users who are not in the model (--unknown popular).",
    )
    accept_changes: YesNo = option("no", "yes: publish although one of these limits is passed; it is written down.")
    keep: Annotated[int, Ge(1), Le(1000)] = option(5, "Published sets to keep besides the newest, to roll back to.")
