"""What a search leaves for people to look at: the table of trials, the picture of its way, a page in Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.beside import verdict_in_words
from pipeline.judge import lift_metrics
from pipeline.study import Trial
from pipeline.tune import Tuned

__all__ = ["TITLES", "command_of", "history_picture", "page", "trials_table", "verdict"]

# What people read of `Tuned.test` and `Tuned.baselines`.
TITLES = {
    "tuned": "tuned",
    "default": "the defaults",
    "popular": "most popular",
    "recent": "recently popular",
    "item_knn": "item-kNN",
}


def trials_table(trials: Sequence[Trial], metric: str) -> str:
    """CSV, a row a trial: number, state, the metric, seconds, its options, the reason of a failure."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.options))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["number", "state", f"validation_{metric}", "seconds", *names, "reason"])
    for trial in trials:
        options = ["none" if (value := trial.options.get(name)) is None else value for name in names]
        value = "" if trial.value is None else trial.value
        table.writerow([trial.number, trial.state, value, round(trial.seconds, 3), *options, trial.reason])
    return text.getvalue()


def history_picture(trials: Sequence[Trial], metric: str, beside: Mapping[str, float]) -> Any:
    """Each trial's value and the best so far, with the baselines (`Tuned.baselines`) as lines: a matplotlib figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for state, marker, colour in (("complete", "o", "#1f77b4"), ("pruned", "x", "#999999"), ("failed", "|", "#d62728")):
        # A failed one has no value: a stroke at the foot says that it was tried.
        shown = [(one.number, one.value or 0.0) for one in trials if one.state == state]
        if shown:
            numbers, values = zip(*shown, strict=True)
            axes.scatter(numbers, values, s=28, c=colour, marker=marker, label=state)
    best: list[tuple[int, float]] = []
    for one in trials:
        if one.state == "complete" and one.value is not None and (not best or one.value > best[-1][1]):
            best.append((one.number, one.value))
    if best:
        best.append((trials[-1].number, best[-1][1]))
        numbers, values = zip(*best, strict=True)
        axes.step(numbers, values, where="post", color="#1f77b4", alpha=0.6, label="best so far")
    for (name, value), style in zip(beside.items(), ("--", ":", "-."), strict=False):
        axes.axhline(value, color="#555555", linestyle=style, linewidth=1, label=TITLES[name])
    axes.set(xlabel="trial (0: the defaults)", ylabel=f"validation {metric}", ylim=(0, None))
    figure.legend(loc="outside right upper", frameon=False)  # beside the lines, not on one
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def command_of(options: Mapping[str, Any]) -> str:
    """The options as they are typed."""
    return " ".join(
        f"--{name.replace('_', '-')} {'none' if value is None else value}" for name, value in options.items()
    )


def page(tuned: Tuned, version: str | None) -> str:
    """The run's page: the test part's table, what was searched, the winner as a command."""
    metric, states = tuned.metric, [one.state for one in tuned.trials]
    lines = [f"| {metric} on the test part, which the search never saw | |", "|---|---|"]
    lines += [f"| {TITLES[name]} | {found.metrics[metric]:.4f} |" for name, found in tuned.test.items()]
    lines += ["", verdict(tuned), ""]
    lines.append(
        f"{len(states)} trials: {states.count('complete')} complete, {states.count('pruned')} pruned, "
        f"{states.count('failed')} failed. The best is trial {tuned.best.number}, {tuned.best.value:.4f} on the "
        f"validation part ({', '.join(f'{TITLES[name]}: {value:.4f}' for name, value in tuned.baselines.items())})."
    )
    lines += ["", f"`rankline train {command_of(tuned.best.options)}`"]
    if version is not None:
        lines += ["", f"Trained on everything and registered as rankline/{version}."]
    return "\n".join(lines)


def verdict(tuned: Tuned) -> str:
    """The winner beside most popular on the test part: `verdict_in_words`, and what it is about."""
    words = verdict_in_words(lift_metrics(tuned.lift), tuned.lift.better_than_popular)
    return f"{words} ({tuned.metric} on the test part, 95 % interval)"
