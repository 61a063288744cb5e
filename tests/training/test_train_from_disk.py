"""A training whose interactions lie in files: its factors, metrics and record are those of memory, to the bit."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.made_up_ratings import QUICK

from pipeline.data import mapped
from pipeline.data.interactions import Interactions
from pipeline.data.profile import n_duplicates
from pipeline.data.sources import blocks_builder
from pipeline.data.sources.blocks_builder import stored
from pipeline.data.sources.files import read_file
from pipeline.data.sources.row_counts import RowCount
from pipeline.errors import DoesNotFitError
from pipeline.jobs import preflight
from pipeline.jobs.inputs import LoadedInput
from pipeline.jobs.preflight import TrainingRequest, check_memory, check_reading, program_of, sizes_of
from pipeline.options import TrainOptions, TuneOptions
from pipeline.runtime.memory import MemoryLimit
from pipeline.settings import Settings
from pipeline.training.estimate import estimate
from pipeline.training.train import train

COLUMNS = ("users", "items", "scores", "at")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Many parts of few cells, which cut users and duplicates apart."""
    monkeypatch.setattr(mapped, "AT_ONCE", 37)
    monkeypatch.setattr(blocks_builder, "_BLOCK", 100)


def interactions(n=700, times=True, seed=3):
    """Skewed, in no order, with duplicates at equal times."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(0, 40, n) ** 2 // 30, rng.integers(0, 25, n)
    at = np.datetime64("2024-01-01", "ms") + rng.integers(0, 60, n) * np.timedelta64(36, "h") if times else None
    return Interactions.of([f"u{u}" for u in users], items, rng.integers(0, 11, n) / 2, at)


def record(trained):
    model = trained.model
    arrays = {name: value for name, value in vars(model).items() if isinstance(value, np.ndarray)}
    parts = {name: getattr(model.seen, name) for name in ("indptr", "indices", "data")}
    evaluation = trained.evaluation
    lists = {} if evaluation is None else {"lists": evaluation.own.lists, **evaluation.own.per_user}
    return (
        {name: array.tobytes() for name, array in {**arrays, **parts, **lists}.items()},
        (model.users, model.items, model.meta, trained.facts, trained.data_digest),
        str((trained.report, trained.losses.tolist(), evaluation and evaluation.split.digest)),
    )


@pytest.mark.parametrize(
    ("options", "times"),
    [
        ({"split": "latest"}, True),
        ({"split": "random", "duplicates": "mean", "min_interactions": 4, "max_interactions": 60}, True),
        ({"split": "last", "duplicates": "max", "transform": "log1p", "half_life_days": 20.0}, True),
        ({"split": "time", "duplicates": "sum", "unobserved_weight": 0.2, "n_components": 3}, True),
        ({"algorithm": "als", "n_components": 4, "max_iter": 3, "transform": "binary"}, False),
        ({"algorithm": "recent"}, True),
    ],
)
def test_the_same_to_the_bit(options, times, tmp_path: Path, monkeypatch):
    x = interactions(times=times)
    on_disk = stored(x, tmp_path)
    assert all(mapped.is_mapped(getattr(on_disk, name)) for name in COLUMNS if getattr(x, name) is not None)
    assert n_duplicates(on_disk) == n_duplicates(x) > 0
    base = TrainOptions(min_data=1) if "algorithm" in options else dataclasses.replace(QUICK, tol=10.0)
    spec = dataclasses.replace(base, **options)
    found = train(on_disk, spec)
    assert mapped.is_mapped(found.matrix.scores.data)
    assert mapped.is_mapped(found.matrix.scores.indices)
    monkeypatch.setattr(mapped, "AT_ONCE", 1 << 20)  # in memory, all in one part
    assert record(found) == record(train(x, spec))
    assert not list(tmp_path.iterdir())  # the files have no names


@pytest.mark.parametrize("times", [True, False])
def test_a_file_is_read_onto_the_disk(times, tmp_path: Path):
    x = interactions(times=times)
    columns = {"user_id": x.user_ids.values[x.users], "item_id": x.item_ids.values[x.items], "rating": x.scores}
    pq.write_table(pa.table(columns | ({"timestamp": x.at} if times else {})), tmp_path / "x.parquet")
    plain, read = (read_file(tmp_path / "x.parquet", folder=folder) for folder in (None, tmp_path))
    assert mapped.is_mapped(read.interactions.items)
    expected = stored(plain.interactions, tmp_path)
    for name in COLUMNS:
        assert np.array_equal(getattr(read.interactions, name), getattr(expected, name))
    assert (read.interactions.user_ids, read.n_rows, read.columns) == (x.user_ids, plain.n_rows, plain.columns)


def test_the_limit_decides_where_interactions_lie(monkeypatch, tmp_path: Path):
    said = SimpleNamespace(lines=[], say=lambda line: said.lines.append(line), progress=lambda *_: None)
    limit = []
    monkeypatch.setattr(preflight, "memory_limit", lambda _: MemoryLimit(0, limit[0], "the test"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    wanted = TrainingRequest(TrainOptions(n_components=64))
    counted = RowCount(50_000_000, n_users=200_000, n_items=50_000, n_cells=50_000_000, times=True)
    size = preflight.as_size(counted)
    plan = wanted.plan(size)
    there, here = (
        estimate(size, dataclasses.replace(plan, stored=on_disk, on_disk=on_disk), program_of(None, 0)).peak
        for on_disk in (True, False)
    )
    assert there < here / 2
    check = check_reading(Settings(), wanted, said.say)
    limit.append(here)
    assert check(counted) is None
    limit[0] = there
    assert check(counted) == tmp_path
    assert said.lines.count(preflight._IN_FILES) == 1
    for search in (
        dataclasses.replace(wanted, search=TuneOptions(search="n_components")),
        TrainingRequest(TrainOptions(algorithm="auto")),
    ):
        assert check_reading(Settings(), search)(counted) == tmp_path
    with pytest.raises(DoesNotFitError, match="fewer rows"):  # executors read on their own
        check_reading(Settings(), dataclasses.replace(wanted, executors=object()))(counted)

    # Where the count was not known before, what was read moves to the disk; the rest is refused in a line.
    x = interactions()
    run = SimpleNamespace(metrics_later=lambda _: None)
    chosen = LoadedInput(blocks_builder.ReadResult(x, len(x), 0, []), "file", "x.csv")
    small = TrainingRequest(TrainOptions(n_components=2, holdout=0.0))
    size = sizes_of(x, 0)(0)
    plan = small.plan(size)
    program = program_of(MemoryLimit(0, 0, ""), size.read)
    peaks = [estimate(size, dataclasses.replace(plan, on_disk=d, stored=s), program).peak for d, s in ((0, 0), (1, 0))]
    limit[0] = min(peaks)
    assert not mapped.is_mapped(check_memory(run, chosen, 0, small, Settings(), said).read.interactions.users)
    with monkeypatch.context() as patch:
        patch.setattr(preflight, "within", lambda size, plan, *_: dataclasses.replace(plan, stored=True))
        limit[0] = 1 << 40
        moved = check_memory(run, chosen, 0, small, Settings(), said)
    assert mapped.is_mapped(moved.read.interactions.users)
    assert said.lines.count(preflight._IN_FILES) == 2
    limit[0] = 1
    with pytest.raises(DoesNotFitError, match="NMF needs some"):
        check_memory(run, chosen, 0, small, Settings(), said)
