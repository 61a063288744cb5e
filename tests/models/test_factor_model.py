"""`FactorModel` on disk: what is written, that it comes back the same, and that damage never does."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support import naive
from support.factor_models import METADATA, SEEN, H, W

from pipeline.data.id_map import IdMap
from pipeline.errors import ArtifactError, InputError, RowRangeError
from pipeline.models.factor_model import FILES, FORMAT, FactorModel
from pipeline.ranking.scorer import Scorer


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
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "scores.npy", "items.npz"])
    metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    assert metadata["format"] == FORMAT == 2
    assert list(metadata)[:5] == ["format", "kind", "model", "run_id", "data_watermark"]
    assert (metadata["kind"], metadata["model"]) == ("factors", "nmf")
    assert (metadata["run_id"], metadata["data_watermark"]) == (None, None)
    assert metadata["user_ids"] == model.users.values.tolist()
    assert metadata["movie_ids"] == model.items.values.tolist()
    assert (metadata["n_users"], metadata["n_items"], metadata["n_components"]) == (12, 9, 4)
    assert metadata["parameters"] == {"n_components": 4}
    assert metadata["metrics"] == {"rmse": 0.5}
    assert metadata["algorithm"] == "NMF"
    assert metadata["files"] == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in (W, H, SEEN, "scores.npy", "items.npz")
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
    recommended = Scorer(loaded).recommend("\U0001f3ac", 4)
    assert recommended.items.tolist() == [item for item, _ in naive.top_k(model, 8, 4)]


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
    for each_model in (plain, mapped, model):
        before = all_scores(each_model), each_model.seen.indices.tobytes()
        each_model.release()
        assert (all_scores(each_model), each_model.seen.indices.tobytes()) == before


@pytest.mark.slow
def test_a_mapped_model_can_be_saved_where_it_lies(make_model, rng, tmp_path):
    """In another process: writing to a file that is mapped here may end this one."""
    make_model(rng, 5000, 50, 8).save(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in FILES}
    code = (
        "import sys; from pipeline.models.factor_model import FactorModel as F\n"
        "F.load(sys.argv[1], mapped=True).save(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=False)
    assert {name: (tmp_path / name).read_bytes() == data for name, data in before.items()} == dict.fromkeys(FILES, True)


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
    predictions = model.predict(users, items)
    assert predictions.dtype == np.float32
    expected = np.array([naive.score(model, u, i) for u, i in zip(users, items, strict=True)], np.float32)
    assert predictions.tobytes() == expected.tobytes()
    assert model.scores_of(3).tobytes() == model.predict(np.full(6, 3), np.arange(6)).tobytes()


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
