"""The output of `train`, `tune` and `resume`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pipeline.cli.output.metrics import metric_blocks
from pipeline.cli.output.model import Block, Output, Table
from pipeline.cli.output.next_step import after_training
from pipeline.cli.output.places import runs_place, warehouse_place
from pipeline.jobs.resume import ResumeResult
from pipeline.jobs.train import TrainResult
from pipeline.jobs.tune import TuneResult
from pipeline.settings import Settings
from pipeline.training.choice import Choice
from pipeline.training.choice_report import candidate_rows, column_titles, how_chosen, left_out_lines
from pipeline.training.tuning_report import TITLES, train_command, verdict

__all__ = ["resume_output", "train_output", "tune_output"]

_STAGES = {
    "evaluate": "evaluation",
    "holdout": "holdout fit",
    "pages": "report",
    "log": "upload",
}  # by names in metrics


def train_output(result: TrainResult, settings: Settings, step_follows: bool = False) -> Output:
    """The metrics, the time, where the run is, and what to do next."""
    version = f"{settings.names.model}/{result.version}"
    choice = result.choice
    blocks: list[Block] = [
        *(choice_blocks(choice) if choice is not None else []),
        f"{result.run_name} is registered as {version} (run {result.run_id[:8]})",
        *metric_blocks(result.metrics, result.better_than_popular),
    ]
    if not step_follows:
        blocks.append(_time(result.facts))
        blocks += _where_next(version, result, settings)
    data: dict[str, Any] = {"run_id": result.run_id, "version": result.version, **result.metrics}
    if choice is not None:
        data |= {"algorithm": choice.winner.algorithm.name, "candidates": candidates_json(choice)}
    return Output("trained", {**data, "better_than_popular": result.better_than_popular}, blocks)


def tune_output(result: TuneResult, settings: Settings, step_follows: bool = False) -> Output:
    """The metrics on the test part, the best options as a command, and the next step."""
    tuned, trained, metric = result.tuned, result.trained, result.tuned.metric
    version = f"{settings.names.model}/{trained.version}"
    test = {name: evaluation.metrics[metric] for name, evaluation in tuned.test.items()}
    choice = tuned.choice
    blocks: list[Block] = [
        *(choice_blocks(choice) if choice is not None else []),
        Table(
            [TITLES[name] for name in test],
            [[f"{value:.4f}" for value in test.values()]],
            title=f"{metric} on the test part, which the search never saw",
        ),
        verdict(tuned),
        f"best of {len(tuned.trials)} trials: {train_command(tuned)}{settings.names.typed}",
        f"model: {version} (run {trained.run_id[:8]}), trained on everything · trials: run {result.run_id[:8]}",
    ]
    if not step_follows:
        blocks += _where_next(version, trained, settings)
    data: dict[str, Any] = {"run_id": result.run_id, "version": trained.version, "metric": metric, "test": test}
    if choice is not None:
        data["candidates"] = candidates_json(choice)
    return Output("tuned", {**data, "best": dict(tuned.best.options)}, blocks)


def choice_blocks(choice: Choice) -> list[Block]:
    """The table of the candidates, and what was not tried."""
    titles = column_titles(choice)
    rows = [row.cells for row in candidate_rows(choice)]
    table = Table(titles, rows, left=(titles[0], titles[-1]), short=titles[-1:], title=how_chosen(choice))
    return [table, *left_out_lines(choice), "The figures below are of the held-out part, which the choice never saw."]


def candidates_json(choice: Choice) -> list[dict[str, Any]]:
    """The candidates, the winner first."""
    return [
        {
            "model": score.algorithm.name,
            f"validation_{choice.metric}": list(score.interval),
            "lift_over_popular": None if score.lift.lift is None else list(score.lift.lift),
            "fit_seconds": score.fit_seconds,
            "n_trials": score.n_trials,
            "options": score.trained_options,
        }
        for score in choice.scores
    ]


def resume_output(result: ResumeResult) -> Output:
    """The run that a saved training was uploaded to."""
    line = f"logged {result.name} (run {result.run_id[:8]}) as {result.model}/{result.version}"
    return Output("logged", asdict(result), [line])


def _time(facts: dict[str, Any]) -> str:
    prefix = "cost/seconds_"
    stages = {name.removeprefix(prefix): value for name, value in facts.items() if name.startswith(prefix)}
    total = stages.pop("total")
    longest = sorted(stages.items(), key=lambda stage: -stage[1])
    return f"time: {total:.1f} s, of it " + ", ".join(
        f"{_STAGES.get(name, name)} {value:.1f}" for name, value in longest if value >= 0.1
    )


def _where_next(version: str, result: TrainResult, settings: Settings) -> list[Block]:
    lines = [warehouse_place(result.chosen, settings), f"runs: {runs_place(settings)}"]
    step = after_training(version, result.better_than_popular, False, settings.names.typed, result.algorithm)
    return [line for line in (*lines, f"next: {step}" if step else "") if line]
