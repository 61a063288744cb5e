"""Pictures and the page: what they are given is what they show, the same bytes, and nothing gets in as markup."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.evaluation.popularity import PopularityConcentration
from pipeline.evaluation.report import plots
from pipeline.evaluation.report.html import (
    ItemName,
    ReportPage,
    UserExample,
    clean,
    factor_name,
    render,
    verdict_sentence,
)
from pipeline.evaluation.report.scores import ScoreRow, score_rows
from pipeline.evaluation.report.verdicts import AgainstLine, against, against_champion
from pipeline.evaluation.results import Evaluation
from pipeline.evaluation.significance import Interval, Lift, lift_over_popular
from pipeline.evaluation.storage import StoredEvaluation
from pipeline.ranking.factors import describe_factors, genres_of_factors

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}$x^$"
RNG = np.random.default_rng(3)
W, H = RNG.random((50, 3), np.float32), RNG.random((3, 40), np.float32)
H[2] = 0
FACTORS = describe_factors(W, H)
EXPOSURE = PopularityConcentration(np.arange(40, 0, -1), np.arange(40) % 7, 50, 50, 10)
STANDINGS = (
    ScoreRow("nmf", "This model", {"ndcg_at_10": 0.12, "recall_at_10": 0.06, "coverage_at_10": 0.061},
             {"ndcg_at_10": Interval(0.12, 0.1077, 0.1356)}),
    ScoreRow("popular", "Most popular", {"ndcg_at_10": 0.08, "recall_at_10": 0.04, "popularity_lift_at_10": 3.08}, {}),
)  # fmt: skip
DRAWN = {
    "loss": lambda: plots.loss_curve([3.0, 2.0, 1.5]),
    "metrics": lambda: plots.metrics_beside_baselines(STANDINGS),
    "recommended_share": lambda: plots.recommended_share(EXPOSURE),
    "recommended_items": lambda: plots.recommended_by_item(EXPOSURE),
    "factors": lambda: plots.factor_sizes([EVIL, "Factor 1 $x^$"], [0.6, 0.4], [0.3, 0.7]),
}


class Seen(HTMLParser):
    """Tags that are opened, attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def full(**changed: object) -> ReportPage:
    names = {row: ItemName(f"Title {row}", ("Drama",)) for row in range(40)}
    given = {
        "title": "NMF k=3 · warehouse 50x40",
        "run_id": "abc",
        "facts": [("Users", "50")],
        "score_rows": STANDINGS,
        "exposure": EXPOSURE,
        "factors": FACTORS,
        "genres": genres_of_factors(FACTORS, {row: name.genres for row, name in names.items()}),
        "names": names,
        "pictures": {name: draw() for name, draw in DRAWN.items()},
        "messages": ["something was left out"],
        "usage": [("A list", "rankline recommend 1")],
        "against": [AgainstLine("item-kNN", "unclear", "no telling apart, +1 % [-6, 8]")],
        "example": UserExample("7", 12, [(3, 5.0), (4, 4.5)], [8, 9]),
    }
    return ReportPage(**{**given, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DRAWN)
def test_the_same_input_gives_the_same_well_formed_bytes(name: str) -> None:
    picture = DRAWN[name]()
    assert picture == DRAWN[name]()
    assert ET.fromstring(picture).tag.endswith("svg")
    assert b"dc:date" not in picture
    assert b"NaN" not in picture
    assert b"nan" not in picture
    themed = plots.themed(picture, name, "what it shows")
    ET.fromstring(themed)
    assert not any(colour in themed for colour in plots.COLOURS.values())


def test_pictures_say_what_they_were_given() -> None:
    def text(picture: bytes) -> set[str]:
        return {(e.text or "").strip() for e in ET.fromstring(picture).iter() if e.tag.endswith("text")}

    assert {"1.5", "iteration"} <= text(plots.loss_curve([3.0, 2.0, 1.5]))
    assert {"This model", "Most popular", "NDCG@10", "Recall@10"} <= text(DRAWN["metrics"]())
    assert {EVIL[:35] + "…", "Factor 1 $x^$"} <= text(DRAWN["factors"]())


@pytest.mark.parametrize("losses", [[], [1.0], [5.0] * 3, [float(n) for n in range(10_000, 0, -1)]])
def test_any_number_of_iterations(losses: list[float]) -> None:
    assert len(plots.loss_curve(losses)) < 30_000


def test_edges_of_the_other_pictures() -> None:
    nothing = PopularityConcentration(np.zeros(3, np.int64), np.zeros(3, np.int64), 0, 0, 10)
    first = PopularityConcentration(np.array([5]), np.array([2]), 2, 2, 10)
    for exposure in (nothing, first, PopularityConcentration(np.zeros(0, np.int64), np.zeros(0, np.int64), 0, 0, 10)):
        ET.fromstring(plots.recommended_share(exposure))
        ET.fromstring(plots.recommended_by_item(exposure))
    ET.fromstring(plots.metrics_beside_baselines(()))
    ET.fromstring(plots.metrics_beside_baselines((ScoreRow("nmf", "This model", {}, {}),)))


def test_a_huge_catalogue_makes_no_huge_picture() -> None:
    n = 300_000
    exposure = PopularityConcentration(np.arange(n, 0, -1), np.arange(1, n + 1), n, n, 10)
    assert plots.recommended_by_item(exposure).count(b"<use") < 900
    assert len(plots.recommended_share(exposure)) < 60_000


def test_titles_genres_and_names_from_outside_are_text() -> None:
    names = {row: ItemName(EVIL, (EVIL,)) for row in range(40)}
    page = full(
        title=EVIL,
        names=names,
        genres=genres_of_factors(FACTORS, dict.fromkeys(range(40), (EVIL,))),
        facts=[(EVIL, EVIL)],
        messages=[EVIL],
        usage=[(EVIL, EVIL)],
        score_rows=(ScoreRow(EVIL, EVIL, {"ndcg_at_10": 0.1}, {}),),
        against=[AgainstLine(EVIL, None, EVIL)],
        example=UserExample(EVIL, 2, [(1, 1.0)], [2]),
    )
    html = render(page)
    seen = Seen(html)
    assert not {"script", "img", "iframe", "link", "object", "base", "form"} & set(seen.tags)
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert seen.text.count(EVIL) > 20
    assert "{{ 7*7 }}" in seen.text


def test_it_asks_nobody_for_anything() -> None:
    html = render(full())
    seen = Seen(html)
    assert not [1 for name, value in seen.attributes if name in ("src", "srcset", "action", "data")]
    refs = [value for name, value in seen.attributes if name.endswith("href")]
    assert refs
    assert all(ref and ref.startswith("#") for ref in refs)
    assert not re.search(r"url\((?!#)|@import", html)
    assert "default-src 'none'" in html


def test_ids_of_pictures_are_the_pages_only_ones_and_all_are_found() -> None:
    seen = Seen(render(full()))
    ids = [value for name, value in seen.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    used = {(value or "")[1:] for name, value in seen.attributes if name.endswith("href")}
    used |= set(re.findall(r"url\(#([^)]+)\)", " ".join(value or "" for _, value in seen.attributes)))
    assert used <= set(ids)


def test_the_page_says_what_it_was_given() -> None:
    text = " ".join(Seen(render(full())).text.split())
    for said in (
        "NMF k=3 · warehouse 50x40", "0.1200", "0.1077 – 0.1356", "6.1%", "3.08×", "something was left out",
        "against item-kNNno telling apart, +1 % [-6, 8]", "User 7 has 12 interactions", "Title 3Drama5",
        "Popularity lift: how popular", "rankline recommend 1", "Lists of 10 for all 50 users",
        "Without any weight: factor 2.", "mostly Drama",
    ):  # fmt: skip
        assert said in text, said
    for factor in FACTORS[:2]:
        assert f"Factor {factor.number} · mostly Drama" in text
        assert f"Title {factor.items[0].row}Drama" in text


def test_without_anything_but_a_name_it_is_still_a_page() -> None:
    html = render(ReportPage("a run", "abc", []))
    text = " ".join(Seen(html).text.split())
    assert "This model was not evaluated" in text
    assert "What the factors mean" not in text
    assert "None" not in text
    assert "Undefined" not in text


def test_without_titles_ids_stand_for_items() -> None:
    names = {row: ItemName(f"item-{row:03d}") for row in range(40)}
    text = Seen(render(full(names=names, genres={}))).text
    assert f"item-{FACTORS[0].items[0].row:03d}" in text
    assert f"Factor {FACTORS[0].number}\n" in text
    assert "usual share" not in text


def test_weak_factors_are_folded() -> None:
    """Those beyond the ones that have four fifths of all predictions, but never of the first three."""
    w = np.full((5, 6), 0.01, np.float32)
    w[:, :4] = [4.0, 4.0, 3.5, 3.5]
    html = render(full(factors=describe_factors(w, np.ones((6, 9), np.float32)), genres={}))
    shown, folded = html.split("<details>")
    assert (shown.count("<article"), folded.count("<article")) == (4, 2)
    assert "2 weaker factors, together < 0.1%" in folded or "2 weaker factors, together 0.1%" in folded
    assert "<details>" not in render(full(genres={}))


def test_on_a_phone_no_line_is_wider_than_the_page() -> None:
    """A command wraps there: as one line it would stretch the page."""
    html = render(full(usage=[("A list", "rankline recommend " + "x" * 300)]))
    phone = html[html.index("@media (max-width: 520px)") : html.index("</style>")]
    assert re.search(r"pre {[^}]*white-space: pre-wrap[^}]*overflow-wrap: anywhere", phone)
    assert "grid-template-columns: minmax(0, 1fr)" in html


def test_many_factors_are_counted_not_shown() -> None:
    factors = describe_factors(RNG.random((5, 60), np.float32), RNG.random((60, 9), np.float32))
    html = render(full(factors=factors, genres={}))
    assert html.count("<article") == 40
    assert "20 smaller factors, together" in html


ODD = np.arange(40) % 2


@pytest.mark.parametrize(
    ("mine", "popular", "start"),
    [
        (0.5 + ODD / 10, np.full(40, 0.25), "NDCG@10 0.5500: 120 % better than most popular."),
        (np.full(40, 0.2), 0.25 + ODD / 10, "NDCG@10 0.2000: 33 % worse than most popular."),
        (ODD * 0.52, (1 - ODD) * 0.5, "NDCG@10 0.2600: no telling it and most popular apart."),
        (
            np.full(40, 0.2),
            np.zeros(40),
            "NDCG@10 0.2000: better than most popular, which finds nothing at all.",
        ),
    ],
)
def test_verdicts(mine: np.ndarray, popular: np.ndarray, start: str) -> None:
    assert verdict_sentence(lift_over_popular(mine, popular), ()).startswith(start)


def test_verdict_with_an_end_that_is_infinite_and_without_a_lift() -> None:
    comparison = lift_over_popular(np.ones(3), np.full(3, 0.5)).comparison
    endless = Lift(Interval(1.0, -0.25, float("inf")), comparison, "unclear")
    assert verdict_sentence(endless, ()) == "NDCG@10 1.0000: no telling it and most popular apart."
    assert against("most popular", endless).words == "no telling apart, +100 % [-25, ∞]"
    assert verdict_sentence(None, STANDINGS) == "NDCG@10 is 0.1200 on what was held out; most popular has 0.0800."


def test_outside_text_is_made_one_short_line() -> None:
    assert clean("a\x00b\u202ec\nd") == "a b c d"
    assert len(clean("x" * 10**6)) == 120
    assert clean("Amélie — 千と千尋") == "Amélie — 千と千尋"
    assert factor_name(3, ()) == "Factor 3"


def evaluation(values: np.ndarray) -> Evaluation:
    n = values.size
    counts = np.ones(n, np.int64)
    metrics = {"ndcg_at_10": float(np.nanmean(values)), "coverage_at_10": 0.5, "mrr_at_10": 0.1}
    return Evaluation((10,), np.arange(n), counts, counts, np.zeros(n, np.int8), (1, 2),
                      {"ndcg_at_10": values}, metrics, {}, (), "digest")  # fmt: skip


def test_standings_of_evaluations() -> None:
    values = np.r_[np.arange(50) / 50, np.nan]
    given = Interval(0.3, 0.2, 0.4)
    first, second = score_rows({"nmf": evaluation(values), "my_own": evaluation(values)}, {"nmf": given})
    assert (first.label, second.label) == ("This model", "my own")
    assert first.metrics == {"ndcg_at_10": pytest.approx(0.49), "coverage_at_10": 0.5}
    assert first.intervals == {"ndcg_at_10": given}
    value, low, high = second.intervals["ndcg_at_10"]
    assert value == pytest.approx(0.49)
    assert low < 0.49 < high
    assert score_rows({}) == ()


def test_of_many_users_the_interval_is_the_normal_one() -> None:
    values = np.random.default_rng(0).random(30_000)
    (first,) = score_rows({"nmf": evaluation(values)})
    half = 1.96 * values.std(ddof=1) / np.sqrt(30_000)
    assert first.intervals["ndcg_at_10"] == pytest.approx((values.mean(), values.mean() - half, values.mean() + half))


def stored(values: np.ndarray, split: str = "digest") -> StoredEvaluation:
    n, ids = values.size, np.arange(values.size)
    zeros = np.zeros(n, np.int64)
    return StoredEvaluation("rankline/3", "latest", {}, split, "data", ids, zeros, zeros.astype(np.int8),
                            {"ndcg_at_10": values}, np.empty(0, np.int64), zeros)  # fmt: skip


def test_against_the_champion() -> None:
    values = 0.5 + ODD / 10
    held_out = SimpleNamespace(evaluations={"nmf": evaluation(values)}, split=SimpleNamespace(digest="digest"))
    line = against_champion(held_out, "nmf", "data", stored(values[:30] / 2))  # type: ignore[arg-type]
    assert line == ("rankline/3, the champion", "yes", "better, +100 % [100, 100]")
    for digest, split in (("other", "digest"), ("data", "other")):
        line = against_champion(held_out, "nmf", digest, stored(values, split))  # type: ignore[arg-type]
        assert line.better is None
        assert "other data or another split" in line.words
