"""Damaged, foreign and hostile artifacts of factors: refused, naming the file, and never unpickled."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
from support.factor_models import METADATA, SEEN, H, W

from pipeline.errors import ArtifactError
from pipeline.models.factor_model import FILES, FactorModel


@pytest.fixture
def model(make_model, rng):
    return make_model(rng, 12, 9, 4, text_ids=True, density=0.4)


@pytest.fixture
def folder(model, tmp_path):
    return model.save(tmp_path / "model")


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
        (b'{"format": 0}', "format 0; this version of Rankline reads formats 1 and 2"),
        (b'{"format": 3}', "format 3; this version of Rankline reads formats 1 and 2"),
        (b'{"format": 1, "kind": "popularity", "files": {}, "user_ids": [], "movie_ids": []}', "kind 'popularity'"),
        (b'{"format": 2, "kind": "psychic", "files": {}, "user_ids": [], "movie_ids": []}', "kind 'psychic'"),
        (b'{"format": 2, "kind": ["factors"], "files": {}, "user_ids": [], "movie_ids": []}', "kind ['factors']"),
        (b'{"format": 2, "files": {}, "user_ids": [], "movie_ids": []}', "kind None"),
        (b'{"format": 2, "kind": "factors", "model": "../x", "files": {}, "user_ids": [], "movie_ids": []}', "'../x'"),
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
@pytest.mark.parametrize("checksum", [None, "", 7, "0" * 64, ["0"]])
def test_checksum_of_another_kind(folder, name, checksum):
    change(folder, lambda m: m["files"].update({name: checksum}))
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
        contents = {name: arrays[name] for name in arrays}
    contents.update(changed)
    save(folder / SEEN, **{name: a for name, a in contents.items() if a is not None})
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
