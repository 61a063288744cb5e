"""Where the order of ids decides a list, it is counted and said."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import naive, naive_metrics

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import PreparedInteractions, prepare_interactions
from pipeline.data.splits import Split, holdout
from pipeline.evaluation import evaluate as evaluate_module
from pipeline.evaluation import ties
from pipeline.evaluation.evaluate import evaluate
from pipeline.models.factor_model import FactorModel
from pipeline.ranking.scorer import Scorer

SAID = re.compile(
    r"^items of equal score are ordered by id: this decides the rank of ([\d,]+) of ([\d,]+) held-out items in the "
    r"lists, and the last item of ([\d,]+) of ([\d,]+) lists of (\d+)$"
)


def scorer_of(train, levels, seed=0):
    """Whole-number factors: many equal scores."""
    matrix = to_matrix(train)
    rng = np.random.default_rng(seed)
    w, h = (
        rng.integers(0, levels, shape).astype(np.float32) for shape in ((len(matrix.users), 2), (2, len(matrix.items)))
    )
    return Scorer(FactorModel(w, h, matrix.users, matrix.items, matrix.scores))


@given(
    st.sets(st.tuples(st.integers(0, 7), st.integers(0, 13)), min_size=2, max_size=60), st.integers(0, 99),
    st.sampled_from([2, 3, 50]), st.sampled_from([1, 2, 5, 20]), st.sampled_from([1, 3, 100]),
)  # fmt: skip
def test_what_ids_decide_is_what_the_twin_counts(pairs, seed, levels, k, often):
    users, items = zip(*sorted(pairs), strict=True)
    split = holdout(prepare_interactions(Interactions.of(users, items)).interactions, 0.4, seed)
    scorer = scorer_of(split.train, levels, seed)
    model, expected = scorer.model, [0, 0, 0, 0, k]
    known = model.users.values.tolist()
    for user, relevant in naive_metrics.by_user(naive_metrics.pairs(split.test)).items():
        if user not in known:
            continue
        row = known.index(user)
        ranked = naive.top_k(model, row, k + 1, naive.seen_rows(model, row))
        scores = [score for _, score in ranked]
        hits = [model.items.values[item] in relevant for item, _ in ranked[:k]]
        expected[0] += sum(hit and scores.count(scores[place]) > 1 for place, hit in enumerate(hits))
        expected[1] += sum(hits)
        expected[2] += len(scores) == k + 1 and scores[-1] == scores[-2]
        expected[3] += 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate_module, "_USERS_A_BLOCK", 3)
        patch.setattr(ties, "SAID", often)
        said = [SAID.match(message) for message in evaluate(scorer, split, (k,)).messages]
    counts_said = [[int(number.replace(",", "")) for number in sentence.groups()] for sentence in said if sentence]
    many = 0 < expected[1] <= often * expected[0] or 0 < expected[3] <= often * expected[2]
    assert counts_said == ([expected] if many else [])


def test_nothing_is_said_where_scores_decide():
    x = prepare_interactions(Interactions.of([1, 2, 3], [10, 20, 30])).interactions
    split = Split(x, PreparedInteractions.of([1, 2], [20, 30]))
    w, h = np.ones((3, 1), np.float32), np.array([[3.0, 2.0, 1.0]], np.float32)
    matrix = to_matrix(x)
    model = FactorModel(w, h, matrix.users, matrix.items, matrix.scores)
    assert evaluate(Scorer(model), split, (2,)).messages == ()
    # Two places of a list that are left empty have the same score, and no item.
    beyond = "k = 9 exceeds the 3 items that are ranked: the lists end there"
    assert evaluate(Scorer(model), split, (9,)).messages == (beyond,)
