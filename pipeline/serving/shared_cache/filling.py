"""`fill`: the lists of all users into Redis at once, as the service makes them: ``rankline score --fill-cache``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RefusedError, UnreachableError, UsageError
from pipeline.models.item_snapshot import ItemSnapshot
from pipeline.models.model_files import METADATA
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.redis_address import RedisAddress
from pipeline.serving.interactions import Known
from pipeline.serving.lists import ListOptions, UserList, as_json
from pipeline.serving.live_folder import Pointer
from pipeline.serving.served_model import ServedModel
from pipeline.serving.shared_cache.lists import key_of
from pipeline.serving.shared_cache.published import connect
from pipeline.serving.shared_cache.tier import LIST_SECONDS

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["fill"]

_TOGETHER = 1000


def fill(
    address: RedisAddress,
    scorer: Scorer,
    version: tuple[str, str, str],
    fields: tuple[str, ...],
    left_out: Callable[[NDArray[Any]], NDArray[np.bool_]],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> int:
    """Store the list that each user of the model gets without parameters; returns the number of lists.

    A user who has done something new since gets another list, which is made when it is asked for.

    Parameters
    ----------
    scorer : of a folder, under the rules of now
    version : name, number and run of the version
    fields : of items in answers, as the service has them
    left_out : which of these ids (n,) are users who were forgotten

    Raises
    ------
    UsageError
        For a model that is not a version of the registry: no service serves it.
    UnreachableError, RefusedError
    """
    from redis.exceptions import ConnectionError as Unreachable
    from redis.exceptions import RedisError
    from redis.exceptions import TimeoutError as TooLate

    served = _served(scorer, version, fields)
    n_users, n_lists = len(scorer.users), 0
    try:
        client = connect(address)
        for start in range(0, n_users, _TOGETHER):
            rows = np.arange(start, min(start + _TOGETHER, n_users))
            n_lists += _fill_some(client, served, rows[~left_out(scorer.users.values[rows])])
            progress(start + rows.size, n_users)
    except (Unreachable, TooLate, OSError) as error:
        raise UnreachableError(f"Redis at {address.shown} does not answer ({_one_line(error)})") from None
    except RedisError as error:
        raise RefusedError(f"Redis at {address.shown} stores nothing ({_one_line(error)})") from None
    return n_lists


def _served(scorer: Scorer, version: tuple[str, str, str], fields: tuple[str, ...]) -> ServedModel:
    name, number, run_id = version
    if scorer.folder is None or not number:
        raise UsageError("--fill-cache needs a version of the registry, such as rankline/3: a service serves no other")
    digest = hashlib.sha256((scorer.folder / METADATA).read_bytes()).hexdigest()
    snapshot = scorer.snapshot or ItemSnapshot.of(scorer.items, scorer.model.seen)
    return ServedModel(Pointer(digest, name, number, run_id, False, 0), scorer, snapshot, fields, 1)


def _fill_some(client: Redis, served: ServedModel, rows: NDArray[np.intp]) -> int:
    """The users in `rows`."""
    if not rows.size:
        return 0
    options, scorer = ListOptions(), served.scorer
    top = scorer.recommend_rows(rows, min(options.k, max(1, len(scorer.items))))
    pipe = client.pipeline(transaction=False)
    for place, user in enumerate(scorer.users.values[rows].tolist()):
        body = as_json(served, UserList(scorer.source, top.of_rows(np.arange(rows.size) == place)), {"user_id": user})
        pipe.set(key_of(served, user, options, Known()), body, ex=LIST_SECONDS)
    pipe.execute()
    scorer.model.release()
    return int(rows.size)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
