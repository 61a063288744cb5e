"""The picture of a month: the table's quality by night, what came in, what drifted, and which alerts fired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

__all__ = ["NightFacts", "draw"]

OURS, THEIRS, INK, QUIET, RULE = "#0072b2", "#d55e00", "#1f2430", "#667085", "#dfe3e8"  # as in the report of a run


@dataclass(frozen=True)
class NightFacts:
    """What is drawn of a night.

    Attributes
    ----------
    number, day : from 1; the day whose events came in
    ndcg, before, popular : NDCG@10 of the published lists on the week that follows, of the lists of the night before
        on the same week, and of most popular; NaN where too few users did anything
    n_events, n_new_users, n_new_items : what came in
    how : trained, folded in, nothing, or none
    outcome : what became of the night, in a word
    event : what was done to it; "" for nothing
    drift : name → value over its limit, of the measures that have one
    alerts : kinds
    seconds : of the nightly job
    """

    number: int
    day: date
    ndcg: float
    before: float
    popular: float
    n_events: int
    n_new_users: int
    n_new_items: int
    how: str
    outcome: str
    event: str = ""
    drift: Mapping[str, float] = field(default_factory=dict)
    alerts: tuple[str, ...] = ()
    seconds: float = 0.0
    version: str = ""


def draw(nights: Sequence[NightFacts], what: str, path: Path) -> None:
    """Draw the month into a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams |= {
        "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": QUIET,
        "text.color": INK, "axes.labelcolor": QUIET, "xtick.color": QUIET, "ytick.color": QUIET,
    }  # fmt: skip
    days = [night.day for night in nights]
    figure, axes = pyplot.subplots(4, 1, figsize=(10, 9), sharex=True, gridspec_kw={"height_ratios": [3, 1.6, 2, 1.6]})
    quality, load, drift, alerts = axes
    for night in nights:
        if night.event:
            for axis in axes:
                axis.axvspan(*_around(night.day), color=RULE, zorder=0)
            quality.annotate(
                night.event, (night.day, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8
            )
    quality.plot(days, [n.ndcg for n in nights], color=OURS, marker="o", markersize=4, label="the published table")
    quality.plot(
        days,
        [n.before for n in nights],
        color=OURS,
        linestyle=":",
        linewidth=1.2,
        label="the table of the night before",
    )
    quality.plot(days, [n.popular for n in nights], color=THEIRS, label="most popular")
    for night in nights:
        if night.how == "trained":
            quality.plot(night.day, night.ndcg, marker="D", color=OURS, markersize=7)
    quality.plot([], [], marker="D", color=OURS, linestyle="", label="trained that night")
    quality.set_ylim(bottom=0)
    quality.set_ylabel("NDCG@10 on the\nweek that follows")
    quality.legend(frameon=False, fontsize=8, ncols=4, loc="lower left")
    load.bar(days, [n.n_events for n in nights], color=RULE, edgecolor=QUIET, linewidth=0.5, label="interactions")
    load.plot(days, [n.n_new_users for n in nights], color=OURS, linewidth=1.2, label="new users")
    load.plot(days, [n.n_new_items for n in nights], color=THEIRS, linewidth=1.2, label="new films")
    load.set_ylabel("came in\nthat day")
    load.legend(frameon=False, fontsize=8, ncols=3, loc="upper left")
    for i, name in enumerate(sorted({name for night in nights for name in night.drift})):
        values = [night.drift.get(name, float("nan")) for night in nights]
        drift.plot(days, values, label=name, linewidth=1.2, marker=".", linestyle=("-", "--", "-.", ":")[i // 10 % 4])
    drift.axhline(1, color=INK, linewidth=0.8)
    drift.set_ylabel("drift, as a share\nof its limit")
    drift.set_ylim(0, 2)
    drift.legend(frameon=False, fontsize=7, ncols=4, loc="upper left")
    kinds = sorted({kind for night in nights for kind in night.alerts}) or ["none"]
    for row, kind in enumerate(kinds):
        fired = [night.day for night in nights if kind in night.alerts]
        alerts.plot(fired, [row] * len(fired), marker="s", linestyle="", color=THEIRS, markersize=7)
    alerts.set_yticks(range(len(kinds)), kinds)
    alerts.set_ylim(-0.7, len(kinds) - 0.3)
    alerts.set_xlabel(what)
    alerts.set_xlim(days[0] - timedelta(days=1), days[-1] + timedelta(days=1))
    figure.align_ylabels(axes)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _around(day: date) -> tuple[float, float]:
    from matplotlib.dates import date2num

    at = float(date2num(day))
    return at - 0.5, at + 0.5
