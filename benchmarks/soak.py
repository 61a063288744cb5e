"""`rankline serve` under everything at once: swaps, broken versions, a Redis that stops, killed workers, a retraining.

    python benchmarks/soak.py [--seconds 120] [--home FOLDER] [--swaps 10] [--broken 2] [--kills 1] [--no-retrain]
    python benchmarks/soak.py --kills 100 --shares 0,1,0 --workers 4 --swaps 0 --no-retrain
    python benchmarks/soak.py --swaps 50 --broken 5 --kills 0 --no-retrain

Clients ask for lists, send ratings and ask why, and check each answer (`soak_load.py`). Meanwhile the champion is moved
to and fro in MLflow, now and then to a version whose files are damaged, missing or another run's; workers are killed;
Redis is stopped and started; a model is trained and becomes the champion. At the end every rating that was acknowledged
is looked for in the interaction log. Exit status 1 where a request failed, a list was stale, or a rating is lost or
there twice. Connections that a killed worker held break, and are counted by themselves.

`--home` is a folder with `mlflow.db` and a registered model `rankline`; without it one is made (the sample; a minute).
It is changed: versions are added. Events that take longer than `--seconds` are waited for.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import machine
from serve import ROOT, make_home
from serve_load import cpu, free_port, server
from soak_load import KINDS, Load, Pointers, connections_of

FAULTS = ("truncated", "missing", "foreign")
_LIVED = 5.5  # seconds; a worker that ended sooner is started again after a pause


class Service:
    """The service, its MLflow store and its Redis, and what can be done to them.

    Parameters
    ----------
    env : its environment
    token : an API key of the scopes read, write and admin
    redis : the Redis that it uses; None without one
    """

    def __init__(self, env: dict[str, str], port: int, token: str, redis: Redis | None) -> None:
        import mlflow

        self.port, self._token, self.redis = port, token, redis
        self.live = Path(env["RANKLINE_LIVE_DIR"])
        self._store = mlflow.MlflowClient(env["MLFLOW_TRACKING_URI"])
        self.swapped: list[float] = []
        self.refused = self.killed = self.retrained = 0
        self._dead: set[int] = set()
        self._store.set_registered_model_alias("rankline", "champion", "1")

    # ---- versions -----------------------------------------------------------------------------

    def add_version(self, fault: str = "") -> str:
        """Another version with the files of the first one, as another run; its number."""
        first = self._store.get_model_version("rankline", "1")
        source = Path(self._store.get_run(first.run_id).info.artifact_uri.removeprefix("file://"))
        run = self._store.create_run(self._store.get_run(first.run_id).info.experiment_id)
        folder = Path(run.info.artifact_uri.removeprefix("file://"))
        shutil.copytree(source, folder, dirs_exist_ok=True)
        metadata = json.loads((folder / "metadata.json").read_text())
        metadata["run_id"] = first.run_id if fault == "foreign" else run.info.run_id
        (folder / "metadata.json").write_text(json.dumps(metadata))
        if fault == "truncated":
            whole = (folder / "seen.npz").read_bytes()
            (folder / "seen.npz").write_bytes(whole[: len(whole) // 2])
        elif fault == "missing":
            (folder / "seen.npz").unlink()
        version = self._store.create_model_version("rankline", str(folder), run.info.run_id)
        self._store.set_terminated(run.info.run_id)
        return str(version.version)

    async def promote(self, version: str, *, broken: bool = False) -> None:
        """Make a version the champion, and wait until it is served, or refused."""
        begun, since = time.perf_counter(), time.time() * 1000
        await asyncio.to_thread(self._store.set_registered_model_alias, "rankline", "champion", version)
        while True:
            await asyncio.sleep(0.05)
            pointer, agent = self._read("current.json"), self._read("agent.json")
            served = pointer.get("version") == version
            if broken and served:
                raise SystemExit(f"a broken version, {version}, is served")
            if served:
                self.swapped.append(time.perf_counter() - begun)
                return
            if broken and agent.get("fault") and agent["at"] > since:
                self.refused += 1
                return
            if time.perf_counter() > begun + 300:
                raise SystemExit(f"rankline/{version} is not served after 300 s: {agent.get('fault')}")

    def _read(self, name: str) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            return dict(json.loads((self.live / name).read_text()))
        return {}

    # ---- workers ------------------------------------------------------------------------------

    def workers(self) -> dict[int, float]:
        """The workers that are ready: process → seconds since it was."""
        found = {}
        for path in (self.live / "workers").glob("*.json"):
            if int(path.stem) in self._dead:  # nobody has noticed yet
                continue
            with suppress(OSError):
                if json.loads(path.read_text())["loaded"]:
                    started = float(Path(f"/proc/{path.stem}/stat").read_text().rpartition(")")[2].split()[19])
                    up = float(Path("/proc/uptime").read_text().split()[0])
                    found[int(path.stem)] = up - started / os.sysconf("SC_CLK_TCK")
        return found

    async def kill(self, load: Load, least: int, chance: random.Random) -> None:
        """SIGKILL a worker, when there are so many others and it has lived for some seconds."""
        while True:
            workers = self.workers()
            old = [pid for pid, age in workers.items() if age > _LIVED]
            if old and len(workers) > least:
                break
            await asyncio.sleep(0.05)
        pid = chance.choice(old)
        os.kill(pid, signal.SIGSTOP)  # so that it takes no further connection meanwhile
        load.doom(connections_of(pid, self.port))
        os.kill(pid, signal.SIGKILL)
        self._dead.add(pid)
        self.killed += 1

    # ---- a training ---------------------------------------------------------------------------

    async def retrain(self) -> None:
        """A training as the API is asked for one, with the new interactions, and its version as the champion."""
        asked = {"hyperparameters": {"max_iter": 30}, "split": {"holdout": 0}}
        job = (await asyncio.to_thread(self._call, "POST", "/api/v1/train", asked))["job_id"]
        while True:
            await asyncio.sleep(0.5)
            state = await asyncio.to_thread(self._call, "GET", f"/api/v1/jobs/{job}")
            if state.get("state") in ("done", "failed"):
                break
        if state["state"] == "failed":
            raise SystemExit(f"the training failed: {state['reason']}")
        newest = max(int(v.version) for v in self._store.search_model_versions("name = 'rankline'"))
        await self.promote(str(newest))
        self.retrained += 1

    def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Ask until it answers: a worker that is killed may hold the connection."""
        data = None if body is None else json.dumps(body).encode()
        head = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        while True:
            request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, head, method=method)
            with (
                suppress(ConnectionError, http.client.HTTPException),
                urllib.request.urlopen(request, timeout=60) as it,
            ):
                return dict(json.load(it))


class Redis:
    """A redis-server of this program's own."""

    def __init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def hang(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


# ---- what happens meanwhile ----------------------------------------------------------------------


async def swaps(service: Service, n: int, n_broken: int, seconds: float) -> None:
    """Move the champion so often, some of the times to a broken version, evenly over the time."""
    good = [service.add_version(), "1"]
    broken = [service.add_version(FAULTS[i % len(FAULTS)]) for i in range(n_broken)]
    begun = time.monotonic()
    every = max(1, n // n_broken) if n_broken else n + 1
    for i in range(n):
        await asyncio.sleep(max(0.0, begun + seconds * i / n - time.monotonic()))
        if i % every == every - 1 and broken:
            await service.promote(broken.pop(), broken=True)
        else:
            good.reverse()
            await service.promote(good[0])


async def kills(service: Service, load: Load, n: int, least: int, seconds: float) -> None:
    """Kill workers so often."""
    chance, begun = random.Random(0), time.monotonic()
    for i in range(n):
        await asyncio.sleep(max(0.0, begun + seconds * (i + 1) / (n + 1) - time.monotonic()))
        await service.kill(load, least, chance)


async def redis_goes(service: Service, seconds: float) -> None:
    """Redis hangs, stops and comes back."""
    if service.redis is None:
        return
    await asyncio.sleep(seconds * 0.4)
    service.redis.hang()
    await asyncio.sleep(seconds * 0.1)
    service.redis.stop()
    await asyncio.sleep(seconds * 0.1)
    service.redis.start()


async def soak(chosen: argparse.Namespace, service: Service, token: str) -> Load:
    pointers = Pointers(service.live / "current.json")
    watching = asyncio.create_task(pointers.watch())
    shares = tuple(map(float, chosen.shares.split(",")))
    load = Load(service.port, token, pointers, shares, chosen.clients)
    loading = asyncio.create_task(load.run())
    least = max(1, chosen.workers - 2)

    async def champions() -> None:  # one at a time: each waits until its version is served
        part = chosen.seconds * (0.6 if chosen.retrain else 1.0)
        await swaps(service, chosen.swaps, chosen.broken, part)
        if chosen.retrain:
            await service.retrain()

    events = asyncio.gather(
        champions(), kills(service, load, chosen.kills, least, chosen.seconds), redis_goes(service, chosen.seconds),
        asyncio.sleep(chosen.seconds),
    )  # fmt: skip
    await asyncio.wait([events, loading], return_when=asyncio.FIRST_COMPLETED)
    load.stopping = True
    await loading
    await events
    watching.cancel()
    return load


# ---- what came of it -----------------------------------------------------------------------------


def lost_and_doubled(path: Path, load: Load) -> tuple[int, int]:
    """Acknowledged ratings that the interaction log does not have, and those that it has twice."""
    with sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True) as database:
        kept = {
            seq: (user, item) for seq, user, item in database.execute("SELECT seq, user_id, item_id FROM interactions")
        }
    lost = sum(kept.get(seq) != (user, item) for seq, user, item in load.acknowledged)
    pairs = list(kept.values())
    return lost, len(pairs) - len(set(pairs))


def report(load: Load, service: Service, seconds: float, used: float) -> bool:
    """Print the figures; whether all is well."""
    n = sum(map(len, load.waited.values()))
    each = f"{used / n * 1e6:,.0f} µs CPU each in the service"
    print(f"{n:,} requests in {seconds:.0f} s, {each}; load of the machine {os.getloadavg()[0]:.0f}")
    for kind in KINDS:
        waited = sorted(load.waited[kind])
        if waited:
            p50, p99, most = (1000 * waited[int(share * (len(waited) - 1))] for share in (0.5, 0.99, 1))
            print(f"  {kind:<12} {len(waited):>9,}  p50 {p50:7.1f} ms  p99 {p99:7.1f} ms  max {most:8.1f} ms")
    swapped = f"{len(service.swapped)} swaps"
    if service.swapped:
        swapped += f" (promoted → served {min(service.swapped):.1f}–{max(service.swapped):.1f} s)"
    print(f"{swapped}, {service.refused} broken versions refused, {service.killed} workers killed, "
          f"{service.retrained} retrained")  # fmt: skip
    lost, doubled = lost_and_doubled(service.live / "interactions.db", load)
    rows = (
        ("failed requests", len(load.failures)),
        ("stale answers", len(load.stale)),
        ("acknowledged ratings", len(load.acknowledged)),
        ("  of these lost", lost),
        ("  of these there twice", doubled),
        ("connections that killed workers held", load.broken),
        ("ratings that were sent again for it", load.sent_again),
    )
    for name, count in rows:
        print(f"{name:<38}{count:>8,}")
    for line in (load.failures + load.stale)[:20]:
        print(f"  {line}")
    return not (load.failures or load.stale or lost or doubled)


def used_by(pid: int) -> float:
    """CPU seconds of the service's processes, those that have ended among them."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return cpu([pid]) + (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def environment(chosen: argparse.Namespace, home: Path, scratch: Path, redis: Redis | None) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{home.absolute() / 'mlflow.db'}",
        "RANKLINE_WAREHOUSE": f"chdb://{home.absolute() / 'warehouse'}",
        "RANKLINE_LIVE_DIR": str(scratch / "live"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        **({} if redis is None else {"REDIS_URL": f"redis://127.0.0.1:{redis.port}"}),
    }


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shares", default="0.9,0.09,0.01", help="of lists, ratings and explanations")
    parser.add_argument("--swaps", type=int, default=10)
    parser.add_argument("--broken", type=int, default=2, help="of these swaps, to broken versions")
    parser.add_argument("--kills", type=int, default=1)
    parser.add_argument("--no-retrain", dest="retrain", action="store_false")
    parser.add_argument("--no-redis", dest="redis", action="store_false")
    return parser.parse_args()


def main() -> None:
    chosen = parsed()
    print(machine.describe())
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = None
        if chosen.redis and shutil.which("redis-server"):
            redis = Redis()
            stack.callback(redis.stop)
        elif chosen.redis:
            print("redis-server is not installed: without the second cache")
        env = environment(chosen, chosen.home or scratch, scratch, redis)
        if chosen.home is None:
            make_home(env)
        command = [sys.executable, "-m", "pipeline", "key", "add", "soak", "--scope", "read,write,admin", "--json"]
        made = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
        token = json.loads(made.stdout)["key"]
        port = free_port()
        command = [sys.executable, "-m", "pipeline", "serve", "--port", str(port), "--workers", str(chosen.workers)]
        command += ["--poll-seconds", "0.5", "--access-log", "no"]
        service = Service(env, port, token, redis)
        process = stack.enter_context(server(command, env, f"http://127.0.0.1:{port}/api/v1/ready"))
        begun, before = time.monotonic(), used_by(process.pid)
        load = asyncio.run(soak(chosen, service, token))
        fine = report(load, service, time.monotonic() - begun, used_by(process.pid) - before)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
