"""A history with new interactions is the one that a training would read: the mart's rule, or the model's own."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.served import small_trained

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import cell_values
from pipeline.data.prepare import prepare_interactions
from pipeline.interaction_log import Logged
from pipeline.serving.overlay import history_of

START = datetime(2026, 1, 1, tzinfo=UTC)
MODEL = small_trained("popular")

EVENTS = st.lists(
    st.tuples(
        st.integers(0, 5),  # item row; the last is no item of the model
        st.one_of(st.none(), st.sampled_from([0.5, 1.0, 3.5, 5.0])),
        st.integers(0, 3),  # hours since START
    ),
    max_size=12,
)


def logged(events) -> list[Logged]:
    ids = [*MODEL.items.values[:5].tolist(), 424242]
    return [
        Logged(seq, 1, ids[row], rating, START + timedelta(hours=hours), START)
        for seq, (row, rating, hours) in enumerate(events, 1)
    ]


def own_cells(row: int) -> dict[int, float]:
    return {} if row < 0 else {int(col): float(MODEL.seen[row, col]) for col in MODEL.seen[row].indices}


@given(events=EVENTS, row=st.sampled_from([-1, 0, 1]))
def test_it_is_what_the_mart_makes_of_all_events(events, row) -> None:
    # What the model has was rated before START.
    rows = [(col, (True, -1, score)) for col, score in own_cells(row).items()]
    rows += [(item, (rating is not None, hours, 1.0 if rating is None else rating))
             for item, rating, hours in events if item < 5]  # fmt: skip
    expected: dict[int, tuple] = {}
    for col, event in rows:
        expected[col] = max(event, expected.get(col, (False, -2, 0.0)))
    made = history_of(MODEL, row, logged(events))
    assert dict(zip(made.cells.indices.tolist(), made.cells.data.tolist(), strict=True)) == {
        col: score for col, (_, _, score) in expected.items()
    }
    assert made.unknown == ((424242,) if any(item == 5 for item, _, _ in events) else ())
    assert made.n_new == sum(item < 5 for item, _, _ in events)


@pytest.mark.parametrize("duplicates", ["last", "sum", "max"])
@pytest.mark.parametrize("transform", ["none", "log1p", "binary"])
def test_a_model_of_files_merges_as_it_was_trained(duplicates: str, transform: str) -> None:
    old = [(0, 2.0), (1, 4.0)]
    new = [(1, 3.0, 1), (1, 5.0, 0), (2, 1.5, 2), (2, 4.5, 2)]
    hours = [-1, -1, *(at for _, _, at in new)]
    x = Interactions.of(
        np.zeros(6, np.int64),
        MODEL.items.values[[col for col, *_ in [*old, *new]]],
        np.array([score for _, score, *_ in [*old, *new]], np.float32),
        np.array([np.datetime64("2026-01-01T00", "ms") + np.timedelta64(h, "h") for h in hours]),
    )
    expected = cell_values(prepare_interactions(x, duplicates).interactions, transform)
    stored = cell_values(
        Interactions.of(np.zeros(2, np.int64), x.item_ids.values[:2], np.array([2, 4], np.float32)), transform
    )
    seen = MODEL.seen[:1].copy()
    seen.indices, seen.indptr, seen.data = np.array([0, 1], np.int32), np.array([0, 2], np.int32), stored
    meta = {**MODEL.meta, "source": "file", "parameters": {"duplicates": duplicates, "transform": transform}}
    users = type(MODEL.users)(MODEL.users.values[:1])
    model = replace(MODEL, seen=seen, users=users, meta=meta)
    made = history_of(model, 0, logged([(col, score, at) for col, score, at in new]))
    assert made.cells.data == pytest.approx(expected, rel=1e-6)


def test_a_user_in_the_model_whose_interactions_it_has_read_keeps_their_row() -> None:
    made = history_of(MODEL, 0, [])
    assert (made.cells != MODEL.seen[:1]).nnz == 0
