"""What holds of every model in the registry. A new model gets these tests by its line there.

`test_contract.py` runs them; a model that can't do something says so by its `Algorithm` (`reconstructs`, `needs`, …),
never by an exception here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support.contract_data import IDS, make_interactions

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import UserItems
from pipeline.data.prepare import prepare_interactions
from pipeline.errors import InputError, RanklineError, UnknownItemError, UnknownUserError
from pipeline.models.base import Algorithm, Fitted
from pipeline.ranking.scorer import Scorer

Fit = Callable[[Interactions], "FittedModel"]


class FittedModel:
    """A model of some interactions, and its scorer."""

    def __init__(self, algorithm: Algorithm, x: Interactions, **options: object) -> None:
        from pipeline.data.matrix import to_matrix

        self.algorithm = algorithm
        known = prepare_interactions(x, "last", None, None, 0).interactions
        self.matrix: UserItems = to_matrix(known)
        self.fitted: Fitted = algorithm.fit(self.matrix, algorithm.default_options(**options), interactions=known)
        self.scorer = Scorer(self.fitted.model, algorithm.name)


@cache
def _fitted_once(algorithm: Algorithm, ids: str) -> FittedModel:
    """Shared by the tests, which do not change it."""
    return FittedModel(algorithm, make_interactions(ids))


class Contract:
    """Subclassed by `test_contract.py`, once for each model."""

    @pytest.fixture(params=IDS, ids=str)
    def model(self, algorithm: Algorithm, request: pytest.FixtureRequest) -> FittedModel:
        return _fitted_once(algorithm, request.param)

    def test_it_says_what_it_is(self, algorithm: Algorithm) -> None:
        assert algorithm.name == algorithm.name.lower()
        assert algorithm.display_name
        assert set(algorithm.defaults) == algorithm.options
        algorithm.check_options(algorithm.default_options())

    def test_the_saved_model_is_of_its_kind(self, model: FittedModel) -> None:
        saved = model.fitted.model
        assert saved.kind == model.algorithm.kind
        assert (saved.users, saved.items) == (model.matrix.users, model.matrix.items)
        assert (saved.seen != model.matrix.scores).nnz == 0
        assert bool(model.fitted.losses.size) == model.algorithm.stepped

    def test_lists_are_of_unseen_items_best_first(self, model: FittedModel) -> None:
        scorer, n_items = model.scorer, len(model.matrix.items)
        top = scorer.recommend_rows(np.arange(len(scorer.users)), 5)
        for row, (items, scores) in enumerate(zip(top.items, top.scores, strict=True)):
            seen = model.matrix.scores[row].indices
            listed = items[items >= 0]
            assert not set(listed.tolist()) & set(seen.tolist())
            assert listed.size == min(5, n_items - seen.size)
            assert (np.diff(scores[: listed.size]) <= 0).all()
            pairs = model.fitted.model.predict(np.full(listed.size, row), listed)
            assert pairs.tobytes() == scores[: listed.size].tobytes()

    def test_k_beyond_the_catalogue_gives_what_is_left(self, model: FittedModel) -> None:
        user = model.scorer.users.values[0].item()
        items, _ = model.scorer.recommend(user, 10_000)
        assert len(items) == len(model.matrix.items) - model.matrix.scores[0].nnz

    def test_an_unknown_user_is_named_or_gets_the_most_popular(self, model: FittedModel) -> None:
        kind = model.scorer.users.kind
        stranger = 987_654 if kind == "int" else "nobody"
        with pytest.raises(UnknownUserError, match=str(stranger)):
            model.scorer.recommend(stranger)
        ranking = model.scorer.recommend(stranger, 3, unknown="popular")
        counts = np.bincount(model.matrix.scores.indices, minlength=len(model.matrix.items))
        assert ranking.items.tolist() == model.scorer.items.ids(np.argsort(-counts, kind="stable")[:3]).tolist()

    def test_allow_and_deny(self, model: FittedModel) -> None:
        user = model.scorer.users.values[1].item()
        whole = model.scorer.recommend(user, 10_000).items.tolist()
        some = whole[1:4]
        assert model.scorer.recommend(user, 5, allow=some).items.tolist() == some
        assert model.scorer.recommend(user, 10_000, deny=some).items.tolist() == [i for i in whole if i not in some]

    def test_saved_and_loaded_it_is_the_same(self, model: FittedModel, tmp_path: Path) -> None:
        model.fitted.model.save(tmp_path)
        for mapped in (False, True):
            again = Scorer.load(tmp_path, mapped=mapped)
            assert (again.model.kind, again.source) == (model.algorithm.kind, model.algorithm.name)
            rows = np.arange(len(again.users))
            before, theirs = model.scorer.recommend_rows(rows, 7), again.recommend_rows(rows, 7)
            assert before.items.tobytes() == theirs.items.tobytes()
            assert before.scores.tobytes() == theirs.scores.tobytes()

    def test_the_same_seed_gives_the_same_scores(self, algorithm: Algorithm) -> None:
        x = make_interactions("int")
        entry, two = (FittedModel(algorithm, x, random_state=7) for _ in range(2))
        rows, cols = (side.ravel() for side in np.indices(entry.matrix.scores.shape))
        first, second = (model.fitted.model.predict(rows, cols) for model in (entry, two))
        assert first.tobytes() == second.tobytes()

    def test_rows_in_another_order_give_the_same_lists(self, algorithm: Algorithm) -> None:
        x = make_interactions("int")
        shuffled = x.take(np.random.default_rng(0).permutation(len(x)))
        first, two = FittedModel(algorithm, x), FittedModel(algorithm, shuffled)
        rows = np.arange(len(first.scorer.users))
        assert (
            first.scorer.recommend_rows(rows, 5).items.tobytes() == two.scorer.recommend_rows(rows, 5).items.tobytes()
        )

    def test_a_transposed_matrix_is_noticed(self, algorithm: Algorithm) -> None:
        matrix = FittedModel(algorithm, make_interactions("int")).matrix
        with pytest.raises(InputError):
            UserItems(matrix.scores.T.tocsr(), matrix.users, matrix.items)

    def test_a_history_is_folded_in(self, model: FittedModel) -> None:
        scorer = model.scorer
        rows = np.arange(4)
        history = UserItems(model.matrix.scores[rows], type(scorer.users)(scorer.users.values[rows]), scorer.items)
        folded = scorer.for_users(history)
        stored_rows, theirs = scorer.recommend_rows(rows, 5), folded.recommend_rows(rows, 5)
        assert stored_rows.items.tobytes() == theirs.items.tobytes()

    def test_an_empty_history_is_harmless(self, model: FittedModel) -> None:
        scorer = model.scorer
        nothing = model.matrix.scores[:1].copy()
        nothing.data, nothing.indices = nothing.data[:0], nothing.indices[:0]
        nothing.indptr = np.zeros_like(nothing.indptr)
        history = UserItems(nothing, type(scorer.users)(scorer.users.values[:1]), scorer.items)
        top = scorer.for_users(history).recommend_rows([0], 5)
        assert np.isfinite(top.scores).all()
        assert len(set(top.items[0].tolist())) == 5

    def test_scores_of_items(self, model: FittedModel) -> None:
        user, items = model.scorer.users.values[0].item(), model.scorer.items.values[:3]
        assert np.isfinite(model.scorer.predict(user, items)).all()
        stranger = 987_654 if model.scorer.items.kind == "int" else "nothing"
        with pytest.raises(UnknownItemError):
            model.scorer.predict(user, [stranger])

    def test_a_matrix_of_one_row_or_one_column_is_fitted_or_refused_in_words(self, algorithm: Algorithm) -> None:
        for users, items in (([1] * 5, range(5)), (range(5), [1] * 5)):
            at = np.arange(5).astype("datetime64[ms]")
            try:
                model = FittedModel(algorithm, Interactions.of(list(users), list(items), np.ones(5), at))
            except RanklineError:
                continue
            assert np.isfinite(model.fitted.model.predict([0], [0])).all()

    def test_what_it_takes_in_memory_grows_with_the_data(self, algorithm: Algorithm) -> None:
        from pipeline.models.footprint import Size

        options = algorithm.default_options()
        small, large = Size(1000, 1000, 100, 50), Size(10**6, 10**6, 10**5, 5000)
        plans = [algorithm.plan(options, (size.n_users, size.n_items), 2) for size in (small, large)]
        few, many = (algorithm.footprint(*pair) for pair in zip((small, large), plans, strict=True))
        for phase in ("evaluate", "fit", "measure", "log"):
            assert 0 < sum(getattr(few, phase).values()) < sum(getattr(many, phase).values())
        assert 0 <= few.fit_seconds < many.fit_seconds
