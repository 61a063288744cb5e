"""The output of `why`: a row of the published table, and the parts of its score."""

from __future__ import annotations

from pipeline.cli.output.model import Block, Output, Table
from pipeline.errors import CheckFailedError
from pipeline.jobs.why import FactorReason, ItemReason, WhyResult
from pipeline.ranking.content import CONTENT

__all__ = ["why_output"]


def why_output(why: WhyResult) -> Output:
    """The item's rank for the user, then the largest parts of its score."""
    data = {
        "user": why.user, "item": why.item, "model": why.model, "kind": why.kind, "source": why.source,
        "fallback": why.fallback, "score": why.score, "served_rank": why.served_rank, "served_score": why.served_score,
        "rank": why.rank, "n_unseen": why.n_unseen, "confidence": why.confidence,
        "n_interactions": why.n_interactions, "contributions": _contributions(why), "level": why.level,
        "cold_below": why.cold_below, "candidate": why.candidate, "reasons": _reasons(why),
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
    if why.factors:
        blocks += [
            f"the score is the sum of w·h over {why.n_factors} factors; the largest parts:",
            _factors(why, why.factors),
        ]
    if why.past_items and why.kind == "neural":
        blocks += [
            f"the score is a network's, and no sum; {why.n_past_items} items of the user's history change it; the "
            "largest parts, each by how much lower the score would be without the item:",
            _items(why, why.past_items),
        ]
    elif why.past_items:
        besides = f"{why.level:.6g} plus " if why.level else ""
        blocks += [
            f"the score is {besides}a sum over {why.n_past_items} items of the user's history; the largest parts:",
            _items(why, why.past_items),
        ]
    if why.members:
        sentence = f"the score is the sum of weight * standard score over {len(why.members)} models:"
        blocks += [sentence, _members(why)]
    if why.goes_by:
        rows = [[name, f"{value:.6g}"] for name, value in why.goes_by]
        blocks += ["trees have ordered what the first model proposes; they go by:", Table(["feature", "value"], rows)]
    blocks += _sentences(why)
    try:
        why.check()
    except CheckFailedError as error:
        return Output("explained", data, blocks, failure=error)
    return Output("explained", data, blocks)


def _not_published(why: WhyResult) -> list[str]:
    first = f"item {_named(why, why.item)} is not in the published list of user {why.user}"
    if why.kind == CONTENT:
        near = "" if why.confidence is None else f"; {why.confidence:.0%} of the model's other items have less"
        return [
            f"item {_named(why, why.item)} is not in {why.model}, which was trained without it",
            f"by genres and tags its similarity to the history of user {why.user} is {why.score:.3g}{near}",
        ]
    unseen = "candidates" if why.kind == "neural" else "unseen"
    place = "the user has seen it" if why.rank is None else f"it is number {why.rank:,} of {why.n_unseen:,} {unseen}"
    if not why.candidate:
        place = f"it is none of the {why.n_unseen:,} items that its factor model puts first for the user"
    return [first, f"by {why.model} its score is {why.score:.9g}: {place}"]


def _published(why: WhyResult) -> list[str]:
    first = (
        f"item {_named(why, why.item)} is number {why.served_rank} in the list of user {why.user}: "
        f"score {why.served_score:.9g}, by {why.model} ({why.source})"
    )
    if why.source.startswith("promoted"):
        place = "" if why.rank is None else f"; by its score it is number {why.rank:,} of {why.n_unseen:,} unseen"
        return [first, f"a rule promotes it{place}"]
    if not why.fallback:
        return [first]
    return [
        first,
        "the user is not in the model and gets the most popular items, by how many of its users have seen each "
        f"({why.n_interactions:,})",
    ]


def _contributions(why: WhyResult) -> dict[str, object]:
    return {
        "factors": [{"factor": part.component, "part": part.contribution} for part in why.factors],
        "your_items": [
            {"item_id": part.item, "title": why.titles.get(str(part.item)), "rating": part.score,
             "part": part.contribution}
            for part in why.past_items
        ],
        "models": [
            {"model": part.name, "part": part.contribution, "weight": part.weight, "standard_score": part.standard,
             "score": part.score}
            for part in why.members
        ],
        "goes_by": dict(why.goes_by),
    }  # fmt: skip


def _reasons(why: WhyResult) -> dict[str, object]:
    if why.reasons is None:
        return {}
    match, users = why.reasons.genre_match, why.reasons.other_users
    return {
        "similar_items": [
            {"item_id": item, "title": why.titles.get(str(item)), "similarity": similarity, "rating": score}
            for item, similarity, score in why.reasons.similar_items
        ],
        "genre_match": None if match is None else {"score": match.score, "genres": match.shares},
        "similar_users": {"count": users.count, "among": users.among, "average": users.average},
    }


def _sentences(why: WhyResult) -> list[str]:
    if why.reasons is None:
        return []
    sentences = []
    if why.reasons.similar_items:
        like = (f"{_named(why, item)} {similarity:.2f}" for item, similarity, _ in why.reasons.similar_items)
        sentences.append(f"most similar in the user's history: {', '.join(like)}")
    match, users = why.reasons.genre_match, why.reasons.other_users
    if match is not None:
        shares = ", ".join(f"{genre} {share:.0%}" for genre, share in match.shares.items())
        sentences.append(f"{match.score:.0%} of the user's history has one of its genres: {shares}")
    if users.among:
        mean = "" if users.average is None else f", and gave it {users.average:.2f} on average"
        sentences.append(f"{users.count} of the {users.among} most similar users have the item{mean}")
    return sentences


def _factors(why: WhyResult, factors: tuple[FactorReason, ...]) -> Table:
    rows = []
    for factor in factors:
        seen = ", ".join(_named(why, item) for item in factor.items)
        rows.append([str(factor.component), f"{factor.contribution:.6g}", _share(why, factor.contribution), seen])
    last = "seen items that weigh most in it"
    return Table(["factor", "w·h", "share", last], rows, left=(last,))


def _items(why: WhyResult, items: tuple[ItemReason, ...]) -> Table:
    rows = []
    for part in items:
        score = "" if part.score is None else f"{part.score:g}"
        rows.append([_named(why, part.item), f"{part.contribution:.6g}", _share(why, part.contribution), score])
    return Table(["item", "part", "share", "the user's score"], rows, left=("item",))


def _members(why: WhyResult) -> Table:
    rows = [
        [
            part.name, f"{part.contribution:.6g}", _share(why, part.contribution), f"{part.weight:.3g}",
            f"{part.standard:.6g}", f"{part.score:.6g}",
        ]
        for part in why.members
    ]  # fmt: skip
    return Table(["model", "part", "share", "weight", "standard score", "its own score"], rows, left=("model",))


def _share(why: WhyResult, contribution: float) -> str:
    return f"{contribution / why.score:.0%}" if why.score else ""


def _named(why: WhyResult, item: int | str) -> str:
    title = why.titles.get(str(item))
    return f"{item} ({title})" if title else str(item)
