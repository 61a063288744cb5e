"""`FactorModel` on disk: what is written, that it comes back the same, and that damage never does."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from pipeline.artifact import FILES, FORMAT, FactorModel
from pipeline.errors import ArtifactError, InputError, RowRangeError
from pipeline.ids import IdMap
from pipeline.scorer import Scorer

W, H, SEEN, METADATA = FILES


def rows(model):
    return np.arange(len(model.users)), np.arange(len(model.items))


def all_scores(model):
    """Every score of the model by `predict`, as bytes."""
    users, items = rows(model)
    return model.predict(np.repeat(users, items.size), np.tile(items, users.size)).tobytes()


@pytest.fixture
def model(make_model, rng):
    return make_model(rng, 12, 9, 4, text_ids=True, density=0.4)


@pytest.fixture
def folder(model, tmp_path):
    return model.save(tmp_path / "model")


# ---- what is written ------------------------------------------------------------------------------


def test_names_and_keys(model, folder):
    assert FILES == ("user_features.npy", "movie_features.npy", "seen.npz", "metadata.json")
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    assert metadata["format"] == FORMAT == 1
    assert metadata["user_ids"] == model.users.values.tolist()
    assert metadata["movie_ids"] == model.items.values.tolist()
    assert (metadata["n_users"], metadata["n_items"], metadata["n_components"]) == (12, 9, 4)
    assert metadata["parameters"] == {"n_components": 4}
    assert metadata["metrics"] == {"rmse": 0.5}
    assert metadata["algorithm"] == "NMF"
    assert metadata["files"] == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (W, H, SEEN)
    }


def test_plain_numpy_opens_them_without_pickle(model, folder):
    w, h = (np.load(folder / name, allow_pickle=False) for name in (W, H))
    assert w.dtype == h.dtype == np.float32
    assert np.array_equal(w, model.user_factors)
    assert np.array_equal(h, model.item_factors)
    with np.load(folder / SEEN, allow_pickle=False) as arrays:
        assert sorted(arrays) == ["indices", "indptr", "shape"]
        seen = {name: arrays[name] for name in arrays}
    assert seen["shape"].tolist() == [12, 9]
    assert seen["indptr"].tolist() == model.seen.indptr.tolist()
    assert seen["indices"].tolist() == model.seen.indices.tolist()
    assert {name: a.dtype for name, a in seen.items()} == {"indices": "int32", "indptr": "int64", "shape": "int64"}
    assert all(info.compress_type == zipfile.ZIP_STORED for info in zipfile.ZipFile(folder / SEEN).infolist())


def test_metadata_is_strict_json_on_its_own_line(folder):
    text = (folder / METADATA).read_bytes().decode("utf-8")
    assert text.endswith("}\n")
    assert "\r" not in text


def test_folders_are_made(model, tmp_path):
    assert model.save(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    assert len(FactorModel.load(str(tmp_path / "a" / "b")).users) == 12


def test_nan_is_never_written(model, tmp_path):
    bad = FactorModel(
        model.user_factors, model.item_factors, model.users, model.items, model.seen, {"rmse": float("nan")}
    )
    with pytest.raises(ValueError, match="JSON"):
        bad.save(tmp_path)
    assert not (tmp_path / METADATA).exists()


def test_meta_can_not_change_the_format(model, tmp_path):
    odd = FactorModel(model.user_factors, model.item_factors, model.users, model.items, model.seen, {"format": 7})
    FactorModel.load(odd.save(tmp_path))


# ---- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("mapped", [False, True])
@given(
    n_users=st.integers(0, 6),
    n_items=st.integers(0, 6),
    k=st.integers(0, 4),
    text=st.booleans(),
    density=st.sampled_from([0.0, 0.5, 1.0]),
    kind=st.sampled_from(["uniform", "negative", "huge", "tiny", "zero"]),
    seed=st.integers(0, 2**32),
)
def test_load_gives_back_the_model_bit_for_bit(
    make_model, tmp_path_factory, mapped, n_users, n_items, k, text, density, kind, seed
):
    model = make_model(np.random.default_rng(seed), n_users, n_items, k, text_ids=text, density=density, kind=kind)
    folder = tmp_path_factory.mktemp("model")
    loaded = FactorModel.load(model.save(folder), mapped=mapped)
    assert loaded.user_factors.tobytes() == model.user_factors.tobytes()
    assert loaded.item_factors.tobytes() == model.item_factors.tobytes()
    # An empty list of ids has no kind.
    assert loaded.users.values.tolist() == model.users.values.tolist()
    assert loaded.items.values.tolist() == model.items.values.tolist()
    assert loaded.seen.shape == model.seen.shape
    assert loaded.seen.indptr.tolist() == model.seen.indptr.tolist()
    assert loaded.seen.indices.tolist() == model.seen.indices.tolist()
    assert all_scores(loaded) == all_scores(model)
    for name in ("algorithm", "parameters", "metrics"):
        assert loaded.meta[name] == model.meta[name]
    shutil.rmtree(folder)


@pytest.mark.parametrize("mapped", [False, True])
def test_ranking_is_the_same_after_a_reload(model, folder, mapped):
    users, _ = rows(model)
    before = Scorer(model).recommend_rows(users, 5)
    after = Scorer.load(folder, mapped=mapped).recommend_rows(users, 5)
    assert before.items.tobytes() == after.items.tobytes()
    assert before.scores.tobytes() == after.scores.tobytes()


def test_ids_of_any_text_come_back(rng, tmp_path):
    users = IdMap(["", " ", '"\\', "17", "e\u0301", "line\nbreak", "é", "\u2028", "\U0001f3ac"])
    model = make_model_of(users, rng)
    loaded = FactorModel.load(model.save(tmp_path))
    assert loaded.users == users
    found = Scorer(loaded).recommend("\U0001f3ac", 4)
    assert found.items.tolist() == [item for item, _ in naive.top_k(model, 8, 4)]


def make_model_of(users, rng, n_items=4):
    shape = (len(users), n_items)
    w, h = rng.random((shape[0], 2), np.float32), rng.random((2, n_items), np.float32)
    return FactorModel(w, h, users, IdMap(np.arange(n_items)), sparse.csr_matrix(shape, dtype=np.float32))


def test_extreme_integer_ids_come_back(rng, tmp_path):
    users = IdMap([-(2**63), -1, 0, 2**53 + 1, 2**63 - 1])
    assert FactorModel.load(make_model_of(users, rng).save(tmp_path)).users == users


def test_saving_again_writes_the_same_bytes(model, folder, tmp_path):
    expected = {name: (folder / name).read_bytes() for name in FILES}
    again = {
        "twice": model.save(tmp_path / "twice"),
        "over": model.save(folder),
        "loaded": FactorModel.load(folder).save(tmp_path / "loaded"),
        "mapped": FactorModel.load(folder, mapped=True).save(tmp_path / "mapped"),
    }
    for how, where in again.items():
        assert {name: (where / name).read_bytes() for name in FILES} == expected, how


def test_the_order_of_the_array_in_memory_does_not_matter(model, folder, tmp_path):
    turned = FactorModel(
        np.asfortranarray(model.user_factors),
        np.asfortranarray(model.item_factors),
        model.users,
        model.items,
        model.seen,
        model.meta,
    )
    turned.save(tmp_path / "turned")
    assert all((folder / name).read_bytes() == (tmp_path / "turned" / name).read_bytes() for name in FILES)
    assert all_scores(turned) == all_scores(model)


def test_stored_zeros_are_seen_after_a_reload(tmp_path):
    seen = sparse.csr_matrix((np.array([0.0, 3.0], np.float32), [0, 2], [0, 1, 2]), shape=(2, 3))
    w, h = np.ones((2, 1), np.float32), np.ones((1, 3), np.float32)
    model = FactorModel(w, h, IdMap([1, 2]), IdMap([7, 8, 9]), seen)
    for scorer in (Scorer(model), Scorer.load(model.save(tmp_path)), Scorer.load(tmp_path, mapped=True)):
        assert scorer.recommend(1).items.tolist() == [8, 9]
        assert scorer.recommend(2).items.tolist() == [7, 8]


def test_mapped_arrays_stay_on_disk_and_can_be_released(model, folder):
    mapped = FactorModel.load(folder, mapped=True)
    for array in (mapped.user_factors, mapped.seen.indices):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
    plain = FactorModel.load(folder)
    assert not isinstance(plain.user_factors, np.memmap)
    for one in (plain, mapped, model):
        before = all_scores(one), one.seen.indices.tobytes()
        one.release()
        assert (all_scores(one), one.seen.indices.tobytes()) == before


def test_a_mapped_model_can_be_saved_where_it_lies(make_model, rng, tmp_path):
    """In another process: writing to a file that is mapped here may end this one."""
    make_model(rng, 5000, 50, 8).save(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in FILES}
    code = (
        "import sys; from pipeline.artifact import FactorModel as F; F.load(sys.argv[1], mapped=True).save(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=False)
    assert {name: (tmp_path / name).read_bytes() == data for name, data in before.items()} == dict.fromkeys(FILES, True)


# ---- damage -----------------------------------------------------------------------------------------


def sign(folder):
    """Put the checksums of the files as they are now into the metadata."""
    change(
        folder,
        lambda m: m["files"].update({n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in FILES[:3]}),
    )


def change(folder, edit):
    """Edit the parsed metadata in place."""
    metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    edit(metadata)
    (folder / METADATA).write_text(json.dumps(metadata), encoding="utf-8")


def refused(folder, *, names=None):
    """Loading is an ArtifactError, mapped or not: one line that says where, nothing chained to it."""
    for mapped in (False, True):
        with pytest.raises(ArtifactError) as caught:
            FactorModel.load(folder, mapped=mapped)
        message = str(caught.value)
        assert "\n" not in message
        assert str(folder) in message
        assert names is None or names in message
        assert len(message) < 500 + 2 * len(str(folder))
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None or caught.value.__suppress_context__
        assert caught.value.exit_status == 3


@pytest.mark.parametrize("name", [W, H, SEEN])
@pytest.mark.parametrize("where", [0.0, 0.3, 0.6, 0.999])
def test_one_flipped_bit(folder, name, where):
    data = bytearray((folder / name).read_bytes())
    data[int(where * len(data))] ^= 1
    (folder / name).write_bytes(data)
    refused(folder, names=f"{name} has a wrong checksum")


@pytest.mark.parametrize("name", [W, H, SEEN])
@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_cut_off(folder, name, size):
    (folder / name).write_bytes((folder / name).read_bytes()[:size])
    refused(folder, names=f"{name} has a wrong checksum")
    sign(folder)
    if name != SEEN or size != -1:  # the last byte of a zip is the length of its comment
        refused(folder)


@pytest.mark.parametrize("name", [W, H, SEEN])
def test_something_added(folder, name):
    with (folder / name).open("ab") as file:
        file.write(b"\0")
    refused(folder, names=f"{name} has a wrong checksum")


@pytest.mark.parametrize("name", FILES)
def test_missing_file(folder, name):
    (folder / name).unlink()
    refused(folder, names=name)


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_a_files_place(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    refused(folder, names=name)


def test_no_folder_at_all(tmp_path):
    refused(tmp_path / "nowhere", names=f"{METADATA} is missing")


def test_a_file_in_the_folders_place(tmp_path):
    (tmp_path / "model").write_text("")
    refused(tmp_path / "model")


def test_files_of_another_model(folder, make_model, rng, tmp_path):
    other = make_model(rng, 12, 9, 4).save(tmp_path / "other")
    shutil.copy(other / W, folder / W)
    refused(folder, names=f"{W} has a wrong checksum")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "can't be read"),
        (b"{", "can't be read"),
        (b'{"format": 1', "can't be read"),
        (b"\xff\xfe\xff", "can't be read"),
        (b'{"format": 1, "x": "\xff"}', "can't be read"),
        (b"[" * 200_000, "can't be read"),
        (b'{"a":' * 200_000, "can't be read"),
        (b'{"format": ' + b"9" * 5000 + b"}", "can't be read"),
        (b"[]", "format None"),
        (b"null", "format None"),
        (b"3", "format None"),
        (b'"text"', "format None"),
        (b"{}", "format None"),
        (b'{"format": null}', "format None"),
        (b'{"format": "1"}', "format '1'"),
        (b'{"format": [1]}', r"format [1]"),
        (b'{"format": 0}', "format 0; this version of Rankline reads format 1"),
        (b'{"format": 2}', "format 2; this version of Rankline reads format 1"),
        (b'{"format": 1}', "checksums"),
        (b'{"format": 1, "files": []}', "checksums"),
        (b'{"format": 1, "files": {}}', "no list user_ids"),
        (b'{"format": 1, "files": {}, "user_ids": {}}', "no list user_ids"),
        (b'{"format": 1, "files": {}, "user_ids": []}', "no list movie_ids"),
        (b'{"format": 1, "files": {}, "user_ids": [], "movie_ids": "ab"}', "no list movie_ids"),
        (b'{"format": 1, "files": {}, "user_ids": [], "movie_ids": []}', "n_components = {}"),
        (b'{"format": 1, "files": {}, "user_ids": [], "movie_ids": [], "n_components": 0}', "wrong checksum"),
        (b'{"format": true}', "format True"),
        (b'{"format": 1.0}', "format 1.0"),
        (b'{"format": 1e999}', "too large a number"),
        (b'\xef\xbb\xbf{"format": 1}', "can't be read"),
        ('{"format": 1}'.encode("utf-16"), "can't be read"),
        (b'{"format": "' + b"1" * 9999 + b'"}', "format '111"),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_metadata_of_another_kind(folder, data, says):
    (folder / METADATA).write_bytes(data)
    refused(folder, names=says)


@pytest.mark.parametrize("name", [W, H, SEEN])
@pytest.mark.parametrize("found", [None, "", 7, "0" * 64, ["0"]])
def test_checksum_of_another_kind(folder, name, found):
    change(folder, lambda m: m["files"].update({name: found}))
    refused(folder, names=f"{name} has a wrong checksum")
    change(folder, lambda m: m["files"].pop(name))
    refused(folder, names=f"{name} has a wrong checksum")


@pytest.mark.parametrize("key", ["user_ids", "movie_ids"])
@pytest.mark.parametrize(
    "edit",
    [
        lambda ids: [1, *ids[1:]],
        lambda ids: [*ids[:-1], None],
        lambda ids: [*ids[:-1], [ids[-1]]],
        lambda ids: [*ids[:-1], {}],
        lambda ids: [n + 0.5 for n in range(len(ids))],
        lambda ids: [float(n) for n in range(len(ids))],
        lambda ids: [True] * len(ids),
        lambda ids: [False, *range(1, len(ids))],
        lambda ids: [ids[0], *ids[:-1]],
        lambda ids: ids[::-1],
        lambda ids: ids[:-1],
        lambda ids: [*ids, "zzz"],
        lambda ids: [],
        lambda ids: [2**70 + n for n in range(len(ids))],
        lambda ids: [2**63 - 1 + n for n in range(len(ids))],
        lambda ids: [*ids[:-1], "z" * 257],
    ],
    ids=[
        "mixed", "null", "list", "object", "fractions", "floats", "booleans", "one boolean", "twice", "descending",
        "too few", "too many", "none", "past 64 bits", "just past 64 bits", "too long",
    ],
)  # fmt: skip
def test_ids_of_another_kind(folder, key, edit):
    change(folder, lambda m: m.update({key: edit(m[key])}))
    refused(folder)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_nan_in_json(folder, word):
    text = (folder / METADATA).read_text()
    (folder / METADATA).write_text(text.replace('"rmse": 0.5', f'"rmse": {word}'))
    refused(folder)


@pytest.mark.parametrize("key", ["user_ids", "movie_ids"])
def test_a_changed_id(folder, key):
    """Still ascending, and so the wrong person's list under this id."""
    change(folder, lambda m: m[key].__setitem__(-1, m[key][-1] + "0"))
    refused(folder)


def resave_seen(folder, save=np.savez, **changed):
    with np.load(folder / SEEN) as arrays:
        kept = {name: arrays[name] for name in arrays}
    kept.update(changed)
    save(folder / SEEN, **{name: a for name, a in kept.items() if a is not None})
    sign(folder)


def indptr(folder):
    with np.load(folder / SEEN) as arrays:
        return arrays["indptr"]


def seen_indices(folder):
    with np.load(folder / SEEN) as arrays:
        return arrays["indices"]


def swap(array, first, second):
    array = array.copy()
    array[[first, second]] = array[[second, first]]
    return array


def put(array, where, value):
    array = array.copy()
    array[where] = value
    return array


@pytest.mark.parametrize(
    "changed",
    [
        lambda f: {"indptr": indptr(f)[:-1]},
        lambda f: {"indptr": np.append(indptr(f), indptr(f)[-1])},
        lambda f: {"indptr": put(indptr(f), 0, 1)},
        lambda f: {"indptr": put(indptr(f), 0, -1)},
        lambda f: {"indptr": put(indptr(f), -1, 10**12)},
        lambda f: {"indptr": put(indptr(f), -1, indptr(f)[-1] - 1)},
        lambda f: {"indptr": put(indptr(f), 5, 10**12)},
        lambda f: {"indptr": put(indptr(f), 5, -(2**63))},
        lambda f: {"indptr": swap(indptr(f), 3, 9)},
        lambda f: {"indptr": np.zeros(0, np.int64)},
        lambda f: {"indptr": indptr(f)[:, None]},
        lambda f: {"indptr": None},
        lambda f: {"indices": None},
        lambda f: {"shape": None},
        lambda f: {"indices": put(seen_indices(f), 3, -1)},
        lambda f: {"indices": put(seen_indices(f), 3, 9)},
        lambda f: {"indices": put(seen_indices(f), -1, 2**31 - 1)},
        lambda f: {"indices": seen_indices(f).astype(np.int64)},
        lambda f: {"indices": seen_indices(f).astype(np.float32)},
        lambda f: {"indices": seen_indices(f)[:-1]},
        lambda f: {"indices": seen_indices(f)[:0]},
        lambda f: {"indices": seen_indices(f).astype(object)},
        lambda f: {"shape": np.array([9, 12])},
        lambda f: {"shape": np.array([12, 9, 1])},
        lambda f: {"shape": np.array([12, 10])},
        lambda f: {"shape": np.array([12.5, 9])},
        lambda f: {"shape": np.array(["12", "9"])},
        lambda f: {"indptr": indptr(f).astype(object)},
    ],
    ids=[
        "too few users", "too many users", "starts at 1", "starts at -1", "ends past the end", "ends early",
        "out of bounds", "negative", "falls", "indptr empty", "indptr 2-d", "no indptr", "no indices", "no shape",
        "item -1", "item n", "item 2**31-1", "int64 items", "float items", "too few items", "no items",
        "object items", "transposed", "shape of three", "one more item", "shape of halves",
        "shape of text", "object indptr",
    ],
)  # fmt: skip
def test_seen_of_another_kind(folder, changed):
    resave_seen(folder, **changed(folder))
    refused(folder)


# An indptr of unsigned integers can fall without a negative difference; scipy then reads past its arrays.
@pytest.mark.parametrize(
    "changed",
    [
        lambda f: {"indptr": put(indptr(f), 5, 10**12).astype(np.uint64)},
        lambda f: {"indptr": indptr(f).astype(np.float64)},
        lambda f: {"indices": seen_indices(f)[:, None]},
        lambda f: {"shape": np.array(12)},
    ],
    ids=["unsigned", "fractions", "indices 2-d", "shape 0-d"],
)
def test_seen_of_another_type(folder, changed):
    resave_seen(folder, **changed(folder))
    refused(folder)


def test_compressed_seen_items_can_not_be_mapped(folder):
    resave_seen(folder, save=np.savez_compressed)
    with pytest.raises(ArtifactError, match="compressed"):
        FactorModel.load(folder, mapped=True)


def write_header(path, text):
    text = text.encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(300))


@pytest.mark.parametrize("name", [W, H])
@pytest.mark.parametrize(
    "array",
    [
        np.zeros((12, 9)),
        np.zeros((12, 9), np.float16),
        np.zeros((12, 9), np.int32),
        np.zeros((12, 9), ">f4"),
        np.zeros((12, 9, 1), np.float32),
        np.zeros(12, np.float32),
        np.float32(1),
        np.zeros((13, 4), np.float32),
        np.zeros((4, 13), np.float32),
        np.zeros((4, 4), np.float32),
        np.zeros((12, 9), [("a", np.float32)]),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_factors_of_another_kind(folder, name, array):
    np.save(folder / name, array)
    sign(folder)
    for mapped in (False, True):
        with pytest.raises(ArtifactError):
            FactorModel.load(folder, mapped=mapped)


def test_factors_of_another_kind_are_named(folder):
    np.save(folder / W, np.zeros((12, 4)))
    sign(folder)
    refused(folder)


@pytest.mark.parametrize("name", [W, H])
def test_objects_are_never_unpickled(folder, name, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    np.save(folder / name, np.array([[Bomb()] * 9] * 12, object), allow_pickle=True)
    sign(folder)
    refused(folder)
    assert not (tmp_path / "ran").exists()
    (folder / name).write_bytes(b"\x80\x04c__builtin__\nexit\n)R.")
    sign(folder)
    refused(folder)


def test_objects_among_the_seen_items_are_never_unpickled(folder):
    resave_seen(folder, indices=np.array([1, "a", None], object))
    refused(folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: shutil.copy(f / SEEN, f / W),
        lambda f: shutil.copy(f / SEEN, f / H),
        lambda f: shutil.copy(f / W, f / SEEN),
        lambda f: write_header(f / W, "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "\n"),
        lambda f: write_header(f / W, "{'descr': '<f4', 'fortran_order': False, 'shape': (12, 4)}" + " " * 20_000),
        lambda f: write_header(f / W, f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**9}, {10**6})}}"),
        lambda f: np.save(f / W, np.full((12, 4), np.nan, np.float32)),
        lambda f: np.save(f / H, np.full((4, 9), np.inf, np.float32)),
    ],
    ids=["zip as users", "zip as items", "array as zip", "no end", "endless header", "petabytes", "NaN", "infinity"],
)
def test_files_that_numpy_chokes_on(folder, damage):
    damage(folder)
    sign(folder)
    refused(folder)


# ---- what a model is --------------------------------------------------------------------------------


def test_parts_that_do_not_fit(model):
    w, h, users, items, seen = model.user_factors, model.item_factors, model.users, model.items, model.seen
    for parts, says in (
        ((w[:, 1:], h, users, items, seen), "can't be multiplied"),
        ((w[0], h, users, items, seen), "can't be multiplied"),
        ((w, h[:, 0], users, items, seen), "can't be multiplied"),
        ((w.astype(np.float64), h, users, items, seen), "float32"),
        ((w, h.astype(np.float16), users, items, seen), "float32"),
        ((w[1:], h, users, items, seen), "Factors are for"),
        ((w, h[:, 1:], users, items, seen), "Factors are for"),
        ((w, h, users, items, seen[1:]), "seen for"),
        ((w, h, users, items, seen.T.tocsr()), "seen for"),
        ((w, h, items, users, seen), "ids for"),
    ):
        with pytest.raises(ArtifactError, match=says):
            FactorModel(*parts)


@given(
    kind=st.sampled_from(["uniform", "near_ties", "negative", "huge", "tiny", "mixed_scale"]),
    k=st.integers(0, 8),
    seed=st.integers(0, 2**32),
)
def test_predict_is_the_naive_sum_bit_for_bit(make_model, kind, k, seed):
    rng = np.random.default_rng(seed)
    model = make_model(rng, 5, 6, k, kind=kind)
    users, items = rng.integers(0, 5, 10), rng.integers(0, 6, 10)
    found = model.predict(users, items)
    assert found.dtype == np.float32
    expected = np.array([naive.score(model, u, i) for u, i in zip(users, items, strict=True)], np.float32)
    assert found.tobytes() == expected.tobytes()


def test_predict_by_row(checkerboard):
    model = checkerboard.model
    assert model.predict([0, 0, 1], [0, 1, 1]).tolist() == [1.0, 0.0, 1.0]
    assert model.predict(3, 5).tolist() == [1.0]
    assert model.predict([], []).tolist() == []
    assert model.n_components == 2
    with pytest.raises(InputError, match="2 user rows and 1 item rows"):
        model.predict([0, 1], [0])


@pytest.mark.parametrize("row", [-1, 50, 2**40])
def test_rows_out_of_range(make_model, rng, row):
    model = make_model(rng, 50, 20)
    for call in (lambda: model.predict([row], [0]), lambda: model.user_embeddings([0, row])):
        with pytest.raises(RowRangeError) as caught:
            call()
        assert str(caught.value) == "User IDs must be in range [0, 50)"
    for call in (lambda: model.predict([0], [row]), lambda: model.item_embeddings([row])):
        with pytest.raises(RowRangeError) as caught:
            call()
        assert str(caught.value) == "Item IDs must be in range [0, 20)"


@pytest.mark.parametrize("wrong", [[0.0], [True], ["0"], [None]])
def test_rows_are_integers(model, wrong):
    for call in (
        lambda: model.predict(wrong, [0]),
        lambda: model.predict([0], wrong),
        lambda: model.user_embeddings(wrong),
        lambda: model.item_embeddings(wrong),
    ):
        with pytest.raises(InputError, match="rows must be integers"):
            call()


def test_embeddings(model):
    assert np.array_equal(model.user_embeddings([3, 0, 3]), model.user_factors[[3, 0, 3]])
    assert np.array_equal(model.item_embeddings([2, 1]), model.item_factors[:, [2, 1]].T)
    assert model.user_embeddings([]).shape == model.item_embeddings([]).shape == (0, 4)
    assert model.user_embeddings(1).shape == (1, 4)
    # A copy: nobody changes the model by changing what it gave.
    before = all_scores(model)
    model.user_embeddings([0])[:] = 9
    model.item_embeddings([0])[:] = 9
    assert all_scores(model) == before
