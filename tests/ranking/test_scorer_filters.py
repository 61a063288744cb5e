"""What a list leaves out, lists by id, and the popular list of an unknown user."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support import naive
from support.small_models import KINDS, expected, filters, ranked, small_model

from pipeline.errors import InputError, UnknownItemError, UnknownUserError, UsageError
from pipeline.ranking.scorer import Scorer

pytest_plugins = ["support.both_ways"]
pytestmark = pytest.mark.usefixtures("way")


# ---- what is left out -----------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(KINDS),
    k=st.sampled_from([1, 3, 10]),
    exclude_seen=st.booleans(),
    also=st.none() | st.lists(filters, min_size=3, max_size=3),
    allow=st.none() | filters,
    deny=st.none() | filters,
)
def test_every_combination_of_filters(make_model, seed, kind, k, exclude_seen, also, allow, deny):
    model = make_model(np.random.default_rng(seed), 5, 25, 3, kind=kind)
    rows = [4, 0, 2]
    matrix = None
    if also is not None:
        cells = np.array([(row, item) for row, mine in enumerate(also) for item in mine], int).reshape(-1, 2)
        # Stored zeros, and in no order: a stored cell is seen.
        matrix = sparse.csr_matrix((np.zeros(len(cells)), (cells[:, 0], cells[:, 1])), shape=(3, 25))
    top = Scorer(model).recommend_rows(
        rows,
        k,
        exclude_seen=exclude_seen,
        also_seen=matrix,
        allow=None if allow is None else np.array(sorted(allow), np.int32),
        deny=None if deny is None else np.array(sorted(deny), np.int32),
    )
    for place, row in enumerate(rows):
        hidden = set(deny or ())
        if exclude_seen:
            hidden |= naive.seen_rows(model, row)
        if also is not None:
            hidden |= set(also[place])
        if allow is not None:
            hidden |= set(range(25)) - set(allow)
        assert ranked(top, place) == expected(model, row, k, hidden)


@pytest.mark.parametrize("shape", [(1, 40), (2, 40), (4, 40), (3, 39), (3, 41)])
def test_also_seen_of_another_shape(make_model, rng, shape):
    with pytest.raises(InputError):
        Scorer(make_model(rng)).recommend_rows([0, 1, 2], also_seen=sparse.csr_matrix(shape))


def test_the_model_is_not_changed_by_ranking(make_model, rng):
    model = make_model(rng)
    parts = (model.user_factors, model.item_factors, model.seen.data, model.seen.indices, model.seen.indptr)
    before = [part.tobytes() for part in parts]
    also = sparse.csr_matrix(np.ones((30, 40)))
    Scorer(model).recommend_rows(np.arange(30), also_seen=also, allow=np.array([1], np.int32))
    assert [part.tobytes() for part in parts] == before
    assert also.nnz == 1200


def test_allow_and_deny_by_id():
    scorer = Scorer(small_model([[1]], [[5, 4, 3, 2, 1]], seen=[(0, 0)], items=["a", "b", "c", "d", "e"]))

    def items(**filters):
        return scorer.recommend(0, **filters).items.tolist()

    assert items() == ["b", "c", "d", "e"]
    assert items(allow=["e", "c", "a"]) == ["c", "e"]
    assert items(allow=["e", "c", "a", "e"], exclude_seen=False) == ["a", "c", "e"]
    assert items(deny=["b", "e"]) == ["c", "d"]
    assert items(allow=["b", "c"], deny=["b"]) == ["c"]
    # Ids that the model does not know are passed over.
    assert items(allow=["c", "nowhere"]) == ["c"]
    assert items(deny=["c", "nowhere"]) == ["b", "d", "e"]
    assert items(allow=["nowhere"]) == items(allow=[]) == []
    assert items(deny=[]) == ["b", "c", "d", "e"]
    assert items(allow=[1, 2]) == []


def test_a_deny_list_of_both_kinds_still_denies_or_is_refused():
    scorer = Scorer(small_model([[1]], [[5, 4, 3]]))
    try:
        items = scorer.recommend(0, deny=[0, "x"]).items.tolist()
    except InputError:
        return
    assert items == [1, 2]


# ---- by id ------------------------------------------------------------------------------------------


def test_the_result_is_a_pair_with_a_source(checkerboard):
    result = Scorer(checkerboard.model).recommend(40, 2)
    items, scores = result
    assert len(result) == 2
    assert result.items is items
    assert result.scores is scores
    assert result.source == "nmf"
    assert Scorer(checkerboard.model, source="als").recommend(40, 2).source == "als"
    assert scores.dtype == np.float32


def test_default_is_ten(make_model, rng):
    scorer = Scorer(make_model(rng, 2, 40, density=0.0))
    assert len(scorer.recommend(100).items) == 10
    assert scorer.recommend_rows([0]).items.shape == (1, 10)


@pytest.mark.parametrize("user", [5, -1, 11, "11", 2**62, np.int64(7)])
def test_unknown_user(checkerboard, user):
    scorer = Scorer(checkerboard.model)
    for call in (lambda: scorer.recommend(user), lambda: scorer.predict(user, ["item-001"])):
        with pytest.raises(UnknownUserError, match=r"among the 20 users of the model") as caught:
            call()
        shown = user.item() if isinstance(user, np.generic) else user
        assert str(caught.value).startswith(f"Unknown user {shown!r}: ")
        assert isinstance(caught.value, KeyError)
        assert caught.value.exit_status == 3


@pytest.mark.parametrize("user", [2**63, 2**70, -(2**63) - 1])
def test_unknown_user_past_64_bits(checkerboard, user):
    with pytest.raises(UnknownUserError):
        Scorer(checkerboard.model).recommend(user)


def test_ids_of_the_other_kind(checkerboard):
    """ "10" is the user 10; a name beside integers is refused, and gets no list of what is popular."""
    scorer = Scorer(checkerboard.model)
    known = scorer.recommend(10)
    assert scorer.recommend("10", unknown="popular").items.tolist() == known.items.tolist()
    assert scorer.predict("10", ["item-001"]) == scorer.predict(10, ["item-001"])
    for unknown in ("error", "popular"):
        with pytest.raises(InputError, match="'x' is text, and these ids are integers, such as 0"):
            scorer.recommend("x", unknown=unknown)


def test_items_of_the_other_kind():
    scorer = Scorer(small_model(np.ones((2, 1)), np.array([[5, 4, 3, 2, 1]]), items=[1, 2, 3, 4, 5]))
    assert scorer.recommend(0, deny=["1", "3"]).items.tolist() == [2, 4, 5]
    assert scorer.recommend(0, allow={"1", "3", "9"}).items.tolist() == [1, 3]
    assert scorer.recommend_for([1.0], seen=np.array(["1", "2"], object), deny=pd.Series(["5"])).items.tolist() == [
        3,
        4,
    ]
    assert scorer.predict(0, ["5", "1"]).tolist() == [1, 5]
    assert scorer.predict(0, "5").tolist() == [1]
    assert scorer.recommend(0, deny="12").items.tolist() == [1, 2, 3, 4, 5], "one id, not two of its characters"
    for call in (
        lambda: scorer.recommend(0, deny=["one"]),
        lambda: scorer.recommend(0, allow=["01"]),
        lambda: scorer.recommend_for([1.0], seen=["one"]),
        lambda: scorer.predict(0, ["one"]),
        lambda: scorer.fold_in(["one"]),
        lambda: scorer.recommend_from(["one"]),
    ):
        with pytest.raises(InputError, match="is text, and these ids are integers, such as 1"):
            call()
    named = Scorer(small_model(np.ones((2, 1)), np.array([[3, 2, 1]]), items=["7", "8", "a"]))
    assert named.recommend(0, deny=[7]).items.tolist() == ["8", "a"]
    assert named.recommend(0, deny=pd.Series(["a", "8"])).items.tolist() == ["7"]


@pytest.mark.parametrize("user", [1.0, None, b"10", [10]])
def test_user_of_no_kind(checkerboard, user):
    with pytest.raises(InputError):
        Scorer(checkerboard.model).recommend(user)


def test_unknown_is_error_or_popular(checkerboard):
    with pytest.raises(UsageError, match="unknown must be 'error' or 'popular', got 'skip'"):
        Scorer(checkerboard.model).recommend(10, unknown="skip")


def test_users_of_any_text(rng):
    users = ["", "10", "9", "e\u0301", "é", "\U0001f3ac"]
    model = small_model(rng.random((6, 2)), rng.random((2, 8)), users=users)
    scorer = Scorer(model)
    for row, user in enumerate(users):
        recommended = scorer.recommend(user, 8)
        assert list(zip(recommended.items.tolist(), recommended.scores.tolist(), strict=True)) == expected(
            model, row, 8
        )
    with pytest.raises(UnknownUserError):
        scorer.recommend("\U0001f3ac\U0001f3ac")


def test_predict_by_id(checkerboard):
    scorer = Scorer(checkerboard.model)
    assert scorer.predict(20, ["item-002", "item-003", "item-002"]).tolist() == [1.0, 0.0, 1.0]
    assert scorer.predict(20, "item-004").tolist() == [1.0]
    assert scorer.predict(20, []).tolist() == []
    with pytest.raises(UnknownItemError) as caught:
        scorer.predict(20, ["item-002", "zzz", "item-999"])
    assert str(caught.value) == "Unknown item(s) ['zzz', 'item-999']: not among the 20 items of the model"
    with pytest.raises(UnknownItemError):
        scorer.predict(20, [2])


# ---- popular --------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**32),
    k=st.sampled_from([1, 3, 50]),
    mine=st.none() | st.lists(filters, min_size=2, max_size=2),
    allow=st.none() | filters,
    deny=st.none() | filters,
)
def test_popular_rows(make_model, seed, k, mine, allow, deny):
    model = make_model(np.random.default_rng(seed), 12, 25, density=0.3)
    seen = None
    if mine is not None:
        cells = np.array([(row, item) for row, items in enumerate(mine) for item in items], int).reshape(-1, 2)
        seen = sparse.csr_matrix((np.zeros(len(cells)), (cells[:, 0], cells[:, 1])), shape=(2, 25))
    top = Scorer(model).popular_rows(
        2,
        k,
        seen=seen,
        allow=None if allow is None else np.array(sorted(allow), np.int32),
        deny=None if deny is None else np.array(sorted(deny), np.int32),
    )
    for row in range(2):
        hidden = set(deny or ()) | set(mine[row] if mine else ())
        if allow is not None:
            hidden |= set(range(25)) - set(allow)
        assert ranked(top, row) == naive.popular(model, k, hidden)


def test_unknown_user_gets_what_is_popular():
    seen = [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (0, 0), (2, 4)]
    scorer = Scorer(small_model(np.ones((3, 1)), np.ones((1, 5)), seen, items=list("abcde")))
    recommended = scorer.recommend(98, 4, unknown="popular")
    assert recommended.items.tolist() == ["b", "c", "a", "e"]
    assert recommended.scores.tolist() == [3, 2, 1, 1]
    assert recommended.source == "popular"
    assert scorer.recommend(99, unknown="popular", deny=["b"], allow=["b", "c", "d"]).items.tolist() == ["c", "d"]
    # A known user is not given them.
    known = scorer.recommend(0, 4, unknown="popular")
    assert known.source == "nmf"
    assert known.items.tolist() == ["d", "e"]


@pytest.mark.parametrize("k", [0, -1])
def test_k_is_at_least_one_for_unknown_users_too(checkerboard, k):
    with pytest.raises(UsageError, match="k must be at least 1"):
        Scorer(checkerboard.model).recommend(5, k, unknown="popular")
