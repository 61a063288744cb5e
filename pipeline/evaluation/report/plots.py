"""Pictures of a run as SVG bytes: the same input gives the same bytes.

Colours are those of Okabe and Ito, which colour-blind people tell apart; what differs in colour differs in
form or place too. `themed` gives a picture for a page: its colours are the page's, light or dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter
from numpy.typing import NDArray

from pipeline.evaluation.popularity import PopularityConcentration
from pipeline.evaluation.report.candidates import CandidateRow
from pipeline.evaluation.report.scores import METRICS, ScoreRow

__all__ = [
    "candidates_with_intervals",
    "factor_sizes",
    "loss_curve",
    "metrics_beside_baselines",
    "recommended_by_item",
    "recommended_share",
    "themed",
]

# Each colour has a name that the page's style sheet gives a value, for light and for dark.
COLOURS = {"ours": "#0072b2", "theirs": "#d55e00", "ink": "#1f2430", "quiet": "#667085", "rule": "#dfe3e8"}
_STYLE: Any = {  # Any: matplotlib spells out every key as a type
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched, and takes the page's font
    "svg.hashsalt": "rankline",  # ids by content, not by chance
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.parse_math": False,  # a $ is a $
    "axes.unicode_minus": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": COLOURS["quiet"],
    "axes.labelcolor": COLOURS["quiet"],
    "axes.titlecolor": COLOURS["ink"],
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["quiet"],
    "ytick.color": COLOURS["quiet"],
    "grid.color": COLOURS["rule"],
    "grid.linewidth": 0.8,
    "lines.linewidth": 2,
    "savefig.transparent": True,
}
_WIDTH, _HEIGHT = 4.7, 2.9  # inches: at a phone's width the text is still some 10 px
_POINTS, _MARKS = 400, 800  # a curve's points and a cloud's marks, at most
_LABEL = 36  # letters of a factor's name, at most: there must be room for its bar


def loss_curve(losses: Sequence[float] | NDArray[np.float64]) -> bytes:
    """The loss after each iteration, from 1."""
    values = np.asarray(losses, np.float64)
    with mpl.rc_context(_STYLE):
        figure, axes = _figure()
        if values.size:
            at = _thinned(values.size)
            axes.plot(at + 1, values[at], color=COLOURS["ours"], marker="o" if values.size == 1 else None)
            axes.plot([values.size], [values[-1]], "o", color=COLOURS["ours"], markersize=5)
            axes.annotate(
                f"{values[-1]:,.4g}", (values.size, values[-1]), (0, 8), textcoords="offset points", ha="right"
            )
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.10g}"))
        axes.grid(axis="y")
        axes.set_xlabel("iteration")
        axes.set_title("Loss after each iteration")
        return _svg(figure)


def metrics_beside_baselines(score_rows: Sequence[ScoreRow]) -> bytes:
    """NDCG@10 and recall@10 of each, a dot and its 95% interval; the first is the model itself."""
    shown = [metric for metric in ("ndcg_at_10", "recall_at_10") if any(metric in row.metrics for row in score_rows)]
    with mpl.rc_context(_STYLE):
        figure = Figure((_WIDTH, 1.15 + 0.36 * max(len(score_rows), 1)), layout="constrained")
        panels = figure.subplots(1, max(len(shown), 1), sharey=True, squeeze=False)[0]
        for axes, metric in zip(panels, shown, strict=False):
            for place, row in enumerate(score_rows):
                if metric not in row.metrics:
                    continue
                colour, mark = (COLOURS["ours"], "o") if place == 0 else (COLOURS["quiet"], "D")
                if metric in row.intervals:
                    interval = row.intervals[metric]
                    axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=2.2)
                axes.plot([row.metrics[metric]], [place], mark, color=colour, markersize=8 if place == 0 else 5.5)
            axes.set_title(METRICS[metric])
            axes.set_xlim(left=0)
            axes.set_ylim(len(score_rows) - 0.5, -0.5)
            axes.set_yticks(range(len(score_rows)), [row.label for row in score_rows])
            axes.tick_params(axis="y", length=0, labelcolor=COLOURS["ink"])
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.spines["left"].set_visible(False)
            axes.grid(axis="x")
        return _svg(figure)


def candidates_with_intervals(rows: Sequence[CandidateRow], metric: str) -> bytes:
    """The metric of each candidate on the validation part, a dot and its 95% interval; the winner is the first."""
    with mpl.rc_context(_STYLE):
        figure = Figure((_WIDTH, 0.9 + 0.27 * max(len(rows), 1)), layout="constrained")
        axes = figure.subplots()
        for place, row in enumerate(rows):
            colour, mark = (COLOURS["ours"], "o") if place == 0 else (COLOURS["quiet"], "D")
            axes.plot([row.interval.low, row.interval.high], [place, place], color=colour, linewidth=2.2)
            axes.plot([row.interval.value], [place], mark, color=colour, markersize=8 if place == 0 else 5.5)
        axes.set_xlim(left=0)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks(range(len(rows)), [row.model for row in rows])
        axes.tick_params(axis="y", length=0, labelcolor=COLOURS["ink"])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_title(f"{metric} on the validation part")
        return _svg(figure)


def recommended_share(exposure: PopularityConcentration) -> bytes:
    """What share of interactions, and of recommendations, the most popular items have."""
    consumed, recommended = exposure.cumulative()
    n = consumed.size
    with mpl.rc_context(_STYLE):
        figure, axes = _figure()
        if n:
            at = np.unique(np.geomspace(1, n, min(n, _POINTS)).round().astype(np.int64)) - 1
            x = (at + 1) / n
            axes.plot(x, recommended[at], color=COLOURS["ours"], label="recommendations")
            axes.plot(x, consumed[at], color=COLOURS["theirs"], linestyle=(0, (4, 1.6)), label="interactions")
            # Below the diagonal, where the most popular items' share of interactions can't be.
            axes.legend(loc="lower right", frameon=False, labelcolor="linecolor", borderaxespad=0.2)
            axes.set_xscale("log")
            axes.set_xlim(1 / max(n, 2), 1)
        axes.set_ylim(0, 1.02)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g}%"))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid()
        axes.set_xlabel("most popular share of the catalogue")
        axes.set_title("Share of the most popular items in …")
        return _svg(figure)


def recommended_by_item(exposure: PopularityConcentration) -> bytes:
    """Each recommended item: its interactions across, the lists it is in upwards; at most 800 of them."""
    rows = np.flatnonzero((exposure.times > 0) & (exposure.popularity > 0))
    if rows.size > _MARKS:
        # Every n-th in the order of how often: the cloud keeps its form, and its ends.
        rows = rows[np.argsort(exposure.times[rows], kind="stable")]
        rows = rows[np.linspace(0, rows.size - 1, _MARKS).astype(np.intp)]
    with mpl.rc_context(_STYLE):
        figure, axes = _figure()
        if rows.size:
            x, y = exposure.popularity[rows], exposure.times[rows]
            axes.plot(x, y, "o", color=COLOURS["ours"], markersize=3.6, alpha=0.5, markeredgewidth=0)
            ends = np.array([max(1, int(x.min())), max(2, int(exposure.popularity.max()))])
            fair = ends * (exposure.times.sum() / exposure.popularity.sum())
            axes.plot(ends, fair, color=COLOURS["theirs"], linewidth=1.6, linestyle=(0, (4, 1.6)))
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_ylim(0.8, max(2.0, float(y.max()) * 1.5))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.grid()
        axes.set_xlabel("interactions in training · dashed: recommended in proportion")
        axes.set_title(f"Lists of {exposure.k} that each item is in")
        return _svg(figure)


def factor_sizes(names: Sequence[str], mass: Sequence[float], users: Sequence[float]) -> bytes:
    """Each factor's share of all predictions (a bar) and of the users who lean on it most (a mark)."""
    with mpl.rc_context(_STYLE):
        figure = Figure((_WIDTH, 0.9 + 0.235 * max(len(names), 1)), layout="constrained")
        axes = figure.subplots()
        places = np.arange(len(names))
        axes.barh(places, mass, height=0.62, color=COLOURS["ours"])
        axes.plot(users, places, "D", color=COLOURS["theirs"], markersize=4.5)
        axes.set_yticks(places, [name if len(name) <= _LABEL else name[: _LABEL - 1] + "…" for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0, labelcolor=COLOURS["ink"])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(axis="x")
        figure.suptitle(
            "Share of predictions (bar), of users who lean on it most (◆)",
            x=0.01,
            ha="left",
            fontsize=9.5,
            weight="bold",
        )
        return _svg(figure)


def themed(picture: bytes, name: str, label: str) -> str:
    """A picture of this file as an element of a page; `name` keeps its ids apart from other pictures'.

    Nothing but what this file drew comes here: the text in it was escaped when it was drawn.
    """
    text = picture.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)  # it would be the whole page's
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, value in COLOURS.items():
        text = text.replace(value, f"var(--{colour})")
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups()  # type: ignore[union-attr]
    head = f'<svg class="picture" role="img" aria-label="{label}" viewBox="0 0 {width} {height}"'
    return re.sub(r"<svg [^>]*>", head + ' xmlns:xlink="http://www.w3.org/1999/xlink">', text, count=1, flags=re.DOTALL)


def _figure() -> tuple[Figure, Axes]:
    figure = Figure((_WIDTH, _HEIGHT), layout="constrained")
    return figure, figure.subplots()


def _thinned(n: int) -> NDArray[np.intp]:
    """At most `_POINTS` positions of n, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, _POINTS)).round().astype(np.intp))


def _svg(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()
