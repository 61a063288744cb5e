"""A history with new interactions is the one that a training would read: the mart's rule, or the model's own."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from support.served import small_trained

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import cell_values, to_matrix
from pipeline.data.prepare import prepare_interactions
from pipeline.data.repeats import Repeats
from pipeline.errors import ArtifactError, TooLittleDataError
from pipeline.interaction_log import Logged
from pipeline.models.saved_model import load_saved_model, with_meta
from pipeline.options import TrainOptions
from pipeline.serving.overlay import history_of
from pipeline.training.train import train

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


SCORES = st.one_of(st.sampled_from([0.5, 1.0, 3.5, 5.0]), st.floats(0, 10, width=32, allow_subnormal=False))
ROWS = st.tuples(st.integers(0, 3), st.integers(0, 4), SCORES)


@pytest.mark.parametrize("bounds", [(None, None), (2, 6)])
@pytest.mark.parametrize("transform", ["none", "binary", "log1p"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(old=st.lists(ROWS, min_size=4, max_size=30), new=st.lists(ROWS, min_size=1, max_size=8))
def test_means_are_those_of_all_rows_to_the_last_bit(transform: str, bounds, old, new) -> None:
    """What is served after a training on `old`, saved and loaded, is the input of a training on `old` and `new`."""

    def interactions(rows) -> Interactions:
        users, items, scores = zip(*rows, strict=True)
        hours = np.arange(len(rows)).astype("timedelta64[h]")
        at = np.datetime64("2026-01-01T00", "ms") + hours
        return Interactions.of(np.array(users), np.array(items), np.array(scores, np.float32), at)

    spec = TrainOptions(
        algorithm="ease", holdout=0, duplicates="mean", transform=transform,
        min_interactions=bounds[0], max_interactions=bounds[1], min_data=1,
    )  # fmt: skip
    try:
        trained = train(interactions(old), spec).model
    except TooLittleDataError:
        reject()
    with TemporaryDirectory() as folder:
        model = load_saved_model(with_meta(trained, {**trained.meta, "source": "file"}).save(folder))
    everything = to_matrix(prepare_interactions(interactions([*old, *new]), "mean").interactions, transform)
    for row, user in enumerate(model.users.values.tolist()):
        added = [
            Logged(n, user, item, score, START + timedelta(hours=n), START)
            for n, (of, item, score) in enumerate(new, len(old))
            if of == user and model.items.row(item) >= 0
        ]
        served = history_of(model, row, added).cells
        own = everything.scores[everything.users.row(user)]
        expected = {int(everything.items.values[col]): cell for col, cell in zip(own.indices, own.data, strict=True)}
        found = {int(model.items.values[col]): cell for col, cell in zip(served.indices, served.data, strict=True)}
        # A logarithm of one score gives the score back but for its last bit.
        assert found == pytest.approx(
            {item: cell for item, cell in expected.items() if model.items.row(item) >= 0},
            rel=1e-6 if transform == "log1p" else 0,
            abs=1e-6 if transform == "log1p" else 0,
        )


def test_only_means_of_several_are_kept_and_a_model_of_before_counts_one(tmp_path: Path) -> None:
    x = Interactions.of(
        np.array([1, 1, 1, 2, 2]), np.array([7, 7, 8, 7, 8]), np.array([1, 2, 3, 4, 5], np.float32),
        np.datetime64("2026-01-01", "ms") + np.arange(5),
    )  # fmt: skip

    def saved(duplicates: str, x: Interactions = x):
        model = train(x, TrainOptions(algorithm="popular", holdout=0, duplicates=duplicates, min_data=1)).model
        return with_meta(model, {**model.meta, "source": "file"}).save(tmp_path / duplicates)

    folder = saved("mean")
    model = load_saved_model(folder)
    repeats = model.meta["repeats"]
    assert [part.tolist() for part in (repeats.cells, repeats.counts, repeats.sums)] == [[0], [2], [3.0]]
    assert '"repeats"' not in (folder / "metadata.json").read_text()
    added = [Logged(1, 1, 7, 4.5, START, START)]
    assert history_of(model, 0, added).cells.toarray().tolist() == [[2.5, 3.0]]
    before = with_meta(model, {key: value for key, value in model.meta.items() if key != "repeats"})
    assert history_of(before, 0, added).cells.toarray().tolist() == [[3.0, 3.0]]
    before.save(folder)
    assert not (folder / "repeats.npz").exists()
    assert load_saved_model(folder).meta.keys() == before.meta.keys()
    assert not (saved("last") / "repeats.npz").exists()
    assert not (saved("mean", x.take(np.array([0, 2, 3]))) / "repeats.npz").exists()


def test_a_file_of_repeats_that_is_damaged_is_refused(tmp_path: Path) -> None:
    of = Repeats(np.array([1, 0]), np.array([2, 2], np.int32), np.array([1.0, 2.0]), MODEL.seen.nnz)
    folder = with_meta(MODEL, {**MODEL.meta, "repeats": of}).save(tmp_path / "unordered")
    with pytest.raises(ArtifactError, match=r"repeats.npz: its cells do not ascend"):
        load_saved_model(folder)
    (folder / "repeats.npz").write_bytes(b"other")
    with pytest.raises(ArtifactError, match=r"repeats.npz has a wrong checksum"):
        load_saved_model(folder)
    other = replace(of, cells=np.array([0, 1]), n_cells=MODEL.seen.nnz + 1)
    folder = with_meta(MODEL, {**MODEL.meta, "repeats": other}).save(tmp_path / "of-others")
    assert "repeats" not in load_saved_model(folder).meta
