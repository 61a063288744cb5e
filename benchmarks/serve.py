"""`rankline serve` beside `mlflow models serve` and Recotem, over loopback: CPU of the servers for each request.

    python benchmarks/serve.py [--home FOLDER] [--seconds 4] [--clients 16] [--workers 2] [--swaps 6]
                               [--no-peer] [--recotem COMMAND]

The clients share the machine with the servers, so requests a second say how busy it is; CPU seconds of the server's
processes (from /proc) for each request are the figure that holds. `--home` is a folder with `mlflow.db` and a
registered model `rankline`; without it one is made (the sample, 30 iterations; a minute). Rows:

    cached        lists that were asked for before       anew     each with another k or user: ranked again
    ratings       one interaction a request, on disk when it is answered
    explanations  why an item is recommended, two clients      one prediction   by one client
    reads         a rating, then the list from whichever worker: lists that did not know it
    1,000 users   one request for 1,000 lists of 5
    swaps         the champion is moved under load: failed requests, and seconds until it is served

The peers (`serve_peers.py`) get the same load as our lists do for the comparison with them; Recotem where `--recotem`,
or RECOTEM, names the command that runs it. At the end stands a table of what is wanted and what was seen.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import machine
from serve_large import bench_memory, bench_ranking
from serve_load import Load, ask, free_port, get, memory, post, row, server, workers
from serve_peers import Ours, bench_mlflow, bench_recotem, ours, recotem_version

ROOT = Path(__file__).resolve().parents[1]


class Target(NamedTuple):
    """What is measured, the floor and the aim, and what was seen."""

    what: str
    wanted: str
    seen: str


def spelled(n: int) -> str:
    """The n-th spelling of the same query, of 512: each is another key of the cache."""
    true = "".join(letter.upper() if n >> bit & 1 else letter for bit, letter in enumerate("true"))
    yes = "".join(letter.upper() if n >> bit & 1 else letter for bit, letter in enumerate("yes", 5))
    return f"k=10&exclude_seen={yes if n >> 4 & 1 else true}" + ("&unknown=popular" if n >> 8 & 1 else "")


async def stale_reads(port: int, n: int) -> int:
    """Of n ratings, after how many the next list, on another connection, still has the item."""
    both = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
    stale = 0
    for i in range(n):
        path = f"/api/v1/recommendations/{500_000 + i % 40}?k=20"
        _, body = await ask(both[i % 8], get(path))
        item = json.loads(body)["recommendations"][i % 20]["item_id"]
        event = {"user_id": 500_000 + i % 40, "item_id": item, "rating": 4}
        await ask(both[(i + 1) % 8], post("/api/v1/interactions", event))
        for j in range(8):
            _, body = await ask(both[j], get(path))
            stale += item in [listed["item_id"] for listed in json.loads(body)["recommendations"]]
    return stale


def make_home(env: dict[str, str]) -> None:
    print("training the model …", flush=True)
    command = [sys.executable, "-m", "pipeline", "train", "--max-iter", "30", "--holdout", "0"]
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)


async def swaps(load: Load, n: int, env: dict[str, str]) -> tuple[int, float]:
    """Move the champion to and fro under load: failed requests, and the longest time until a version is served."""
    import mlflow

    mlflow.set_tracking_uri(env["MLFLOW_TRACKING_URI"])
    store = mlflow.MlflowClient()
    versions = sorted((v.version for v in store.search_model_versions("name = 'rankline'")), key=int)
    if len(versions) < 2:
        first = store.get_model_version("rankline", versions[0])
        versions.append(store.create_model_version("rankline", first.source, first.run_id).version)
    loading = asyncio.create_task(load.run(3600, lambda i: get(f"/api/v1/recommendations/{1 + i % 600}")))
    took = []
    for i in range(n):
        begun = time.perf_counter()
        wanted = str(versions[i % 2])
        await asyncio.to_thread(store.set_registered_model_alias, "rankline", "champion", wanted)
        connection = await asyncio.open_connection("127.0.0.1", load.port)
        while json.loads((await ask(connection, get("/api/v1/ready")))[1])["model_version"] != f"rankline/{wanted}":
            await asyncio.sleep(0.02)
        took.append(time.perf_counter() - begun)
    loading.cancel()
    store.delete_registered_model_alias("rankline", "champion")
    print(f"{n} swaps under load: {len(load.waited):,} requests, {load.failed} failed; promoted → served "
          f"{min(took):.1f}–{max(took):.1f} s")  # fmt: skip
    return load.failed, max(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--swaps", type=int, default=6)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--recotem", default=os.environ.get("RECOTEM", ""))
    chosen = parser.parse_args()
    print(machine.describe())
    with tempfile.TemporaryDirectory() as scratch:
        home = chosen.home or Path(scratch)
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MLFLOW_TRACKING_URI": f"sqlite:///{home.absolute() / 'mlflow.db'}",
            "RANKLINE_WAREHOUSE": f"chdb://{home.absolute() / 'warehouse'}",
            "RANKLINE_LIVE_DIR": str(Path(scratch) / "live"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_LOGGING_LEVEL": "ERROR",
        }
        if chosen.home is None:
            make_home(env)
        targets, lists = bench_ours(chosen, env)
        targets += bench_large(chosen, env | {"MLFLOW_TRACKING_URI": f"sqlite:///{scratch}/none.db"}, Path(scratch))
        if lists is not None:
            targets += bench_peers(chosen, env, Path(scratch), lists)
    print(f"\n{'what':<42}{'floor → aim':<44}seen (load of the machine {os.getloadavg()[0]:.1f})")
    for target in targets:
        print(f"{target.what:<42}{target.wanted:<44}{target.seen}")


def bench_ours(chosen: argparse.Namespace, env: dict[str, str]) -> tuple[list[Target], Ours | None]:
    port = free_port()
    command = [sys.executable, "-m", "pipeline", "serve", "--port", str(port), "--workers", str(chosen.workers)]
    command += ["--poll-seconds", "1"]
    ready = f"http://127.0.0.1:{port}/api/v1/ready"
    begun = time.perf_counter()
    with server(command, env, ready):
        print(f"first start, kernels may compile: ready after {time.perf_counter() - begun:.1f} s")
    begun = time.perf_counter()
    with server(command, env, ready) as process:
        seconds, sizes = time.perf_counter() - begun, memory(process.pid)
        print(f"start with its own copy: ready after {seconds:.1f} s; memory (PSS) {sizes} MB", flush=True)
        lists = None
        if not chosen.no_peer:
            pid = workers(Path(env["RANKLINE_LIVE_DIR"]), chosen.workers)
            lists = ours(pid, port, chosen.seconds, [spelled(n) for n in range(512)])
        targets = bench_requests(chosen, env, port)
    targets += [
        Target("start to ready, kernels compiled before", "< 5 s", f"{seconds:.1f} s"),
        Target("memory of each process (PSS)", "< 200, < 140 a further worker", f"{sizes} MB"),
    ]
    return targets, lists


def bench_requests(chosen: argparse.Namespace, env: dict[str, str], port: int) -> list[Target]:
    # The workers alone: the agent, which does nothing for a request, is importing MLflow at first.
    pid = workers(Path(env["RANKLINE_LIVE_DIR"]), chosen.workers)
    lists, load, alone = "/api/v1/recommendations", Load(port, chosen.clients), Load(port, 1)
    event = {"item_id": 912, "rating": 4}
    many = post(lists, {"user_ids": [1 + i % 600 for i in range(1000)], "k": 5})
    one = post("/api/v1/predict", {"user_id": 1, "item_id": 912})
    # Few users, so that each worker has all of their lists after the warm-up.
    cached = row("cached", pid, load, chosen.seconds, lambda i: get(f"{lists}/{1 + i % 50}"))
    anew = row("anew", pid, load, chosen.seconds, lambda i: get(f"{lists}/{1 + i % 600}?{spelled(i // 600)}"))
    rate = "/api/v1/interactions"
    rated = row("ratings, on disk", pid, load, chosen.seconds,
                lambda i: post(rate, {"user_id": 900_000 + i % 5000, **event}))  # fmt: skip
    why = row("explanations", pid, Load(port, 2), chosen.seconds, lambda i: get(f"/api/v1/explain/{1 + i % 600}/912"))
    predicted = row("one prediction", pid, alone, chosen.seconds, lambda i: one)
    stale = asyncio.run(stale_reads(port, 250))
    print(f"lists that did not know an acknowledged rating: {stale} of {250 * 8:,}")
    batch = row("1,000 users in one request", pid, alone, chosen.seconds, lambda i: many)
    targets = [
        Target("cached list", "2,000/s, p99 < 20 ms → 4,500/s, < 10 ms", f"{cached.rate:,.0f}/s, {cached.p99:.1f} ms"),
        Target("  CPU a request", "≤ 250 µs", f"{cached.used:,.0f} µs"),
        Target("ranked anew, 9,066 items, k 10", "1,200/s → 2,000/s, p99 < 20 ms",
               f"{anew.rate:,.0f}/s, {anew.p99:.1f} ms, {anew.used:,.0f} µs CPU"),
        Target("durable ratings", "1,000/s → 2,000/s, p99 < 50 ms",
               f"{rated.rate:,.0f}/s, {rated.p99:.1f} ms, {rated.used:,.0f} µs CPU"),
        Target("lists that did not know a rating", "0", f"{stale} of {250 * 8:,}"),
        Target("explanation p99", "< 20 → < 10 ms", f"{why.p99:.1f} ms, {why.used:,.0f} µs CPU"),
        Target("one prediction", "< 1 ms", f"p50 {predicted.p50:.2f} ms, {predicted.used:,.0f} µs CPU"),
        Target("lists for 1,000 users in one request", "< 1 s → < 0.3 s", f"{batch.p50 / 1000:.2f} s"),
        Target("failed requests", "0", str(sum(s.failed for s in (cached, anew, rated, why, predicted, batch)))),
    ]  # fmt: skip
    if chosen.swaps:
        failed, longest = asyncio.run(swaps(load, chosen.swaps, env))
        targets.append(Target(f"{chosen.swaps} swaps under load", "0 failed, < 10 s", f"{failed}, {longest:.1f} s"))
    return targets


def bench_large(chosen: argparse.Namespace, env: dict[str, str], scratch: Path) -> list[Target]:
    queries = [spelled(n) for n in range(512)]
    anew = bench_ranking(env, scratch / "wide", chosen.seconds, chosen.clients, queries)
    return [
        Target("ranked anew, 27,278 items, k 64", "800/s → 1,200/s, p99 < 20 ms",
               f"{anew.rate:,.0f}/s, {anew.p99:.1f} ms, {anew.used:,.0f} µs CPU"),
        Target("100K users × 50K items, k 50 in memory", "< 500 MB", f"{bench_memory(env, scratch / 'large')} MB"),
    ]  # fmt: skip


def bench_peers(chosen: argparse.Namespace, env: dict[str, str], scratch: Path, ours: Ours) -> list[Target]:
    wanted = "15 → 30 times its requests a CPU second"
    found = [Target("beside mlflow models serve", wanted, ours.beside(bench_mlflow(env, chosen.seconds)))]
    version = recotem_version(chosen.recotem) if chosen.recotem else ""
    if version:
        seen = bench_recotem(chosen.recotem, scratch / "recotem", chosen.seconds)
        found.append(Target(f"beside {version}", "", ours.beside(seen)))
    else:
        why = "does not run" if chosen.recotem else "is not named (RECOTEM or --recotem: see docs/serving.md)"
        print(f"Recotem is left out: its command {why}")
    return found


if __name__ == "__main__":
    main()
