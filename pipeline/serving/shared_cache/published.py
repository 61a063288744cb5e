"""What the agent writes to Redis for other programs: the embeddings of the served version, and what version it is.

embeddings:{user|item}:{version}   a hash: id → factors as raw float32, little-endian; for a day
model:{name}:metadata              JSON: version, run, kind, sizes, metrics, names of the two hashes; for seven days

The service itself reads neither: each worker has the model. They are written anew long before they end, and after
Redis has lost them.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RanklineError
from pipeline.interaction_log import InteractionLog
from pipeline.models.factor_model import FactorModel
from pipeline.models.neural_model import NeuralModel
from pipeline.models.saved_model import SavedModel, load_saved_model
from pipeline.options.names import DEFAULT_NAME
from pipeline.runtime.redis_address import RedisAddress
from pipeline.serving.live_folder import LiveFolder, Pointer
from pipeline.serving.shared_cache.lists import keys_of_user

if TYPE_CHECKING:
    from redis import Redis

__all__ = [
    "Published",
    "connect",
    "embeddings_key",
    "forget_in",
    "forget_user",
    "keep_published",
    "metadata_key",
    "publish",
]

_LOG = logging.getLogger("rankline")
_EMBEDDINGS_SECONDS, _METADATA_SECONDS = 86_400, 7 * 86_400
_LOOK_SECONDS = 10.0
_SECONDS = 5.0  # for an answer; nobody waits for it
_TOGETHER = 1000


def embeddings_key(of: str, pointer: Pointer) -> str:
    """``embeddings:user:3``; another model than the default has its name before the number."""
    version = pointer.version if pointer.name == DEFAULT_NAME else pointer.label
    return f"embeddings:{of}:{version}"


def metadata_key(name: str) -> str:
    """``model:rankline:metadata``."""
    return f"model:{name}:metadata"


def connect(address: RedisAddress) -> Redis:
    """A connection for work that nobody waits for."""
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    made: Redis = Redis.from_url(
        address.url,
        db=address.db,
        username=address.username or None,
        password=address.password or None,
        socket_timeout=_SECONDS,
        socket_connect_timeout=_SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    return made


def publish(
    client: Redis, pointer: Pointer, model: SavedModel, forgotten: Callable[[list[int | str]], set[int | str]]
) -> None:
    """Write embeddings, if the model has some, and metadata; each appears as a whole. Raises redis' errors.

    forgotten : those of some users who were forgotten: they are left out
    """
    hashes = {}
    if isinstance(model, FactorModel | NeuralModel):
        for of, ids, factors in (
            ("user", model.users, model.user_factors),
            ("item", model.items, model.item_factors.T),
        ):
            hashes[of] = embeddings_key(of, pointer)
            left_out = forgotten(ids.values.tolist()) if of == "user" else set()
            _write_hash(client, hashes[of], ids.values, factors, left_out)
            # Who was forgotten meanwhile was deleted from the hash of before. Who is forgotten from here on is deleted
            # from this one, by the command that forgets.
            late = forgotten(ids.values.tolist()) - left_out if of == "user" else set()
            for some in _blocks(len(late)):
                client.hdel(hashes[of], *map(str, list(late)[some]))
    meta = model.meta
    facts = {
        "name": pointer.name,
        "version": pointer.version,
        "run_id": pointer.run_id,
        "digest": pointer.digest,
        "champion": pointer.champion,
        "fetched_at": pointer.at,
        "kind": model.kind,
        "algorithm": meta.get("model"),
        "n_users": len(model.users),
        "n_items": len(model.items),
        "n_components": model.user_factors.shape[1] if hashes else None,  # type: ignore[attr-defined]  # hashes: factors
        "metrics": meta.get("metrics") or {},
        "embeddings": hashes,
    }
    client.set(metadata_key(pointer.name), json.dumps(facts, default=str), ex=_METADATA_SECONDS)


def _write_hash(
    client: Redis, key: str, ids: NDArray[Any], factors: NDArray[np.float32], left_out: set[int | str]
) -> None:
    # A name of its own: the agents of several hosts may write the same hash at once.
    partial, written = f"{key}:incoming:{secrets.token_hex(8)}", 0
    for some in _blocks(len(ids)):
        rows = np.ascontiguousarray(factors[some], "<f4")
        pairs = zip(ids[some].tolist(), rows, strict=True)
        mapping: dict[Any, Any] = {str(name): row.tobytes() for name, row in pairs if name not in left_out}
        if mapping:
            written += client.hset(partial, mapping=mapping)
            client.expire(partial, _EMBEDDINGS_SECONDS)  # also of one that is never whole
    if written:
        client.rename(partial, key)


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, start + _TOGETHER) for start in range(0, n, _TOGETHER))


def forget_user(client: Redis, user: int | str) -> int:
    """Delete the lists and the embeddings of a user; returns how many. Raises redis' errors."""
    keys = list(client.scan_iter(keys_of_user(user), count=1000))
    gone = sum(int(client.unlink(*keys[some])) for some in _blocks(len(keys)))
    return gone + sum(int(client.hdel(key, str(user))) for key in client.scan_iter("embeddings:user:*", count=1000))


def forget_in(address: RedisAddress, user: int | str) -> None:
    """`forget_user`, as a command does it. Raises OSError where Redis fails."""
    from redis.exceptions import RedisError

    try:
        forget_user(connect(address), user)
    except (RedisError, OSError) as error:
        raise OSError(f"Redis at {address.shown} failed ({' '.join(str(error).split())[:200]})") from None


# ---- the agent's thread --------------------------------------------------------------------------


class Published:
    """Follows the served version."""

    def __init__(self, folder: LiveFolder, address: RedisAddress) -> None:
        self._folder, self._address, self._client = folder, address, connect(address)
        self._fault = ""

    def look(self) -> None:
        """Write what is missing, or of another version, or half as old as it may get. Says a failure once."""
        from redis.exceptions import RedisError

        fault = ""
        try:
            pointer = self._folder.current()
            if pointer is not None and not self._is_there(pointer):
                model = load_saved_model(self._folder.model_folder(pointer.digest), mapped=True)
                publish(self._client, pointer, model, self._forgotten)
        except (RedisError, RanklineError, OSError, ValueError) as error:
            fault = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if fault and fault != self._fault:
            _LOG.warning(f"Redis at {self._address.shown} has no embeddings of the served version ({fault})")
        self._fault = fault

    def _forgotten(self, users: list[int | str]) -> set[int | str]:
        path = self._folder.interactions_path
        if not path.exists():
            return set()
        with InteractionLog.open(path, create=False) as log:
            return log.forgotten_among(users)

    def _is_there(self, pointer: Pointer) -> bool:
        try:
            facts = json.loads(self._client.get(metadata_key(pointer.name)) or b"{}")
            same = all(facts.get(name) == getattr(pointer, name) for name in ("digest", "version", "champion"))
            hashes = facts["embeddings"].values() if same else ()
        except (ValueError, AttributeError, KeyError, TypeError):
            return False
        return same and all(int(self._client.ttl(key)) > _EMBEDDINGS_SECONDS / 2 for key in hashes)


def keep_published(folder: LiveFolder, address: RedisAddress, stopping: threading.Event) -> None:
    """Keep in Redis what belongs to the served version until it is to stop."""
    published = Published(folder, address)
    while not stopping.is_set():
        published.look()
        stopping.wait(_LOOK_SECONDS)
