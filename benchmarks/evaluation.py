"""Every metric of everybody's list, beside the ranking alone: 100,000 users × 27,000 items, k = 64, top 10.

    python benchmarks/evaluation.py [--quick] [--users 100000] [--items 27000] [--cells 5000000] [--rounds 5]

The data is as skewed as real ratings (`solver.generate`); a random fifth of each user's is held out. There are three
kinds of lists: of factors that our solver fitted to the training side; of uniform factors, which give everybody the
same few items; and lists drawn from the whole catalogue without a model. The last is the hardest case for diversity,
because few pairs of items occur twice.

Ranking is `Scorer.recommend_rows` of all users without what they have seen; evaluation is the whole of `evaluate`:
the check for leaks, the same ranking (of one place more), precision, recall, hit rate, NDCG, MAP, MRR, novelty,
diversity, popularity and recall by popularity band of each user, coverage, Gini, shares, lift, all by segment. Both
run alternately in one process, after one round that is not counted. CPU seconds are shown beside wall seconds.
Memory is measured in another process: its peak during the evaluation minus what it held once all was loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import machine
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.data.id_map import IdMap
from pipeline.data.interactions import Interactions
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import PreparedInteractions, prepare_interactions
from pipeline.data.splits import Split, holdout
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.significance import bootstrap_mean, lift_over_popular
from pipeline.models.factor_model import FactorModel
from pipeline.ranking.scorer import Scorer, TopK

K, TOP = 64, 10
KINDS = ("fitted", "uniform", "any list")


class AnyList(Scorer):
    """Lists drawn from the whole catalogue, once; ranking is copying them."""

    def __init__(self, model: FactorModel) -> None:
        super().__init__(model)
        users, items = len(model.users), len(model.items)
        drawn = np.random.default_rng(0).integers(0, items, (users, TOP + 1), np.int32)
        self._lists = TopK(drawn, np.arange(0, -TOP - 1, -1, np.float32) + np.zeros((users, 1), np.float32))

    def recommend_rows(self, rows: np.ndarray, k: int = TOP, **_: object) -> TopK:  # type: ignore[override]
        """The same for any rows."""
        return TopK(self._lists.items[rows, :k], self._lists.scores[rows, :k])


def make(folder: Path, users: int, items: int, cells: int) -> None:
    """Both sides of the split, and the fitted factors, as files."""
    from solver import generate, start

    from pipeline.models.solvers.nmf import factorize

    X = generate(users, items, cells).tocoo()
    x = Interactions(X.row, X.col, X.data, IdMap(np.arange(users)), IdMap(np.arange(items)))
    split = holdout(prepare_interactions(x).interactions, 0.2)
    for name, side in (("train", split.train), ("test", split.test)):
        np.savez(
            folder / f"{name}.npz", allow_pickle=False, users=side.users, items=side.items, scores=side.scores,
            user_ids=side.user_ids.values, item_ids=side.item_ids.values,
        )  # fmt: skip
    matrix = to_matrix(split.train).scores
    fitted = factorize(matrix, *start(matrix, K), max_iter=15)
    np.savez(folder / "fitted.npz", allow_pickle=False, W=fitted.W, H=np.ascontiguousarray(fitted.H))


def load(folder: Path, kind: str) -> tuple[Scorer, Split]:
    """What is evaluated, and on what."""
    sides = []
    for name in ("train", "test"):
        with np.load(folder / f"{name}.npz", allow_pickle=False) as x:
            ids = IdMap(x["user_ids"]), IdMap(x["item_ids"])
            sides.append(PreparedInteractions(x["users"], x["items"], x["scores"], *ids))
    split = Split(*sides)
    matrix = to_matrix(split.train)
    if kind == "fitted":
        with np.load(folder / "fitted.npz", allow_pickle=False) as x:
            W, H = x["W"], x["H"]
    else:
        rng = np.random.default_rng(0)
        W, H = rng.random((len(matrix.users), K), np.float32), rng.random((K, len(matrix.items)), np.float32)
    model = FactorModel(W, H, matrix.users, matrix.items, matrix.scores)
    return (AnyList(model) if kind == "any list" else Scorer(model, compiled=True)), split


def timed(task: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    task()
    return time.perf_counter() - wall, time.process_time() - cpu


def seconds(folder: Path, kind: str, rounds: int) -> dict[str, float]:
    """Medians of each task's wall and CPU seconds, in turns, and of the ratio of evaluation to ranking."""
    scorer, split = load(folder, kind)
    rows = np.arange(len(scorer.users))
    kept = evaluate(scorer, split, (TOP,), compiled=True)  # and computes what is cached per split: its digest
    tasks: dict[str, Callable[[], object]] = {
        "rank": lambda: scorer.recommend_rows(rows, TOP),
        "evaluate": lambda: evaluate(scorer, split, (TOP,), compiled=True),
        "numpy": lambda: evaluate(scorer, split, (TOP,), compiled=False),
    }
    if kind == "fitted":
        ndcg = kept.per_user[f"ndcg_at_{TOP}"]
        tasks["interval"] = lambda: bootstrap_mean(ndcg)
        tasks["lift"] = lambda: lift_over_popular(ndcg, ndcg[::-1].copy())
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
    for number in range(rounds + 1):
        for name, task in tasks.items():
            if name in ("rank", "evaluate") or 0 < number <= 3:  # the others are slow
                taken[name].append(timed(task))
    del taken["rank"][0], taken["evaluate"][0]
    figures = {
        "ratio": statistics.median(e / r for (e, _), (r, _) in zip(taken["evaluate"], taken["rank"], strict=True))
    }
    for name, times in taken.items():
        figures[name], figures[f"{name}_cpu"] = (statistics.median(column) for column in zip(*times, strict=True))
    return {**figures, "items": float(round(kept.metrics[f"coverage_at_{TOP}"] * len(scorer.items)))}


def memory(folder: Path, kind: str) -> dict[str, float]:
    """MB held before an evaluation, and what its peak adds."""
    scorer, split = load(folder, kind)
    some = prepare_interactions(Interactions.of(np.arange(40) % 8, np.arange(40) // 4)).interactions
    small = holdout(some, 0.4)
    matrix = to_matrix(small.train)
    ones = np.ones((len(matrix.users), K), np.float32), np.ones((K, len(matrix.items)), np.float32)
    evaluate(Scorer(FactorModel(*ones, matrix.users, matrix.items, matrix.scores), compiled=True), small, compiled=True)
    before = machine.now_mb()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak: making the split took more
    evaluate(scorer, split, (TOP,), compiled=True)
    return {"before": before, "peak": machine.peak_mb()}


def main() -> None:
    """Make the data, time in one child a model, and measure memory in others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5,000 users × 3,000 items, one round")
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=27_000)
    parser.add_argument("--cells", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=3, metavar=("WHAT", "FOLDER", "KIND"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.child:
        what, folder, kind = options.child
        figures = seconds(Path(folder), kind, options.rounds) if what == "seconds" else memory(Path(folder), kind)
        print(json.dumps(figures))
        return
    if options.quick:
        options.users, options.items, options.cells, options.rounds = 5_000, 3_000, 150_000, 1
    print(machine.describe("numpy", "scipy", "numba"))
    size = f"{options.users:,} users × {options.items:,} items, {options.cells:,} interactions, a fifth held out"
    print(f"\n{size}, k = {K}, top {TOP}, medians of {options.rounds} (of numpy and intervals: 3)\n")
    with tempfile.TemporaryDirectory() as scratch:
        make(Path(scratch), options.users, options.items, options.cells)
        rounds = ["--rounds", str(options.rounds)]
        times = {}
        print("| lists | items in them | ranking s (CPU) | evaluation s (CPU) | ratio (CPU) | measured by numpy s |")
        print("|---|---|---|---|---|---|")
        for kind in KINDS:
            (measured,) = machine.in_child(__file__, ["--child", "seconds", scratch, kind, *rounds], 1)
            times[kind] = measured
            alone = kind == "any list"
            ratio = (
                "" if alone else f"{measured['ratio']:.2f}× ({measured['evaluate_cpu'] / measured['rank_cpu']:.2f}×)"
            )
            rank = "" if alone else f"{measured['rank']:.2f} ({measured['rank_cpu']:.2f})"
            cells = [
                kind,
                f"{measured['items']:,.0f}",
                rank,
                f"{measured['evaluate']:.2f} ({measured['evaluate_cpu']:.2f})",
                ratio,
            ]
            print("| " + " | ".join([*cells, f"{measured['numpy']:.2f}"]) + " |", flush=True)
        fitted = times["fitted"]
        print(f"\nintervals (bootstrap): NDCG {fitted['interval']:.1f} s, lift over popular {fitted['lift']:.1f} s")
        print(f"load {os.getloadavg()[0]:.1f}\n\n| users | MB before | evaluation adds MB |\n|---|---|---|")
        (figures,) = machine.in_child(__file__, ["--child", "memory", scratch, "fitted"], 1)
        print(
            f"| {options.users:,} | {figures['before']:,.0f} | {figures['peak'] - figures['before']:,.0f} |", flush=True
        )
    for users in (options.users // 4, options.users // 2):
        with tempfile.TemporaryDirectory() as scratch:
            make(Path(scratch), users, options.items, options.cells * users // options.users)
            (figures,) = machine.in_child(__file__, ["--child", "memory", scratch, "fitted"], 1)
        print(f"| {users:,} | {figures['before']:,.0f} | {figures['peak'] - figures['before']:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
