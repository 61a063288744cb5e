"""The report of a search: the table of trials, the picture of their values, a page in Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.evaluation.holdout import lift_metrics
from pipeline.evaluation.report.summary import verdict_in_words
from pipeline.models import registry
from pipeline.training.study import Trial
from pipeline.training.tune import Tuned

__all__ = ["TITLES", "command_of", "history_picture", "page", "train_command", "trials_table", "verdict"]

# Display names of the keys of `Tuned.test` and `Tuned.baselines`.
TITLES = {
    "tuned": "tuned",
    "default": "the defaults",
    **registry.display_names(),
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


def history_picture(trials: Sequence[Trial], metric: str, baselines: Mapping[str, float]) -> Any:
    """Each trial's value and the best so far, with the baselines (`Tuned.baselines`) as lines: a matplotlib figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for state, marker, colour in (("complete", "o", "#1f77b4"), ("pruned", "x", "#999999"), ("failed", "|", "#d62728")):
        # A failed trial has no value: it is drawn as a stroke at 0.
        shown = [(trial.number, trial.value or 0.0) for trial in trials if trial.state == state]
        if shown:
            numbers, values = zip(*shown, strict=True)
            axes.scatter(numbers, values, s=28, c=colour, marker=marker, label=state)
    best: list[tuple[int, float]] = []
    for trial in trials:
        if trial.state == "complete" and trial.value is not None and (not best or trial.value > best[-1][1]):
            best.append((trial.number, trial.value))
    if best:
        best.append((trials[-1].number, best[-1][1]))
        numbers, values = zip(*best, strict=True)
        axes.step(numbers, values, where="post", color="#1f77b4", alpha=0.6, label="best so far")
    for (name, value), style in zip(baselines.items(), ("--", ":", "-."), strict=False):
        axes.axhline(value, color="#555555", linestyle=style, linewidth=1, label=TITLES[name])
    axes.set(xlabel="trial (0: the defaults)", ylabel=f"validation {metric}", ylim=(0, None))
    figure.legend(loc="outside right upper", frameon=False)  # beside the lines, not on one
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def command_of(options: Mapping[str, Any]) -> str:
    """The options as command-line arguments."""
    return " ".join(
        f"--{name.replace('_', '-')} {'none' if value is None else value}" for name, value in options.items()
    )


def train_command(tuned: Tuned) -> str:
    """The command that trains with the best trial's options."""
    algorithm = registry.find(tuned.spec.algorithm)
    chosen = {} if algorithm is registry.DEFAULT else {"algorithm": algorithm.name}
    return f"rankline train {command_of({**chosen, **tuned.best.options})}".rstrip()


def page(tuned: Tuned, version: str | None) -> str:
    """The run's page: the table of the test part, the number of trials, and the command that trains the winner."""
    metric, states = tuned.metric, [trial.state for trial in tuned.trials]
    lines = [f"| {metric} on the test part, which the search never saw | |", "|---|---|"]
    lines += [f"| {TITLES[name]} | {evaluation.metrics[metric]:.4f} |" for name, evaluation in tuned.test.items()]
    lines += ["", verdict(tuned), ""]
    lines.append(
        f"{len(states)} trials: {states.count('complete')} complete, {states.count('pruned')} pruned, "
        f"{states.count('failed')} failed. The best is trial {tuned.best.number}, {tuned.best.value:.4f} on the "
        f"validation part ({', '.join(f'{TITLES[name]}: {value:.4f}' for name, value in tuned.baselines.items())})."
    )
    lines += ["", f"`{train_command(tuned)}`"]
    if version is not None:
        lines += ["", f"Trained on everything and registered as {version}."]
    return "\n".join(lines)


def verdict(tuned: Tuned) -> str:
    """The winner against most popular on the test part: `verdict_in_words`, with the metric."""
    words = verdict_in_words(lift_metrics(tuned.lift), tuned.lift.better_than_popular)
    return f"{words} ({tuned.metric} on the test part, 95 % interval)"
