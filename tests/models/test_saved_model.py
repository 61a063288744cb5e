"""Saved models of each kind: what is written, that it comes back the same, and that damage never does."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from support import hostile
from support.saved_forms import FORMS, OWN, model_of, resaved

from pipeline.data.id_map import IdMap
from pipeline.errors import ArtifactError
from pipeline.models.factor_model import FactorModel
from pipeline.models.item_item_model import ItemItemModel
from pipeline.models.model_files import ALL_FILES, load_ids, missing_files
from pipeline.models.popularity_model import PopularityModel
from pipeline.models.saved_model import ItemTexts, load_item_snapshot, load_saved_model, model_name

CLASSES = {"factors": FactorModel, "item_item": ItemItemModel, "popularity": PopularityModel}
NAMES = {"factors": "nmf", "item_item": "item-knn", "popularity": "recent", "dense": "ease", "dual": "ease"}


@pytest.fixture(params=FORMS)
def kind(request):
    return request.param


@pytest.fixture
def model(kind, make_model, rng):
    return model_of(kind, make_model, rng)


def all_scores(model):
    rows, cols = np.divmod(np.arange(len(model.users) * len(model.items)), len(model.items))
    return model.predict(rows, cols).tobytes()


@pytest.mark.parametrize("mapped", [False, True])
def test_what_comes_back_is_what_was_saved(model, kind, tmp_path, mapped):
    loaded = load_saved_model(model.save(tmp_path), mapped=mapped)
    assert type(loaded) is type(model)
    assert loaded.kind == CLASSES.get(kind, ItemItemModel).kind
    assert (loaded.users, loaded.items) == (model.users, model.items)
    assert loaded.seen.indices.tolist() == model.seen.indices.tolist()
    assert loaded.seen.data.dtype == np.float32
    assert loaded.seen.data.tolist() == model.seen.data.tolist(), "scores, zeros too"
    assert all_scores(loaded) == all_scores(model)
    assert model_name(loaded) == model_name(model)
    loaded.release()
    assert all_scores(loaded) == all_scores(model)


def test_metadata(model, kind, tmp_path):
    metadata = json.loads((model.save(tmp_path) / "metadata.json").read_text())
    assert (metadata["format"], metadata["kind"]) == (2, model.kind)
    assert metadata["model"] == NAMES[kind]
    assert set(OWN[kind]) <= set(metadata["files"])
    assert (metadata["run_id"], metadata["data_watermark"]) == (None, None)
    assert set(metadata["files"]) == {path.name for path in tmp_path.iterdir()} - {"metadata.json"}
    assert set(metadata["files"]) <= set(ALL_FILES)


def test_numpy_alone_opens_all_of_it(model, tmp_path):
    model.save(tmp_path)
    for path in tmp_path.iterdir():
        if path.suffix in (".npy", ".npz"):
            result = np.load(path, allow_pickle=False)
            for array in result.values() if path.suffix == ".npz" else [result]:
                assert array.dtype != object
        if path.suffix == ".npz":
            assert all(info.compress_type == zipfile.ZIP_STORED for info in zipfile.ZipFile(path).infolist())
    assert np.load(tmp_path / "scores.npy").tolist() == model.seen.data.tolist()


def test_saving_again_writes_the_same_bytes(model, tmp_path):
    first = model.save(tmp_path / "a")
    again = load_saved_model(first, mapped=True).save(tmp_path / "b")
    assert sorted(path.name for path in first.iterdir()) == sorted(path.name for path in again.iterdir())
    for path in first.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_a_model_takes_the_place_of_one_of_another_kind(make_model, rng, tmp_path):
    for kind in (*FORMS, "factors"):
        model = model_of(kind, make_model, rng)
        model.save(tmp_path)
        assert all_scores(load_saved_model(tmp_path)) == all_scores(model)
        others = {name for other, names in OWN.items() if other != kind for name in names}
        assert not others & {path.name for path in tmp_path.iterdir()}


def test_a_pattern_has_no_scores(make_model, rng, tmp_path):
    model = model_of("factors", make_model, rng)
    model.save(tmp_path)
    pattern = replace(model, seen=model.seen.astype(np.int8))
    loaded = load_saved_model(pattern.save(tmp_path))
    assert not (tmp_path / "scores.npy").exists()
    assert loaded.seen.dtype == np.int8
    assert loaded.seen.indices.tolist() == model.seen.indices.tolist()


def test_the_format_of_before_is_a_model_of_factors(make_model, rng, tmp_path):
    """Format 1 had four files and neither kind nor model's name."""
    model = model_of("factors", make_model, rng)
    model.save(tmp_path)
    for name in ("scores.npy", "items.npz"):
        (tmp_path / name).unlink()

    def as_it_was(metadata):
        for key in ("kind", "model", "run_id", "data_watermark"):
            del metadata[key]
        for name in ("scores.npy", "items.npz"):
            del metadata["files"][name]
        metadata["format"] = 1

    hostile.edit(tmp_path, as_it_was)
    loaded = load_saved_model(tmp_path)
    assert isinstance(loaded, FactorModel)
    assert all_scores(loaded) == all_scores(model)
    assert (model_name(loaded), load_item_snapshot(tmp_path)) == ("nmf", None)
    assert load_ids(tmp_path)[0] == model.users


def test_a_kind_is_not_taken_for_another(model, tmp_path):
    model.save(tmp_path)
    others = {cls.kind: cls for cls in CLASSES.values() if cls.kind != model.kind}
    for other, cls in others.items():
        with pytest.raises(ArtifactError, match=f"holds a model of kind {model.kind}, not {other}"):
            cls.load(tmp_path)
    hostile.edit(tmp_path, lambda m: m.update(kind=next(iter(others)), n_components=4))
    with pytest.raises(ArtifactError):
        load_saved_model(tmp_path)


def test_missing_files():
    assert missing_files(ALL_FILES) == ()
    assert missing_files(["item_scores.npy", "seen.npz", "metadata.json"]) == ()
    assert missing_files(["movie_features.npy", "metadata.json"]) == ("user_features.npy", "seen.npz")
    assert missing_files([]) == ("user_features.npy", "movie_features.npy", "seen.npz", "metadata.json")


# ---- items ------------------------------------------------------------------------------------------


def test_the_items_with_titles_and_what_is_popular_by_genre(tmp_path):
    seen = sparse.csr_matrix(np.float32([[1, 1, 0, 0], [0, 2, 0, 0], [0, 3, 3, 0]]))
    items = IdMap([10, 20, 30, 40])
    model = PopularityModel(np.float32([1, 3, 1, 0]), IdMap([1, 2, 3]), items, seen)
    texts = ItemTexts(
        {"10": "Heat (1995)", "20": "Amélie", "40": "x" * 999 + "\0"},
        {"10": ["Crime", "Drama"], "20": ["Comedy", "Drama"], "30": ["Drama"]},
    )
    model.save(tmp_path, texts)
    with np.load(tmp_path / "items.npz", allow_pickle=False) as arrays:
        assert arrays["item_id"].tolist() == [10, 20, 30, 40]
        assert arrays["title"].tolist() == ["Heat (1995)", "Amélie", "", "x" * 256]
        assert arrays["genres"].tolist() == ["Crime|Drama", "Comedy|Drama", "Drama", ""]
        assert arrays["popularity"].tolist() == [1, 3, 1, 0]
        assert arrays["genre"].tolist() == ["Comedy", "Crime", "Drama"]
    snapshot = load_item_snapshot(tmp_path)
    assert snapshot.titles.tolist()[1] == "Amélie"
    assert snapshot.popular_in("Drama").tolist() == [1, 0, 2]
    assert snapshot.popular_in("Crime").tolist() == [0]
    assert snapshot.popular_in("Western").tolist() == []


def test_without_texts_there_are_ids_and_counts(model, tmp_path):
    snapshot = load_item_snapshot(model.save(tmp_path))
    assert snapshot.ids == model.items
    assert (snapshot.titles, snapshot.genres) == (None, None)
    assert snapshot.popularity.tolist() == np.bincount(model.seen.indices, minlength=9).tolist()
    with np.load(tmp_path / "items.npz") as arrays:
        assert sorted(arrays) == ["item_id", "popularity"]


def texts_of(model):
    ids = model.items.values.tolist()
    return ItemTexts({id_: f"Title of {id_}" for id_ in ids}, {id_: ["A", "B"] for id_ in ids})


@pytest.mark.parametrize(
    "changed",
    [
        {"item_id": np.arange(9)},
        {"item_id": np.array(["z"] * 9)},
        {"popularity": np.zeros(8, np.int64)},
        {"popularity": np.zeros(9, np.float64)},
        {"popularity": None},
        {"title": np.array(["a"] * 8)},
        {"title": np.array(["a" * 257] * 9)},
        {"title": np.array([b"a"] * 9)},
        {"title": np.array(["a"] * 9, object)},
        {"title": np.full(9, 0xD800, "<u4").view("<U1")},
        {"title": np.full(9, 0x7FFFFFFF, "<u4").view("<U1")},
        {"genres": None},
        {"genre": None},
        {"genre_indptr": np.array([0, 9, 17])},
        {"genre_indptr": np.array([0, 18, 9])},
        {"genre_indptr": np.array([0, 18])},
        {"genre_items": np.full(18, 9, np.int32)},
        {"genre_items": np.full(18, -1, np.int32)},
        {"more": np.zeros(1)},
    ],
    ids=lambda changed: f"{next(iter(changed))} {getattr(next(iter(changed.values())), 'dtype', '')}",
)
def test_a_snapshot_of_another_kind(make_model, rng, tmp_path, changed):
    model = model_of("popularity", make_model, rng)
    model.save(tmp_path, texts_of(model))
    assert load_item_snapshot(tmp_path).titles is not None
    resaved(tmp_path, "items.npz", **changed)
    with pytest.raises(ArtifactError, match=r"items\.npz") as caught:
        load_item_snapshot(tmp_path)
    assert "\n" not in str(caught.value)
