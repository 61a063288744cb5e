"""The batch job's heart: every user once, nothing seen, the same rows for any blocks, bounded memory."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import naive

from pipeline.models.factor_model import FactorModel
from pipeline.publishing import batch_scoring
from pipeline.publishing.batch_scoring import score_all
from pipeline.publishing.recommendations_table import Recommendations, RecommendationsTable
from pipeline.ranking.scorer import Scorer
from pipeline.warehouse.sql import Sql

pytest_plugins = ["support.warehouse_fixtures"]


@dataclass
class Rows:
    """A sink that keeps what it is given, as rows."""

    rows: list[tuple[object, ...]] = field(default_factory=list)
    blocks: int = 0

    def write(self, block: Recommendations) -> None:
        columns = (block.user_ids, block.ranks, block.item_ids, block.scores, block.sources)
        assert len({column.shape for column in columns}) == 1
        self.rows += list(zip(*(column.tolist() for column in columns), strict=True))
        self.blocks += 1

    def of(self, user: object) -> list[tuple[object, ...]]:
        return [row for row in self.rows if row[0] == user]


def pairs(*rows: tuple[object, object]) -> tuple[np.ndarray, np.ndarray]:
    """A block of pairs, sorted by user as the warehouse gives them."""
    ordered = sorted(rows)
    return np.array([user for user, _ in ordered]), np.array([item for _, item in ordered])


def expected(model: FactorModel, k: int, also: set[tuple[object, object]] = frozenset(), popular: bool = False):
    """Every row, slowly: (user, rank, item, score, source)."""
    col = {item: i for i, item in enumerate(model.items.values.tolist())}
    known = model.users.values.tolist()
    rows = []
    for u, user in enumerate(known):
        hidden = naive.seen_rows(model, u) | {col[item] for who, item in also if who == user and item in col}
        for place, (item, score) in enumerate(naive.top_k(model, u, k, hidden)):
            rows.append((user, place + 1, model.items.values[item].item(), float(score), "nmf"))
    if popular:
        for user in {who for who, _ in also} - set(known):
            hidden = {col[item] for who, item in also if who == user and item in col}
            for place, (item, count) in enumerate(naive.popular(model, k, hidden)):
                rows.append((user, place + 1, model.items.values[item].item(), float(count), "popular"))
    return sorted(rows)


@pytest.mark.parametrize("text_ids", [False, True])
@pytest.mark.parametrize("k", [1, 5, 40, 50])
def test_every_user_has_their_best_unseen_items(make_model, rng, text_ids, k):
    model = make_model(rng, density=0.3, text_ids=text_ids)
    sink = Rows()
    summary = score_all(Scorer(model), sink, k)
    assert sink.rows == expected(model, k)
    short = sum(len(sink.of(user)) < k for user in model.users.values.tolist())
    assert (summary.n_users, summary.n_with_items, summary.n_short) == (30, 30, short)
    assert (summary.n_unknown, summary.n_rows) == (0, len(sink.rows))
    assert (short == 0) == (k <= 5)


def test_fewer_rows_where_few_are_unseen(make_model, rng):
    model = make_model(rng, 3, 5, density=0)
    items = model.items.values.tolist()
    first, second, third = model.users.values.tolist()
    seen = [(first, item) for item in items] + [(second, item) for item in items[1:]]
    sink = Rows()
    summary = score_all(Scorer(model), sink, 3, seen_now=[pairs(*seen)])
    assert [row[:3] for row in sink.of(second)] == [(second, 1, items[0])]
    assert sink.of(first) == []
    assert len(sink.of(third)) == 3
    assert (summary.n_users, summary.n_with_items, summary.n_short, summary.n_rows) == (3, 2, 2, 4)


def test_seen_by_the_artifact_and_by_the_warehouse_now(make_model, rng):
    model = make_model(rng, density=0.2)
    users, items = model.users.values, model.items.values
    now = {
        (users[u].item(), items[i].item())
        for u, i in zip(rng.integers(0, 30, 200), rng.integers(0, 40, 200), strict=True)
    }
    sink = Rows()
    score_all(Scorer(model), sink, 10, seen_now=[pairs(*now)])
    assert sink.rows == expected(model, 10, now)
    assert sink.rows != expected(model, 10), "the warehouse should have made a difference"
    assert not {(row[0], row[2]) for row in sink.rows} & now
    old = {(users[u].item(), items[i].item()) for u in range(30) for i in naive.seen_rows(model, u)}
    assert not {(row[0], row[2]) for row in sink.rows} & old


def test_ids_the_model_does_not_know_are_no_fault(make_model, rng):
    model = make_model(rng)
    user, item = model.users.values[3].item(), model.items.values[5].item()
    now = {(user, 10**9), (user, -1), (user, item), (-5, item), (user + 1, item), (10**9, item), (10**9, 10**9)}
    sink = Rows()
    summary = score_all(Scorer(model), sink, 10, seen_now=[pairs(*now)])
    assert sink.rows == expected(model, 10, now)
    assert summary.n_unknown == 3


@pytest.mark.parametrize("text_ids", [False, True])
def test_unknown_users(make_model, rng, text_ids):
    model = make_model(rng, density=0.3, text_ids=text_ids)
    first, last = model.users.values[[0, -1]].tolist()
    items = model.items.values[[1, 2, 39]].tolist()
    strangers = ["a", f"{first}x", f"{last}x", "z"] if text_ids else [first - 50, first + 1, last + 1, last + 50]
    now = {(who, item) for who in [*strangers, first] for item in items}
    for popular in (False, True):
        sink = Rows()
        summary = score_all(Scorer(model), sink, 5, seen_now=[pairs(*now)], unknown_popular=popular)
        assert sorted(sink.rows) == expected(model, 5, now, popular)
        assert (summary.n_unknown, summary.n_users) == (4, 30)
        assert summary.n_rows == len(sink.rows)
        assert {row[4] for row in sink.rows if row[0] in strangers} == ({"popular"} if popular else set())
        assert {row[4] for row in sink.rows if row[0] not in strangers} == {"nmf"}


def test_a_stranger_who_has_seen_only_items_that_are_unknown_too(make_model, rng):
    model = make_model(rng)
    sink = Rows()
    score_all(Scorer(model), sink, 3, seen_now=[pairs((10**9, 10**9))], unknown_popular=True)
    assert [row[2] for row in sink.of(10**9)] == [
        model.items.values[item].item() for item, _ in naive.popular(model, 3)
    ]


def test_users_in_ascending_order_with_ranks_from_one(make_model, rng, monkeypatch):
    monkeypatch.setattr(batch_scoring, "_USERS_A_BLOCK", 7)
    model = make_model(rng, density=0.3)
    sink = Rows()
    score_all(Scorer(model), sink, 4)
    assert sink.blocks == 5
    assert [(row[0], row[1]) for row in sink.rows] == sorted((row[0], row[1]) for row in sink.rows)
    assert [row[1] for row in sink.rows] == [1, 2, 3, 4] * 30
    for user in model.users.values.tolist():
        scores = [row[3] for row in sink.of(user)]
        assert scores == sorted(scores, reverse=True)


def test_progress(make_model, rng, monkeypatch):
    monkeypatch.setattr(batch_scoring, "_USERS_A_BLOCK", 7)
    calls: list[tuple[int, int]] = []
    score_all(Scorer(make_model(rng)), Rows(), 4, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(7, 30), (14, 30), (21, 30), (28, 30), (30, 30)]


def test_a_sink_that_fails_stops_the_job(make_model, rng):
    class Full:
        def write(self, block: Recommendations) -> None:
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        score_all(Scorer(make_model(rng)), Full(), 4)


def test_what_is_seen_and_fails_at_the_end_fails_the_job(make_model, rng):
    """A stream that turns out to be cut says so after its last block: it must be read to its end."""

    def cut():
        yield pairs((100, 5))
        raise ConnectionError("cut")

    with pytest.raises(ConnectionError):
        score_all(Scorer(make_model(rng)), Rows(), 4, seen_now=cut())


# One for each kind of id, made once: Hypothesis runs its test many times.
MODELS: dict[bool, FactorModel] = {}


@given(data=st.data())
def test_any_blocks_give_the_same_rows(make_model, data):
    """Blocks of users, and blocks in which the warehouse sends what is seen, wherever they are cut."""
    text_ids = data.draw(st.booleans(), "text ids")
    if text_ids not in MODELS:
        MODELS[text_ids] = make_model(np.random.default_rng(3), 12, 9, text_ids=text_ids)
    model = MODELS[text_ids]
    users, items = model.users.values.tolist(), model.items.values.tolist()
    strangers = ["", "u", "u0000107a", "zz"] if text_ids else [-1, 101, 108, 10**6, 10**6 + 1]
    now = data.draw(
        st.sets(st.tuples(st.sampled_from(users + strangers), st.sampled_from([*items, items[0] * 9])), max_size=60)
    )
    ordered = sorted(now)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ordered)), max_size=8), "cuts"))
    edges = [0, *cuts, len(ordered)]
    kind = str if text_ids else np.int64
    stream = [
        (np.array([p[0] for p in ordered[a:b]], kind), np.array([p[1] for p in ordered[a:b]], kind))
        for a, b in pairwise(edges)
    ]
    popular = data.draw(st.booleans(), "popular")
    sink = Rows()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_scoring, "_USERS_A_BLOCK", data.draw(st.integers(1, 13), "users a block"))
        summary = score_all(Scorer(model), sink, 3, seen_now=iter(stream), unknown_popular=popular)
    assert sorted(sink.rows) == expected(model, 3, now, popular)
    assert summary.n_unknown == len({who for who, _ in now} - set(users))
    assert summary.n_rows == len(sink.rows)


def test_mapped_from_disk_the_same_rows(make_model, rng, tmp_path):
    model = make_model(rng, 200, 60, k=5)
    folder = model.save(tmp_path / "model")
    results = []
    for mapped in (False, True):
        sink = Rows()
        score_all(Scorer.load(folder, mapped=mapped), sink, 10)
        results.append(sink.rows)
    assert results[0] == results[1] == expected(model, 10)


@pytest.mark.parametrize("text_ids", [False, True])
def test_from_the_warehouse_to_the_table(warehouse, make_model, rng, monkeypatch, text_ids):
    """The whole way: what is seen streams out while recommendations stream in."""
    monkeypatch.setattr(batch_scoring, "_USERS_A_BLOCK", 8)
    model = make_model(rng, density=0.3, text_ids=text_ids)
    prefix = ("leftPad(toString(", "), 7, '0')") if text_ids else ("", "")
    user, item = (f"concat('{c}', {prefix[0]}{e}{prefix[1]})" if text_ids else e for c, e in (
        ("u", "100 + 7 * (number % 33)"), ("i", "5 + 3 * intDiv(number, 33)")
    ))  # fmt: skip
    own = Sql(f"SELECT {user} AS user_id, {item} AS item_id, 1 AS score FROM numbers(33 * 10)", "mine.sql")
    kind = "str" if text_ids else "int"
    table = RecommendationsTable(warehouse, kind, kind, "1", "run-a")
    stream = list(table.seen_now(own))
    now = {(u, i) for users, items in stream for u, i in zip(users.tolist(), items.tolist(), strict=True)}
    assert len(now) == 330
    summary = score_all(Scorer(model), table, 6, seen_now=table.seen_now(own), unknown_popular=True)
    table.publish()
    rows = warehouse.rows(
        "SELECT user_id, rank, item_id, score, source FROM analytics.recommendations ORDER BY user_id, rank"
    )
    assert [tuple(row.values()) for row in rows] == expected(model, 6, now, popular=True)
    assert (summary.n_unknown, summary.n_rows) == (3, len(rows))


_MEMORY = """
import sys
import numpy as np
from pipeline.publishing.batch_scoring import score_all
from pipeline.ranking.scorer import Scorer

class Nowhere:
    def write(self, block):
        pass

def seen(n_users):
    for start in range(0, n_users, 10000):
        yield np.arange(start, start + 10000), np.zeros(10000, np.int64)

scorer = Scorer.load(sys.argv[1], mapped=True)
summary = score_all(scorer, Nowhere(), 10, seen_now=seen(len(scorer.users)))
assert summary.n_users == len(scorer.users)
# The high-water mark of this program alone: ru_maxrss begins with that of the process that forked.
print(next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_users(make_model, rng, tmp_path):
    from scipy import sparse

    from pipeline.data.id_map import IdMap

    peaks = {}
    for n in (20_000, 120_000):
        w = rng.random((n, 96)).astype(np.float32)
        h = rng.random((96, 300)).astype(np.float32)
        seen = sparse.random_array((n, 300), density=0.05, format="csr", dtype=np.float32, rng=1)
        model = FactorModel(w, h, IdMap(np.arange(n)), IdMap(np.arange(300)), sparse.csr_matrix(seen))
        folder = model.save(tmp_path / str(n))
        done = subprocess.run(
            [sys.executable, "-c", _MEMORY, str(folder)], capture_output=True, text=True, check=True, timeout=300
        )
        peaks[n] = int(done.stdout)
    # Ids are kept: 20 MB more here. The factors alone grew by 37 MB, the rows written by 40, all scores by 115.
    assert peaks[120_000] - peaks[20_000] < 40, peaks
