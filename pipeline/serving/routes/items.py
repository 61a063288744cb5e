"""GET popular items, and items by title."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.serving.gate import Scope
from pipeline.serving.lists import POPULAR, ListOptions, allowed_rows, limited, popular_list
from pipeline.serving.problems import Code
from pipeline.serving.routes.get import Answer, Get, json_answer
from pipeline.serving.routes.lists import LIMITS
from pipeline.serving.routes.parameters import Parameter
from pipeline.serving.routes.schemas import ITEMS
from pipeline.serving.served_model import ServedModel
from pipeline.serving.service import Service

__all__ = ["item_routes"]

_K = Parameter("k", int, "Items, at most.", 10, 1, 100)
_GENRE = Parameter("genre", str, "Only items of this genre.", None, 1, 256)
_SEARCH = "Items by words of their title, the most popular first; then those that the model has not yet."
_Q = Parameter("q", str, "Words that the title has, in any order.", None, 1, 200, required=True)


def item_routes(service: Service) -> list[Get]:
    """The routes."""

    def popular(scope: Scope, values: Mapping[str, Any]) -> Answer:
        served = service.model.served()
        options = ListOptions(values["k"], values["genre"], **{limit.name: values[limit.name] for limit in LIMITS})
        top = popular_list(limited(served, options), values["k"], *allowed_rows(served, options))
        source = POPULAR if options.genre is None else f"{POPULAR}:{options.genre}"
        return _items(served, [row for row in top.items[0].tolist() if row >= 0], source=source)

    def search(scope: Scope, values: Mapping[str, Any]) -> Answer:
        served = service.model.served()
        found = served.search.find(values["q"], values["k"])
        others = [{**item, "popularity": 0, "in_model": False} for item in served.other_items(found.others)]
        return _items(served, found.rows, others)

    return [
        Get("/api/v1/popular", "The most popular items.", popular, ITEMS, (_K, _GENRE, *LIMITS),
            (Code.UNKNOWN_GENRE, Code.NO_MODEL)),
        Get("/api/v1/items", _SEARCH, search, ITEMS, (_Q, _K), (Code.NO_MODEL,)),
    ]  # fmt: skip


def _items(served: ServedModel, rows: list[int], others: Sequence[Mapping[str, Any]] = (), **head: Any) -> Answer:
    cols = np.array(rows, np.int32)
    popularity = served.snapshot.popularity[cols].tolist()
    items = [{**item, "popularity": n} for item, n in zip(served.items(cols), popularity, strict=True)]
    body = {"model_version": served.pointer.label, "run_id": served.pointer.run_id, **head, "items": [*items, *others]}
    return json_answer(body, served.served_by)
