"""Scores of items outside a model: the parts add up, and they are what a loop over sets gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.models.item_snapshot import ItemSnapshot, ItemTexts
from pipeline.ranking.content import ContentScorer

WORDS = st.lists(st.sampled_from(["War", "Drama", "war", "Noir"]), max_size=3)


def snapshot(genres: list[list[str]], tags: list[list[str]], other: tuple[list[str], list[str]]) -> ItemSnapshot:
    ids = [str(i) for i in range(len(genres))]
    texts = ItemTexts(
        genres={**dict(zip(ids, genres, strict=True)), "99": other[0]},
        tags={**dict(zip(ids, tags, strict=True)), "99": other[1]},
    )
    seen = sparse.csr_matrix((1, len(genres)), dtype=np.float32)
    return ItemSnapshot.of(IdMap(np.arange(len(genres))), seen, texts)


def features(genres: list[str], tags: list[str]) -> set[tuple[str, str]]:
    return {("g", word.lower()) for word in genres} | {("t", word.lower()) for word in tags}


@given(
    items=st.lists(st.tuples(WORDS, WORDS), min_size=3, max_size=6),
    other=st.tuples(WORDS, WORDS).filter(lambda pair: bool(pair[0] or pair[1])),
    scores=st.lists(st.sampled_from([0.0, 0.5, 3.0, 5.0]), min_size=2, max_size=2),
)
def test_it_is_the_mean_likeness_to_the_history(items, other, scores) -> None:
    known = snapshot([g for g, _ in items], [t for _, t in items], other)
    of_items = [features(*item) for item in items]
    wanted = features(*other) & set().union(*of_items)

    def likeness(of: set) -> float:
        return len(of & wanted) / np.sqrt(len(of) * len(wanted)) if of and wanted else 0.0

    weights = np.array(scores) / sum(scores) if sum(scores) else np.full(2, 0.5)
    made = ContentScorer(known).match(0, np.array([0, 1]), np.float32(scores))
    assert made.similarities == pytest.approx([likeness(of) for of in of_items[:2]])
    assert made.parts.sum() == pytest.approx(made.score) == pytest.approx(made.similarities @ weights)
    assert 0 <= made.score <= 1 + 1e-12

    def score_of(mine: set) -> float:
        alike = [len(mine & of) / np.sqrt(len(mine) * len(of)) if mine and of else 0.0 for of in of_items[:2]]
        return float(np.dot(alike, weights))

    lower = [score_of(of) < made.score - 1e-9 for of in of_items[2:]]
    assert made.confidence == pytest.approx(np.mean(lower))
    assert min(scores) - 1e-9 <= made.expected(np.array(scores)) <= max(scores) + 1e-9
