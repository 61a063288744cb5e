"""Folding in: the least of the objective as it is written down, and a training user's own row."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import sparse
from support import naive
from support.examples import examples

from pipeline.data.id_map import IdMap
from pipeline.data.interactions import Interactions
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import PreparedInteractions
from pipeline.errors import ArtifactError, BadRowsError, InputError, UnknownItemError, UsageError
from pipeline.kernels import available
from pipeline.models.factor_model import FactorModel
from pipeline.models.fold_in import FoldIn, objective_of, transformed
from pipeline.models.fold_in import way as shared
from pipeline.models.objective import Objective
from pipeline.ranking.scorer import Scorer

WAYS = [False, pytest.param(True, marks=pytest.mark.skipif(not available(), reason="needs numba"))]
BOTH = [False, True] if available() else [False]


def fitted(n_users=150, n_items=90, k=5, *, alpha_w=0.0, l1_ratio=0.0, seed=0, way=None, transform="none"):
    """A scorer over factors that our solver fitted, and the raw scores."""
    from pipeline.models.solvers.nmf import Penalty, factorize

    rng = np.random.default_rng(seed)
    scores = sparse.random(n_users, n_items, 0.12, "csr", np.float32, rng=rng)
    scores.data = np.ceil(scores.data * 10).astype(np.float32) / 2
    x = scores.copy()
    x.data = transformed(x.data, {"parameters": {"transform": transform}})
    on_w = alpha_w * n_items
    penalty = Penalty(on_w * l1_ratio, on_w * (1 - l1_ratio), 0.1, 0.1)
    result = factorize(
        x, *(rng.random(s, np.float32) for s in ((n_users, k), (k, n_items))), penalty=penalty, max_iter=30
    )
    meta = {"parameters": {"alpha_W": alpha_w, "l1_ratio": l1_ratio, "transform": transform}}
    model = FactorModel(
        result.W,
        np.ascontiguousarray(result.H),
        IdMap(10 + np.arange(n_users)),
        IdMap([f"i{i:06d}" for i in range(n_items)]),
        scores,
        meta,
    )
    return Scorer(model, compiled=way), scores


def of(scorer, scores, row):
    """The external ids and raw scores of a row."""
    cells = slice(scores.indptr[row], scores.indptr[row + 1])
    return scorer.items.ids(scores.indices[cells]), scores.data[cells]


# ---- a training user's own row -----------------------------------------------------------------------


@pytest.mark.skipif(not available(), reason="needs numba")
@pytest.mark.parametrize("transform", ["none", "log1p", "binary"])
@pytest.mark.parametrize(("alpha_w", "l1_ratio"), [(0.0, 0.0), (0.002, 0.0), (0.002, 0.5), (0.001, 1.0)])
@pytest.mark.parametrize("k", [1, 5, 33])
def test_a_training_users_own_row_comes_back(k, alpha_w, l1_ratio, transform):
    scorer, scores = fitted(k=k, alpha_w=alpha_w, l1_ratio=l1_ratio, transform=transform)
    W = scorer.model.user_factors
    assert np.count_nonzero(W) > W.size // 20
    assert scorer.fold_in_rows(scores).tobytes() == W.tobytes()
    rng = np.random.default_rng(1)
    for row in range(0, 150, 10):
        items, values = of(scorer, scores, row)
        order = rng.permutation(items.size)
        assert scorer.fold_in(items[order].tolist(), values[order]).tobytes() == W[row].tobytes()


@pytest.mark.skipif(not available(), reason="needs numba")
def test_bits_of_the_gram_matrix_of_many_items():
    """Enough items for the fit to add HHᵀ up in several pieces."""
    scorer, scores = fitted(n_users=60, n_items=60_000, k=50)
    assert 60_000 * 64 // shared.PIECE > 1
    rows = np.arange(0, 60, 7)
    assert scorer.fold_in_rows(scores[rows]).tobytes() == scorer.model.user_factors[rows].tobytes()


@pytest.mark.parametrize(("alpha_w", "l1_ratio"), [(0.0, 0.0), (0.002, 0.3)])
def test_own_row_without_numba(alpha_w, l1_ratio):
    pytest.importorskip("numba")  # to fit with
    scorer, scores = fitted(alpha_w=alpha_w, l1_ratio=l1_ratio, way=False)
    W = scorer.model.user_factors
    assert np.abs(scorer.fold_in_rows(scores) - W).max() <= 1e-5 * np.abs(W).max()


def test_the_list_of_a_training_user_comes_back():
    pytest.importorskip("numba")
    scorer, scores = fitted()
    for row in (0, 7, 100):
        items, values = of(scorer, scores, row)
        own = scorer.recommend(10 + row, 6)
        again = scorer.recommend_for(scorer.fold_in(items, values), 6, seen=items)
        assert again.items.tolist() == own.items.tolist()
        assert again.scores.tobytes() == own.scores.tobytes()
        assert again.source == "nmf"


@pytest.mark.skipif(not available(), reason="needs numba")
def test_many_rows_in_pieces_on_threads_are_single_rows():
    scorer, scores = fitted(n_users=700)
    every = [scorer.fold_in_rows(scores, n_threads=n) for n in (1, 2, 5)]
    assert len({single.tobytes() for single in every}) == 1
    for row in (0, 255, 256, 699):
        assert scorer.fold_in_rows(scores[[row]]).tobytes() == every[0][row].tobytes()


@pytest.mark.skipif(not available(), reason="needs numba")
def test_several_python_threads_at_once():
    scorer, scores = fitted()
    results, ready = {}, threading.Barrier(6)

    def ask(i):
        ready.wait()
        results[i] = scorer.fold_in_rows(scores).tobytes()

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results.values()) == {scorer.model.user_factors.tobytes()}


# ---- the least of the objective ----------------------------------------------------------------------

objectives = st.builds(
    Objective,
    unobserved_weight=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    confidence=st.sampled_from([0.0, 2.0, 40.0]),
    alpha_W=st.sampled_from([0.0, 0.01, 0.3]),
    l1_ratio=st.sampled_from([0.0, 0.4, 1.0]),
    reg_exponent=st.sampled_from([0.0, 0.5, 1.0]),
)
biased = st.builds(
    Objective,
    unobserved_weight=st.just(0.0),
    alpha_W=st.sampled_from([0.01, 0.3]),
    l1_ratio=st.sampled_from([0.0, 0.4]),
    reg_exponent=st.sampled_from([0.5, 1.0]),
    biases=st.just(True),
    bias_prior=st.sampled_from([0.0, 1.7]),
)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=examples(60))
@given(
    objective=st.one_of(objectives, biased),
    k=st.integers(2, 4),
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    seed=st.integers(0, 2**32),
)
@example(objective=Objective(0.0, 40.0, alpha_W=0.01), k=3, counts=[0, 0, 1], seed=0)  # A is nearly singular
def test_nothing_near_is_lower(way, objective, k, counts, seed):
    """At the row that is found no component can go anywhere: the conditions of Karush, Kuhn and Tucker."""
    rng = np.random.default_rng(seed)
    n_items = 9
    H = (rng.random((k, n_items)) * (rng.random((k, n_items)) < 0.7)).astype(np.float32)
    if objective.biases:
        H[-1] = 1
    folder = FoldIn(H, {"objective": objective.as_json()}, way)
    users = [{int(i): float(rng.integers(0, 6)) for i in rng.permutation(n_items)[:n]} for n in counts]
    indptr = np.cumsum([0, *counts])
    indices = np.array([i for user in users for i in sorted(user)], np.int32)
    data = np.array([user[i] for user in users for i in sorted(user)], np.float32)
    solved = folder.solve(indptr, indices, data)
    assert (solved.shape, solved.dtype) == ((len(counts), k), np.float32)
    assert (solved >= 0).all()
    for row, user in enumerate(users):
        w = [float(v) for v in solved[row]]
        value, slope, curvature = naive.user_objective(objective, H, user, w)
        for t in range(k):
            if objective.biases and t == k - 2:
                assert w[t] == 1
                continue
            # How far this component alone would still go, beside the row's size.
            step = max(0.0, w[t] - slope[t] / curvature[t]) - w[t] if curvature[t] > 1e-12 else 0.0
            assert abs(step) <= 1e-5 * (1 + max(w)), (t, w, slope)
        twin = naive.user_objective(objective, H, user, naive.fold_in(objective, H, user))[0]
        assert value <= twin + 1e-5 * (1 + abs(twin))


@pytest.mark.parametrize("way", WAYS)
def test_the_row_is_the_twins(way):
    rng = np.random.default_rng(5)
    H = rng.random((4, 12)).astype(np.float32)
    user = {1: 4.0, 5: 0.0, 7: 3.0, 11: 5.0}
    for objective in (
        Objective(unobserved_weight=0.1, confidence=3, alpha_W=0.02, dislike_weight=6.0),
        Objective(alpha_W=0.01, l1_ratio=0.3),
        Objective(unobserved_weight=0.1, confidence=3, alpha_W=0.02, reg_exponent=0.5),
        Objective(unobserved_weight=0.0, alpha_W=0.1, l1_ratio=0.2, biases=True, bias_prior=1.5),
    ):
        solved = FoldIn(H, {"objective": objective.as_json()}, way).solve(
            np.array([0, 4]), np.array(sorted(user)), np.array([user[i] for i in sorted(user)], np.float32)
        )
        np.testing.assert_allclose(solved[0], naive.fold_in(objective, H, user, 5000), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("way", WAYS)
def test_a_user_of_whom_nothing_is_known(way):
    H = np.ones((3, 4), np.float32)
    nothing = np.zeros(2, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32)
    assert FoldIn(H, {"objective": Objective(alpha_W=0.1, l1_ratio=1).as_json()}, way).solve(*nothing).tolist() == [
        [0, 0, 0]
    ]
    assert FoldIn(H, {"objective": Objective(unobserved_weight=0).as_json()}, way).solve(*nothing).tolist() == [
        [0, 0, 0]
    ]
    biases = Objective(unobserved_weight=0, alpha_W=0.1, biases=True, bias_prior=1.5)
    assert FoldIn(H, {"objective": biases.as_json()}, way).solve(*nothing).tolist() == [[0, 1, 1.5]]


@pytest.mark.parametrize("way", WAYS)
def test_scores_past_float32(way):
    H = np.full((2, 3), 1e-20, np.float32)
    with pytest.raises(InputError, match="too large"), np.errstate(all="ignore"):
        FoldIn(H, {"objective": Objective(alpha_W=0).as_json()}, way).solve(
            np.array([0, 1]), np.array([0]), np.array([3e38], np.float32)
        )


# ---- by id -------------------------------------------------------------------------------------------


@pytest.fixture(params=WAYS)
def scorer(request, make_model, rng):
    return Scorer(make_model(rng, 10, 12, 3, text_ids=True), compiled=request.param)


def test_unknown_items(scorer):
    items = scorer.items.values[[1, 4]].tolist()
    with pytest.raises(UnknownItemError) as caught:
        scorer.fold_in(["nope", *items], [1, 2, 3])
    assert str(caught.value) == "Unknown item(s) ['nope']: not among the 12 items of the model"
    known = scorer.fold_in(items, [2, 3])
    assert scorer.fold_in(["nope", *items], [1, 2, 3], missing="skip").tobytes() == known.tobytes()
    assert scorer.fold_in(["nope"], [1], missing="skip").tolist() == [0, 0, 0]
    with pytest.raises(UsageError, match="missing must be 'error' or 'skip', got 'drop'"):
        scorer.fold_in(items, [1, 2], missing="drop")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0, -1e-30, 1e39])
def test_bad_scores(scorer, bad):
    items = scorer.items.values[:2].tolist()
    with pytest.raises(BadRowsError, match=r"1 score\(s\) are not finite and ≥ 0"):
        scorer.fold_in(items, [1.0, bad])
    cells = sparse.csr_matrix(np.array([[1.0, bad] + [0] * 10]))
    with pytest.raises(BadRowsError, match=r"1 score\(s\) are not finite and ≥ 0"), np.errstate(over="ignore"):
        scorer.fold_in_rows(cells)


def test_input_that_does_not_fit(scorer):
    a, b = scorer.items.values[:2].tolist()
    with pytest.raises(InputError, match=f"'{a}'.* twice"):
        scorer.fold_in([a, b, a], [1, 2, 1])
    with pytest.raises(InputError, match="2 items and 3 scores"):
        scorer.fold_in([a, b], [1, 2, 3])
    with pytest.raises(BadRowsError, match="numbers"):
        scorer.fold_in([a], ["many"])
    with pytest.raises(InputError, match=r"\(1, 5\), not \(n, 12\)"):
        scorer.fold_in_rows(sparse.csr_matrix((1, 5)))
    with pytest.raises(InputError, match="sparse"):
        scorer.fold_in_rows(np.zeros((1, 12)))
    twice = sparse.csr_matrix((1, 12), dtype=np.float32)
    twice.data, twice.indices = np.ones(2, np.float32), np.zeros(2, np.int32)
    twice.indptr = np.array([0, 2], np.int32)
    with pytest.raises(InputError, match="twice"):
        scorer.fold_in_rows(twice)
    for outside in (-1, 12, 2**31 - 1):
        twice.indices = np.array([0, outside], np.int32)
        for call in (scorer.fold_in_rows, lambda cells: scorer.rank(np.ones((1, 3)), seen=cells)):
            with pytest.raises(InputError, match=r"columns outside \[0, 12\)"):
                call(twice)


def test_scores_default_to_one_and_the_callers_arrays_stay(scorer):
    items = scorer.items.values[[3, 0]]
    assert scorer.fold_in(items).tobytes() == scorer.fold_in(items, np.ones(2)).tobytes()
    assert scorer.fold_in(items[0]).shape == (3,)
    assert scorer.fold_in([]).tolist() == [0, 0, 0]
    cells = sparse.csr_matrix(
        (np.array([2.0, 1.0]), np.array([5, 2], np.int64), np.array([0, 2], np.int64)), shape=(1, 12)
    )
    for array in (cells.data, cells.indices, cells.indptr):
        array.flags.writeable = False
    solved = scorer.fold_in_rows(cells)
    assert cells.indices.tolist() == [5, 2]
    ids = scorer.items.values[[2, 5]]
    assert solved[0].tobytes() == scorer.fold_in(ids, [1, 2]).tobytes()
    assert scorer.fold_in_rows(sparse.csr_matrix((0, 12))).shape == (0, 3)


def test_lists_for_factors(scorer):
    model = scorer.model
    everyone = scorer.rank(model.user_factors, 4, seen=model.seen)
    assert everyone.items.tolist() == scorer.recommend_rows(np.arange(10), 4).items.tolist()
    ids = scorer.items.values
    w = model.user_factors[3]
    seen = naive.seen_rows(model, 3) | {0}
    recommended = scorer.recommend_for(
        w, 4, seen=[*ids[sorted(seen)], "nope"], allow=ids[:9].tolist(), deny=[ids[1], "nope"]
    )
    expected = naive.top_k(model, 3, 4, seen | {1, 9, 10, 11})
    assert recommended.items.tolist() == [ids[item] for item, _ in expected]
    assert recommended.scores.tolist() == [float(score) for _, score in expected]
    assert len(scorer.recommend_for(w, 10**9).items) == 12
    with pytest.raises(UsageError, match="k must be at least 1"):
        scorer.recommend_for(w, 0)
    with pytest.raises(InputError, match=r"\(k,\), not \(1, 3\)"):
        scorer.recommend_for(w[None])
    with pytest.raises(InputError, match=r"\(1, 2\), not \(n, 3\)"):
        scorer.recommend_for(w[:2])
    with pytest.raises(InputError, match="finite"):
        scorer.rank([[1, np.nan, 0]])
    with pytest.raises(InputError, match="seen has shape"):
        scorer.rank(w[None], seen=sparse.csr_matrix((2, 12)))


def test_prepared_first(make_model, rng):
    for way in [*BOTH, None]:
        scorer = Scorer(make_model(rng, 10, 12, 3), compiled=way)
        scorer.prepare()
        scorer.prepare()
        assert len(scorer.recommend(100, 3).items) == 3


# ---- what the metadata says --------------------------------------------------------------------------


def test_the_objective_of_a_model():
    assert objective_of({}) == Objective()
    assert objective_of({"parameters": {"alpha_W": 0.2, "l1_ratio": 0.5}}) == Objective(alpha_W=0.2, l1_ratio=0.5)
    objective = Objective(0.1, 3.0, 0.2, 0.3, 0.4, 0.5)
    assert objective_of({"objective": objective.as_json(), "parameters": {"alpha_W": 9}}) == objective
    assert "dislike_weight" not in objective.as_json(), "models of before have none"
    disliking = replace(objective, dislike_weight=4.0)
    assert objective_of({"objective": disliking.as_json()}) == disliking
    assert not Objective(dislike_weight=2.0).plain
    with pytest.raises(ArtifactError):
        objective_of({"parameters": {"alpha_W": "much"}})


@pytest.mark.parametrize("name", ["none", "log1p", "binary"])
def test_the_transform_is_the_matrixs(name):
    scores = np.array([0, 0.5, 3, 5], np.float32)
    x = PreparedInteractions.from_sorted(Interactions.of(np.zeros(4, int), np.arange(4), scores))
    assert (
        transformed(scores, {"parameters": {"transform": name}}).tobytes() == to_matrix(x, name).scores.data.tobytes()
    )
    with pytest.raises(ArtifactError, match="'sqrt'"):
        transformed(scores, {"parameters": {"transform": "sqrt"}})


def test_signed_factors_are_not_folded_in_as_non_negative_ones():
    with pytest.raises(ArtifactError, match="fold_in"):
        FoldIn(np.array([[0.5, -0.1]], np.float32), {})
