"""The output of `why`: a row of the published table, and the parts of its score."""

from __future__ import annotations

from pipeline.cli.output.model import Block, Output, Table
from pipeline.errors import CheckFailedError
from pipeline.jobs.why import FactorReason, ItemReason, WhyResult

__all__ = ["why_output"]


def why_output(why: WhyResult) -> Output:
    """The item's rank for the user, then the largest parts of its score: factors, or items of the user's history."""
    parts = {
        (part.component if isinstance(part, FactorReason) else str(part.item)): part.contribution for part in why.parts
    }
    data = {
        "user": why.user, "item": why.item, "model": why.model, "kind": why.kind, "source": why.source,
        "fallback": why.fallback, "score": why.score, "served_rank": why.served_rank, "served_score": why.served_score,
        "rank": why.rank, "n_unseen": why.n_unseen, "n_interactions": why.n_interactions, "contributions": parts,
        "level": why.level, "cold_below": why.cold_below,
    }  # fmt: skip
    blocks: list[Block] = [*(_not_published(why) if why.served_rank is None else _published(why))]
    if why.kind == "popularity" and not why.fallback:
        blocks.append(
            f"the score is the same for everybody; {why.n_interactions:,} of the model's users have seen the item"
        )
    if why.cold_below is not None and not why.fallback:
        blocks.append(
            f"a cold item: {why.n_interactions:,} of the model's users have it, fewer than {why.cold_below:,}, so its "
            "factors come from its genres and tags"
        )
    factors = [part for part in why.parts if isinstance(part, FactorReason)]
    items = [part for part in why.parts if isinstance(part, ItemReason)]
    if factors:
        blocks += [
            f"the score is the sum of w·h over {why.n_parts} factors; the largest parts:",
            _factors(why, factors),
        ]
    if items:
        level = f"the level of the item, {why.level:.6g}, and " if why.level else ""
        blocks += [
            f"the score is {level}a sum over {why.n_parts} items of the user's history; the largest parts:",
            _items(why, items),
        ]
    try:
        why.check()
    except CheckFailedError as error:
        return Output("explained", data, blocks, failure=error)
    return Output("explained", data, blocks)


def _not_published(why: WhyResult) -> list[str]:
    first = f"item {_named(why, why.item)} is not in the published list of user {why.user}"
    place = "the user has seen it" if why.rank is None else f"it is number {why.rank:,} of {why.n_unseen:,} unseen"
    return [first, f"by {why.model} its score is {why.score:.9g}: {place}"]


def _published(why: WhyResult) -> list[str]:
    first = (
        f"item {_named(why, why.item)} is number {why.served_rank} in the list of user {why.user}: "
        f"score {why.served_score:.9g}, by {why.model} ({why.source})"
    )
    if not why.fallback:
        return [first]
    return [
        first,
        "the user is not in the model and gets the most popular items, by how many of its users have seen each "
        f"({why.n_interactions:,})",
    ]


def _factors(why: WhyResult, factors: list[FactorReason]) -> Table:
    rows = []
    for factor in factors:
        seen = ", ".join(_named(why, item) for item in factor.items)
        rows.append([str(factor.component), f"{factor.contribution:.6g}", _share(why, factor.contribution), seen])
    last = "seen items that weigh most in it"
    return Table(["factor", "w·h", "share", last], rows, left=(last,))


def _items(why: WhyResult, items: list[ItemReason]) -> Table:
    rows = []
    for part in items:
        score = "" if part.score is None else f"{part.score:g}"
        rows.append([_named(why, part.item), f"{part.contribution:.6g}", _share(why, part.contribution), score])
    return Table(["item", "part", "share", "the user's score"], rows, left=("item",))


def _share(why: WhyResult, contribution: float) -> str:
    return f"{contribution / why.score:.0%}" if why.score else ""


def _named(why: WhyResult, item: int | str) -> str:
    title = why.titles.get(str(item))
    return f"{item} ({title})" if title else str(item)
