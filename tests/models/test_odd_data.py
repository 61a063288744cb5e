"""Every model on files that are odd in one way each: lists, parts and estimates are right, or one line says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.odd_files import ODD, REFUSED, write_odd

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import UserItems
from pipeline.data.sources.files import read_file
from pipeline.errors import InputError, RanklineError
from pipeline.models.base import Algorithm
from pipeline.models.registry import algorithms
from pipeline.options import TrainOptions
from pipeline.ranking.explain import explain
from pipeline.ranking.scorer import Scorer
from pipeline.training.train import Trained, train

K = 3


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Interactions]:
    folder = tmp_path_factory.mktemp("odd")
    return {name: read_file(write_odd(name, folder)).interactions for name in ODD if name not in REFUSED}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_no_model_can_learn_from_is_refused_by_the_reader(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=REFUSED[name]) as refused:
        read_file(write_odd(name, tmp_path))
    assert "\n" not in str(refused.value)


def options_of(algorithm: Algorithm, **more: object) -> TrainOptions:
    """Of a small model; more factors than most of the matrices have rank, of one width, since each is compiled."""
    few = {"max_iter": 6, "n_components": 8}
    own = {name: value for name, value in few.items() if name in algorithm.options}
    return TrainOptions(algorithm=algorithm.name, min_data=1, threads=1, **own, **more)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", algorithms(), ids=lambda one: one.name)
def test_a_model_of_odd_data_is_right_or_refused_in_a_line(algorithm: Algorithm, read: dict[str, Interactions]) -> None:
    for name, x in read.items():
        # The held-out part is measured, too, where that is not the same again.
        holdout = 0.2 if name in ("usual", "one item", "constant") else 0.0
        trained = _trained(x, options_of(algorithm, holdout=holdout))
        if isinstance(trained, RanklineError):
            assert "\n" not in str(trained), name
            assert name in _MAY_BE_REFUSED, (name, str(trained))
            continue
        assert all(np.isfinite(value) for value in trained.report.metrics.values()), name
        _check_lists(trained, name)
        _check_parts(trained, name)


_MAY_BE_REFUSED = ("one user", "one item", "constant", "zeros", "huge")


def _trained(x: Interactions, options: TrainOptions) -> Trained | RanklineError:
    try:
        return train(x, options)
    except RanklineError as error:
        return error


def _check_lists(trained: Trained, name: str) -> None:
    """Every user's list has the unseen items there are, best first, as one who is folded in has it."""
    scorer = Scorer(trained.model, trained.algorithm.name)
    top = scorer.recommend_rows(np.arange(len(scorer.users)), K)
    for row, (items, scores) in enumerate(zip(top.items, top.scores, strict=True)):
        listed, seen = items[items >= 0], set(trained.model.seen[row].indices.tolist())
        assert len(listed) == min(K, len(scorer.items) - len(seen)), (name, row)
        assert not seen & set(listed.tolist()), (name, row)
        assert np.isfinite(scores[: len(listed)]).all(), (name, row)
        assert (np.diff(scores[: len(listed)]) <= 0).all(), (name, row)
    history = UserItems(trained.model.seen[[0]], type(scorer.users)(scorer.users.values[:1]), scorer.items)
    folded = scorer.for_users(history).recommend_rows(np.arange(1), K)
    assert np.isfinite(folded.scores).all(), name


def _check_parts(trained: Trained, name: str) -> None:
    """What `why` and the service explain of the first and the last user: a finite score, and parts that are."""
    model = trained.model
    for row in {0, len(model.users) - 1}:
        for col in range(0, len(model.items), 4):
            found = explain(model, row, col)
            assert np.isfinite(found.score), (name, row, col)
            assert all(np.isfinite(part.contribution) for part in found.past_items), (name, row, col)
            assert (found.rank is None) == (col in model.seen[row].indices) or not found.candidate, (name, row, col)
