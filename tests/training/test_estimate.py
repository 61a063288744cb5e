"""What a training will need: grows with every count, is held against the room there is, and says what would fit."""

from __future__ import annotations

import gzip
import json
import re
import resource
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.small_models import small_model

from pipeline.data.sources.columns import Columns
from pipeline.data.sources.row_counts import count_file, count_warehouse
from pipeline.errors import DoesNotFitError
from pipeline.jobs.preflight import check_scoring, refusal
from pipeline.models.footprint import Plan, Size, transposed
from pipeline.models.registry import DEFAULT, find
from pipeline.options import TrainOptions
from pipeline.runtime.memory import MemoryLimit, memory_limit, resident_memory
from pipeline.settings import Settings
from pipeline.training.estimate import (
    BASELINE,
    estimate,
    in_bytes,
    in_time,
    most_components,
    reading,
    scoring,
    what_fits,
    within,
)
from pipeline.warehouse import sql

pytest_plugins = ["support.warehouse_fixtures"]

MB = 1 << 20
counts = st.integers(1, 10**9)
sizes = st.builds(Size, counts, counts, counts, counts, st.booleans(), st.sampled_from([8, 144]), st.just(8))
plans = st.builds(
    Plan, st.integers(1, 2000), st.integers(0, 2), max_iter=st.integers(1, 1000), threads=st.integers(1, 64),
    solver=st.sampled_from(["fast", "sklearn"]), weighted=st.booleans(),
)  # fmt: skip


@given(sizes, plans, st.sampled_from(["n_rows", "n_cells", "n_users", "n_items"]), counts)
def test_more_of_anything_never_needs_less(size, plan, count, more):
    larger = replace(size, **{count: getattr(size, count) + more})
    # A baseline that takes too long is left out.
    little, much = (estimate(each, plan).phases for each in (size, larger))
    for phase, parts in little.items():
        less = sum(parts.values()) - parts.get(BASELINE, 0)
        assert sum(much[phase].values()) - much[phase].get(BASELINE, 0) >= less
    assert reading(larger) >= reading(size)
    before, after = estimate(size, plan).seconds, estimate(larger, plan).seconds
    assert all(after[stage] >= seconds for stage, seconds in before.items())


@given(sizes, plans, st.integers(1, 500))
def test_more_factors_never_need_less(size, plan, more):
    larger = replace(plan, n_components=plan.n_components + more)
    assert estimate(size, larger).peak >= estimate(size, plan).peak
    assert estimate(size, larger).seconds_in_all >= estimate(size, plan).seconds_in_all


@given(sizes, plans)
def test_nothing_held_out_never_needs_more(size, plan):
    without = plan.without_holdout()
    assert estimate(size, without).peak <= estimate(size, plan).peak
    assert estimate(size, without).seconds_in_all <= estimate(size, plan).seconds_in_all
    estimated = estimate(size, plan)
    assert estimated.peak == max(sum(parts.values()) for parts in estimated.phases.values())
    assert sum(estimated.parts.values()) == estimated.peak
    slowed = estimate(size, plan, busy=3.0)
    assert slowed.peak == estimated.peak
    assert slowed.seconds_in_all == pytest.approx(3 * estimated.seconds_in_all)


def test_the_parts_are_those_of_the_arrays():
    size = Size(1_000_000, 900_000, 10_000, 5_000, times=False)
    plan = Plan(64, 0, 0.0)
    parts = estimate(size, plan, program=0).phases
    ids = 15_000 * 8
    assert parts["read"]["interactions"] == 12_000_000 + ids
    assert parts["fit"]["interactions"] == 12_000_000 + ids + 12 * 900_000
    assert parts["fit"]["transposed matrix"] == 8 * 900_000 + 8 * 15_000
    assert parts["fit"]["factors"] == 2.5 * 64 * 15_000 * 4
    assert "metrics of users" in parts["evaluate"]
    assert parts["evaluate"]["metrics of users"] == parts["evaluate"]["scores"] == parts["evaluate"]["holdout"] == 0
    assert estimate(size, replace(plan, n_components=65)).phases["fit"]["factors"] == 2.5 * 80 * 15_000 * 4  # padded
    assert estimate(size, Plan(64, 2)).phases["fit"]["holdout"] == 2 * (12 * 900_000 + ids)


def test_the_transposed_matrix_goes_to_disk_where_only_that_fits():
    size, program = Size(100_000_000, 100_000_000, 300_000, 300_000), 0
    for name in ("nmf", "als"):
        plan = Plan(64, 0, 0.0, algorithm=name, threads=2)
        stored = replace(plan, on_disk=True)
        peak, less = (estimate(size, each, program).peak for each in (plan, stored))
        parts = estimate(size, stored, program).phases["fit"]
        assert parts["transposed matrix, from disk"] == 8 * 600_000 + (15 << 20) + 62_500_000 + (24 << 20)
        fit = estimate(size, plan, program).phases["fit"]
        assert sum(fit.values()) - sum(parts.values()) > 600_000_000
        assert within(size, plan, program, peak) == within(size, plan, program, None) == plan
        # Where another phase decides, nothing is won by it.
        if less < peak:
            assert within(size, plan, program, less) == stored
        # Where that is not enough, the interactions lie on disk, too: the factors stay.
        least = within(size, plan, program, 0)
        assert least == replace(stored, stored=True)
        bytes_of_both = 8 * 100_000_000 + 64 * 600_000 * 4
        assert estimate(size, least, program).peak < bytes_of_both < peak / 2
        assert within(size, replace(plan, solver="sklearn"), program, 0).on_disk is False
        assert within(size, plan, program, 0, may_store=False).stored is False
    few = Size(10, 10, 5, 5)
    assert transposed(few, Plan(1, on_disk=True)) == {"transposed matrix, from disk": 8 * 20}
    assert within(size, Plan(0, algorithm="popular"), program, 0).on_disk is False


@given(sizes, plans)
def test_a_matrix_on_disk_never_needs_more(size, plan):
    assert estimate(size, replace(plan, on_disk=True)).peak <= estimate(size, replace(plan, on_disk=False)).peak


def test_the_plan_of_a_spec():
    spec = TrainOptions(holdout=0, threads=8, max_iter=50, tol=1e-5)
    assert DEFAULT.plan(spec, (100, 50), 4) == Plan(10, 0, 0.0, 50, 1e-5, 4)
    assert DEFAULT.plan(TrainOptions(n_components=30, solver="sklearn"), (100, 50), 4) == Plan(30, solver="sklearn")
    assert DEFAULT.plan(TrainOptions(unobserved_weight=0.5), (5, 50), 2) == Plan(4, threads=2, weighted=True)
    assert DEFAULT.plan(TrainOptions(), (0, 0), 2).n_components == 1
    # scikit-learn's steps run to the end; ours mostly don't.
    size = Size(10**6, 10**6, 10**4, 10**4)
    few, many = (Plan(10, solver="sklearn", max_iter=n) for n in (100, 1000))
    assert estimate(size, many).seconds["fit"] == pytest.approx(10 * estimate(size, few).seconds["fit"])
    few, many = (Plan(10, max_iter=n) for n in (100, 1000))
    assert estimate(size, many).seconds["fit"] == estimate(size, few).seconds["fit"]


@given(st.integers(0, 60), st.integers(0, 2000), st.integers(1, 40))
def test_the_most_components_is_what_trying_each_gives(at_most, room, slope):
    def peak(k):
        return 100 + slope * -(-k // 16) * 16

    tried = [k for k in range(1, at_most + 1) if peak(k) <= room]
    assert most_components(peak, at_most, room) == max(tried, default=0)


def test_what_fits_does_fit():
    size = Size(5_000_000, 5_000_000, 800_000, 50_000)
    plan = Plan(260)

    def kept(least):
        return replace(size, n_users=size.n_users // least, n_cells=size.n_cells - 1000 * least)

    def peak(size, plan):
        return estimate(size, plan).peak

    full, least = peak(size, plan), peak(size, Plan(1))
    assert full > 2 * least
    room = least + (full - least) // 4
    options = what_fits(size, plan, room, peak, kept)
    assert [option.split()[0] for option in options] == ["--n-components", "--min-interactions"]
    k, users = (int(option.split()[1]) for option in options)
    assert peak(size, Plan(k)) <= room < peak(size, Plan(k + 1))
    assert peak(kept(users), plan) <= room < peak(kept({3: 2, 5: 3, 10: 5}[users]), plan)
    room = peak(size, plan.without_holdout())
    assert "--holdout 0" in what_fits(size, plan, room, peak, kept)
    assert what_fits(size, plan, least // 2, peak, lambda least: size) == []


def test_a_model_that_does_not_fit_is_refused_by_its_name_and_another_one_named():
    size = Size(20_000_000, 20_000_000, 138_000, 60_000)
    algorithm = find("ease")
    plan = algorithm.plan(TrainOptions(algorithm="ease"), (size.n_users, size.n_items), 2)
    estimated, room = estimate(size, plan), MemoryLimit(0, 16 << 30, "a test")
    sentence = refusal(estimated, size, plan, 0, room, None)
    assert re.match(r"EASE needs some \d+ GB of memory \(most for the inverse: 27 GB\), and 16 GB are av", sentence)
    assert f"What would fit: --algorithm {algorithm.instead[0]}; or a machine" in sentence
    other = estimate(size, replace(plan, algorithm=algorithm.instead[0]))
    assert other.peak <= room.most < estimated.peak


def test_in_words():
    assert [in_bytes(n) for n in (812 * MB, 3.14 * 2**30, 20.4 * 2**30)] == ["812 MB", "3.1 GB", "20 GB"]
    words = ["1 second", "40 seconds", "4 minutes", "3 hours"]
    assert [in_time(seconds) for seconds in (0.2, 40, 240, 3.1 * 3600)] == words


@given(counts, st.integers(1, 1000), st.integers(16, 2000), counts, st.integers(0, 10**6))
def test_scoring_more_never_needs_less(n_users, k, id_bytes, n_seen, more):
    needed = scoring(n_users, k, id_bytes, n_seen)
    assert scoring(n_users + more, k, id_bytes, n_seen) >= needed
    assert scoring(n_users, k + more, id_bytes, n_seen) >= needed
    assert scoring(n_users, k, id_bytes + more, n_seen) >= needed
    assert scoring(n_users, k, id_bytes, n_seen + more) >= needed


def test_what_scoring_would_fit_into_is_said() -> None:
    """Blocks of 16,384 users with 10,000 items each are gigabytes; with fewer they fit."""
    rows = np.arange(20_000)
    model = small_model(np.ones((rows.size, 1), np.float32), np.ones((1, rows.size), np.float32))
    limit = Settings(memory_limit_mb=resident_memory() // 2**20 + 1000)
    check_scoring(model, 10, limit)
    with pytest.raises(
        DoesNotFitError, match=r"Scoring needs some [\d.]+ GB of memory.*would fit: --k (\d+), or a"
    ) as error:
        check_scoring(model, 10_000, limit)
    k = int(re.search(r"--k (\d+)", str(error.value))[1])
    check_scoring(model, k - k // 10, limit)  # the process may have grown meanwhile
    with pytest.raises(DoesNotFitError, match="What would fit: a machine with"):
        check_scoring(model, 10, Settings(memory_limit_mb=1))


# ---- the room there is ----------------------------------------------------------------------------


@pytest.fixture
def proc(tmp_path):
    """A /proc that tells of 100 MB used, 1000 MB available, and of the given control groups."""

    def make(cgroup: str = "0::/\n"):
        folder = tmp_path / "proc"
        (folder / "self").mkdir(parents=True, exist_ok=True)
        (folder / "self" / "status").write_text("VmSize:\t 512000 kB\nVmRSS:\t 102400 kB\n")
        (folder / "meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable: 1024000 kB\n")
        (folder / "self" / "cgroup").write_text(cgroup)
        return folder

    return make


def group(folder, limit, used, cache, version):
    """The files of a control group, in MB."""
    names = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")}
    most, now, inactive = names.get(version, ("memory.max", "memory.current", "inactive_file"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / most).write_text(f"{limit if isinstance(limit, str) else limit * MB}\n")
    (folder / now).write_text(f"{used * MB}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{inactive} {cache * MB}\n")


def test_the_machine_alone(proc, tmp_path):
    room = memory_limit(None, proc(), tmp_path / "none")
    assert (room.used, room.most, room.free, room.why) == (100 * MB, 1100 * MB, 1000 * MB, "the machine")
    assert memory_limit(300, proc(), tmp_path / "none").most == 300 * MB
    assert memory_limit(50, proc(), tmp_path / "none").free == 0
    assert memory_limit(None, tmp_path / "nothing", tmp_path / "none") is None


def test_a_container_of_the_second_kind_and_the_one_around_it(proc, tmp_path):
    root = tmp_path / "cgroup"
    group(root / "a" / "b", "max", 200, 0, 2)
    group(root / "a", 600, 300, 40, 2)
    group(root, "max", 0, 0, 2)
    room = memory_limit(None, proc("0::/a/b\n"), root)
    assert (room.most, room.why) == (100 * MB + 340 * MB, "the container (cgroup)")
    group(root / "a" / "b", 250, 200, 0, 2)
    assert memory_limit(None, proc("0::/a/b\n"), root).free == 50 * MB
    group(root / "a" / "b", 100, 200, 0, 2)
    assert memory_limit(None, proc("0::/a/b\n"), root).free == 0


def test_a_container_of_the_first_kind_whose_path_is_the_hosts(proc, tmp_path):
    root = tmp_path / "cgroup"
    group(root / "memory", 500, 300, 100, 1)
    listed = "3:cpu:/docker/abc\n2:memory:/docker/abc\n0::/\n"
    assert memory_limit(None, proc(listed), root).free == 300 * MB
    (root / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")  # none
    assert memory_limit(None, proc(listed), root).why == "the machine"


def test_a_limit_on_addresses(proc, tmp_path, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (700 * MB, 700 * MB))
    room = memory_limit(None, proc(), tmp_path / "none")
    assert (room.free, room.why) == (200 * MB, "the limit on address space (ulimit -v)")


# ---- counts before a read -------------------------------------------------------------------------


def test_counted_where_it_lies(warehouse):
    rows = "number % 50 AS user_id, toInt32(number % 7) AS item_id, 1 AS score, now64(3) AS at FROM numbers(100)"
    query = sql.Sql(f"SELECT {rows}", "mine")
    counted = count_warehouse(warehouse, query)
    assert (counted.n_rows, counted.n_users, counted.n_items, counted.n_cells, counted.times) == (100, 50, 7, 100, True)
    assert (counted.user_id_bytes, counted.item_id_bytes) == (8, 8)
    rows = "concat('user-', toString(number)) AS user_id, 'x' AS item_id, 1 AS score FROM numbers(10)"
    counted = count_warehouse(warehouse, sql.Sql(f"SELECT {rows}", "mine"))
    assert (counted.n_cells, counted.times, counted.user_id_bytes) == (10, False, 4 * 6)
    wrong = sql.Sql("SELECT 1 AS user, 2 AS item_id", "wrong")
    assert count_warehouse(warehouse, wrong, 1).n_users is None


def test_told_by_a_file(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 40_000
    table = pa.table({"user_id": range(rows), "item_id": range(rows), "timestamp": range(rows)})
    pq.write_table(table, tmp_path / "a.parquet")
    counted = count_file(tmp_path / "a.parquet", Columns(), None)
    assert (counted.n_rows, counted.how, counted.times) == (rows, "counted", True)
    assert count_file(tmp_path / "a.parquet", Columns(user="who"), None) is None

    lines = "user_id,item_id\n" + "".join(f"{100_000 + n},{200_000 + n * 7919 % 99_991}\n" for n in range(400_000))
    (tmp_path / "a.csv").write_text(lines)
    assert count_file(tmp_path / "a.csv", Columns(), None).n_rows == pytest.approx(400_000, rel=0.01)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(lines.encode(), 1))
    counted = count_file(tmp_path / "a.csv.gz", Columns(), None)
    assert (counted.n_rows, counted.how) == (pytest.approx(400_000, rel=0.15), "guessed")
    objects = [{"user_id": n, "item_id": n} for n in range(100_000, 130_000)]
    (tmp_path / "a.json").write_text(json.dumps(objects, indent=1))
    assert count_file(tmp_path / "a.json", Columns(), None).n_rows == pytest.approx(30_000, rel=0.01)
    (tmp_path / "broken.csv.gz").write_bytes(b"\x1f\x8bjunk, " * 20)
    for name in ("broken.csv.gz", "none.csv", "none.what"):
        assert count_file(tmp_path / name, Columns(), None) is None
    (tmp_path / "empty.csv").write_text("")
    assert count_file(tmp_path / "empty.csv", Columns(), None) is None
