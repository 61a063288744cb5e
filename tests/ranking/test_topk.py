"""`Finder`: the compiled way, numpy's and every score sorted give the same lists, to the last bit."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from support.examples import examples

import pipeline
from pipeline.kernels import available
from pipeline.models.factor_model import FactorModel
from pipeline.ranking import topk
from pipeline.ranking.finders import FactorFinder
from pipeline.ranking.scorer import Scorer
from pipeline.ranking.topk import Finder, LeftOut, TopK
from pipeline.ranking.topk_numpy import ListRequest

pytestmark = pytest.mark.skipif(not available(), reason="needs numba")

KINDS = ("uniform", "ties", "near_ties", "duplicated", "zero", "negative", "huge", "tiny", "mixed_scale", "sparse")


def brute(model, rows, k, hidden):
    """Every item's score as `predict` defines it, sorted; `hidden` is (n, n_items) bool."""
    n_items = len(model.items)
    items, scores = np.full((len(rows), k), -1, np.int32), np.zeros((len(rows), k), np.float32)
    for place, row in enumerate(rows):
        left = np.flatnonzero(~hidden[place])
        exact = model.predict(np.full(left.size, row), left)
        best = np.argsort(-exact, kind="stable")[:k]
        items[place, : best.size], scores[place, : best.size] = left[best], exact[best]
    assert n_items
    return TopK(items, scores)


def same(first, other):
    assert first.items.tolist() == other.items.tolist()
    assert first.scores.tobytes() == other.scores.tobytes()


def both(model, rows, k, left_out=(), hidden=None):
    """The lists of both ways, held to be equal."""
    lists_of_both = [
        Finder(model.item_factors, model.user_factors, way).find(
            model.user_factors, ListRequest(np.asarray(rows), k, left_out, hidden)
        )
        for way in (True, False)
    ]
    same(*lists_of_both)
    return lists_of_both[0]


def cells(matrix, rows):
    return LeftOut(matrix.indptr, matrix.indices, np.asarray(rows))


# ---- against every score, sorted --------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(25))
@given(
    n_users=st.sampled_from([1, 6, 7, 13, 40]),
    n_items=st.sampled_from([1, 63, 64, 65, 500, 900]),
    n_components=st.integers(1, 9),
    k=st.sampled_from([1, 2, 10, 64, 130, 256]),
    density=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    hide=st.sampled_from([0.0, 0.1, 0.95, 1.0]),
    seed=st.integers(0, 2**32),
)
def test_any_factors(make_model, kind, n_users, n_items, n_components, k, density, hide, seed):
    rng = np.random.default_rng(seed)
    model = make_model(rng, n_users, n_items, n_components, kind=kind, density=density)
    rows = rng.permutation(n_users)
    hidden = rng.random(n_items) < hide
    cells_read = both(model, rows, k, [cells(model.seen, rows)], hidden)
    same(cells_read, brute(model, rows, k, (model.seen[rows].toarray() > 0) | hidden))


@pytest.mark.parametrize("kind", KINDS)
def test_groups_of_users(make_model, rng, kind):
    """More users than a group holds, more blocks than bounds rule out."""
    model = make_model(rng, 230, 1500, 8, kind=kind, density=0.02)
    cells_read = both(model, range(230), 10, [cells(model.seen, range(230))])
    same(cells_read, brute(model, range(230), 10, model.seen.toarray() > 0))


def test_signs_mixed_between_users(make_model, rng):
    """Bounds hold for users without negative components; the others are in the same group."""
    model = make_model(rng, 60, 1000, 6, kind="negative")
    model.user_factors[::3] = np.abs(model.user_factors[::3])
    for h in (model.item_factors, np.abs(model.item_factors)):
        first = FactorModel(model.user_factors, h, model.users, model.items, model.seen)
        same(both(first, range(60), 7), brute(first, range(60), 7, np.zeros((60, 1000), bool)))


@pytest.mark.parametrize("signs", ["both", "users", "items"])
def test_signed_factors_of_very_different_lengths(make_model, rng, signs):
    """Bounds rule out most blocks; items of zeros, whose score is 0, beat those with negative ones."""
    model = make_model(rng, 70, 1500, 5, kind="negative", density=0.02)
    w, h = model.user_factors, model.item_factors
    h *= np.exp(2 * rng.normal(size=1500)).astype(np.float32)
    h[:, ::9] = 0
    w[::2, 2:] = 0
    w[1] = 0
    if signs != "both":
        part = w if signs == "items" else h
        part[:] = np.abs(part)
    if signs == "users":
        w[:] = -np.abs(w)  # no score is over 0
    lists = both(model, range(70), 12, [cells(model.seen, range(70))])
    same(lists, brute(model, range(70), 12, model.seen.toarray() > 0))


@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.parametrize("rising", [False, True])
def test_ties_by_the_thousand(make_model, rng, step, rising):
    """A few scores, each of very many items, the better ones last or first: too many candidates for any list."""
    model = make_model(rng, 9, 4000, 2, density=0.01)
    level = np.arange(4000) // 1000 * step
    model.item_factors[:] = 1 + (level if rising else level[::-1])
    model.user_factors[3] = 0
    same(both(model, range(9), 12, [cells(model.seen, range(9))]), brute(model, range(9), 12, model.seen.toarray() > 0))


def test_scores_a_rounding_apart_across_blocks(rng, make_model):
    """Candidates within the margin of the k-th best, in every block: bounds must not rule them out."""
    for k in (1, 8, 33):
        model = make_model(rng, 8, 1200, k)
        base = rng.random(k) + 0.5
        model.item_factors[:] = (base[:, None] * (1 + rng.integers(-3, 4, (k, 1200)) * 2.0**-23)).astype(np.float32)
        same(both(model, range(8), 10), brute(model, range(8), 10, np.zeros((8, 1200), bool)))


def skewed(make_model, rng, n_users=300, n_items=3000, k=12):
    """Few large components, many zeros, popularity: as fitted factors are, and bounds rule most of it out."""
    model = make_model(rng, n_users, n_items, k, density=0.01)
    model.user_factors[:] = rng.gamma(0.2, 1.0, (n_users, k)) * (rng.random((n_users, k)) < 0.4)
    model.item_factors[:] = rng.gamma(0.2, 1.0, (k, n_items)) * rng.lognormal(0, 1, n_items)
    model.item_factors[rng.random((k, n_items)) < 0.7] = 0
    return model


def test_factors_like_fitted_ones(make_model, rng):
    model = skewed(make_model, rng)
    rows = np.arange(300)
    hidden = model.seen.toarray() > 0
    same(both(model, rows, 10, [cells(model.seen, rows)]), brute(model, rows, 10, hidden))
    # A user of a great norm beside a great item of another component: the margin is of the scores, not of the norms.
    model.user_factors[:, 0], model.item_factors[0, :] = 1e4, 0
    model.item_factors[1, 5] = 1e4
    same(both(model, rows, 10, [cells(model.seen, rows)]), brute(model, rows, 10, hidden))


# ---- whatever holds the arrays -----------------------------------------------------------------------


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_what_is_left_out_in_any_form(make_model, rng, index):
    model = make_model(rng, 40, 700, 5, density=0.05)
    also = sparse.random(40, 700, 0.1, format="csr", rng=rng)
    # In no order, and each cell twice.
    shuffled = [
        rng.permutation(np.repeat(also.indices[a:b], 2)) for a, b in zip(also.indptr, also.indptr[1:], strict=False)
    ]
    ends = np.cumsum([0] + [len(entry) for entry in shuffled])
    indices = np.concatenate(shuffled).astype(index)
    strided = np.repeat(indices, 2)[::2]
    unaligned = np.frombuffer(b"x" + indices.tobytes(), np.uint8)[1:].view(index)
    hidden = (model.seen.toarray() > 0) | (also.toarray() > 0)
    for form in (indices, strided, unaligned):
        form.flags.writeable = False
        lists_of_both = both(
            model, range(40), 10, [cells(model.seen, range(40)), LeftOut(ends.astype(index), form, np.arange(40))]
        )
        same(lists_of_both, brute(model, range(40), 10, hidden))


def test_read_only_and_transposed_factors(make_model, rng):
    model = make_model(rng, 20, 300, 5)
    expected = both(model, range(20), 6)
    h = np.asfortranarray(model.item_factors)
    w = np.asfortranarray(model.user_factors)
    for array in (h, w):
        array.flags.writeable = False
    for way in (True, False):
        same(Finder(h, w, way).find(w, ListRequest(np.arange(20), 6)), expected)


def test_mapped_from_disk(make_model, rng, tmp_path):
    make_model(rng, 300, 400, 7).save(tmp_path)
    results = []
    for mapped in (False, True):
        scorer = Scorer(FactorModel.load(tmp_path, mapped=mapped), compiled=True)
        results.append(scorer.recommend_rows(np.arange(300), 5))
        scorer.model.release()
        same(scorer.recommend_rows(np.arange(300), 5), results[-1])
    same(*results)


# ---- threads, pieces, and which way ------------------------------------------------------------------


@pytest.mark.parametrize("piece", [1, 7, 96, 97, 1000])
@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_pieces_and_threads_change_no_bit(make_model, rng, monkeypatch, piece, n_threads):
    model = make_model(rng, 250, 800, 6, density=0.05)
    expected = Scorer(model, compiled=False).recommend_rows(np.arange(250), 9)
    monkeypatch.setattr(topk, "PIECE", piece)
    same(Scorer(model, compiled=True).recommend_rows(np.arange(250), 9, n_threads=n_threads), expected)


def test_several_python_threads_at_once(make_model, rng):
    """A scorer that nobody has used: all of them begin by arranging its items."""
    model = skewed(make_model, rng)
    expected = Scorer(model, compiled=False).recommend_rows(np.arange(300), 10)
    scorer, results, ready = Scorer(model, compiled=True), {}, threading.Barrier(6)

    def ask(i):
        ready.wait()
        results[i] = scorer.recommend_rows(np.arange(300), 10, n_threads=2)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(6):
        same(results[i], expected)


def test_long_lists_and_no_components_are_numpys(make_model, rng):
    model = make_model(rng, 3, 400, 4)
    finder = Finder(model.item_factors, model.user_factors, True)
    assert finder._compiles(3, topk.LONGEST)
    assert not finder._compiles(3, topk.LONGEST + 1)
    assert not Finder(np.zeros((0, 3), np.float32), np.zeros((2, 0), np.float32), True)._compiles(2, 1)
    same(both(model, range(3), 300), brute(model, range(3), 300, np.zeros((3, 400), bool)))


RULE = """
import sys
import numpy as np
from pipeline.ranking.topk import Finder
from pipeline.ranking.topk_numpy import ListRequest

rng = np.random.default_rng(0)
w, h = rng.random((4, 3), np.float32), rng.random((3, 50), np.float32)
finder = Finder(h, w)
finder.find(w, ListRequest(np.arange(4), 5))
print("numba" in sys.modules, finder._compiles(2**28 // 50, 5), finder._compiles(2**28 // 50 + 1, 5))
finder.prepare()
print("numba" in sys.modules, finder._compiles(1, 5))
Finder(np.zeros((3, 0), np.float32), w).prepare()
"""


@pytest.mark.slow
def test_numba_is_not_loaded_for_little_work():
    root = Path(pipeline.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", RULE], capture_output=True, text=True, check=False, cwd=root)
    assert done.stderr == ""
    assert done.stdout.split() == ["False", "False", "True", "True", "True"]


def test_memory_is_one_more_copy_of_the_item_factors(make_model, rng):
    model = make_model(rng, 10, 6400, 16)
    finder = Finder(model.item_factors, model.user_factors, True)
    finder.find(model.user_factors, ListRequest(np.arange(10), 5))
    blocks = finder._arranged().blocks
    assert blocks.packed.nbytes + blocks.tops.nbytes <= 1.1 * model.item_factors.nbytes


@pytest.mark.parametrize("hide", [False, True])
def test_factors_of_zeros_are_ranked_without_a_product(make_model, rng, monkeypatch, hide):
    model = make_model(rng, 40, 25)
    model = replace(model, user_factors=model.user_factors * 0, item_factors=model.item_factors * 0)
    seen = sparse.random(40, 25, 0.3, "csr", np.float32, rng=rng)
    rows, hidden = rng.permutation(40), rng.random(25) < 0.3 if hide else None
    request = ListRequest(rows, 7, [cells(seen, rows)], hidden)
    expected = Finder(model.item_factors, model.user_factors, False).find(model.user_factors, request)
    monkeypatch.setattr(Finder, "find", None)
    same(FactorFinder(model).find(request), expected)
