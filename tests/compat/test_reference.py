"""The collaborative-filtering reference: each signature, attribute, default, and error to the letter."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.decomposition import NMF

from pipeline.compat import Constants, DataLoader, EvaluationMetrics, ModelTrainer, NMFModel, RedisConnector, Settings
from pipeline.compat import nmf_model as module
from pipeline.errors import ArtifactError
from pipeline.ranking.scorer import Scorer

NONE = dict.fromkeys(("n_components", "random_state", "max_iter", "tol"))
REQUIRED = inspect.Parameter.empty
SIGNATURES: list[tuple[Any, str, dict[str, Any]]] = [
    (NMFModel, "__init__", NONE),
    (NMFModel, "fit", {"user_item_matrix": REQUIRED}),
    (NMFModel, "predict", {"user_ids": REQUIRED, "item_ids": REQUIRED}),
    (NMFModel, "get_user_embeddings", {"user_ids": REQUIRED}),
    (NMFModel, "get_item_embeddings", {"item_ids": REQUIRED}),
    (NMFModel, "get_top_recommendations", {"user_id": REQUIRED, "top_k": 10, "exclude_seen": True}),
    (NMFModel, "save", {"filepath": REQUIRED}),
    (NMFModel, "load", {"filepath": REQUIRED}),
    (DataLoader, "__init__", {}),
    (DataLoader, "load_user_interactions", {"filepath": REQUIRED, "format": "csv"}),
    (DataLoader, "create_user_item_matrix",
     {"interactions_df": REQUIRED, "user_col": "user_id", "item_col": "item_id", "value_col": "rating"}),
    (ModelTrainer, "__init__", {}),
    (ModelTrainer, "train_nmf_model", {"user_item_matrix": REQUIRED, **NONE}),
    (RedisConnector, "__init__", {}),
    (RedisConnector, "set_recommendations", {"user_id": REQUIRED, "recommendations": REQUIRED, "ttl": 3600}),
    (RedisConnector, "get_recommendations", {"user_id": REQUIRED}),
    (RedisConnector, "set_embeddings", {"key": REQUIRED, "embeddings": REQUIRED, "ttl": 86400}),
    (RedisConnector, "get_embeddings", {"key": REQUIRED}),
    (RedisConnector, "delete_key", {"key": REQUIRED}),
    (RedisConnector, "health_check", {}),
    (RedisConnector, "close", {}),
]  # fmt: skip


@pytest.mark.parametrize(("of", "name", "expected"), SIGNATURES, ids=lambda value: getattr(value, "__name__", value))
def test_signatures_are_those_of_the_reference(of: Any, name: str, expected: dict[str, Any]) -> None:
    parameters = list(inspect.signature(getattr(of, name)).parameters.values())[1:]
    assert {parameter.name: parameter.default for parameter in parameters} == expected
    assert [parameter.name for parameter in parameters] == list(expected)


def ratings(seed: int = 3, n_users: int = 50, n_items: int = 30) -> np.ndarray:
    rng = np.random.default_rng(seed)
    tastes = rng.random((n_users, 3)) @ rng.random((3, n_items))
    return np.where(rng.random((n_users, n_items)) < 0.4, np.ceil(5 * tastes / tastes.max()), 0.0)


@pytest.fixture(scope="module")
def model() -> NMFModel:
    return NMFModel(n_components=4).fit(ratings())


# ---- NMFModel ------------------------------------------------------------------------------------


def test_defaults_come_from_settings_and_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NMF_N_COMPONENTS", "NMF_RANDOM_STATE", "REDIS_URL", "REDIS_PASSWORD", "REDIS_DB"):
        monkeypatch.delenv(name, raising=False)
    model = NMFModel()
    assert (model.n_components, model.random_state, model.max_iter, model.tol) == (100, 42, 200, 1e-4)
    assert Settings().model_dump() == {
        "REDIS_URL": None, "REDIS_PASSWORD": None, "REDIS_DB": 0, "NMF_N_COMPONENTS": 100, "NMF_RANDOM_STATE": 42,
    }  # fmt: skip
    assert (Constants.MIN_PLAYS_THRESHOLD, Constants.MAX_PLAYS_THRESHOLD) == (5, 10000)
    monkeypatch.setenv("NMF_N_COMPONENTS", "7")
    assert NMFModel().n_components == 7
    assert NMFModel(n_components=3).n_components == 3


def test_attributes_before_and_after_a_fit(model: NMFModel) -> None:
    fresh = NMFModel()
    assert (fresh.is_fitted, fresh.user_factors, fresh.item_factors) == (False, None, None)
    assert model.is_fitted is True
    assert (model.user_factors.shape, model.item_factors.shape) == ((50, 4), (4, 30))
    assert (model.n_users, model.n_items) == (50, 30)


def test_the_factors_are_of_the_logarithm_and_as_good_as_scikit_learns(model: NMFModel) -> None:
    X = np.log1p(ratings())
    theirs = NMF(n_components=4, random_state=42, max_iter=200, init="random").fit(X)
    error = np.linalg.norm(X - model.user_factors @ model.item_factors)
    assert error < 1.02 * theirs.reconstruction_err_
    users, items = [0, 1, 2], [10, 15, 20]
    assert model.predict(users, items) == pytest.approx((model.user_factors @ model.item_factors)[users, items])
    assert model.get_user_embeddings(users).tolist() == model.user_factors[users].tolist()
    assert model.get_item_embeddings(items).tolist() == model.item_factors[:, items].T.tolist()


@pytest.mark.parametrize(
    "form", [pd.DataFrame, sparse.csr_matrix, sparse.coo_matrix, pd.DataFrame.sparse.from_spmatrix]
)
def test_any_form_of_the_matrix_gives_the_same_factors(form: Any, model: NMFModel) -> None:
    given = form(sparse.csr_matrix(ratings())) if "spmatrix" in getattr(form, "__name__", "") else form(ratings())
    assert NMFModel(n_components=4).fit(given).user_factors.tobytes() == model.user_factors.tobytes()


def test_the_best_items_are_those_of_the_largest_products(model: NMFModel) -> None:
    scores, seen = model.user_factors @ model.item_factors, ratings() > 0
    items, values = model.get_top_recommendations(user_id=5)
    assert len(items) == len(values) == 10
    unseen = np.flatnonzero(~seen[5])
    assert items.tolist() == unseen[np.argsort(-scores[5, unseen], kind="stable")][:10].tolist()
    assert values == pytest.approx(scores[5, items])
    everything, _ = model.get_top_recommendations(5, 99, exclude_seen=False)
    assert sorted(everything.tolist()) == list(range(30))
    assert not seen[5, model.get_top_recommendations(5, 99)[0]].any()


ASKED = [
    ("predict", ([0], [0])),
    ("get_user_embeddings", ([0],)),
    ("get_item_embeddings", ([0],)),
    ("get_top_recommendations", (0,)),
    ("save", ("nowhere",)),
]


@pytest.mark.parametrize(("name", "arguments"), ASKED, ids=[name for name, _ in ASKED])
def test_a_model_that_is_not_fitted_says_so(name: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"^Model must be fitted before making predictions$"):
        getattr(NMFModel(), name)(*arguments)


def test_rows_out_of_bounds(model: NMFModel) -> None:
    for call in (
        lambda: model.predict([1000], [0]),
        lambda: model.get_user_embeddings([50]),
        lambda: model.get_top_recommendations(-1),
    ):
        with pytest.raises(ValueError, match=r"^User IDs must be in range \[0, 50\)$"):
            call()
    for call in (lambda: model.predict([0], [30]), lambda: model.get_item_embeddings([-1])):
        with pytest.raises(ValueError, match=r"^Item IDs must be in range \[0, 30\)$"):
            call()


@pytest.mark.parametrize("bad", [np.nan, -1.0, np.inf, "x"])
def test_a_matrix_that_cannot_be_fitted(bad: Any) -> None:
    matrix = ratings().astype(object)
    matrix[0, 0] = bad
    with pytest.raises(ValueError, match=r"not finite and ≥ 0|not numbers"):
        NMFModel(n_components=2).fit(matrix)
    with pytest.raises(ValueError, match="no interaction"):
        NMFModel(n_components=2).fit(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="n_components"):
        NMFModel(n_components=0).fit(ratings())
    with pytest.raises(ValueError, match="shape"):
        NMFModel(n_components=2).fit(np.ones(3))


# ---- save and load -------------------------------------------------------------------------------


def test_a_saved_model_is_the_same_and_no_pickle(model: NMFModel, tmp_path: Path) -> None:
    path = tmp_path / "models" / "production_model.pkl"
    model.save(str(path))
    assert {file.suffix for file in path.iterdir()} == {".npy", ".npz", ".json"}
    again = NMFModel()
    assert again.load(str(path)) is again
    assert (again.is_fitted, again.n_components, again.random_state) == (True, 4, 42)
    assert again.predict([0, 1], [2, 3]).tobytes() == model.predict([0, 1], [2, 3]).tobytes()
    assert [part.tobytes() for part in again.get_top_recommendations(7)] == [
        part.tobytes() for part in model.get_top_recommendations(7)
    ]
    # The scorer of the product reads it, and folds a user in as the reference's matrix would have them.
    row = ratings()[7]
    folded = Scorer.load(path).fold_in(np.flatnonzero(row), row[row > 0])
    assert folded == pytest.approx(model.user_factors[7], abs=2e-3)


def test_what_is_not_there_or_is_a_pickle_is_not_loaded(model: NMFModel, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        NMFModel().load(str(tmp_path / "none.pkl"))
    pickle = tmp_path / "old.pkl"
    pickle.write_bytes(b"\x80\x04")
    with pytest.raises(ArtifactError, match="a pickle could run any code"):
        NMFModel().load(str(pickle))
    with pytest.raises(OSError, match=r"old\.pkl"):
        model.save(str(pickle))
    with pytest.raises(OSError, match=r"old\.pkl"):
        model.save(str(pickle / "below"))
    model.save(tmp_path / "good")
    (tmp_path / "good" / "user_features.npy").write_bytes(b"no array")
    with pytest.raises(ArtifactError):
        NMFModel().load(tmp_path / "good")


# ---- DataLoader ----------------------------------------------------------------------------------

ROWS = [(10, 7, 4.0), (10, 8, 2.5), (3, 7, 5.0), (10, 7, 1.0)]


def frame() -> pd.DataFrame:
    return pd.DataFrame(ROWS, columns=["user_id", "item_id", "rating"])


def test_files_of_every_format(tmp_path: Path) -> None:
    loader = DataLoader()
    assert loader.supported_formats == ["csv", "parquet", "json"]
    frame().to_csv(tmp_path / "x.csv", index=False)
    frame().to_parquet(tmp_path / "x.parquet")
    (tmp_path / "x.json").write_text(json.dumps(frame().to_dict("records")))
    for name in loader.supported_formats:
        read = loader.load_user_interactions(str(tmp_path / f"x.{name}"), format=name)
        assert read.to_dict("records") == frame().to_dict("records")
    (tmp_path / "implicit.csv").write_text("userId,movieId,timestamp\n1,2,2024-03-01\n")
    read = loader.load_user_interactions(tmp_path / "implicit.csv")
    assert read.to_dict("records") == [
        {"user_id": 1, "item_id": 2, "rating": 1.0, "timestamp": pd.Timestamp("2024-03-01")}
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    loader = DataLoader()
    with pytest.raises(ValueError, match="Unsupported format: xml"):
        loader.load_user_interactions("x.xml", format="xml")
    with pytest.raises(FileNotFoundError):
        loader.load_user_interactions(tmp_path / "none.csv")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"^Missing required columns: \['user_id', 'item_id'\]$"):
        loader.load_user_interactions(tmp_path / "x.csv")
    (tmp_path / "y.csv").write_text("user_id,item_id,rating\n1,2,x\n")
    with pytest.raises(ValueError, match=r"y\.csv"):
        loader.load_user_interactions(tmp_path / "y.csv")


def test_the_matrix_and_its_ids() -> None:
    loader = DataLoader()
    matrix = loader.create_user_item_matrix(frame())
    assert matrix.to_numpy().tolist() == [[5.0, 0.0], [1.0, 2.5]]
    assert (matrix.index.tolist(), matrix.columns.tolist()) == ([3, 10], [7, 8])
    assert (loader.user_to_idx, loader.item_to_idx) == ({3: 0, 10: 1}, {7: 0, 8: 1})
    assert (loader.idx_to_user, loader.idx_to_item) == ({0: 3, 1: 10}, {0: 7, 1: 8})
    assert all(isinstance(kind, pd.SparseDtype) for kind in matrix.dtypes)
    timed = frame().assign(timestamp=pd.to_datetime(["2024-01-02", "2024-01-01", "2024-01-01", "2024-01-01"]))
    assert loader.create_user_item_matrix(timed).loc[10, 7] == 4.0
    named = frame().rename(columns={"user_id": "u", "item_id": "i", "rating": "plays"})
    assert loader.create_user_item_matrix(named, "u", "i", "plays").to_numpy().tolist() == [[5.0, 0.0], [1.0, 2.5]]
    assert loader.create_user_item_matrix(frame().drop(columns="rating")).to_numpy().tolist() == [[1, 0], [1, 1]]


def test_missing_columns_of_a_frame() -> None:
    wrong = pd.DataFrame({"user": [1, 2], "item": [1, 2]})
    with pytest.raises(ValueError, match=r"^Missing required columns: \['user_id', 'item_id'\]$"):
        DataLoader().create_user_item_matrix(wrong)
    with pytest.raises(ValueError, match=r"^Missing required columns: \['item_id'\]$"):
        DataLoader().create_user_item_matrix(wrong.rename(columns={"user": "user_id"}))
    with pytest.raises(ValueError, match="finite"):
        DataLoader().create_user_item_matrix(frame().assign(rating=[1, None, 1, 1]))


# ---- ModelTrainer --------------------------------------------------------------------------------


def test_the_workflow_of_the_reference(tmp_path: Path) -> None:
    trainer = ModelTrainer()
    assert isinstance(trainer.data_loader, DataLoader)
    assert isinstance(trainer.evaluation_metrics, EvaluationMetrics)
    assert trainer.training_history == {}
    users, items = np.nonzero(ratings())
    pd.DataFrame({"user_id": users, "item_id": items, "rating": ratings()[users, items]}).to_csv(tmp_path / "x.csv")
    matrix = trainer.data_loader.create_user_item_matrix(trainer.data_loader.load_user_interactions(tmp_path / "x.csv"))
    model = trainer.train_nmf_model(user_item_matrix=matrix, n_components=5, random_state=1, max_iter=30)
    direct = NMFModel(5, 1, 30).fit(ratings())
    assert model.user_factors.tobytes() == direct.user_factors.tobytes()
    history = trainer.training_history
    assert (history["n_components"], history["max_iter"], history["tol"]) == (5, 30, 1e-4)
    assert (history["n_users"], history["n_items"]) == matrix.shape
    assert len(history["losses"]) == history["n_iter"] <= 30
    assert history["losses"][-1] < history["losses"][0]


def test_errors_of_predictions() -> None:
    metrics = EvaluationMetrics()
    assert metrics.rmse([1, 2, 3], [1, 4, 3]) == pytest.approx((4 / 3) ** 0.5)
    assert metrics.mae([1, 2, 3], [1, 4, 3]) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="0 predictions for 0 values"):
        metrics.rmse([], [])


def test_names_of_the_package() -> None:
    from pipeline import compat

    assert module.NMFModel is NMFModel
    for name in compat.__all__:
        assert getattr(compat, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = compat.nothing
