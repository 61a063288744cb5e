"""Chooses the model of a training with ``--algorithm auto``, and logs how it was chosen."""

from __future__ import annotations

from pipeline.data.interactions import Interactions
from pipeline.jobs.preflight import find_candidates
from pipeline.options import TrainOptions, TuneOptions
from pipeline.options.base import as_text
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.tracking.outbox_writer import PendingRunWriter
from pipeline.training.auto import choose
from pipeline.training.choice import Choice
from pipeline.training.choice_report import candidates_csv, how_chosen
from pipeline.training.search import parts_of
from pipeline.training.study import Trial
from pipeline.training.tuning_report import command_of, trials_table

__all__ = ["BestSoFar", "choose_model", "fill_choice"]


class BestSoFar:
    """Says which trial is the best so far, and which failed."""

    def __init__(self, reporter: Reporter, metric: str) -> None:
        self.reporter, self.metric = reporter, metric
        self.best: Trial | None = None

    def ended(self, trial: Trial) -> None:
        """Take a trial that has ended."""
        if trial.state == "failed":
            self.reporter.say(f"trial {trial.number} failed, and the search goes on: {trial.reason}")
        elif self.is_better(trial):
            options = command_of(trial.options)
            self.reporter.say(f"trial {trial.number}: {self.metric} {trial.value:.4f}, the best so far: {options}")

    def is_better(self, trial: Trial) -> bool:
        """Keep the trial if it is the best so far; returns whether it is. One of more users replaces any of fewer."""
        if trial.state != "complete" or trial.value is None:
            return False
        best = self.best
        if best is not None and best.value is not None and (trial.share, trial.value) <= (best.share, best.value):
            return False
        self.best = trial
        return True


def choose_model(x: Interactions, spec: TrainOptions, settings: Settings, reporter: Reporter) -> Choice:
    """Choose the model and its options. A search that was ended goes on where it stopped."""

    def resumed(study: str, trials: tuple[Trial, ...]) -> None:
        if trials:
            reporter.say(f"resuming: {len(trials)} trials of an earlier search of the same data and options are used")

    return choose(
        parts_of(x, spec),
        spec,
        find_candidates(spec, x, settings),
        TuneOptions(),
        path=settings.tuning_path,
        on_start=resumed,
        on_trial=BestSoFar(reporter, TuneOptions.metric).ended,
        progress=reporter.progress,
    )


def fill_choice(writer: PendingRunWriter, choice: Choice) -> None:
    """Log the winner's options and validation metric, and the tables of the candidates and of the trials."""
    writer.text("candidates.csv", candidates_csv(choice))
    writer.text("trials.csv", trials_table(choice.trials, choice.metric))
    writer.params({f"best_{name}": as_text(value) for name, value in choice.best_options.items()})
    writer.tags({"chosen": how_chosen(choice), "study": choice.study})
    value = choice.winner.interval.value
    writer.metrics({f"validation/best_{choice.metric}": value, "search/n_trials": float(len(choice.trials))})
