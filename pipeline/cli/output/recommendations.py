"""The output of `recommend` and `show`: a user's list with the items they liked, and a summary of a version."""

from __future__ import annotations

import shlex

import numpy as np

from pipeline.cli.output.metrics import metric_blocks
from pipeline.cli.output.model import Block, Output, SideBySide, Table
from pipeline.cli.output.next_step import after_version
from pipeline.cli.output.places import runs_place
from pipeline.jobs.recommend import UserListing
from pipeline.jobs.show import VersionView
from pipeline.models.registry import DEFAULT
from pipeline.settings import Settings

__all__ = ["listing_output", "version_output"]

_READ = "SELECT * FROM {} WHERE user_id = {} ORDER BY rank"


def listing_output(listing: UserListing) -> Output:
    """A user's list next to the items they liked best."""
    items, scores = listing.ranking
    data = {
        "user": listing.user,
        "model": listing.model,
        "source": listing.ranking.source,
        "items": np.asarray(items).tolist(),
        "scores": [float(score) for score in scores],
        "sources": listing.ranking.sources.tolist(),
    }
    return Output("recommended", data, [_listing(listing)])


def version_output(view: VersionView, settings: Settings, with_metrics: bool = True) -> Output:
    """A version's metrics, a list, the places of the table and the runs, and the next step."""
    blocks: list[Block] = []
    if with_metrics:
        blocks += [f"{view.run_name}  (run {view.run_id[:8]})", *metric_blocks(view.metrics, view.better_than_popular)]
        if view.cold_items is not None:
            blocks.append(view.cold_items.sentence)
    if view.listing is not None:
        blocks += ["", _listing(view.listing)]
    for row in view.published:
        blocks.append(
            f"table: {view.names.table} in {view.address}: {row['n_rows']:,} rows, "
            f"{row['n_users']:,} users, version {row['model_version']}"
        )
    if view.published:
        user = 1 if view.listing is None else view.listing.user
        blocks.append(f"read it: {_read_command(view.names.table, user)}")
    blocks.append(f"runs: {runs_place(settings)}")
    if step := after_version(
        view.version, view.better_than_popular, view.is_champion, view.names.typed, view.algorithm
    ):
        blocks.append(f"next: {step}")
    return Output("version", {"run_id": view.run_id, **view.metrics}, blocks)


def _read_command(table: str, user: int | str) -> str:
    """A command that prints the user's published list."""
    if isinstance(user, int):
        return f'rankline sql "{_READ.format(table, user)}"'
    quoted = user.replace("\\", "\\\\").replace("'", "\\'")
    return f"rankline sql {shlex.quote(_READ.format(table, chr(39) + quoted + chr(39)))}"


def _listing(listing: UserListing) -> Block:
    source = f" ({listing.ranking.source})" if listing.ranking.source != DEFAULT.name else ""
    promoted = listing.ranking.sources != listing.ranking.source
    columns = [
        "rank",
        "item",
        *(["title"] if listing.titles else []),
        "score",
        *(["promoted"] if promoted.any() else []),
    ]
    scores = [float(score) for _, score in zip(*listing.ranking, strict=True)]
    digits = 0 if all(score.is_integer() for score in scores) else 3  # numbers of interactions are whole
    rows = []
    for rank, (item, score) in enumerate(zip(*listing.ranking, strict=True), start=1):
        named = [listing.titles.get(str(item), "")] if listing.titles else []
        # What is promoted says so, and as what.
        label = [str(listing.ranking.sources[rank - 1]) if promoted[rank - 1] else ""] if promoted.any() else []
        rows.append([str(rank), str(item), *named, f"{float(score):.{digits}f}", *label])
    title = f"Recommended for user {listing.user}{source}"
    recommended = Table(columns, rows, left=("title", "promoted"), short=("title",), title=title)
    if not listing.liked:
        return recommended
    liked = Table(
        ["score", "title"],
        [[f"{row['score']:g}", row["title"] or str(row["item_id"])] for row in listing.liked],
        left=("title",),
        short=("title",),
        title=f"What user {listing.user} liked best",
    )
    return SideBySide((liked, recommended))
