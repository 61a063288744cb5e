"""Time to the loss scikit-learn's ``cd`` has after 50 iterations, from the same W₀ and H₀, float32.

    python benchmarks/solver.py [--quick] [--sizes 10000x50000x1000000,…] [--data ratings.csv] [--k 64]
        [--plot loss.png]

Both run alternately in one process on the same matrix, several times, each time from another start, because the number
of iterations to a given loss depends on the start. The median is shown. scikit-learn does not report its loss by
iteration, so its loss is computed from its factors in float64, and its time is that of the whole fit. Our time runs
from the call to the first iteration whose loss is no higher. It includes the transpose of X and excludes compilation
(a small fit precedes it). CPU seconds, shown beside wall seconds, vary less on a shared machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from pathlib import Path

import machine
import numpy as np
from scipy import sparse
from sklearn import decomposition
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contextlib

from pipeline.data.id_map import distinct
from pipeline.models.solvers.nmf import factorize

ITERATIONS = 50
SIZES = "10000x50000x1000000,100000x100000x10000000,138000x27000x20000000"
QUICK = "2000x5000x100000"
ROUNDS = 5


class Reached(Exception):  # noqa: N818 - not an error: it ends the fit
    """Ends our fit at the loss to reach."""


def generate(users: int, items: int, cells: int, seed: int = 0) -> sparse.csr_matrix:
    """Ratings 0.5–5 with the skew of real data: lognormal activity, Zipf popularity, 20 groups of taste.

    Half of a user's items are drawn from all items, half from those of their group.
    """
    rng = np.random.default_rng(seed)
    groups = 20
    activity = np.cumsum(rng.lognormal(0.0, 1.2, users))
    popularity = rng.permutation(1.0 / np.arange(1, items + 1) ** 0.9)
    genre, taste = rng.integers(groups, size=items), rng.integers(groups, size=users)
    order = np.argsort(genre, kind="stable")
    by_all, by_genre = np.cumsum(popularity), np.cumsum(popularity[order])
    ends = np.append(0, by_genre)[np.searchsorted(genre[order], np.arange(groups + 1))]
    keys = np.empty(0, np.int64)
    while keys.size < cells:
        n = 2 * (cells - keys.size) + cells // 4  # some draws repeat a cell, more of them as the matrix fills
        user = np.searchsorted(activity, rng.random(n) * activity[-1], side="right")
        anything = np.searchsorted(by_all, rng.random(n) * by_all[-1], side="right")
        low, high = ends[taste[user]], ends[taste[user] + 1]
        own = order[np.searchsorted(by_genre, low + rng.random(n) * (high - low), side="right").clip(0, items - 1)]
        item = np.where(rng.random(n) < 0.5, own, anything)
        keys = distinct(keys, user * items + item)
    keys = np.sort(rng.choice(keys, cells, replace=False))
    user, item = keys // items, keys % items
    liked = np.where(genre[item] == taste[user], 4.0, 3.0)
    scores = np.clip(np.round((liked + rng.normal(0.0, 1.0, cells)) * 2) / 2, 0.5, 5.0).astype(np.float32)
    return sparse.csr_matrix((scores, (user.astype(np.int32), item.astype(np.int32))), shape=(users, items))


def read(path: str) -> sparse.csr_matrix:
    """The first three columns of a CSV with a header: user, item, score; the last of duplicates."""
    import pandas as pd

    table = pd.read_csv(path).iloc[:, :3]
    table = table.drop_duplicates(list(table.columns[:2]), keep="last")
    users, items = (pd.factorize(table.iloc[:, i], sort=True)[0] for i in (0, 1))
    return sparse.csr_matrix((table.iloc[:, 2].to_numpy(np.float32), (users, items)))


def start(X: sparse.csr_matrix, k: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's random start."""
    rng = np.random.default_rng(seed)
    scale = np.sqrt(X.mean() / k)
    W, H = (np.abs(scale * rng.standard_normal(s, np.float32)) for s in ((X.shape[0], k), (k, X.shape[1])))
    return W.astype(np.float32), H.astype(np.float32)


def loss_of(X: sparse.csr_matrix, W: np.ndarray, H: np.ndarray) -> float:
    """‖X − WH‖_F in float64, without a dense array."""
    W, H = W.astype(np.float64), H.astype(np.float64)
    square = float(np.vdot(X.data, X.data.astype(np.float64)))
    return float(np.sqrt(square - 2 * np.vdot(X @ H.T, W) + np.vdot(W.T @ W, H @ H.T)))


def theirs(X: sparse.csr_matrix, W: np.ndarray, H: np.ndarray) -> tuple[float, float, float]:
    """(wall seconds, CPU seconds, loss) of scikit-learn's 50 iterations."""
    model = decomposition.NMF(W.shape[1], init="custom", tol=0, max_iter=ITERATIONS)
    W, H = W.copy(), H.copy()
    wall, cpu = time.perf_counter(), time.process_time()
    # Its small products gain nothing from more BLAS threads, and lose much on a busy machine. After the loss, a second
    # thread of OpenBLAS would go on spinning for a tenth of a second, on a core that our fit needs.
    with threadpool_limits(1):
        W = model.fit_transform(X, W=W, H=H)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return wall, cpu, loss_of(X, W, model.components_)


def ours(X: sparse.csr_matrix, W: np.ndarray, H: np.ndarray, goal: float) -> list[tuple[float, float, float]]:
    """(wall seconds, CPU seconds, loss) after each iteration, until the loss is no higher than `goal`."""
    wall, cpu = time.perf_counter(), time.process_time()
    path: list[tuple[float, float, float]] = []

    def on_iteration(iteration: int, loss: float) -> None:
        path.append((time.perf_counter() - wall, time.process_time() - cpu, loss))
        if loss <= goal:
            raise Reached

    with contextlib.suppress(Reached):
        factorize(X, W, H, random_start=True, max_iter=6 * ITERATIONS, tol=0, on_iteration=on_iteration)
    return path


def plot(curves: dict[str, tuple[list[float], list[float], list[float]]], file: str) -> None:
    """Loss by time, a panel a matrix: scikit-learn's steps (their losses by our plain solver) and ours."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(curves), figsize=(5 * len(curves), 4), squeeze=False)
    for axis, (name, (seconds, losses, ours)) in zip(axes[0], curves.items(), strict=True):
        axis.plot([seconds[0] * (i + 1) / len(losses) for i in range(len(losses))], losses, label="scikit-learn cd")
        axis.plot([point[0] for point in ours], [point[2] for point in ours], label="Rankline")
        axis.set(title=name, xlabel="seconds", ylabel="‖X − WH‖", xscale="log")
        axis.set_ylim(min(losses[-1], ours[-1][2]) * 0.999, losses[2])
        axis.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def main() -> None:
    """Run the comparison and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK}, one round")
    parser.add_argument("--sizes", default=SIZES, help="users x items x cells, separated by commas")
    parser.add_argument("--data", help="a CSV with user, item, score instead of made-up data")
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--plot", metavar="PNG", help="draw loss by time, of each matrix's first round")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    sizes = QUICK if options.quick else options.sizes
    warnings.simplefilter("ignore")
    small = generate(200, 300, 3000)
    for X in (small, generate(8000, 8000, 100_000)):  # compiles the kernels at both widths
        factorize(X, *start(X, options.k), max_iter=2)

    print(machine.describe("numpy", "scipy", "scikit-learn", "numba"))
    print(
        f"\nk = {options.k}, medians of {rounds} starts; to the loss scikit-learn has after {ITERATIONS} iterations\n"
    )
    print("| matrix | scikit-learn s | Rankline s | ratio (least–most) | of CPU seconds | iterations | not reached |")
    print("|---|---|---|---|---|---|---|", flush=True)
    curves = {}
    for name in [options.data] if options.data else sizes.split(","):
        X = read(name) if options.data else generate(*(int(n) for n in name.split("x")))
        rows, missed = [], []
        for seed in range(1, rounds + 1):
            W, H = start(X, options.k, seed)
            wall, cpu, goal = theirs(X, W, H)
            path = ours(X, W, H, goal)
            if path[-1][2] > goal:
                missed.append(f"{path[-1][2] / goal - 1:+.1e}")
            rows.append((wall, path[-1][0], wall / path[-1][0], cpu / path[-1][1], len(path)))
            if options.plot and seed == 1:
                plain = factorize(X, W, H, max_iter=ITERATIONS, tol=0, accelerate=False).losses
                curves[f"{X.shape[0]:,} × {X.shape[1]:,}, {X.nnz:,}"] = ([wall], plain, path)
        wall, our_wall, ratio, cpu_ratio, iterations = (statistics.median(column) for column in zip(*rows, strict=True))
        ratios = [row[2] for row in rows]
        print(
            f"| {X.shape[0]:,} × {X.shape[1]:,}, {X.nnz:,} | {wall:.2f} | {our_wall:.2f} "
            f"| {ratio:.1f}× ({min(ratios):.1f}–{max(ratios):.1f}) | {cpu_ratio:.1f}× | {iterations:.0f} "
            f"| {', '.join(missed) or '–'} |",
            flush=True,
        )
    if options.plot:
        plot(curves, options.plot)


if __name__ == "__main__":
    main()
