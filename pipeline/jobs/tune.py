"""`tune`: read, search, and train with what was found: a run, with a nested run a trial and one for the winner."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline import nested, orphans, tracking
from pipeline.errors import ServerError
from pipeline.jobs.before_fit import Wanted
from pipeline.jobs.reporter import Reporter
from pipeline.jobs.train import TrainResult, as_asked, read_for, source_name, source_tags, train_in
from pipeline.judge import ACCURACY, lift_metrics
from pipeline.kept import kept_in
from pipeline.settings import PROJECT_ROOT, Settings
from pipeline.spec import ReadSpec, TrainSpec, TuneSpec
from pipeline.store import impatient
from pipeline.train import Stages
from pipeline.tune import Trial, Tuned, tune
from pipeline.tuning_page import command_of, history_picture, page, trials_table

__all__ = ["TuneResult", "tune_job"]


@dataclass(frozen=True, eq=False)
class TuneResult:
    """What a search left: its run, what was found, and the winner's training."""

    run_id: str
    tuned: Tuned
    trained: TrainResult


def tune_job(
    spec: TrainSpec,
    tune_spec: TuneSpec,
    read_spec: ReadSpec,
    settings: Settings,
    reporter: Reporter,
    experiment: str = "rankline",
) -> TuneResult:
    """Search on what was read, then train the winner on everything, as `train_job` does, in a nested run."""
    start, stages, uri = time.perf_counter(), Stages(), settings.tracking_uri
    tracking.open_store(uri)
    orphans.end_orphans(uri, reporter.say)
    if waiting := kept_in(settings.unlogged_path):
        reporter.say(f"{len(waiting)} earlier training(s) are kept and not logged yet: rankline resume logs them")
    with tracking.start_run(uri, experiment, PROJECT_ROOT, settings.patience) as run:
        run.name_if_made_up(f"tune · {source_name(read_spec)}")
        run.params(as_asked(spec, tune_spec, read_spec))
        with stages("read"):
            chosen = read_for(run, Wanted(spec, tune_spec), read_spec, settings, reporter)
        log = _Log(run, uri, tune_spec, reporter, settings.tuning_path)
        try:
            with stages("tune"):
                tuned = tune(
                    chosen.read.interactions,
                    spec,
                    tune_spec,
                    path=settings.tuning_path,
                    on_start=log.begun,
                    on_trial=log.ended,
                    progress=reporter.progress,
                )
        except BaseException:  # Ctrl-C too: what was found by then is on the run's page, and goes on from there
            with suppress(ServerError), impatient():  # what led here is what is said
                log.write({})
            raise
        log.write(tuned.baselines)
        _log_found(run, tuned)
        reporter.say(_ended(tuned))
        with nested.nested_run(run, uri, f"winner: trial {tuned.best.number}", settings.patience) as below:
            below.params(as_asked(tuned.spec, read_spec))
            commit = tracking.git_commit(PROJECT_ROOT)
            below.tags({**source_tags(chosen), "git_commit": commit, "tuned_from": run.id})
            below.tags({"study": tuned.study, "trial": str(tuned.best.number)})
            trained = train_in(below, chosen, tuned.spec, read_spec, settings, reporter, Stages(), time.perf_counter())
        run.tags({"model_version": trained.version, "winner_run": trained.run_id})
        run.metrics({f"seconds_{name}": value for name, value in stages.seconds.items()})
        run.metrics({"seconds_total": time.perf_counter() - start})
        run.describe(page(tuned, trained.version))
        return TuneResult(run.id, tuned, trained)


class _Log:
    """Writes the trials down as they end."""

    def __init__(self, run: tracking.Run, uri: str, spec: TuneSpec, reporter: Reporter, kept_in: Path) -> None:
        self.run, self.uri, self.metric, self.n_trials, self.reporter = run, uri, spec.metric, spec.trials, reporter
        # Of the machine and the file that holds the trials: a digest, since a path is nobody else's business.
        self.place = hashlib.sha256(f"{platform.node()}:{kept_in}".encode()).hexdigest()[:12]
        self.trials: list[Trial] = []
        self.best: Trial | None = None

    def begun(self, study: str, trials: tuple[Trial, ...]) -> None:
        """The search begins, or goes on."""
        self.run.tags({"study": study, "study_place": self.place})
        killed = nested.abandoned(self.run, self.uri, study, self.place)
        self.run.tags({"resumed_from": " ".join(killed) or None})
        if trials:
            self.reporter.say(
                f"resuming: {len(trials)} of {self.n_trials} trials are done (--resume no begins anew)"
                if len(trials) < self.n_trials
                else f"all {self.n_trials} trials were done before: their best is trained "
                "(more --trials go on, --resume no begins anew)"
            )
            self.run.metrics({"n_trials_before": len(trials)})
        for trial in trials:
            self._keep(trial)

    def ended(self, trial: Trial) -> None:
        """A trial came to its end."""
        better = self._keep(trial)
        name = f"validation_{self.metric}"
        values = {} if trial.value is None else {name: trial.value}
        nested.write_run(
            self.run,
            self.uri,
            f"trial {trial.number}",
            status="FAILED" if trial.state == "failed" else "FINISHED",
            params={key: "none" if value is None else value for key, value in trial.options.items()},
            metrics={**values, "seconds": trial.seconds},
            curve=(f"{name}_after", trial.marks),
            tags={"trial_state": trial.state, "failure": trial.reason},
            started=trial.started,
            seconds=trial.seconds,
        )
        if self.best is not None and self.best.value is not None:
            values[f"best_{name}"] = self.best.value
        nested.log_step(self.run, self.uri, values, trial.number)
        if trial.state == "failed":
            self.reporter.say(f"trial {trial.number} failed, and the search goes on: {trial.reason}")
        elif better and trial.value is not None:
            options = command_of(trial.options)
            self.reporter.say(f"trial {trial.number}: {self.metric} {trial.value:.4f}, the best so far: {options}")

    def write(self, beside: Mapping[str, float]) -> None:
        """The table and the picture, of what there is; the baselines' values, where the search came to its end."""
        if not self.trials:
            return
        self.run.text("trials.csv", trials_table(self.trials, self.metric))
        nested.log_picture(self.run, self.uri, "trials.png", history_picture(self.trials, self.metric, beside))

    def _keep(self, trial: Trial) -> bool:
        """Whether it is the best so far."""
        self.trials.append(trial)
        if trial.state != "complete" or trial.value is None:
            return False
        better = self.best is None or self.best.value is None or trial.value > self.best.value
        self.best = trial if better else self.best
        return better


def _log_found(run: tracking.Run, tuned: Tuned) -> None:
    """The best, and how it fares on the test part, on the parent."""
    run.params({f"best_{name}": "none" if value is None else value for name, value in tuned.best.options.items()})
    states = [one.state for one in tuned.trials]
    found = {
        f"best_validation_{tuned.metric}": tuned.best.value,
        **{f"validation_{name}_{tuned.metric}": value for name, value in tuned.baselines.items()},
        "best_trial": tuned.best.number,
        "n_trials": len(states),
        **{f"n_trials_{state}": states.count(state) for state in ("complete", "pruned", "failed")},
    }
    for who, judged in tuned.test.items():
        prefix = "test_" if who == "tuned" else f"test_{who}_"
        wanted = {f"{name}_at_10" for name in ACCURACY} if who in tuned.baselines else judged.metrics.keys()
        found |= {prefix + name: value for name, value in judged.metrics.items() if name in wanted}
    found |= {f"test_{name}": value for name, value in lift_metrics(tuned.lift).items()}
    if tuned.gain is not None:
        names = ("test_gain_over_default", "test_gain_over_default_low", "test_gain_over_default_high")
        found |= dict(zip(names, tuned.gain.difference, strict=True))
    run.metrics({name: value for name, value in found.items() if value is not None})
    run.tags(
        {
            "better_than_popular": tuned.lift.better_than_popular,
            "data_digest": tuned.data_digest,
            "split_digest": tuned.split_digest,
            "search_ended": tuned.ended,
        }
    )


def _ended(tuned: Tuned) -> str:
    """Why the search stopped, and with what."""
    why = {"trials": "", "timeout": "the time is up: ", "interrupted": "interrupted, and kept: "}[tuned.ended]
    return (
        f"{why}the best of {len(tuned.trials)} trials is trial {tuned.best.number}; training it on everything: "
        f"{command_of(tuned.best.options)}"
    )
