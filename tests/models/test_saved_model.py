"""Saved models of each kind: what is written, that it comes back the same, and that damage never does."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from support import hostile

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.errors import ArtifactError, UsageError
from pipeline.models.ease import fit_ease
from pipeline.models.factor_model import FactorModel
from pipeline.models.item_item_model import ItemItemModel
from pipeline.models.item_knn import fit_item_knn
from pipeline.models.model_files import ALL_FILES, load_ids, missing_files
from pipeline.models.popularity_model import PopularityModel
from pipeline.models.saved_model import ItemTexts, load_item_snapshot, load_saved_model, model_name

# The last two are of kind item_item, in its other forms.
FORMS = ("factors", "item_item", "popularity", "dense", "dual")
OWN = {
    "factors": ("user_features.npy", "movie_features.npy"),
    "item_item": ("similarity.npz",),
    "popularity": ("item_scores.npy",),
    "dense": ("item_weights.npy",),
    "dual": ("user_kernel.npy", "leverage.npy"),
}
CLASSES = {"factors": FactorModel, "item_item": ItemItemModel, "popularity": PopularityModel}
NAMES = {"factors": "nmf", "item_item": "item-knn", "popularity": "recent", "dense": "ease", "dual": "ease"}


@pytest.fixture(params=FORMS)
def kind(request):
    return request.param


@pytest.fixture
def model(kind, make_model, rng):
    return model_of(kind, make_model, rng)


def model_of(kind, make_model, rng, weights="score"):
    base = make_model(rng, 7 if kind == "dual" else 12, 9, 4, density=0.4, text_ids=True)
    seen = base.seen.copy()
    seen.data = rng.integers(0, 11, seen.nnz).astype(np.float32) / 2
    if kind == "factors":
        return replace(base, seen=seen)
    if kind == "item_item":
        return fit_item_knn(UserItems(seen, base.users, base.items), 5, 1.0, weights)
    if kind in ("dense", "dual"):
        return fit_ease(UserItems(seen, base.users, base.items), 2.0)
    count = np.bincount(seen.indices, minlength=9).astype(np.float32)
    return PopularityModel(count, base.users, base.items, seen, {"model": "recent"})


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


def resaved(folder, name, **changed):
    with np.load(folder / name, allow_pickle=False) as arrays:
        contents = {key: arrays[key] for key in arrays}
    contents.update(changed)
    np.savez(folder / name, **{key: value for key, value in contents.items() if value is not None})
    hostile.sign(folder)


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


# ---- damage -----------------------------------------------------------------------------------------


def every_file(kind):
    return [*OWN[kind], "seen.npz", "scores.npy"]


def test_a_flipped_bit_in_any_file(model, tmp_path):
    model.save(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        if path.name == "metadata.json":
            continue
        whole = path.read_bytes()
        path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
        with pytest.raises(ArtifactError, match=f"{path.name} has a wrong checksum"):
            load_saved_model(tmp_path)
        path.unlink()
        with pytest.raises(ArtifactError, match=f"{path.name} is missing"):
            load_saved_model(tmp_path)
        path.write_bytes(whole)
    load_saved_model(tmp_path)


BAD_ARRAYS = {
    "objects": np.array([print] * 9, object),
    "float64": np.zeros(9),
    "too few": np.zeros(3, np.float32),
    "2-d": np.zeros((9, 1), np.float32),
    "NaN": np.full(9, np.nan, np.float32),
    "infinite": np.full(9, np.inf, np.float32),
    "big-endian": np.zeros(9, ">f4"),
}


@pytest.mark.parametrize("name", ["item_scores.npy", "scores.npy"])
@pytest.mark.parametrize("bad", BAD_ARRAYS)
def test_arrays_of_another_kind(make_model, rng, tmp_path, name, bad):
    model = model_of("popularity", make_model, rng)
    model.save(tmp_path)
    array = BAD_ARRAYS[bad]
    if name == "scores.npy" and array.size == 9 and array.dtype == np.float32:
        array = np.resize(array, (*array.shape[1:], model.seen.nnz)).T.squeeze() if array.ndim == 1 else array
    np.save(tmp_path / name, array, allow_pickle=True)
    hostile.sign(tmp_path)
    for mapped in (False, True):
        with pytest.raises(ArtifactError):
            load_saved_model(tmp_path, mapped=mapped)


def neighbours(folder):
    with np.load(folder / "similarity.npz") as arrays:
        return {name: arrays[name] for name in arrays}


@pytest.mark.parametrize(
    "change",
    [
        lambda s: {"values": s["values"].astype(np.float64)},
        lambda s: {"values": s["values"][:-1]},
        lambda s: {"values": np.where(np.arange(s["values"].size) == 3, np.nan, s["values"]).astype(np.float32)},
        lambda s: {"values": None},
        lambda s: {"values": s["values"].astype(object)},
        lambda s: {"indices": s["indices"][::-1]},
        lambda s: {"indices": np.zeros_like(s["indices"])},
        lambda s: {"indices": s["indices"] + 9},
        lambda s: {"indices": -s["indices"] - 1},
        lambda s: {"indices": s["indices"].astype(np.int64)},
        lambda s: {"indptr": s["indptr"][::-1]},
        lambda s: {"indptr": s["indptr"] + 1},
        lambda s: {"indptr": s["indptr"].astype(np.uint64)},
        lambda s: {"indptr": np.where(np.arange(10) == 4, 10**12, s["indptr"])},
        lambda s: {"shape": np.array([9, 10])},
        lambda s: {"shape": np.array([12, 12])},
        lambda s: {"more": np.zeros(2)},
    ],
    ids=[
        "float64", "too few", "NaN", "no values", "objects", "descending", "twice", "past the end", "negative",
        "int64", "falls", "from 1", "unsigned", "far out", "wider", "of users", "one more",
    ],
)  # fmt: skip
def test_neighbours_of_another_kind(make_model, rng, tmp_path, change):
    model_of("item_item", make_model, rng).save(tmp_path)
    resaved(tmp_path, "similarity.npz", **change(neighbours(tmp_path)))
    for mapped in (False, True):
        with pytest.raises(ArtifactError, match=str(tmp_path)):
            load_saved_model(tmp_path, mapped=mapped)


BAD_WEIGHTS = {
    "float64": lambda w: w.astype(np.float64),
    "fewer rows": lambda w: w[:-1],
    "another shape": lambda w: w.reshape(3, -1),
    "NaN": lambda w: np.where(w == w.max(), np.nan, w).astype(w.dtype),
    "infinite": lambda w: np.where(w == w.max(), np.inf, w).astype(w.dtype),
    "by columns": np.asfortranarray,
    "objects": lambda w: w.astype(object),
}


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("bad", BAD_WEIGHTS)
def test_weights_of_items_of_another_kind(make_model, rng, tmp_path, bad, mapped):
    model = model_of("dense", make_model, rng)
    model.save(tmp_path)
    np.save(tmp_path / "item_weights.npy", BAD_WEIGHTS[bad](model.similarity.matrix), allow_pickle=True)
    hostile.sign(tmp_path)
    with pytest.raises(ArtifactError, match=str(tmp_path)):
        load_saved_model(tmp_path, mapped=mapped)


BAD_KERNELS = {
    "float32": ("user_kernel.npy", lambda k: k.astype(np.float32)),
    "fewer users": ("user_kernel.npy", lambda k: k[:-1, :-1].copy()),
    "NaN": ("user_kernel.npy", lambda k: k * np.nan),
    "leverage NaN": ("leverage.npy", lambda q: q * np.nan),
    "leverage 1": ("leverage.npy", np.ones_like),
    "leverage below 0": ("leverage.npy", lambda q: q - 1),
    "fewer items": ("leverage.npy", lambda q: q[:-1]),
    "one number": ("leverage.npy", lambda q: q[0]),
}


@pytest.mark.parametrize("bad", BAD_KERNELS)
def test_a_kernel_of_another_kind(make_model, rng, tmp_path, bad):
    model_of("dual", make_model, rng).save(tmp_path)
    name, change = BAD_KERNELS[bad]
    np.save(tmp_path / name, change(np.load(tmp_path / name)))
    hostile.sign(tmp_path)
    for mapped in (False, True):
        with pytest.raises(ArtifactError, match=str(tmp_path)):
            load_saved_model(tmp_path, mapped=mapped)


@pytest.mark.parametrize("regularization", [None, 0.0, -1.0, 1, "2.0", True, [2.0]])
def test_a_kernel_without_its_regularization(make_model, rng, tmp_path, regularization):
    model_of("dual", make_model, rng).save(tmp_path)
    hostile.edit(tmp_path, lambda m: m.update(regularization=regularization))
    with pytest.raises(ArtifactError, match="regularization of a kernel"):
        load_saved_model(tmp_path)


def test_a_kernel_goes_with_the_scores_it_was_made_of(make_model, rng, tmp_path):
    model = model_of("dual", make_model, rng)
    model.save(tmp_path)
    hostile.edit(tmp_path, lambda m: m.update(weights="seen"))
    with pytest.raises(ArtifactError, match="counts by its scores"):
        load_saved_model(tmp_path)
    (tmp_path / "scores.npy").unlink()
    hostile.edit(tmp_path, lambda m: m["files"].pop("scores.npy"))
    with pytest.raises(ArtifactError, match="and there are none"):
        load_saved_model(tmp_path)
    with pytest.raises(UsageError, match="saved with them"):
        model.with_users(IdMap([1, 2]), model.seen[:2]).save(tmp_path)


@pytest.mark.parametrize("listed", [(), ("similarity.npz", "item_weights.npy"), ("item_weights.npy", "leverage.npy")])
def test_one_form_of_weights_is_listed(make_model, rng, tmp_path, listed):
    model_of("dense", make_model, rng).save(tmp_path)

    def change(metadata):
        del metadata["files"]["item_weights.npy"]
        metadata["files"] |= dict.fromkeys(listed, "0")

    hostile.edit(tmp_path, change)
    with pytest.raises(ArtifactError, match=r"metadata\.json must list one of these for kind item_item"):
        load_saved_model(tmp_path)


@pytest.mark.parametrize("weights", [None, "", "seen ", 1, ["seen"], {}])
def test_weights_of_another_kind(make_model, rng, tmp_path, weights):
    model_of("item_item", make_model, rng).save(tmp_path)
    hostile.edit(tmp_path, lambda m: m.update(weights=weights))
    with pytest.raises(ArtifactError, match="counts 1 or its score"):
        load_saved_model(tmp_path)


def test_history_by_scores_needs_scores(make_model, rng, tmp_path):
    model_of("item_item", make_model, rng).save(tmp_path)
    (tmp_path / "scores.npy").unlink()
    hostile.edit(tmp_path, lambda m: m["files"].pop("scores.npy"))
    with pytest.raises(ArtifactError, match="and there are none"):
        load_saved_model(tmp_path)


LONG = ("similarity.npz", "item_weights.npy", "leverage.npy", "item_scores.npy", "scores.npy", "items.npz")


@pytest.mark.parametrize("name", LONG)
def test_files_are_bounded_and_never_links_out(make_model, rng, tmp_path, name):
    """A file that is much longer than its numbers is not read; a link leads nowhere."""
    kind = next((kind for kind, names in OWN.items() if name in names), "popularity")
    folder = model_of(kind, make_model, rng).save(tmp_path / "model")
    whole = (folder / name).read_bytes()
    with (folder / name).open("r+b") as file:
        file.truncate(2**32)
    with pytest.raises(ArtifactError, match="accounts for"):
        load_saved_model(folder)
    (folder / name).unlink()
    (tmp_path / "other").write_bytes(whole)
    (folder / name).symlink_to(tmp_path / "other")
    with pytest.raises(ArtifactError, match="a link out of its folder"):
        load_saved_model(folder)
