"""At most n items of one genre: what the slow twin leaves, at every way to a list and with every finder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support import naive
from support.item_genres import genre_texts, with_genres
from support.naive_lists import limited
from support.small_models import ranked, small_model

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.errors import InputError, UsageError
from pipeline.models.item_snapshot import ItemSnapshot, ItemTexts
from pipeline.models.popularity_model import PopularityModel
from pipeline.ranking import diversity
from pipeline.ranking.genres import GenreSource
from pipeline.ranking.scorer import Scorer

N_USERS, N_ITEMS = 6, 40
NAMES = ("Drama", "drama", "Horror", "Sci-Fi", "Musical")


def lower(genres: dict[int, list[str]]) -> dict[int, set[str]]:
    return {row: {name.lower() for name in names} for row, names in genres.items()}


@given(
    seed=st.integers(0, 10**6),
    genres=st.lists(st.lists(st.sampled_from(NAMES), max_size=3), min_size=N_ITEMS, max_size=N_ITEMS),
    most=st.integers(1, 4),
    k=st.integers(1, 45),
    compiled=st.booleans(),
)
def test_lists_are_those_of_the_slow_twin(seed, genres, most, k, compiled):
    rng = np.random.default_rng(seed)
    w, h = rng.integers(0, 4, (N_USERS, 2)), rng.integers(-2, 4, (2, N_ITEMS))  # many ties
    seen = np.argwhere(rng.random((N_USERS, N_ITEMS)) < rng.choice([0.0, 0.3, 0.9]))
    model = small_model(w, h, seen)
    of_item = dict(enumerate(genres))
    of_item[0] = ["Western"]  # a snapshot without any genre has none to count
    scorer = with_genres(Scorer(model, compiled=compiled), of_item)
    hidden = np.flatnonzero(rng.random(N_ITEMS) < 0.2)
    top = scorer.limited(most).recommend_rows(np.arange(N_USERS), k, deny=hidden.astype(np.int32))
    for row in range(N_USERS):
        left_out = naive.seen_rows(model, row) | set(hidden.tolist())
        everything = [(item, float(score)) for item, score in naive.top_k(model, row, N_ITEMS, left_out)]
        assert ranked(top, row) == limited(everything, k, most, lower(of_item))


@given(
    seed=st.integers(0, 10**6),
    genres=st.lists(st.lists(st.sampled_from(NAMES), max_size=2), min_size=N_ITEMS, max_size=N_ITEMS),
    series=st.lists(st.sampled_from(["", "Saw", "saw", "Alien", "Drama"]), min_size=N_ITEMS, max_size=N_ITEMS),
    of_genre=st.one_of(st.none(), st.integers(1, 4)),
    of_series=st.integers(1, 3),
)
def test_series_have_a_limit_of_their_own(seed, genres, series, of_genre, of_series):
    rng = np.random.default_rng(seed)
    model = small_model(rng.integers(0, 4, (2, 2)), rng.integers(-2, 4, (2, N_ITEMS)))
    genres[0], series[0] = ["Western"], "Rocky"
    ids = [str(item) for item in model.items.values.tolist()]
    texts = ItemTexts(genres=dict(zip(ids, genres, strict=True)), series=dict(zip(ids, series, strict=True)))
    scorer = Scorer(model)
    scorer.genre_source = GenreSource(lambda: ItemSnapshot.of(model.items, model.seen, texts))
    top = scorer.limited(of_genre, of_series).recommend_rows(np.arange(2), 12)
    for row in range(2):
        taken = []
        for item, score in naive.top_k(model, row, N_ITEMS, naive.seen_rows(model, row)):
            held = [other for other, _ in taken]
            mine = {name.lower() for name in genres[item]}
            alike = [sum(name in {g.lower() for g in genres[other]} for other in held) for name in mine]
            same = sum(series[other].lower() == series[item].lower() for other in held)
            fits = (of_genre is None or all(n < of_genre for n in alike)) and (not series[item] or same < of_series)
            if fits and len(taken) < 12:
                taken.append((item, float(score)))
        assert ranked(top, row) == taken


@pytest.mark.parametrize("compiled", [True, False])
def test_lists_are_filled_from_far_below_and_block_by_block(monkeypatch, compiled):
    """The first 600 items are of one genre."""
    n = 700
    rng = np.random.default_rng(3)
    model = small_model(rng.random((9, 1)) + 1, np.arange(n, 0, -1)[None])
    genres = {row: ["A"] if row < 600 else ["B"] if row < 650 else [] for row in range(n)}
    scorer = with_genres(Scorer(model, compiled=compiled), genres)
    monkeypatch.setattr(diversity, "_CELLS", 4 * n)
    expected = [0, 1, 600, 601, 650, 651, 652]
    assert scorer.limited(2).recommend_rows(np.arange(9), 7).items.tolist() == [expected] * 9


def test_a_list_that_cannot_be_full_is_asked_for_twice(monkeypatch):
    """Two items fill both genres: nothing is left to look at, and no longer list is asked for."""
    model = small_model(np.ones((3, 1)), np.arange(400, 0, -1)[None])
    scorer = with_genres(Scorer(model), {row: ["A" if row % 2 else "B"] for row in range(400)})
    asked = []
    find = scorer._finder.find
    monkeypatch.setattr(scorer._finder, "find", lambda request: asked.append(request.k) or find(request))
    assert scorer.limited(1).recommend_rows(range(3), 5).items.tolist() == [[0, 1, -1, -1, -1]] * 3
    assert asked == [20, 20]


def test_every_way_to_a_list_has_the_limit(tmp_path):
    model = small_model(np.ones((2, 1)), np.array([[6, 5, 4, 3, 2, 1]]), [(1, 0)], items=[1, 2, 3, 4, 5, 6])
    genres = {0: ["A"], 1: ["a", "B"], 2: ["B"], 3: ["A", "B"], 4: [], 5: ["C"]}
    model.save(tmp_path / "model", genre_texts(Scorer(model), genres))
    free = Scorer.load(tmp_path / "model")
    scorer = free.limited(1)
    best = [1, 3, 5, 6]
    assert scorer.recommend(0, 9).items.tolist() == best
    assert scorer.recommend(0, 9, deny=[1]).items.tolist() == [2, 5, 6]
    assert scorer.recommend("999", 9, unknown="popular").items.tolist() == best
    assert scorer.recommend_from([1], k=9).items.tolist() == [2, 5, 6]
    assert scorer.recommend_for([1.0], 9).items.tolist() == best
    assert scorer.rank(np.ones((1, 1)), 4).items.tolist() == [[0, 2, 4, 5]]
    history = UserItems(sparse.csr_matrix([[1.0, 0, 0, 0, 0, 0]], dtype=np.float32), IdMap([9]), model.items)
    assert scorer.for_users(history).recommend(9, 9).items.tolist() == [2, 5, 6]
    assert free.recommend(0, 9).items.tolist() == [1, 2, 3, 4, 5, 6], "the scorer that it came from is as it was"
    assert scorer.limited(None).recommend(0, 9).items.tolist() == [1, 2, 3, 4, 5, 6]
    popular = PopularityModel(np.arange(6, 0, -1, dtype=np.float32), model.users, model.items, model.seen)
    assert with_genres(Scorer(popular), genres).limited(1).recommend(0).items.tolist() == best


def test_items_of_genres():
    model = small_model(np.ones((1, 1)), np.ones((1, 4)), items=["a", "b", "c", "d"])
    genres = {0: ["Drama"], 1: ["horror", "DRAMA"], 3: ["Horror"]}
    scorer = with_genres(Scorer(model), genres)
    assert scorer.items_of(["HORROR"]).tolist() == [1, 3]
    assert scorer.items_of(["drama", "horror"]).tolist() == [0, 1, 3]
    with pytest.raises(InputError, match=r"No item of the model has the genre 'Western'; its genres are drama, horror"):
        scorer.items_of(["drama", "Western"])


def test_a_model_without_genres_and_a_limit_of_none(tmp_path):
    model = small_model(np.ones((1, 1)), np.ones((1, 3)))
    model.save(tmp_path / "model")
    for scorer in (Scorer(model), Scorer.load(tmp_path / "model")):
        with pytest.raises(InputError, match=r"items of this model have no genres: .* raw\.movies"):
            scorer.limited(2)
    scorer = with_genres(Scorer(model), {0: ["A"]})
    with pytest.raises(UsageError, match="max_per_genre must be at least 1, got 0"):
        scorer.limited(0)
    with pytest.raises(UsageError, match="max_per_series must be at least 1, got 0"):
        scorer.limited(None, 0)
    with pytest.raises(InputError, match=r"no series: .* column series"):
        scorer.limited(2, 2)
