"""A run's report: one HTML page that holds everything it shows and asks nobody for anything.

Titles, genres, ids and addresses are outside input: they reach the page as text, through the templates'
escaping. Only pictures are put in as they are, and those hold no such text but what was escaped as it was drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.evaluation.popularity import PopularityConcentration
from pipeline.evaluation.report.candidates import CandidateRow
from pipeline.evaluation.report.plots import themed
from pipeline.evaluation.report.scores import METRICS, ScoreRow
from pipeline.evaluation.report.verdicts import AgainstLine, headline
from pipeline.evaluation.significance import Lift
from pipeline.models import registry
from pipeline.ranking.factors import FactorDescription, GenreShare, name_of

__all__ = ["ItemName", "ReportPage", "UserExample", "clean", "factor_name", "render", "verdict_sentence"]

SHOWN_FACTORS, SHOWN_ITEMS, _SHOWN_GENRES, _SHOWN_LISTED = 40, 8, 4, 8
_STRONG = 0.8  # of all predictions: the factors that have it together are shown, the others folded
_LONGEST = 120  # characters of a title
_ALT = {
    "loss": "Loss after each iteration",
    "candidates": "Metric of each candidate on the validation part with intervals",
    "metrics": "Metrics of the model and its baselines with intervals",
    "recommended_share": "Share of the most popular items in interactions and in recommendations",
    "recommended_items": "Interactions of each item and the lists it is in",
    "factors": "Size of each factor",
}


@dataclass(frozen=True)
class ItemName:
    """What an item is called: its title, else its id; and its genres."""

    title: str
    genres: tuple[str, ...] = ()


@dataclass(frozen=True)
class UserExample:
    """One user: the items that they liked best, with the score, and those recommended, best first, by row."""

    user: str
    n_seen: int
    liked: Sequence[tuple[int, float]]
    recommended: Sequence[int]


@dataclass(frozen=True, eq=False)
class ReportPage:
    """What the page says; everything but the first three may be missing.

    Attributes
    ----------
    title, run_id : of the run
    facts : (what, value) of the data and the model, in words
    score_rows : the model first, then its baselines
    lift : over most popular
    exposure, factors : as measured; `genres` by a factor's number
    names : item row → what it is called
    pictures : name → SVG, see `pipeline.evaluation.report.plots`
    messages : what was left out, and what a person should know
    usage : (what for, command)
    against : how the model fares against each of those it is compared with
    example : one user's list
    chosen : how the model was chosen, "" where it was named
    candidate_titles, candidates : the table of the models that it was chosen from, the winner first
    """

    title: str
    run_id: str
    facts: Sequence[tuple[str, str]]
    score_rows: Sequence[ScoreRow] = ()
    lift: Lift | None = None
    exposure: PopularityConcentration | None = None
    factors: Sequence[FactorDescription] = ()
    genres: Mapping[int, Sequence[GenreShare]] = field(default_factory=dict)
    names: Mapping[int, ItemName] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    messages: Sequence[str] = ()
    usage: Sequence[tuple[str, str]] = ()
    against: Sequence[AgainstLine] = ()
    example: UserExample | None = None
    chosen: str = ""
    candidate_titles: Sequence[str] = ()
    candidates: Sequence[CandidateRow] = ()


def render(page: ReportPage) -> str:
    """The page as HTML."""
    living = [factor for factor in page.factors if factor.items]
    cards = [_card(page, factor) for factor in living[:SHOWN_FACTORS]]
    strong = _strong([factor.mass for factor in living[:SHOWN_FACTORS]])
    example = page.example
    return (
        _templates()
        .get_template("report.html.j2")
        .render(
            page=page,
            verdict=verdict_sentence(page.lift, page.score_rows),
            better=None if page.lift is None else page.lift.better_than_popular,
            pictures=dict.fromkeys(_ALT)
            | {
                # Markup: this project's own drawing, see `themed`.
                name: Markup(themed(picture, name.replace("_", "-"), _ALT.get(name, name)))  # noqa: S704
                for name, picture in page.pictures.items()
            },
            metrics=[
                (key, label) for key, label in METRICS.items() if any(key in row.metrics for row in page.score_rows)
            ],
            cards=cards[:strong],
            weak=cards[strong:],
            liked=[] if example is None else [(_name(page, row), score) for row, score in example.liked],
            recommended=[] if example is None else [_name(page, row) for row in example.recommended],
            has_genres=any(card["genres"] for card in cards),
            # One scale for the bars of all cards.
            widest=max((max(share, usual) for card in cards for _, share, usual in card["genres"]), default=1.0),
            further=living[SHOWN_FACTORS:],
            empty=[factor.number for factor in page.factors if not factor.items],
            head=None if page.exposure is None or not page.exposure.n_lists else page.exposure.head(),
            listed=[
                (_name(page, row), share, place) for row, share, place in page.exposure.most_recommended(_SHOWN_LISTED)
            ]
            if page.exposure is not None
            else [],
        )
    )


def verdict_sentence(lift: Lift | None, score_rows: Sequence[ScoreRow]) -> str:
    """How the model fares beside most popular, in one breath."""
    if lift is None:
        ndcg = {row.name: row.metrics.get("ndcg_at_10") for row in score_rows}
        of_model = next(iter(ndcg.values()), None)  # the model's is the first row
        popular = ndcg.get(registry.POPULAR)
        if of_model is None or popular is None:
            return "This model was not evaluated, since nothing was held out."
        return f"NDCG@10 is {of_model:.4f} on what was held out; most popular has {popular:.4f}."
    return f"NDCG@10 {lift.comparison.mean_b:.4f}: {headline(lift)}."


def factor_name(number: int, genres: Sequence[GenreShare]) -> str:
    """``Factor 3 · Sci-Fi, Action``; where no genre is known, the number alone."""
    name = name_of(genres)
    return f"Factor {number} · {clean(name)}" if name else f"Factor {number}"


def clean(text: str) -> str:
    """Outside text on one line: no control or direction characters, and no more than a line of it."""
    text = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * _LONGEST])
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "…"


def _name(page: ReportPage, row: int) -> ItemName:
    known = page.names.get(row, ItemName(f"item {row}"))
    return ItemName(clean(known.title), tuple(clean(genre) for genre in known.genres))


def _card(page: ReportPage, factor: FactorDescription) -> dict[str, Any]:
    genres = page.genres.get(factor.number, ())
    return {
        "factor": factor,
        "name": factor_name(factor.number, genres),
        "items": [(_name(page, item.row), item.of_item) for item in factor.items[:SHOWN_ITEMS]],
        "genres": [(clean(genre.name), genre.share, genre.usual) for genre in genres[:_SHOWN_GENRES]],
    }


def _strong(mass: Sequence[float]) -> int:
    """How many of the factors, the largest first, have most of the predictions; at least three."""
    before = accumulate(mass, initial=0.0)
    return max(3, sum(share < _STRONG * sum(mass) for share in list(before)[:-1]))


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline.evaluation.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    return environment


def _percent(share: float) -> str:
    """``12%``, ``3.4%``, ``< 0.1%``."""
    if 0 < share < 0.001:
        return "< 0.1%"
    return f"{share:.1%}" if share < 0.0995 else f"{share:.0%}"
