"""Items of the catalogue that a model has not: which are kept with it, how many, and which files are refused."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.errors import ArtifactError
from pipeline.models import item_snapshot
from pipeline.models.item_snapshot import ItemSnapshot, ItemTexts, most_bytes, read_snapshot, write_snapshot

TEXTS = ItemTexts(
    {"1": "One", "5": "Five", "30": "Thirty"},
    {"1": ["War"], "5": ["War", "Drama"], "007": ["War"], "99999999999999999999": ["War"], "x": ["War"], "8": []},
    {"1": ["slow"], "30": ["long", "slow"]},
    {"1": "Saga"},
)


def snapshot(ids: object = (1, 2)) -> ItemSnapshot:
    items = IdMap(list(ids))
    return ItemSnapshot.of(items, sparse.csr_matrix((1, len(items)), dtype=np.float32), TEXTS)


def as_file(tmp_path: Path, made: ItemSnapshot, **changed: object) -> Path:
    file = BytesIO()
    write_snapshot(file, made)
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        contents = {**{name: arrays[name] for name in arrays}, **changed}
    np.savez(tmp_path / "items.npz", **{name: array for name, array in contents.items() if array is not None})
    return tmp_path / "items.npz"


def test_items_outside_the_model_with_a_genre_or_a_tag_are_kept(tmp_path: Path) -> None:
    made = snapshot()
    path = as_file(tmp_path, made)
    assert path.stat().st_size < most_bytes(2)
    with path.open("rb") as file:
        read = read_snapshot(file, made.ids)
    assert read.others.ids.values.tolist() == [5, 30]
    assert read.others.titles.tolist() == ["Five", "Thirty"]
    assert read.others.genres.tolist() == ["War|Drama", ""]
    assert read.others.tags.tolist() == ["", "long|slow"]
    assert (read.tags.tolist(), read.genre_names) == (["slow", ""], ("War",))
    assert read.series.tolist() == ["Saga", ""]
    again = ItemSnapshot.of(read.ids, sparse.csr_matrix((1, 2), dtype=np.float32), read.texts)
    assert (again.series.tolist(), again.tags.tolist(), again.genre_names) == (["Saga", ""], ["slow", ""], ("War",))
    assert again.others.genres.tolist() == read.others.genres.tolist()
    of_texts = snapshot(["1", "b"])
    assert of_texts.others.ids.values.tolist() == ["007", "30", "5", "99999999999999999999", "x"]
    assert snapshot([]).others is None


def test_of_many_the_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_snapshot, "MOST_OTHERS", 1)
    assert snapshot().others.ids.values.tolist() == [30]


@pytest.mark.parametrize(
    "changed",
    [
        {"other_id": None},
        {"other_tags": None},
        {"other_id": np.array([30, 5])},
        {"other_id": np.array(["5", "30"])},
        {"other_title": np.array(["a"])},
        {"other_genres": np.array(["a" * 257] * 2)},
        {"tags": np.array(["a"])},
        {"series": np.array(["a"] * 3)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_file_whose_other_items_do_not_fit_is_refused(tmp_path: Path, changed: dict) -> None:
    made = snapshot()
    with as_file(tmp_path, made, **changed).open("rb") as file, pytest.raises(ArtifactError):
        read_snapshot(file, made.ids)
