"""Saved models that are damaged or planted: each fault is named, and nothing of them is used."""

from __future__ import annotations

import numpy as np
import pytest
from support import hostile
from support.saved_forms import FORMS, OWN, model_of, resaved

from pipeline.data.id_map import IdMap
from pipeline.errors import ArtifactError, UsageError
from pipeline.models.saved_model import load_saved_model


@pytest.mark.parametrize("form", FORMS)
def test_a_flipped_bit_in_any_file(make_model, rng, tmp_path, form):
    model_of(form, make_model, rng).save(tmp_path)
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
