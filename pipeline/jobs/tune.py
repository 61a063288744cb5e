"""`tune`: reads the data, searches options, and trains the winner. Each trial and the winner get a nested run."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from pipeline.errors import ServerError, UsageError
from pipeline.evaluation.holdout import ACCURACY, lift_metrics
from pipeline.evaluation.metric_names import HEADLINE, current_names, holdout_name, seconds_by_stage
from pipeline.jobs.choose import BestSoFar
from pipeline.jobs.inputs import LoadedInput
from pipeline.jobs.preflight import TrainingRequest, find_candidates
from pipeline.jobs.run_texts import as_asked, source_label, tag_source
from pipeline.jobs.train import TrainingJob, TrainResult, read_for, train_in
from pipeline.models.signatures import SigningKeys
from pipeline.options import ReadOptions, TrainOptions, TuneOptions
from pipeline.runtime.progress import Reporter
from pipeline.settings import CHECKOUT, Settings
from pipeline.tracking import child_runs, stale_runs
from pipeline.tracking import run as tracking
from pipeline.tracking.outbox import pending_in
from pipeline.tracking.store import impatient
from pipeline.training.choice_report import candidates_csv, choice_page, how_chosen
from pipeline.training.stages import Stages
from pipeline.training.study import check_optuna
from pipeline.training.train import checked_algorithm
from pipeline.training.tune import Trial, Tuned, tune
from pipeline.training.tuning_report import command_of, history_picture, page, trials_table

__all__ = ["TuneResult", "tune_job"]


@dataclass(frozen=True, eq=False)
class TuneResult:
    """The run of a search, its result, and the training of the winner."""

    run_id: str
    tuned: Tuned
    trained: TrainResult


def tune_job(
    spec: TrainOptions,
    tune_spec: TuneOptions,
    read_spec: ReadOptions,
    settings: Settings,
    reporter: Reporter,
    experiment: str = "rankline",
) -> TuneResult:
    """Search on the data, then train the winner on all of it in a nested run, as `train_job` does."""
    start, stages, uri = time.perf_counter(), Stages(), settings.tracking_uri
    SigningKeys.of_environment()  # keys that are written wrongly are said now, not after the search
    check_optuna()
    if spec.is_auto:
        _check_search(tune_spec)
    else:
        checked_algorithm(spec)
    tracking.open_or_make_store(uri, reporter.say)
    stale_runs.end_stale_runs(uri, reporter.say)
    if pending := pending_in(settings.unlogged_path):
        reporter.say(
            f"{len(pending)} earlier training(s) are saved but not in MLflow yet: rankline resume uploads them"
        )
    with tracking.start_run(uri, experiment, CHECKOUT, settings.retry_policy) as run:
        run.name_if_made_up(f"tune · {source_label(read_spec)}")
        run.params(as_asked(settings.names, spec, tune_spec, read_spec))
        spec, settings = settings.limited(spec)
        with stages("read"):
            chosen = read_for(run, TrainingRequest(spec, tune_spec), read_spec, settings, reporter)
        log = _Log(run, tune_spec, reporter, settings, spec.is_auto)
        try:
            with stages("tune"):
                x = chosen.read.interactions
                candidates = find_candidates(spec, x, settings, tune_spec.timeout) if spec.is_auto else None
                tuned = tune(
                    x,
                    spec,
                    tune_spec,
                    candidates=candidates,
                    path=settings.tuning_path,
                    on_start=log.begun,
                    on_trial=log.ended,
                    progress=reporter.progress,
                )
        except BaseException:  # Ctrl-C, too: log the trials so far; a later search resumes from them
            with suppress(ServerError), impatient():  # the original error is the one to show
                log.write({})
            raise
        log.write(tuned.baselines)
        _log_result(run, tuned)
        reporter.say(_ended(tuned))
        with child_runs.nested_run(run, uri, f"winner: trial {tuned.best.number}", settings.retry_policy) as winner_run:
            winner_run.tags({"tuned_from": run.id})
            job = TrainingJob(winner_run, read_spec, settings, reporter, time.perf_counter())
            trained = _train_winner(job, chosen, tuned)
        run.tags({"model_version": trained.version, "winner_run": trained.run_id})
        run.metrics(seconds_by_stage({**stages.seconds, "total": time.perf_counter() - start}))
        described = page(tuned, f"{settings.names.model}/{trained.version}")
        run.describe(described if tuned.choice is None else f"{described}\n\n{choice_page(tuned.choice)}")
        return TuneResult(run.id, tuned, trained)


def _train_winner(job: TrainingJob, chosen: LoadedInput, tuned: Tuned) -> TrainResult:
    """Train the winner on all of the data, in the run of the job."""
    job.run.params(as_asked(job.settings.names, tuned.spec, job.read_spec))
    commit = tracking.git_commit(CHECKOUT)
    tag_source(job.run, chosen)
    job.run.tags_later({"git_commit": commit})
    job.run.tags({"study": tuned.study, "trial": str(tuned.best.number)})
    return train_in(job, chosen, tuned.spec, tuned.choice)


def _check_search(spec: TuneOptions) -> None:
    """Raise UsageError where --search names options: a choice of a model searches the usual ones of each."""
    if spec.search != "auto":
        raise UsageError(f"--search {spec.search} is for one model: name it with --algorithm, or leave --search out")


class _Log:
    """Logs each trial when it ends."""

    def __init__(
        self, run: tracking.Run, spec: TuneOptions, reporter: Reporter, settings: Settings, is_auto: bool
    ) -> None:
        self.run, self.uri, self.reporter = run, settings.tracking_uri, reporter
        self.metric, self.n_trials = spec.metric, spec.trials
        self.is_auto = is_auto
        self.best = BestSoFar(reporter, spec.metric)
        # Identifies the machine and the file with the trials. It is a digest, so that no path is published.
        self.place = hashlib.sha256(f"{platform.node()}:{settings.tuning_path}".encode()).hexdigest()[:12]
        self.trials: list[Trial] = []

    def begun(self, study: str, trials: tuple[Trial, ...]) -> None:
        """Log the start of the search, and the earlier trials that it resumes from."""
        self.run.tags({"study": study, "study_place": self.place})
        killed = child_runs.abandoned(self.run, self.uri, study, self.place)
        self.run.tags({"resumed_from": " ".join(killed) or None})
        if trials and self.is_auto:
            self.reporter.say(f"resuming: {len(trials)} trials are done (--resume no begins anew)")
        elif trials:
            self.reporter.say(
                f"resuming: {len(trials)} of {self.n_trials} trials are done (--resume no begins anew)"
                if len(trials) < self.n_trials
                else f"all {self.n_trials} trials were done before: their best is trained "
                "(more --trials go on, --resume no begins anew)"
            )
            self.run.metrics({"search/n_trials_before": len(trials)})
        for trial in trials:
            self.trials.append(trial)
            self.best.is_better(trial)

    def ended(self, trial: Trial) -> None:
        """Log a trial that has ended."""
        self.trials.append(trial)
        name = f"validation/{self.metric}"
        values = {} if trial.value is None else {name: trial.value}
        ended = child_runs.EndedRun(
            name=f"trial {trial.number}",
            status="FAILED" if trial.state == "failed" else "FINISHED",
            params={key: "none" if value is None else value for key, value in trial.options.items()},
            metrics={**values, "cost/seconds": trial.seconds},
            curve=(f"{name}_after", trial.marks),
            tags={"trial_state": trial.state, "failure": trial.reason},
            started=trial.started,
            seconds=trial.seconds,
        )
        child_runs.write_run(self.run, self.uri, ended)
        self.best.ended(trial)
        if (best := self.best.best) is not None and best.value is not None:
            values[f"validation/best_{self.metric}"] = best.value
        child_runs.log_step(self.run, self.uri, values, trial.number)

    def write(self, beside: Mapping[str, float]) -> None:
        """Log the table and the picture of the trials. `beside` holds the baselines' values, once they are known."""
        if not self.trials:
            return
        self.run.text("trials.csv", trials_table(self.trials, self.metric))
        child_runs.log_picture(self.run, self.uri, "trials.png", history_picture(self.trials, self.metric, beside))


def _log_result(run: tracking.Run, tuned: Tuned) -> None:
    """Log the best trial and its test metrics to the parent run."""
    run.params({f"best_{name}": "none" if value is None else value for name, value in tuned.best.options.items()})
    states = [trial.state for trial in tuned.trials]
    metrics = {
        f"validation/best_{tuned.metric}": tuned.best.value,
        **{
            holdout_name(tuned.metric, part="validation", baseline=name): value
            for name, value in tuned.baselines.items()
        },
        "search/best_trial": tuned.best.number,
        "search/n_trials": len(states),
        **{f"search/n_trials_{state}": states.count(state) for state in ("complete", "pruned", "failed")},
    }
    lift = lift_metrics(tuned.lift)
    headline = {name: value for name, value in {**tuned.test["tuned"].metrics, **lift}.items() if name in HEADLINE}
    for name_of_model, evaluation in tuned.test.items():
        baseline = name_of_model in tuned.baselines
        part = "test/default" if name_of_model == "default" else "test"
        wanted = {f"{name}_at_10" for name in ACCURACY} if baseline else evaluation.metrics.keys()
        metrics |= {
            holdout_name(name, part=part, baseline=name_of_model if baseline else ""): value
            for name, value in evaluation.metrics.items()
            if name in wanted
        }
    metrics |= {f"test/{name}": value for name, value in lift.items()}
    if tuned.gain is not None:
        ends = ("test/gain_over_default", *(f"test/interval/gain_over_default_{end}" for end in ("low", "high")))
        metrics |= dict(zip(ends, tuned.gain.difference, strict=True))
    run.metrics(current_names(headline | {name: value for name, value in metrics.items() if value is not None}))
    run.tags(
        {
            "better_than_popular": tuned.lift.better_than_popular,
            "data_digest": tuned.data_digest,
            "split_digest": tuned.split_digest,
            "search_ended": tuned.ended,
        }
    )
    if tuned.choice is not None:
        run.text("candidates.csv", candidates_csv(tuned.choice))
        run.tags({"chosen": how_chosen(tuned.choice)})


def _ended(tuned: Tuned) -> str:
    """The message at the end of the search: why it stopped, and the best trial."""
    why = {
        "trials": "",
        "timeout": "the time is up: ",
        "all tried": "every point was tried: ",
        "interrupted": "interrupted, and kept: ",
    }[tuned.ended]
    return (
        f"{why}the best of {len(tuned.trials)} trials is trial {tuned.best.number}; training it on everything: "
        f"{command_of(tuned.best.options)}"
    )
