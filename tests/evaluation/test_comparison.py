"""Two evaluated runs beside each other: by hand, and what is refused; and the files they are read from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.stored_evaluations import stored_evaluation, write

from pipeline.errors import ArtifactError, EvaluationError, InputError, UsageError
from pipeline.evaluation import bounded_parquet
from pipeline.evaluation.comparison import compare_runs
from pipeline.evaluation.significance import compare, compare_segments
from pipeline.evaluation.storage import read_evaluation
from pipeline.runtime.memory import MemoryLimit

NAN = float("nan")


def test_by_hand():
    a = stored_evaluation([0.0, 0.5, 1.0, 0.2], label="A", segment=[0, 0, 1, 2], items=[[1, 2], [3], [4, 5], []])
    b = stored_evaluation([0.5, 0.5, 0.0, 0.4], label="B", segment=[0, 0, 1, 2], items=[[2, 9], [3], [6, 7], []])
    comparison = compare_runs(a, b)
    overall = comparison.overall
    assert (overall.n_users, overall.mean_a, overall.mean_b) == (4, 0.425, 0.35)
    assert overall.difference.value == pytest.approx(-0.075)
    assert (overall.gain, overall.lose, overall.same) == (0.5, 0.25, 0.25)
    assert list(comparison.segments) == ["cold", "warm", "hot"]
    assert comparison.segments["cold"].difference.value == 0.25
    # {1,2} and {2,9} share one of three; {3} all; {4,5} and {6,7} none; two empty lists have no overlap.
    assert comparison.overlap == pytest.approx({"overall": (1 / 3 + 1 + 0) / 3, "cold": (1 / 3 + 1) / 2, "warm": 0.0})
    assert comparison.n_same_list == 1
    assert [(m.user_id, m.difference) for m in comparison.gained] == [(0, 0.5), (3, 0.2)]
    assert [(m.user_id, m.n_train, m.a, m.b) for m in comparison.lost] == [(2, 7, 1.0, 0.0)]
    assert comparison.n_left_out == 0
    assert "No telling B and A apart" in comparison.verdict


def test_it_is_the_paired_comparison_overall_and_by_segment(rng):
    x, y, segment = rng.random(90), rng.random(90), rng.integers(0, 3, 90)
    comparison = compare_runs(stored_evaluation(x, segment=segment), stored_evaluation(y, segment=segment))
    assert comparison.overall == compare(x, y)
    assert comparison.segments == compare_segments(x, y, segment.astype(np.int8))


def test_the_movers_are_five_at_most_the_largest_first(rng):
    x, y = rng.random(50), rng.random(50)
    comparison = compare_runs(stored_evaluation(x), stored_evaluation(y))
    order = np.argsort(y - x)
    assert [m.user_id for m in comparison.lost] == order[:5].tolist()
    assert [m.user_id for m in comparison.gained] == order[::-1][:5].tolist()
    few = compare_runs(stored_evaluation(x[:7]), stored_evaluation(x[:7] + np.array([0.1, 0, 0, 0, 0, 0, -0.1])))
    assert ([m.user_id for m in few.gained], [m.user_id for m in few.lost]) == ([0], [6])


def test_users_without_a_value_and_users_of_one_run_alone_are_counted():
    a = stored_evaluation([0.1, NAN, 0.3, 0.4], users=[1, 2, 3, 4])
    b = stored_evaluation([0.5, 0.2, 0.3, NAN], users=[2, 1, 3, 5])
    b = stored_evaluation(b.metric("ndcg_at_10")[[1, 0, 2, 3]], users=[1, 2, 3, 5])
    comparison = compare_runs(a, b)
    assert (comparison.overall.n_users, comparison.n_left_out) == (2, 3)
    assert [(m.user_id, m.a, m.b) for m in comparison.gained] == [(1, 0.1, 0.2)]


@pytest.mark.parametrize(("seed", "n"), [(0, 2), (1, 7), (2, 30), (3, 31), (4, 60)])
def test_the_other_way_round_is_the_mirror_image(seed, n):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 4, n) / 4, rng.integers(0, 4, n) / 4
    first, other = (
        compare_runs(stored_evaluation(x), stored_evaluation(y)),
        compare_runs(stored_evaluation(y), stored_evaluation(x)),
    )
    assert first.overall.gain == other.overall.lose
    assert first.overall.difference.value == -other.overall.difference.value
    assert first.overlap == other.overlap
    assert sorted(m.difference for m in first.gained) == pytest.approx(sorted(-m.difference for m in other.lost))


@pytest.mark.parametrize(
    ("ndcg", "said"),
    [(0.5, "B is better than A: ndcg_at_10 +0.3000"), (0.1, "B is worse than A"), (0.2, "B and A are the same")],
)
def test_verdicts(ndcg, said):
    assert (
        said in compare_runs(stored_evaluation([0.2] * 9, label="A"), stored_evaluation([ndcg] * 9, label="B")).verdict
    )


def test_other_data_and_other_splits_are_refused_with_the_reason():
    a = stored_evaluation([0.1], label="A")
    with pytest.raises(InputError, match=r"trained on different data \(data_digest dddddddd and eeeeeeee\)"):
        compare_runs(a, stored_evaluation([0.1], data="e" * 64))
    with pytest.raises(InputError, match=r"different splits \(latest \(share 0.2, seed 42\) and random \(share 0.2"):
        compare_runs(a, stored_evaluation([0.1], split="6" * 64, name="random"))
    with pytest.raises(InputError, match="split_digest 55555555 and 66666666"):
        compare_runs(a, stored_evaluation([0.1], split="6" * 64))
    with pytest.raises(UsageError, match="A has no metric 'mrr'"):
        compare_runs(a, stored_evaluation([0.1]), "mrr")


@pytest.mark.parametrize("text", [False, True])
def test_what_was_written_is_read(tmp_path, rng, text):
    users = np.array(["b", "a", "c"]) if text else np.array([30, 10, 20])
    items = [["x", "y"], [], ["z"]] if text else [[5, 6], [], [7]]
    written = stored_evaluation([0.1, NAN, 0.3], [0.2, 0.0, 0.1], users=users, segment=[2, 0, 1], items=items)
    read = read_evaluation(write(written, tmp_path / "evaluation"), "rankline/7")
    order = np.argsort(users)
    assert read.user_ids.tolist() == sorted(users.tolist())
    np.testing.assert_array_equal(read.metric("ndcg_at_10"), written.metric("ndcg_at_10")[order])
    np.testing.assert_array_equal(read.popular("ndcg_at_10"), written.popular("ndcg_at_10")[order])
    assert read.segment.tolist() == written.segment[order].tolist()
    assert [part.tolist() for part in np.split(read.items, read.ends[:-1])] == [items[i] for i in order]
    assert (read.split_name, dict(read.split_params)) == ("latest", {"share": 0.2, "seed": 42})
    assert (read.split_digest, read.data_digest, read.label) == ("5" * 64, "d" * 64, "rankline/7")
    assert read.n_train.tolist() == written.n_train[order].tolist()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "summary.json").write_text("{"), "can't be read"),
        (lambda f: (f / "summary.json").write_text(json.dumps({"split": {}})), "no 'name'"),
        (lambda f: (f / "per_user.parquet").write_bytes(b"PAR1"), "can't be read"),
        (lambda f: (f / "per_user.parquet").unlink(), "can't be read"),
        (lambda f: pq.write_table(pa.table({"user_id": [1]}), f / "per_user.parquet"), "has no column 'n_train'"),
    ],
)
def test_a_spoilt_evaluation_is_one_sentence(tmp_path, spoil, said):
    folder = write(stored_evaluation([0.1, 0.2]), tmp_path / "evaluation")
    spoil(folder)
    with pytest.raises(ArtifactError, match=said) as raised:
        read_evaluation(folder, "rankline/7")
    assert "train again" in str(raised.value)
    assert "\n" not in str(raised.value)


def _of_a_few_bytes(folder: Path, column: str, values: pa.Array) -> None:
    """Replace a column of all users by one that a few bytes of the file state."""
    usual = {"user_id": 1, "n_train": 1, "n_relevant": 1, "segment": "cold", "items": [1]}
    table = pa.table({name: pa.repeat(pa.scalar(value), len(values)) for name, value in usual.items()})
    at = table.column_names.index(column)
    pq.write_table(table.set_column(at, column, values), folder / "per_user.parquet", compression="zstd")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "summary.json").write_text(" " * (5 << 20)), "5,242,880 bytes"),
        (lambda f: (f / "summary.json").write_text("[" * 100_000), "nested too deep"),
        (lambda f: (f / "summary.json").write_text('{"split": NaN}'), "NaN is not JSON"),
        (lambda f: _linked(f / "summary.json"), "a link out of its folder"),
        (lambda f: _linked(f / "per_user.parquet"), "a link out of its folder"),
        (lambda f: _of_a_few_bytes(f, "user_id", pa.array(["x" * 50_000] * 300)), "a text of 50,000 bytes"),
        (lambda f: _of_a_few_bytes(f, "items", pa.array([["x" * 5000]] * 300)), "a text of 5,000 bytes"),
        (
            lambda f: pq.write_table(pa.table({f"c{i}": [1] for i in range(1001)}), f / "per_user.parquet"),
            "1,001 columns",
        ),
    ],
)
def test_an_evaluation_that_would_fill_the_memory_is_refused(tmp_path, spoil, said):
    folder = write(stored_evaluation([0.1, 0.2]), tmp_path / "evaluation")
    spoil(folder)
    with pytest.raises(EvaluationError, match=said):
        read_evaluation(folder, "rankline/7")


def _linked(path: Path) -> None:
    path.rename(outside := path.parent.parent / path.name)
    path.symlink_to(outside)


def test_a_table_of_more_than_the_free_memory_is_refused_unread(tmp_path, monkeypatch):
    folder = write(stored_evaluation([0.1, 0.2]), tmp_path / "evaluation")
    _of_a_few_bytes(folder, "n_train", pa.array(np.zeros(300_000, np.int64)))
    assert (folder / "per_user.parquet").stat().st_size < 10_000
    monkeypatch.setattr(bounded_parquet, "memory_limit", lambda: MemoryLimit(0, 20 << 20, "a container"))
    with pytest.raises(EvaluationError, match=r"GiB of memory, and 0\.0 GiB are free"):
        read_evaluation(folder, "rankline/7")


def test_a_user_twice_or_a_segment_nobody_knows(tmp_path):
    with pytest.raises(ArtifactError, match="a user twice"):
        read_evaluation(write(stored_evaluation([0.1, 0.2], users=[1, 1]), tmp_path / "twice"), "rankline/7")
    folder = write(stored_evaluation([0.1, 0.2]), tmp_path / "segment")
    table = pq.read_table(folder / "per_user.parquet")
    at = table.column_names.index("segment")
    pq.write_table(table.set_column(at, "segment", pa.array(["cold", "tepid"])), folder / "per_user.parquet")
    with pytest.raises(ArtifactError, match="can't be read"):
        read_evaluation(folder, "rankline/7")
