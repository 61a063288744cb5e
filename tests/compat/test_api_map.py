"""docs/api-map.md: every name of both documents has its row, and its block runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from compat.test_design import SIGNATURES as DESIGN
from compat.test_reference import SIGNATURES as REFERENCE
from support.films import ratings

from pipeline import compat
from pipeline.compat.data_loader import interactions_of
from pipeline.options import TrainOptions
from pipeline.ranking.scorer import Scorer
from pipeline.training.train import train

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "api-map.md").read_text()


def test_every_class_and_method_is_named() -> None:
    methods = {(of.__name__, name) for of, name, _ in REFERENCE}
    methods |= {(of, name) for of, names in DESIGN.items() for name in names}
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    for name in compat.__all__:
        assert any(name in row.split("|")[1] for row in rows), name
    for of, name in methods:
        if name != "__init__":
            assert any(of in row.split("|")[1] and name in row.split("|")[1] for row in rows), (of, name)


def test_the_values_of_the_page_are_those_of_the_code() -> None:
    def value(name: str) -> str:
        return next(row.split("|")[2].strip() for row in PAGE.splitlines() if row.startswith(f"| `{name}`"))

    assert value("MIN_PLAYS_THRESHOLD") == str(compat.Constants.MIN_PLAYS_THRESHOLD)
    assert value("MAX_PLAYS_THRESHOLD") == str(compat.Constants.MAX_PLAYS_THRESHOLD)
    assert value("NMF_N_COMPONENTS") == str(compat.Settings.model_fields["NMF_N_COMPONENTS"].default)
    options = TrainOptions()
    assert (options.min_interactions, options.max_interactions, options.min_data) == (None, None, 100)


def test_the_block_takes_new_films_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    x = interactions_of(ratings(), "user_id", "movie_id", "rating")
    train(x, TrainOptions(n_components=4, holdout=0)).model.save("artifacts")
    # Users 3, 6, … like the films 500 + 3n + 2.
    new = ratings().query("user_id % 3 == 0 and user_id < 30").drop_duplicates("user_id").assign(movie_id=900)
    exec(compile(block, "api-map.md", "exec"), {"frame": new})
    before, after = Scorer.load("artifacts"), Scorer.load("artifacts-with-new-films")
    assert 900 in after.recommend(33, 30)[0].tolist()
    places = [after.recommend(user, 31)[0].tolist().index(900) for user in (33, 36, 31, 32)]
    assert max(places[:2]) < min(places[2:])
    films = before.items.values
    assert np.array_equal(after.predict(31, films), before.predict(31, films))
