"""Promoted items in the service's answers: said with the item, and only there."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from support.small_models import small_model

from pipeline.ranking.rules import Rule, Rules
from pipeline.ranking.scorer import Scorer
from pipeline.serving.lists import UserList, as_object


def test_an_item_that_is_promoted_says_so() -> None:
    model = small_model(np.ones((1, 1)), np.array([[3, 2, 1]]), items=[1, 2, 3])
    top = Scorer(model).under(Rules((Rule("promote", "3", label="spring"),))).recommend_rows([0], 2)
    pointer = SimpleNamespace(label="3", run_id="r")
    served = SimpleNamespace(pointer=pointer, items=lambda rows: [{"item_id": int(row)} for row in rows])
    listed = as_object(served, UserList("nmf", top), {})["recommendations"]
    assert [(entry["item_id"], entry.get("source")) for entry in listed] == [(0, None), (2, "promoted:spring")]
