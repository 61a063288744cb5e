"""Why an item that the model has not is like a user's history: the same figures as the content's scorer gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.served import item_texts, put_copy, small_trained

from pipeline.cli.output.explanation import why_output
from pipeline.errors import UnknownItemError
from pipeline.jobs.why import WhyResult, _explained
from pipeline.models.item_snapshot import ItemTexts
from pipeline.options import Names
from pipeline.ranking.content import ContentScorer
from pipeline.ranking.scorer import Scorer
from pipeline.serving.live_folder import LiveFolder

NEW = 5000


@pytest.fixture
def scorer(tmp_path: Path) -> Scorer:
    model = small_trained()
    of_model = item_texts(model)
    texts = ItemTexts(
        {**of_model.titles, str(NEW): "A new war"}, {**of_model.genres, str(NEW): ("War",)}, {str(NEW): ("slow",)}
    )
    folder = LiveFolder(tmp_path)
    folder.make()
    return Scorer.load(folder.model_folder(put_copy(folder, model, texts=texts).digest))


def _why(scorer: Scorer, item: int) -> WhyResult:
    return _explained(scorer, str(scorer.users.values[3]), str(item), "rankline/1", None, Names())


def test_the_parts_of_the_history(scorer: Scorer) -> None:
    why, seen = _why(scorer, NEW), scorer.model.seen[3]
    assert scorer.snapshot is not None
    match = ContentScorer(scorer.snapshot).match(0, seen.indices, seen.data)
    assert (why.kind, why.score, why.confidence) == ("content", match.score, match.confidence)
    assert [part.contribution for part in why.past_items] == sorted(match.parts, reverse=True)[: len(why.past_items)]
    assert why.n_past_items == np.count_nonzero(match.parts) > 0
    assert why.reasons is not None
    assert why.reasons.genre_match is not None
    shown = why_output(why)
    assert shown.blocks[0] == f"item {NEW} (A new war) is not in rankline/1, which was trained without it"
    assert f"{match.score:.3g}" in str(shown.blocks[1])


def test_an_item_of_no_catalogue_is_unknown(scorer: Scorer) -> None:
    with pytest.raises(UnknownItemError, match="6000"):
        _why(scorer, 6000)
