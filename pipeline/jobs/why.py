"""`why`: explains a published row, recomputed from the artifacts of the version that the table names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.id_map import IdMap
from pipeline.data.sources.warehouse import titles
from pipeline.errors import CheckFailedError, InputError, UnknownItemError, UnknownUserError
from pipeline.jobs.inputs import open_warehouse
from pipeline.jobs.load_model import loaded
from pipeline.models.cold_items import cold_items_of
from pipeline.options import Names
from pipeline.ranking.content import CONTENT, ContentScorer, largest, words_of
from pipeline.ranking.explain import Explanation, MemberPart, explain, interactions_with
from pipeline.ranking.reasons import GenreMatch, OtherUsers, genres_match, reasons_for
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.tracking import run
from pipeline.warehouse.sql import load

__all__ = ["FactorReason", "ItemReason", "ItemReasons", "WhyResult", "why_job"]

_SHOWN = 3  # items of the history, of an item outside the model


@dataclass(frozen=True)
class FactorReason:
    """A factor's contribution to a score, with the user's past items that load most on it."""

    component: int
    contribution: float
    items: tuple[int | str, ...]


@dataclass(frozen=True)
class ItemReason:
    """The contribution of a past item of the user, with their score of it where the model has one."""

    item: int | str
    contribution: float
    score: float | None


@dataclass(frozen=True)
class ItemReasons:
    """`reasons.Reasons`, with external ids.

    similar_items : items of the user's history, each with its similarity and the user's score (None: not kept)
    """

    similar_items: tuple[tuple[int | str, float, float | None], ...]
    genre_match: GenreMatch | None
    other_users: OtherUsers


@dataclass(frozen=True, eq=False)
class WhyResult:
    """Attributes
    ----------
    user, item : external ids
    model : the version that made the table
    served_rank, served_score : rank and score in the table; None where the item is not in the user's list
    source : what ranked the item: the model's name, or ``popular``
    fallback : whether the user is not in the model, so that the most popular items are served
    kind : the kind of the model; ``content`` for an item that the model has not, see `pipeline.ranking.content`
    score : the recomputed score, float32
    rank, n_unseen : the item's rank among the user's unseen items (None for a seen item or a fallback), their number
    n_interactions : how many of the model's users have interacted with the item
    confidence : share of the user's other unseen items that score lower; None as for `rank`
    factors, past_items : those with the largest parts in the score; none for a popularity model
    members : the models of an ensemble, with their parts
    goes_by : what the trees of a two-stage model go by, name and value
    n_factors, n_past_items : the number of all parts
    level : what the score is besides the parts of past items: the item's level, the pull of L1; mostly 0
    candidate : false of an unseen item that is none of the model's candidates for the user
    reasons : other reasons for the item, None for a user who is not in the model
    cold_below : the threshold of a cold item, whose factors come from its genres and tags; None for any other
    titles : titles of the item and of those named beside it, by id as text
    names : the model whose table it is
    """

    user: int | str
    item: int | str
    model: str
    served_rank: int | None
    served_score: float | None
    source: str
    fallback: bool
    kind: str
    score: float
    rank: int | None
    n_unseen: int
    n_interactions: int
    confidence: float | None
    factors: tuple[FactorReason, ...]
    past_items: tuple[ItemReason, ...]
    members: tuple[MemberPart, ...]
    goes_by: tuple[tuple[str, float], ...]
    n_factors: int
    n_past_items: int
    level: float
    candidate: bool
    reasons: ItemReasons | None
    titles: dict[str, str]
    names: Names
    cold_below: int | None = None

    def check(self) -> None:
        """Raise CheckFailedError where the table's score differs from the recomputed one in any bit."""
        if (
            self.served_score is not None
            and np.float32(self.served_score).tobytes() != np.float32(self.score).tobytes()
        ):
            raise CheckFailedError(
                f"{self.names.table} says {self.served_score!r} for user {self.user!r} and item {self.item!r}, and "
                f"{self.model} gives {self.score!r}: the row was changed, or made by other artifacts; "
                f"rankline score{self.names.typed} publishes again",
                "why",
            )


def why_job(user: str, item: str, model: str | None, settings: Settings, reporter: Reporter) -> WhyResult:
    """Why an item is, or is not, in a user's published list.

    Parameters
    ----------
    model : the artifacts to use instead of those of the run that the table names (required if it names none)
    """
    run.open_store(settings.tracking_uri)
    names = settings.names
    with open_warehouse(settings) as warehouse:
        if warehouse.engine(names.table) is None:
            raise InputError(
                f"{names.table} is not there in {warehouse.address}; rankline score{names.typed} publishes it"
            )
        rows = warehouse.rows(load("queries/published").text, {"table": names.sets, "user": user})
        made_by = rows or warehouse.rows(load("queries/published_summary").text, {"table": names.sets})
        version, run_id = str(made_by[0]["model_version"]), str(made_by[0]["run_id"])
        if model is None and not run_id:
            raise InputError(f"{names.table} names no run that made it; --model FOLDER says which artifacts did")
        with loaded(model or f"runs:/{run_id}", reporter, names.model) as (scorer, loaded_version):
            label = _label(version, names) if version and model is None else loaded_version.label
            served = next((row for row in rows if row["item_id"] == str(scorer.items.parse(item))), None)
            result = _explained(scorer, user, item, label, served, names)
            ids = [result.item, *(part.item for part in result.past_items)]
            ids += [item for factor in result.factors for item in factor.items]
            ids += [item for item, _, _ in result.reasons.similar_items] if result.reasons else []
            if scorer.model.meta.get("source") != "file":
                result.titles.update(titles(warehouse, ids))
            return result


def _label(version: str, names: Names) -> str:
    """The version that a row names: a number is one of the model whose table it is."""
    return version if "/" in version else f"{names.model}/{version}"


def _explained(
    scorer: Scorer, user: str, item: str, label: str, served: dict[str, object] | None, names: Names
) -> WhyResult:
    user_id, item_id = scorer.users.parse(user), scorer.items.parse(item)
    col = _row(scorer.items, item_id)
    row = _row(scorer.users, user_id)
    if col < 0:
        if row >= 0 and (by_content := _by_content(scorer, row, user_id, item_id, label, names)) is not None:
            return by_content
        raise UnknownItemError(f"Unknown item {item_id!r}: not among the {len(scorer.items)} items of {label}")
    if row < 0 and served is None:
        raise UnknownUserError(
            f"Unknown user {user_id!r}: neither in {names.table} with item {item_id!r} nor among the "
            f"{len(scorer.users)} users of {label}"
        )
    if row < 0:
        n = interactions_with(scorer.model, col)
        explanation, reasons = Explanation(scorer.model.kind, float(n), None, 0, n, None), None
    else:
        explanation, reasons = explain(scorer.model, row, col), _reasons(scorer, row, col)
    cold = cold_items_of(scorer.model)
    return WhyResult(
        user=user_id,
        item=item_id,
        model=label,
        served_rank=int(str(served["rank"])) if served else None,
        served_score=float(str(served["score"])) if served else None,
        source=str(served["source"]) if served else scorer.source,
        fallback=row < 0,
        kind=explanation.kind,
        score=explanation.score,
        rank=explanation.rank,
        n_unseen=explanation.n_unseen,
        n_interactions=explanation.n_interactions,
        confidence=explanation.confidence,
        factors=tuple(FactorReason(f.component, f.contribution, _ids(scorer, f.seen)) for f in explanation.factors),
        past_items=tuple(ItemReason(_id(scorer, p.row), p.contribution, p.score) for p in explanation.past_items),
        members=explanation.members,
        goes_by=explanation.goes_by,
        n_factors=explanation.n_factors,
        n_past_items=explanation.n_past_items,
        level=explanation.level,
        candidate=explanation.candidate,
        reasons=reasons,
        titles={},
        names=names,
        cold_below=cold[0].threshold if cold is not None and col in cold[1] else None,
    )


def _by_content(
    scorer: Scorer, row: int, user: int | str, item: int | str, label: str, names: Names
) -> WhyResult | None:
    """Of an item outside the model that its catalogue has: how like the user's history it is. None for others."""
    others = None if scorer.snapshot is None else scorer.snapshot.others
    other = -1 if others is None else _row(others.ids, item)
    seen = scorer.model.seen
    own = slice(int(seen.indptr[row]), int(seen.indptr[row + 1]))
    rows = seen.indices[own]
    if scorer.snapshot is None or others is None or other < 0 or not rows.size:
        return None
    has_scores = seen.dtype == np.float32
    scores = seen.data[own] if has_scores else np.ones(rows.size, np.float32)
    match = ContentScorer(scorer.snapshot).match(other, rows, scores)
    given = [float(score) if has_scores else None for score in scores]

    parts = tuple(
        ItemReason(_id(scorer, rows[i]), float(match.parts[i]), given[i]) for i in largest(match.parts, rows, _SHOWN)
    )
    like = tuple(
        (_id(scorer, rows[i]), float(match.similarities[i]), given[i])
        for i in largest(match.similarities, rows, _SHOWN)
    )
    genres = genres_match(scorer.snapshot, rows, scores, frozenset(words_of(str(others.genres[other]))))
    return WhyResult(
        user=user,
        item=item,
        model=label,
        served_rank=None,
        served_score=None,
        source=CONTENT,
        fallback=False,
        kind=CONTENT,
        score=match.score,
        rank=None,
        n_unseen=len(scorer.items) - rows.size,
        n_interactions=0,
        confidence=match.confidence,
        factors=(),
        past_items=parts,
        members=(),
        goes_by=(),
        n_factors=0,
        n_past_items=int(np.count_nonzero(match.parts > 0)),
        level=0.0,
        candidate=True,
        reasons=ItemReasons(like, genres, OtherUsers(0, 0, None)),
        titles={str(item): str(others.titles[other])} if others.titles is not None else {},
        names=names,
    )


def _reasons(scorer: Scorer, row: int, col: int) -> ItemReasons:
    known = reasons_for(scorer.model, row, col, scorer.snapshot)
    similar = tuple((_id(scorer, item.row), item.similarity, item.score) for item in known.similar_items)
    return ItemReasons(similar, known.genre_match, known.other_users)


def _id(scorer: Scorer, row: int) -> int | str:
    return _ids(scorer, np.array([row]))[0]


def _ids(scorer: Scorer, rows: NDArray[np.int64]) -> tuple[int | str, ...]:
    return tuple(scorer.items.ids(rows).tolist())


def _row(ids: IdMap, external_id: int | str) -> int:
    if isinstance(external_id, int) and not -(2**63) <= external_id < 2**63:
        return -1
    return int(ids.rows([external_id], missing="negative")[0])
