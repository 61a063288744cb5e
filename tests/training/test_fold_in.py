"""Folding a day's data in: what changed, what must not move, and that a service would rank the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.contract_data import make_interactions
from support.each_algorithm import EACH
from support.examples import examples
from support.made_up_ratings import ratings

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import UserItems, to_matrix
from pipeline.data.prepare import prepare_interactions
from pipeline.errors import UsageError
from pipeline.models.base import Algorithm
from pipeline.models.factor_model import FactorModel
from pipeline.models.fold_in import transformed
from pipeline.models.fold_in.way import folded_rows
from pipeline.models.registry import find
from pipeline.models.saved_model import SavedModel, load_saved_model
from pipeline.options import TrainOptions
from pipeline.ranking.scorer import Scorer
from pipeline.training.fold_in import changes_since, fold_in, why_not_foldable
from pipeline.training.train import train


def matrix(x: Interactions) -> UserItems:
    return to_matrix(prepare_interactions(x).interactions)


def fitted(x: Interactions, **options: object) -> SavedModel:
    known = {"max_iter": 20, "n_components": 4, "threads": 1, **options}
    taken = {*find(str(options.get("algorithm", "nmf"))).options, "algorithm", "half_life_days"}
    return train(x, TrainOptions(holdout=0, **{name: value for name, value in known.items() if name in taken})).model


def more(x: Interactions, *rows: tuple[object, object, float]) -> Interactions:
    """The interactions, then these of (user, item, score)."""
    users, items, scores = zip(*rows, strict=True)
    return Interactions.of(
        [*x.user_ids.ids(x.users).tolist(), *users],
        [*x.item_ids.ids(x.items).tolist(), *items],
        np.append(x.scores, scores),
        np.append(x.at, np.full(len(rows), np.datetime64("2030-01-01"), "datetime64[ms]")),
    )


@given(st.data(), st.sampled_from(["none", "log1p", "binary"]))
@settings(max_examples=examples(30))
def test_changes_are_those_of_two_dictionaries(data: st.DataObject, transform: str) -> None:
    pairs = st.dictionaries(
        st.tuples(st.integers(0, 4), st.integers(0, 4)), st.sampled_from([0.0, 1.0, 2.5]), min_size=1
    )
    before, now = data.draw(pairs), data.draw(pairs)

    def of(cells: dict[tuple[int, int], float]) -> Interactions:
        return Interactions.of([u for u, _ in cells], [i for _, i in cells], list(cells.values()))

    x = prepare_interactions(of(before)).interactions
    v = to_matrix(x, transform)
    w, h = np.ones((len(v.users), 1), np.float32), np.ones((1, len(v.items)), np.float32)
    model = FactorModel(w, h, v.users, v.items, v.scores, {"parameters": {"transform": transform}})
    changes = changes_since(model, matrix(of(now)))

    def as_fitted(score: float) -> float:
        return float(transformed(np.array([score], np.float32), model.meta)[0])

    both = before.keys() & now.keys()
    changed = {pair for pair in both if as_fitted(before[pair]) != as_fitted(now[pair])}
    assert changes.n_before == len(before)
    assert (changes.n_new, changes.n_gone) == (len(now) - len(both), len(before) - len(both))
    assert changes.n_changed == len(changed)
    moved = {u for u, _ in changed} | {u for u, _ in before.keys() ^ now.keys()}
    users = matrix(of(now)).users.values.tolist()
    assert [user in moved for user in users] == changes.touched.tolist()
    assert changes.share == (len(changed) + len(before.keys() ^ now.keys())) / len(before)


@pytest.mark.parametrize("algorithm", ["nmf", "als", "svd"])
def test_rows_of_users_without_news_stay_and_the_others_are_what_a_service_computes(algorithm: str) -> None:
    x = ratings()
    model = fitted(x, algorithm=algorithm)
    quiet = fold_in(model, matrix(x), changes_since(model, matrix(x)))
    assert (quiet.n_new_users, quiet.n_changed_users, quiet.n_new_items, quiet.n_left_out) == (0, 0, 0, 0)
    np.testing.assert_array_equal(quiet.model.user_factors, model.user_factors)

    user = int(model.users.values[3])
    had = x.item_ids.ids(x.items[x.users == 3])
    unseen = next(item for item in model.items.values if item not in had)
    now = matrix(more(x, (user, unseen, 5), (user, "new", 4), (9999, "new", 5), (9999, "m001", 4)))
    changes = changes_since(model, now)
    folded = fold_in(model, now, changes)
    wide = folded.model
    assert (folded.n_new_users, folded.n_changed_users, folded.n_new_items, folded.n_left_out) == (1, 1, 1, 0)
    assert wide.items.ids(folded_rows(wide.meta, len(wide.items))).tolist() == ["new"]
    rows = wide.users.rows(model.users.values)
    stays = np.delete(np.arange(len(model.users)), 3)
    np.testing.assert_array_equal(wide.user_factors[rows[stays]], model.user_factors[stays])
    np.testing.assert_array_equal(wide.item_factors[:, wide.items.rows(model.items.values)], model.item_factors)
    # As a service ranks for a user with these cells; the rows are the same, bit by bit.
    scorer = Scorer(wide)
    for user in (int(model.users.values[3]), 9999):
        row = wide.users.row(user)
        cells = wide.seen[[row]]
        np.testing.assert_array_equal(
            scorer.folding.solve(cells.indptr, cells.indices, cells.data)[0], wide.user_factors[row]
        )
        asked, answered = scorer.recommend_rows([row], 10), scorer.rank_cells(cells, 10)
        np.testing.assert_array_equal(asked.items, answered.items)
    # All that was there is seen, with its score.
    assert changes_since(wide, now).share == 0


@pytest.mark.parametrize("algorithm", ["als", "item-knn"])  # one folds items in, the other leaves them out
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.sampled_from([1.0, 2.5, 5.0])), max_size=30))
@settings(max_examples=examples(25), deadline=None)
def test_means_keep_how_many_they_are_of(algorithm: str, new: list[tuple[int, int, float]]) -> None:
    rows = [(user, item, float(1 + (user + item) % 5)) for user in range(4) for item in (1, 2, 4, 5, 8)]
    x = more(Interactions.of([9], [4], [1.0], [np.datetime64("2026-01-01", "ms")]), *rows, (2, 4, 3.0), (2, 5, 3.0))
    spec = TrainOptions(algorithm=algorithm, holdout=0, duplicates="mean", min_data=1, threads=1)
    model = train(x, spec).model
    later = prepare_interactions(more(x, *new) if new else x, "mean")
    now = to_matrix(later.interactions)
    folded = fold_in(model, now, changes_since(model, now), later.repeats).model
    repeats = folded.meta["repeats"]
    assert repeats.n_cells == folded.seen.nnz
    for user in folded.users.values.tolist():
        row = folded.users.row(user)
        for place in range(folded.seen.indptr[row], folded.seen.indptr[row + 1]):
            item = folded.items.values[folded.seen.indices[place]]
            scores = [
                score for u, i, score in [(9, 4, 1.0), *rows, (2, 4, 3.0), (2, 5, 3.0), *new] if (u, i) == (user, item)
            ]
            assert repeats.of(place) == ((sum(scores), len(scores)) if len(scores) > 1 else None)


def test_a_user_who_is_gone_is_in_the_model_no_more() -> None:
    x = ratings()
    model = fitted(x)
    gone = int(x.user_ids.values[0])
    left = x.take(x.users != 0).compact()
    folded = fold_in(model, matrix(left), changes_since(model, matrix(left)))
    assert folded.model.users.row(gone) < 0
    assert len(folded.model.users) == len(model.users) - 1
    assert folded.model.seen.nnz == len(left)


@pytest.mark.parametrize("algorithm", EACH)
def test_every_model_is_folded_into_and_saved_or_says_why_not(algorithm: Algorithm, tmp_path: Path) -> None:
    x = make_interactions("int")
    options = {"members": "als,item-knn"} if algorithm.name in ("ensemble", "rerank") else {}
    if algorithm.name == "rerank":
        options = {"members": "als"}
    model = fitted(x, algorithm=algorithm.name, **options)
    now = matrix(more(x, (500, 7, 5), (500, 14, 4), (500, 9000, 3)))
    if why := why_not_foldable(model):
        assert algorithm.name in ("ease", "popular", "recent"), why
        return
    folded = fold_in(model, now, changes_since(model, now))
    assert folded.n_new_users == 1
    assert folded.n_new_items + folded.n_left_out == 1
    folded.model.save(tmp_path)
    loaded = Scorer(load_saved_model(tmp_path))
    items, _ = loaded.recommend(500, 5)
    assert len(items) == 5
    assert not {7, 14} & set(items.tolist())
    known = int(x.user_ids.values[4])
    before = Scorer(model).recommend(known, 5)[0].tolist()
    if algorithm.name not in ("ensemble", "rerank"):  # the rows of their members are all solved anew
        assert [item for item in loaded.recommend(known, 6)[0].tolist() if item != 9000][:5] == before


def test_what_is_not_folded_into_says_why() -> None:
    x = ratings()
    assert "its scores fade" in why_not_foldable(fitted(x, half_life_days=1.0))
    assert "for everybody" in why_not_foldable(fitted(x, algorithm="popular"))
    by_users = fitted(ratings(n_users=12, n_items=40), algorithm="ease")
    assert "its weights follow from its users" in why_not_foldable(by_users)


def test_an_ensemble_that_loses_a_member_is_trained_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    x = make_interactions("int")
    model = fitted(x, algorithm="ensemble", members="als,item-knn")
    now = matrix(more(x, (500, 7, 5)))
    real = __import__("pipeline.ranking.new_users", fromlist=["x"]).with_users

    def one_less(member: SavedModel, history: UserItems, *rest: object, **options: object) -> SavedModel:
        if member.kind == "item_item":
            raise UsageError("ranks for the users that it was trained on alone")
        return real(member, history, *rest, **options)

    monkeypatch.setattr("pipeline.ranking.new_users.with_users", one_less)
    with pytest.raises(UsageError, match="member of the ensemble"):
        fold_in(model, now, changes_since(model, now))
