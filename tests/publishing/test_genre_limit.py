"""A set under a limit on genres: what the checks let pass, and what not."""

from __future__ import annotations

import numpy as np
import pytest
from support.item_genres import with_genres

from pipeline.errors import CheckFailedError
from pipeline.publishing.batch_scoring import score_all
from pipeline.publishing.checks import PublishLimits
from pipeline.publishing.recommendations_table import PUBLISHED, RecommendationsTable
from pipeline.ranking.genres import ItemGenres
from pipeline.ranking.scorer import Scorer

pytest_plugins = ["support.warehouse_fixtures"]

K = 6


@pytest.fixture
def scorer(make_model, rng) -> Scorer:
    """The first ten items have one of two genres, the last two have none: few lists can be full."""
    model = make_model(rng, 30, 12, density=0.3)
    return with_genres(Scorer(model), {row: ["Drama", "Horror"][row % 2 :][:1] for row in range(10)})


def staged(warehouse, scorer: Scorer, run: str) -> RecommendationsTable:
    table = RecommendationsTable(warehouse, "int", "int", "3", run)
    score_all(scorer, table, K)
    return table


def test_a_set_under_the_limit_is_published(embedded, scorer):
    limited = scorer.limited(1)
    table = staged(embedded, limited, "run-a")
    assert table.publish(scorer.model, PublishLimits(K, genres=limited.limit)).action == "published"
    lengths = embedded.rows(f"SELECT max(n) AS most FROM (SELECT count() AS n FROM {PUBLISHED} GROUP BY user_id)")
    assert lengths[0]["most"] == 4
    (note,) = embedded.rows("SELECT note FROM analytics.publications WHERE action = 'published'")
    assert note["note"] == "at most 1 of a genre"
    with pytest.raises(CheckFailedError, match="check list_length"):
        staged(embedded, limited, "run-b").publish(scorer.model, PublishLimits(K))


def test_a_list_that_passes_the_limit_is_refused(embedded, scorer):
    table = staged(embedded, scorer, "run-a")
    with pytest.raises(CheckFailedError, match=r"check genre_limit \(\d+ found: user_id=\d+ genre=\w+ n_items=\d"):
        table.publish(scorer.model, PublishLimits(K, accept_changes=True, genres=scorer.limited(1).limit))


def test_a_list_that_is_short_though_no_genre_is_full_is_refused(embedded, scorer):
    limited = scorer.limited(3)
    table = staged(embedded, limited, "run-a")
    embedded.command(f"ALTER TABLE analytics.{table.staged} DELETE WHERE rank > 2 SETTINGS mutations_sync = 2")
    table.n_rows = embedded.rows(f"SELECT count() AS n FROM analytics.{table.staged}")[0]["n"]
    with pytest.raises(CheckFailedError, match="check list_length"):
        table.publish(scorer.model, PublishLimits(K, genres=limited.limit))


def test_a_limit_on_series_is_checked_too(embedded, scorer):
    scorer.genre_source.series = ItemGenres(
        ("alien", "saw"), np.minimum(np.arange(13), 10), np.arange(10, dtype=np.int32) % 2
    )
    limited = scorer.limited(3, 2)
    assert (
        staged(embedded, limited, "run-a").publish(scorer.model, PublishLimits(K, genres=limited.limit)).action
        == "published"
    )
    (note,) = embedded.rows("SELECT note FROM analytics.publications WHERE action = 'published'")
    assert note["note"] == "at most 3 of a genre and 2 of a series"
    with pytest.raises(CheckFailedError, match=r"check genre_limit .*genre=series: "):
        staged(embedded, scorer.limited(3), "run-b").publish(scorer.model, PublishLimits(K, genres=limited.limit))
