"""Every kind of saved model ranks through one `Scorer`, and each score is explained exactly."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support.neural_models import neural_model

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.errors import InputError, UnknownItemError, UnknownUserError, UsageError
from pipeline.models.ease import fit_ease
from pipeline.models.ensemble_model import EnsembleModel
from pipeline.models.item_knn import fit_item_knn
from pipeline.models.popularity import popular_model
from pipeline.models.rerank.features import NAMES, OF_ITEM, ItemFacts
from pipeline.models.rerank.trees import Trees
from pipeline.models.rerank_model import RerankModel
from pipeline.models.saved_model import model_name
from pipeline.ranking.explain import contributions, explain, item_contributions
from pipeline.ranking.popularity import PopularityFinder
from pipeline.ranking.scorer import Scorer
from pipeline.ranking.topk_numpy import LeftOut, ListRequest

# dense and dual are of kind item_item, in its other forms.
KINDS = ("factors", "item_item", "popularity", "dense", "dual", "ensemble", "rerank", "neural")


def matrix_of(rng, n_users=14, n_items=23, density=0.3):
    scores = sparse.random(n_users, n_items, density, "csr", np.float32, random_state=rng)
    scores.data = rng.integers(0, 11, scores.nnz).astype(np.float32) / 2
    return UserItems(scores, IdMap(100 + np.arange(n_users)), IdMap([f"i{i:02d}" for i in range(n_items)]))


def ensemble_of(x):
    members = (fit_ease(x, 2.0), fit_item_knn(x, 6), popular_model(x))
    return EnsembleModel(members, (0.5, 0.25, 0.25), x.users, x.items, x.scores)


# One tree, which splits by the standard score of the first model.
TREE = (
    "tree\nnum_tree_per_iteration=1\n\nTree=0\nnum_leaves=2\nnum_cat=0\nsplit_feature=1\nthreshold=0.1\n"
    "decision_type=2\nleft_child=-1\nright_child=-2\nleaf_value=0.5 -0.25\n\nend of trees\n"
)


def rerank_of(x):
    facts = ItemFacts(np.zeros((len(x.items), len(OF_ITEM)), np.float32), sparse.csr_matrix((len(x.items), 0)))
    return RerankModel(fit_ease(x, 2.0), Trees(TREE, len(NAMES)), facts, x.users, x.items, x.scores)


def model_of(kind, make_model, rng):
    if kind == "factors":
        return make_model(rng, 14, 23, 3)
    fit = {
        "item_item": lambda x: fit_item_knn(x, 6, 1.0, "score"),
        "popularity": popular_model,
        "dense": lambda x: fit_ease(x, 2.0),
        "dual": lambda x: fit_ease(x, 2.0),
        "ensemble": ensemble_of,
        "rerank": rerank_of,
        "neural": lambda x: neural_model(rng, x, candidates=50),
    }
    # The other form is taken for fewer items than users.
    return fit[kind](matrix_of(rng, *((23, 14) if kind == "dense" else (14, 23))))


@pytest.fixture(params=KINDS)
def model(request, make_model, rng):
    return model_of(request.param, make_model, rng)


def best(model, row, k, hidden=()):
    n = len(model.items)
    scores = model.predict(np.full(n, row), np.arange(n))
    left = [i for i in range(n) if i not in hidden]
    return [(i, scores[i]) for i in sorted(left, key=lambda i: (-scores[i], i))[:k]]


def listed(model, ranking):
    rows = model.items.rows(ranking.items).tolist()
    return list(zip(rows, ranking.scores.tolist(), strict=True))


@pytest.mark.parametrize("mapped", [False, True])
def test_lists_of_each_kind_from_the_folder(model, tmp_path, mapped):
    scorer = Scorer.load(model.save(tmp_path), mapped=mapped)
    scorer.prepare()
    assert scorer.source == model_name(model)
    items = model.items.values.tolist()
    for row, user in enumerate(model.users.values.tolist()):
        seen = set(model.seen.indices[model.seen.indptr[row] : model.seen.indptr[row + 1]].tolist())
        ranking = scorer.recommend(user, 7)
        assert listed(model, ranking) == best(model, row, 7, seen)
        assert (ranking.source, ranking.fallback) == (model_name(model), False)
        assert listed(model, scorer.recommend(user, 50, exclude_seen=False)) == best(model, row, 50)
        some = scorer.recommend(user, 5, allow=items[::2], deny=items[:4])
        hidden = seen | {i for i in range(len(items)) if i % 2 or i < 4}
        assert listed(model, some) == best(model, row, 5, hidden)
        assert (
            scorer.predict(user, items).tolist() == model.predict(np.full(len(items), row), range(len(items))).tolist()
        )


def test_an_unknown_user_of_each_kind(model):
    scorer = Scorer(model)
    with pytest.raises(UnknownUserError):
        scorer.recommend(999)
    ranking = scorer.recommend(999, 4, unknown="popular")
    assert (ranking.source, ranking.fallback) == ("popular", True)
    count = np.bincount(model.seen.indices, minlength=len(model.items))
    assert ranking.scores.tolist() == sorted(count.tolist(), reverse=True)[:4]


def test_what_is_seen_by_now_of_each_kind(model):
    n = len(model.users)
    also = sparse.csr_matrix(np.eye(n, len(model.items), dtype=np.float32))
    top = Scorer(model).recommend_rows(np.arange(n)[::-1], 4, also_seen=also)
    for place, row in enumerate(range(n)[::-1]):
        seen = set(model.seen[row].indices.tolist()) | set(also[place].indices.tolist())
        expected = best(model, row, 4, seen)
        assert list(zip(top.items[place].tolist(), top.scores[place].tolist(), strict=True)) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_user_with_a_users_own_history_gets_their_list(kind, make_model, rng):
    scorer = Scorer(model_of(kind, make_model, rng))
    model = scorer.model
    history = UserItems(model.seen[2:4], IdMap([1, 2]), model.items)
    other = scorer.for_users(history)
    assert (other.source, len(other.users)) == (scorer.source, 2)
    items = model.items.ids(model.seen[2].indices)
    ranking = scorer.recommend_from(items, model.seen[2].data, 5)
    assert not set(ranking.items.tolist()) & set(items.tolist())
    assert listed(model, ranking) == listed(model, other.recommend(1, 5))
    if kind != "factors":  # random factors are no fit of their cells
        assert listed(model, ranking) == best(model, 2, 5, set(model.seen[2].indices.tolist()))
    with pytest.raises(UnknownItemError):
        scorer.recommend_from(["nothing"] if model.items.kind == "str" else [1])
    with pytest.raises(InputError, match="there twice"):
        scorer.recommend_from([items[0], items[0]])
    nobody = scorer.recommend_from(items[:0], k=3)
    assert len(nobody.items) == 3


@pytest.mark.parametrize("kind", ["item_item", "popularity", "neural"])
def test_no_factors_where_there_are_none(kind, make_model, rng):
    scorer = Scorer(model_of(kind, make_model, rng))
    for call in (
        lambda: scorer.fold_in(["i00"]),
        lambda: scorer.fold_in_rows(scorer.model.seen),
        lambda: scorer.recommend_for([1.0]),
        lambda: scorer.rank([[1.0]]),
    ):
        with pytest.raises(UsageError, match=f"kind '{kind}' has no factors: recommend_from and for_users"):
            call()


@given(
    seed=st.integers(0, 2**32), n=st.integers(0, 5), n_items=st.integers(0, 30), k=st.integers(1, 8), ties=st.booleans()
)
def test_an_order_without_what_each_user_may_not_have(seed, n, n_items, k, ties):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, n_items) if ties else rng.random(n_items)
    left_out, masks = [], np.zeros((n, n_items), bool)
    for _ in range(2):
        mask = rng.random((n, n_items)) < rng.choice([0.1, 0.5, 0.95])
        csr = sparse.csr_matrix(mask)
        left_out.append(LeftOut(csr.indptr, csr.indices, np.arange(n)))
        masks |= mask
    hidden = rng.random(n_items) < 0.3
    top = PopularityFinder(scores).find(ListRequest(np.arange(n), k, left_out, hidden))
    for u in range(n):
        left = [i for i in range(n_items) if not (masks[u, i] or hidden[i])]
        expected = sorted(left, key=lambda i: (-scores[i], i))[:k]
        assert top.items[u].tolist() == expected + [-1] * (k - len(expected))
        assert top.scores[u].tolist() == [np.float32(scores[i]) for i in expected] + [0] * (k - len(expected))


def test_parts_sum_exactly_to_the_score(model):
    n = len(model.items)
    for row in range(len(model.users)):
        for col in range(n):
            why = explain(model, row, col, 100)
            assert np.float32(why.score) == model.predict([row], [col])[0]
            assert why.n_interactions == np.count_nonzero(model.seen.indices == col)
            if model.kind == "neural":  # its parts are no sum: tests/models/test_neumf.py
                continue
            if model.kind == "popularity":
                assert why.score == why.n_interactions
                assert (why.factors, why.past_items) == ((), ())
                continue
            if model.kind == "rerank":  # trees split no score
                assert dict(why.goes_by).keys() == (set(NAMES) if why.score else set())
                continue
            if model.kind == "factors":
                parts = contributions(model, row, col)
            elif model.kind == "ensemble":
                parts = np.array([part.contribution for part in model.parts(row, col)])
            else:
                parts, level = item_contributions(model, row, col)
                assert level == 0
            total = 0.0
            for part in parts.tolist():
                total += part
            assert np.float32(total) == np.float32(why.score)
            shown = [part.contribution for part in (*why.factors, *why.past_items, *why.members)]
            assert sorted(shown) == sorted(part for part in parts.tolist() if part or model.kind != "item_item")
            assert shown == sorted(shown, key=abs, reverse=True)


def test_past_items_are_the_users_own_with_their_scores(make_model, rng):
    model = model_of("item_item", make_model, rng)
    for row in range(len(model.users)):
        own = dict(zip(model.seen[row].indices.tolist(), model.seen[row].data.tolist(), strict=True))
        for part in explain(model, row, 3, 100).past_items:
            assert part.score == own[part.row]
            assert part.contribution == part.score * float(model.similarity[part.row, 3])


def test_the_pyfunc_serves_each_kind(model, tmp_path):
    recommender = importlib.import_module("pipeline.tracking.pyfunc").Recommender()
    context = SimpleNamespace(artifacts={"model": str(model.save(tmp_path))})
    recommender.load_context(context)
    users = model.users.values[:3]
    frame = recommender.predict(context, pd.DataFrame({"user_id": users}), {"k": 4})
    assert set(frame["source"]) == {model_name(model)}
    scorer = Scorer(model)
    expected = [item for user in users.tolist() for item in scorer.recommend(user, 4).items.tolist()]
    assert frame["item_id"].tolist() == expected
