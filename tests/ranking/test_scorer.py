"""`Scorer`: exact lists, whatever the block, the shape, the ties; and what may never be on one."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support import naive
from support.small_models import KINDS, expected, ranked, small_model

import pipeline
from pipeline.errors import InputError, RowRangeError, UsageError
from pipeline.ranking import topk_numpy
from pipeline.ranking.scorer import Scorer, TopK

pytest_plugins = ["support.both_ways"]
pytestmark = pytest.mark.usefixtures("way")


def same(first, other):
    return first.items.tobytes() == other.items.tobytes() and first.scores.tobytes() == other.scores.tobytes()


# ---- one right answer -----------------------------------------------------------------------------


def test_checkerboard(checkerboard):
    """The one unseen item of the right colour comes first, with score 1; then the other colour, with 0."""
    scorer = Scorer(checkerboard.model)
    top = scorer.recommend_rows(np.arange(checkerboard.n), 3)
    assert top.items[:, 0].tolist() == checkerboard.answer.tolist()
    assert top.scores.tolist() == [[1.0, 0.0, 0.0]] * checkerboard.n
    assert top.items[4].tolist() == [4, 1, 3]
    items, scores = scorer.recommend(40, 1)
    assert items.tolist() == ["item-004"]
    assert scores.tolist() == [1.0]


def test_seen_items_come_back_when_asked_for(checkerboard):
    items, scores = Scorer(checkerboard.model).recommend(10, 4, exclude_seen=False)
    assert items.tolist() == ["item-001", "item-003", "item-005", "item-007"]
    assert scores.tolist() == [1.0] * 4


def test_sorted_by_score_then_item_id():
    scorer = Scorer(small_model([[1]], [[2, 3, 2, 3, 1]], items=["e", "f", "g", "h", "é"]))
    items, scores = scorer.recommend(0)
    assert items.tolist() == ["f", "h", "e", "g", "é"]
    assert scores.tolist() == [3, 3, 2, 2, 1]


# ---- against the naive twin -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@given(
    n_users=st.integers(1, 5),
    n_items=st.one_of(st.integers(1, 20), st.integers(60, 90)),
    n_components=st.integers(1, 6),
    k=st.sampled_from([1, 2, 3, 5, 10, 100]),
    density=st.sampled_from([0.0, 0.2, 0.7, 0.95, 1.0]),
    exclude_seen=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_exact_lists(make_model, kind, n_users, n_items, n_components, k, density, exclude_seen, seed):
    model = make_model(np.random.default_rng(seed), n_users, n_items, n_components, kind=kind, density=density)
    top = Scorer(model).recommend_rows(np.arange(n_users), k, exclude_seen=exclude_seen)
    assert top.items.shape == top.scores.shape == (n_users, k)
    assert (top.items.dtype, top.scores.dtype) == (np.int32, np.float32)
    for row in range(n_users):
        hidden = naive.seen_rows(model, row) if exclude_seen else ()
        assert ranked(top, row) == expected(model, row, k, hidden)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n_items", "k"), [(700, 1), (700, 7), (4500, 1), (5000, 2), (63, 16), (64, 16), (65, 16)])
def test_exact_lists_of_many_items(make_model, rng, kind, n_items, k):
    """Enough items for groups of several, and for rows of ties to take their own way."""
    model = make_model(rng, 3, n_items, 2, kind=kind, density=0.1)
    top = Scorer(model).recommend_rows([2, 0, 1], k)
    for place, row in enumerate([2, 0, 1]):
        assert ranked(top, place) == expected(model, row, k, naive.seen_rows(model, row))


@pytest.mark.parametrize("n_components", [10, 50])
def test_rounding_of_the_block_product_never_decides(rng, n_components):
    """Items whose scores differ in the last bits only: a float32 product orders them as it likes."""
    w = rng.random((2, n_components)) + 0.5
    h = np.outer(rng.random(n_components) + 0.5, np.ones(400)) * (
        1 + rng.integers(-2, 3, (n_components, 400)) * 2.0**-23
    )
    model = small_model(w, h)
    product = model.user_factors @ model.item_factors
    by_product = np.lexsort((np.arange(400), -product[0]))[:10]
    top = Scorer(model).recommend_rows([0, 1], 10)
    for row in (0, 1):
        assert ranked(top, row) == expected(model, row, 10)
    # If it did not differ here, this test would show nothing.
    assert by_product.tolist() != top.items[0].tolist()


def test_cancellation_never_decides(rng):
    """Scores near zero, from large terms of both signs."""
    half = rng.random((20, 300)) * 1e4
    h = np.concatenate([half, half * (1 + rng.integers(-3, 4, half.shape) * 2.0**-23)])
    w = np.concatenate([np.ones((1, 20)), -np.ones((1, 20))], axis=1)
    model = small_model(w, h)
    assert ranked(Scorer(model).recommend_rows([0], 10)) == expected(model, 0, 10)


def test_tied_and_ordinary_users_in_one_block(rng):
    """Users with all-zero factors have every item tied; the others beside them do not."""
    w = rng.random((6, 3))
    w[[1, 4]] = 0
    seen = [(1, 0), (1, 2), (4, 1), *((0, i) for i in range(2000))]
    model = small_model(w, rng.random((3, 5000)), seen)
    top = Scorer(model).recommend_rows(np.arange(6), 3)
    assert top.items[1].tolist() == [1, 3, 4]
    assert top.items[4].tolist() == [0, 2, 3]
    for row in range(6):
        assert ranked(top, row) == expected(model, row, 3, naive.seen_rows(model, row))
    # The filters hold for them as for the others.
    top = Scorer(model).recommend_rows([1], 3, allow=np.arange(2, 5000, 2, np.int32), deny=np.array([6], np.int32))
    assert top.items.tolist() == [[4, 8, 10]]


def test_tied_items_with_scores(rng):
    """Thousands of the same item, and a better one at the end."""
    h = np.ones((2, 6000))
    h[:, 5999] = 2
    model = small_model([[1, 2], [0, 0]], h, seen=[(0, 1)])
    top = Scorer(model).recommend_rows([0, 1], 3)
    assert ranked(top, 0) == [(5999, 6.0), (0, 3.0), (2, 3.0)]
    assert ranked(top, 1) == [(0, 0.0), (1, 0.0), (2, 0.0)]


def test_denormal_scores():
    """Fifty products that each round to nothing in float32 add up to the best score."""
    h = np.zeros((50, 200))
    h[:, 137] = 1e-23
    h[0, :100] = 1.5e-22
    model = small_model([[6e-23] * 50], h)
    assert ranked(Scorer(model).recommend_rows([0], 1)) == expected(model, 0, 1)


@pytest.mark.parametrize(
    ("w", "h"),
    [([[3e38, -3e38]], [[3e38, 1e-10], [3e38, 0]]), ([[-3e38]], [[3e38, 1e-10]]), ([[3e38]], [[3e38, 1e-10]])],
    ids=["cancelled", "negative", "positive"],
)
def test_products_past_float32_hide_nothing(w, h):
    model = small_model(w, h)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert ranked(Scorer(model).recommend_rows([0], 2)) == expected(model, 0, 2)


# ---- shapes -----------------------------------------------------------------------------------------


def test_fewer_items_than_k():
    top = Scorer(small_model([[1], [1]], [[1, 2, 3]], seen=[(1, 2)])).recommend_rows([0, 1], 5)
    assert top.items.tolist() == [[2, 1, 0, -1, -1], [1, 0, -1, -1, -1]]
    assert top.scores.tolist() == [[3, 2, 1, 0, 0], [2, 1, 0, 0, 0]]


def test_one_user_one_item():
    assert ranked(Scorer(small_model([[2]], [[3]])).recommend_rows([0], 1)) == [(0, 6.0)]
    assert ranked(Scorer(small_model([[2]], [[3]], seen=[(0, 0)])).recommend_rows([0], 1)) == []


def test_a_user_who_has_seen_everything():
    scorer = Scorer(small_model([[1], [1]], [[1, 2]], seen=[(0, 0), (0, 1)]))
    items, scores = scorer.recommend(0)
    assert items.size == scores.size == 0
    assert ranked(scorer.recommend_rows([0, 1], 2), 1) == [(1, 2.0), (0, 1.0)]


def test_no_rows():
    top = Scorer(small_model([[1]], [[1, 2]])).recommend_rows([], 3)
    assert top.items.shape == top.scores.shape == (0, 3)


def test_no_items():
    assert Scorer(small_model([[1]], np.zeros((1, 0)))).recommend(0).items.tolist() == []


def test_no_components(rng):
    assert ranked(Scorer(small_model(np.zeros((1, 0)), np.zeros((0, 3)))).recommend_rows([0], 2)) == [
        (0, 0.0),
        (1, 0.0),
    ]


def test_rows_may_repeat_and_come_in_any_order(make_model, rng):
    scorer = Scorer(make_model(rng, 30, 40))
    every = scorer.recommend_rows(np.arange(30), 6)
    rows = rng.integers(0, 30, 50)
    assert same(scorer.recommend_rows(rows, 6), TopK(every.items[rows], every.scores[rows]))


@pytest.mark.parametrize("row", [-1, 50, 2**40])
def test_rows_out_of_range(make_model, rng, row):
    with pytest.raises(RowRangeError) as caught:
        Scorer(make_model(rng, 50, 20)).recommend_rows([0, row])
    assert str(caught.value) == "User IDs must be in range [0, 50)"


@pytest.mark.parametrize("rows", [[1.7], [True, False], ["1"]])
def test_rows_are_integers(make_model, rng, rows):
    with pytest.raises(InputError):
        Scorer(make_model(rng)).recommend_rows(rows)


@pytest.mark.parametrize("k", [0, -1])
def test_k_is_at_least_one(checkerboard, k):
    with pytest.raises(UsageError, match=f"k must be at least 1, got {k}"):
        Scorer(checkerboard.model).recommend(10, k)


def test_k_far_past_the_number_of_items(checkerboard):
    assert len(Scorer(checkerboard.model).recommend(10, 10**12).items) == 11


# ---- blocks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uniform", "near_ties", "zero", "negative"])
@pytest.mark.parametrize("users_a_block", [0, 1, 3, 7, 1000])
def test_the_size_of_a_block_changes_no_bit(make_model, rng, monkeypatch, kind, users_a_block):
    model = make_model(rng, 25, 300, 8, kind=kind)
    also = sparse.random(25, 300, 0.1, format="csr", rng=rng)
    filters = {"also_seen": also, "deny": np.array([3, 5], np.int32)}
    scorer = Scorer(model, compiled=False)
    plain, filtered = scorer.recommend_rows(np.arange(25)), scorer.recommend_rows(np.arange(25), **filters)
    calls = []
    monkeypatch.setattr(topk_numpy, "BLOCK_BYTES", users_a_block * 4 * 300)
    real = topk_numpy._block
    monkeypatch.setattr(topk_numpy, "_block", lambda h, w, *rest: calls.append(len(w)) or real(h, w, *rest))
    assert same(scorer.recommend_rows(np.arange(25)), plain)
    step = min(25, max(1, users_a_block))
    if kind == "zero":  # lists of one score need no product
        assert not calls
    else:
        assert max(calls) == step
        assert len(calls) == -(-25 // step)
    assert same(scorer.recommend_rows(np.arange(25), **filters), filtered)


@pytest.mark.parametrize("kind", KINDS)
def test_one_user_alone_gets_the_list_of_the_block(make_model, rng, kind):
    scorer = Scorer(make_model(rng, 20, 200, 5, kind=kind))
    every = scorer.recommend_rows(np.arange(20), 4)
    for row in range(20):
        alone = scorer.recommend_rows([row], 4)
        assert same(alone, TopK(every.items[row : row + 1], every.scores[row : row + 1]))
        items, scores = scorer.recommend(int(scorer.users.values[row]), 4)
        assert items.tolist() == scorer.items.ids(every.items[row][every.items[row] >= 0]).tolist()
        assert scores.tobytes() == every.scores[row, : scores.size].tobytes()


def test_scores_are_those_of_predict(make_model, rng):
    scorer = Scorer(make_model(rng, 10, 30, 7, text_ids=True))
    for user in scorer.users.values.tolist():
        items, scores = scorer.recommend(user)
        assert scorer.predict(user, items).tobytes() == scores.tobytes()


# ---- from disk, alone -----------------------------------------------------------------------------


FORBIDDEN = ("mlflow", "pandas", "sklearn", "pyarrow", "numba", "clickhouse_connect", "typer", "pydantic")


ALONE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in FORBIDDEN:
            raise ImportError("blocked: " + name)

FORBIDDEN = sys.argv[2].split(",")
sys.meta_path.insert(0, Blocked())
from pipeline.ranking.scorer import Scorer

scorer = Scorer.load(sys.argv[1], mapped=True)
for user in scorer.users.values.tolist():
    items, scores = scorer.recommend(user, 5)
    print(user, items.tolist(), scores.tolist(), scorer.predict(user, items).tolist())
print(sorted(name for name in FORBIDDEN if name in sys.modules))
"""


@pytest.mark.slow
def test_the_scorer_runs_on_numpy_and_scipy_alone(make_model, rng, tmp_path):
    model = make_model(rng, 5, 12)
    model.save(tmp_path)
    root = Path(pipeline.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path), ",".join(FORBIDDEN)],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
    )
    assert done.stderr == ""
    lines = []
    for row, user in enumerate(model.users.values.tolist()):
        best = naive.top_k(model, row, 5, naive.seen_rows(model, row))
        scores = [float(score) for _, score in best]
        lines.append(f"{user} {[int(model.items.values[item]) for item, _ in best]} {scores} {scores}")
    assert done.stdout.splitlines() == [*lines, "[]"]
