"""Exact top-10 lists of all users without seen items, and one user folded in, compared with peers; k = 64, float32.

    python benchmarks/topk.py [--quick] [--users 100000] [--items 27000] [--cells 5000000] [--rounds 5]

There are two models: factors that our solver fitted to generated ratings as skewed as real ones (`solver.generate`),
and uniform factors, where bounds rule out no item. All tasks run alternately in one process on all cores; the median
round is shown. CPU seconds, shown beside wall seconds, vary less on a shared machine. The peers are implicit's
`recommend` (which excludes seen items, too), faiss's exact IndexFlatIP (which excludes nothing), and the matrix product
of the factors alone, the lower bound of every method that scores all items. For one user, the time is that of
computing their factors from their items, then their ten best items, in microseconds. Its peers are implicit's
`recalculate_user` and `recommend`, and scikit-learn's `transform`, which computes the factors alone. A peer that is
not installed is skipped.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import machine
import numpy as np
from scipy import sparse

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.data.id_map import IdMap
from pipeline.models.factor_model import FactorModel
from pipeline.ranking.scorer import Scorer

K, TOP = 64, 10
Task = Callable[[], object]


def fitted_model(users: int, items: int, cells: int) -> FactorModel:
    """A model fitted in 15 iterations to skewed data."""
    from solver import generate, start

    from pipeline.models.solvers.nmf import factorize

    X = generate(users, items, cells)
    fitted = factorize(X, *start(X, K), max_iter=15)
    return model_of(fitted.W, np.ascontiguousarray(fitted.H), X)


def uniform_model(seen: sparse.csr_matrix) -> FactorModel:
    """Random factors between 0 and 1, where bounds rule out no block of items."""
    rng = np.random.default_rng(0)
    users, items = seen.shape
    return model_of(rng.random((users, K), np.float32), rng.random((K, items), np.float32), seen)


def model_of(W: np.ndarray, H: np.ndarray, seen: sparse.csr_matrix) -> FactorModel:
    return FactorModel(W, H, IdMap(np.arange(W.shape[0])), IdMap(np.arange(H.shape[1])), seen)


def missing(package: str) -> bool:
    """Whether a peer is not installed, which is printed."""
    if find_spec(package) is None:
        print(f"({package} is not installed: left out)")
        return True
    return False


def ranking(model: FactorModel) -> dict[str, Task]:
    """The tasks that rank for all users, by name. Each has run once."""
    rows = np.arange(len(model.users))
    W, H = model.user_factors, model.item_factors
    compiled, plain = Scorer(model, compiled=True), Scorer(model, compiled=False)
    out = np.empty((512, len(model.items)), np.float32)

    def sgemm() -> None:
        for first in range(0, rows.size, 512):
            np.matmul(W[first : first + 512], H, out=out[: min(512, rows.size - first)])

    def anew() -> object:
        return Scorer(model, compiled=True).recommend_rows(rows, TOP)

    tasks: dict[str, Task] = {
        "Rankline, compiled": lambda: compiled.recommend_rows(rows, TOP),
        "the same, items arranged anew": anew,
        "Rankline, numpy": lambda: plain.recommend_rows(rows, TOP),
        "bare sgemm": sgemm,
    }
    if not missing("implicit"):
        peer = als(model)
        seen = model.seen.astype(np.float32)
        tasks["implicit `recommend`"] = lambda: peer.recommend(rows, seen, N=TOP, filter_already_liked_items=True)
    if not missing("faiss"):
        import faiss

        index = faiss.IndexFlatIP(K)
        index.add(np.ascontiguousarray(H.T))
        tasks["faiss IndexFlatIP (excludes nothing)"] = lambda: index.search(W, TOP)
    return tasks


def als(model: FactorModel) -> object:
    """implicit's ALS with our factors in it."""
    from implicit.cpu.als import AlternatingLeastSquares

    peer = AlternatingLeastSquares(factors=K, regularization=0.01, num_threads=0)
    peer.user_factors, peer.item_factors = model.user_factors, np.ascontiguousarray(model.item_factors.T)
    return peer


def time_lists(kind: str, model: FactorModel, rounds: int) -> None:
    """Print the table of lists of all users."""
    tasks = ranking(model)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
    agree(tasks)
    for _ in range(rounds):
        for name, task in tasks.items():
            wall, cpu = time.perf_counter(), time.process_time()
            task()
            taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    base = statistics.median(wall for wall, _ in taken["Rankline, compiled"])
    print(f"\n{kind} factors, load {os.getloadavg()[0]:.1f}\n")
    print("| | seconds | CPU seconds | beside Rankline |")
    print("|---|---|---|---|")
    for name, times in taken.items():
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {wall / base:.1f}× |", flush=True)


def agree(tasks: dict[str, Task]) -> None:
    """Run each task once and check that those that must agree give the same lists."""
    lists = {name: task() for name, task in tasks.items()}
    ours, plain = lists["Rankline, compiled"], lists["Rankline, numpy"]
    if ours.items.tobytes() != plain.items.tobytes() or ours.scores.tobytes() != plain.scores.tobytes():
        raise SystemExit("the compiled lists are not numpy's")
    peer = lists.get("implicit `recommend`")
    if peer is not None and np.mean(peer[0] == ours.items) < 0.99:
        raise SystemExit("implicit's lists are others")


def time_one_user(model: FactorModel, n: int) -> None:
    """Print the table of one user at a time."""
    X = model.seen.astype(np.float32)
    rows = np.random.default_rng(1).permutation(len(model.users))[:n]
    histories = [X.indices[X.indptr[u] : X.indptr[u + 1]].tolist() for u in rows]
    scores = [X.data[X.indptr[u] : X.indptr[u + 1]].tolist() for u in rows]
    scorer = Scorer(model)
    scorer.prepare()
    kept = [scorer.fold_in(*history) for history in zip(histories, scores, strict=True)]
    came_back = sum(bool((w == model.user_factors[u]).all()) for u, w in zip(rows, kept, strict=True))
    tasks: dict[str, Callable[[int], object]] = {
        "Rankline `fold_in`": lambda i: scorer.fold_in(histories[i], scores[i]),
        "Rankline `fold_in` + `recommend_for`": lambda i: scorer.recommend_for(
            scorer.fold_in(histories[i], scores[i]), TOP, seen=histories[i]
        ),
    }
    ones = [X[u] for u in rows]
    if not missing("implicit"):
        peer = als(model)
        peer.recalculate_user(rows[:1], ones[0])
        tasks["implicit `recalculate_user`"] = lambda i: peer.recalculate_user(rows[i : i + 1], ones[i])
        tasks["implicit `recalculate_user` + `recommend`"] = lambda i: peer.recommend(
            rows[i : i + 1], ones[i], N=TOP, recalculate_user=True
        )
    if not missing("sklearn"):
        from sklearn.decomposition import NMF

        estimator = NMF(K, init="custom", max_iter=200)
        estimator.components_, estimator.n_components_, estimator._n_components = model.item_factors, K, K
        estimator.n_features_in_, estimator._solver = len(model.items), "cd"
        estimator._beta_loss, estimator._l1_reg_W = 2, 0
        tasks["scikit-learn `transform`"] = lambda i: estimator.transform(ones[i])
    print(f"\none user at a time, {n} users, load {os.getloadavg()[0]:.1f}; {came_back} rows came back bit for bit\n")
    print("| | p50 µs | p99 µs | p50 beside Rankline |")
    print("|---|---|---|---|")
    base: dict[bool, float] = {}
    for name, task in tasks.items():
        some = range(n if "Rankline" in name else n // 5)
        times = []
        for i in some:
            start = time.perf_counter()
            task(i)
            times.append(1e6 * (time.perf_counter() - start))
        p50, p99 = np.percentile(times, [50, 99])
        with_list = "+" in name
        base.setdefault(with_list, p50)
        print(f"| {name} | {p50:,.0f} | {p99:,.0f} | {p50 / base[with_list]:.1f}× |", flush=True)


def time_many_users(model: FactorModel, rounds: int) -> None:
    """Print the table of all users folded in at once."""
    X = model.seen.astype(np.float32)
    rows = np.arange(len(model.users))
    scorer = Scorer(model)
    tasks: dict[str, Task] = {"Rankline `fold_in_rows`": lambda: scorer.fold_in_rows(X)}
    if not missing("implicit"):
        peer = als(model)
        tasks["implicit `recalculate_user`"] = lambda: peer.recalculate_user(rows, X)
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if number:
                taken[name].append(time.perf_counter() - start)
    print(f"\n{rows.size:,} users at once, load {os.getloadavg()[0]:.1f}\n")
    print("| | seconds | beside Rankline |")
    print("|---|---|---|")
    medians = {name: statistics.median(times) for name, times in taken.items()}
    for name, wall in medians.items():
        print(f"| {name} | {wall:.2f} | {wall / medians['Rankline `fold_in_rows`']:.1f}× |", flush=True)


def main() -> None:
    """Run the comparison and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5,000 users × 3,000 items, one round")
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=27_000)
    parser.add_argument("--cells", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.quick:
        options.users, options.items, options.cells, options.rounds = 5_000, 3_000, 150_000, 1
    warnings.simplefilter("ignore")
    print(machine.describe("numpy", "scipy", *(p for p in ("numba", "implicit") if find_spec(p))))
    print(
        f"\n{options.users:,} users × {options.items:,} items, {options.cells:,} seen, k = {K}, top {TOP}, "
        f"medians of {options.rounds}"
    )
    model = fitted_model(options.users, options.items, options.cells)
    time_lists("fitted", model, options.rounds)
    time_lists("uniform", uniform_model(model.seen), options.rounds)
    time_one_user(model, min(2_000, options.users))
    time_many_users(model, options.rounds)


if __name__ == "__main__":
    main()
