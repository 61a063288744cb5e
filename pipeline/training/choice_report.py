"""The report of a choice of a model: the table of the candidates, as rows, Markdown and CSV, and sentences about it."""

from __future__ import annotations

import csv
import io

from pipeline.evaluation.report.candidates import COLUMNS, CandidateRow
from pipeline.evaluation.report.summary import lift_in_words
from pipeline.models import registry
from pipeline.training.choice import CandidateScore, Choice
from pipeline.training.tuning_report import command_of

__all__ = [
    "candidate_rows",
    "candidates_csv",
    "choice_page",
    "column_titles",
    "how_chosen",
    "left_out_lines",
    "metric_title",
]

_ENDED = {"trials": "", "timeout": "; the time was up", "interrupted": "; interrupted, and kept"}


def metric_title(metric: str) -> str:
    """``NDCG@10`` of ``ndcg_at_10``."""
    name, _, k = metric.rpartition("_at_")
    return f"{name.upper() if name in ('ndcg', 'map', 'mrr') else name.replace('_', ' ')}@{k}"


def column_titles(choice: Choice) -> tuple[str, ...]:
    """The titles of the table's columns."""
    return tuple(title.format(metric=metric_title(choice.metric)) for title in COLUMNS)


def candidate_rows(choice: Choice) -> tuple[CandidateRow, ...]:
    """A row for each candidate, the winner first."""
    return tuple(_row(score) for score in choice.scores)


def _row(score: CandidateScore) -> CandidateRow:
    name = score.algorithm.display_name
    lift = score.lift.lift
    is_popular = score.algorithm.name == registry.POPULAR
    words = "" if lift is None or is_popular else lift_in_words(*lift)
    defaults = score.algorithm.default_options()
    changed = {
        option: value
        for option, value in score.trained_options.items()
        if value != score.algorithm.option(defaults, option)
    }
    options = command_of(changed) or ("the defaults" if score.options else "")
    return CandidateRow(name, score.interval, words, score.fit_seconds, score.n_trials, options)


def how_chosen(choice: Choice) -> str:
    """How the model was chosen, in a sentence."""
    winner, tried = choice.winner.algorithm.display_name, len(choice.scores)
    searched = f"({len(choice.trials)} trials{_ENDED[choice.ended]})"
    if choice.reason:
        return f"{winner} is chosen of {tried} models {searched}: {choice.reason}"
    return f"{winner} has the highest {metric_title(choice.metric)} of {tried} models on the validation part {searched}"


def left_out_lines(choice: Choice) -> tuple[str, ...]:
    """Why each of the other models was not tried."""
    titles = {algorithm.name: algorithm.display_name for algorithm in registry.algorithms()}
    return tuple(f"{titles[name]} is not among the candidates: {why}" for name, why in choice.left_out.items())


def choice_page(choice: Choice) -> str:
    """The table in Markdown, below a sentence on how the model was chosen."""
    lines = [f"{how_chosen(choice)}. The choice used this part; the held-out part was used once, after it.", ""]
    rows = [column_titles(choice), ("---",) * len(COLUMNS), *(row.cells for row in candidate_rows(choice))]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", *(f"- {line}" for line in left_out_lines(choice))])


def candidates_csv(choice: Choice) -> str:
    """CSV, a row a candidate, the winner first."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    ends = [f"validation_{choice.metric}{end}" for end in ("", "_low", "_high")]
    lifts = [f"lift_over_popular{end}" for end in ("", "_low", "_high")]
    table.writerow(["model", *ends, *lifts, "fit_seconds", "n_trials", "options"])
    for score in choice.scores:
        lift = score.lift.lift or ("", "", "")
        options = command_of(score.trained_options)
        table.writerow([score.algorithm.name, *score.interval, *lift, score.fit_seconds, score.n_trials, options])
    return text.getvalue()
