"""Two larger models for `serve.py`, of random factors: the service starts with its own copies, without MLflow."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy import sparse
from serve_load import Load, Seen, free_port, get, memory, row, server, workers

from pipeline.data.id_map import IdMap
from pipeline.models.factor_model import FactorModel
from pipeline.models.item_snapshot import ItemTexts
from pipeline.models.model_files import METADATA
from pipeline.serving.live_folder import LiveFolder, Pointer, write_json

__all__ = ["bench_memory", "bench_ranking"]

_SEEN = 20  # items of a user


def bench_ranking(env: dict[str, str], live: Path, seconds: float, clients: int, spelled: list[str]) -> Seen:
    """Lists of 27,278 items by 64 factors, each ranked anew; `spelled` are queries of the same meaning."""
    _put(live, 5_000, 27_278, 64)
    command, ready, port = _command()

    def ask(i: int) -> bytes:
        return get(f"/api/v1/recommendations/{i % 5_000}?{spelled[i // 5_000 % len(spelled)]}")

    with server(command, env | {"RANKLINE_LIVE_DIR": str(live)}, ready):
        return row("anew, 27,278 items, k 64", workers(live, 2), Load(port, clients), seconds, ask)


def bench_memory(env: dict[str, str], live: Path) -> str:
    """Megabytes of each process with 100,000 users, 50,000 items and 50 factors."""
    _put(live, 100_000, 50_000, 50)
    command, ready, port = _command()
    with server(command, env | {"RANKLINE_LIVE_DIR": str(live)}, ready) as process:
        row("100,000 × 50,000, k 50", workers(live, 2), Load(port, 8), 1.0,
            lambda i: get(f"/api/v1/recommendations/{i % 100_000}"))  # fmt: skip
        return memory(process.pid)


def _command() -> tuple[list[str], str, int]:
    port = free_port()
    command = [sys.executable, "-m", "pipeline", "serve", "--port", str(port), "--workers", "2"]
    return command, f"http://127.0.0.1:{port}/api/v1/ready", port


def _put(live: Path, n_users: int, n_items: int, k: int) -> None:
    """A model in the folder of a service, as its agent would have put it there."""
    rng = np.random.default_rng(1)
    w, h = (rng.random(shape, np.float32) ** 3 for shape in ((n_users, k), (k, n_items)))
    cols = np.sort(rng.integers(0, n_items // _SEEN, (n_users, _SEEN)) * _SEEN + np.arange(_SEEN), axis=1)
    seen = sparse.csr_matrix(
        (np.ones(cols.size, np.float32), cols.ravel().astype(np.int32), np.arange(0, cols.size + 1, _SEEN)),
        shape=(n_users, n_items),
    )
    model = FactorModel(w, h, IdMap(np.arange(n_users)), IdMap(np.arange(n_items)), seen, {"run_id": "0" * 32})
    folder = LiveFolder(live)
    folder.make()
    saved = model.save(folder.models / "made", ItemTexts({str(i): f"Item {i}" for i in range(n_items)}))
    digest = hashlib.sha256((saved / METADATA).read_bytes()).hexdigest()
    pointer = Pointer(digest, "rankline", "1", "0" * 32, True, 1)
    saved.rename(folder.model_folder(digest))
    write_json(folder.models / f"{digest}.json", asdict(pointer))
    folder.flip(pointer)
