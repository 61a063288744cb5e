"""Versions, trainings that fail, and updates at once: the design's error handling."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from support.films import movies, ratings

from pipeline.compat import MatrixFactorizationModel, MLModelManager, RealtimeLearner, TrainingService
from pipeline.compat import realtime_learner as learner_module
from pipeline.errors import ArtifactError, DivergedError, InputError, RanklineError, TooLittleDataError, UsageError

SMALL = {"n_factors": 4, "epochs": 5}


@pytest.fixture(scope="module")
def fitted() -> MatrixFactorizationModel:
    made = MatrixFactorizationModel(n_factors=4, learning_rate=0.05)
    made.regularization = 0.2
    made.fit(ratings(), epochs=60)
    made.movies = movies()
    return made


@pytest.fixture
def manager(tmp_path: Path, fitted: MatrixFactorizationModel) -> MLModelManager:
    made = MLModelManager(tmp_path / "models")
    for number, rmse in enumerate((0.9, 0.8, 0.85)):
        made.save_model(fitted, f"v1.0.{number}", {"metrics": {"rmse": rmse}})
    return made


def damage(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"broken")


# ---- versions ------------------------------------------------------------------------------------


def test_versions_have_the_metadata_of_the_design(manager: MLModelManager, fitted: MatrixFactorizationModel) -> None:
    listed = manager.list_versions()
    assert [known["version"] for known in listed] == ["v1.0.2", "v1.0.1", "v1.0.0"]
    assert set(listed[0]) >= {"version", "model_type", "trained_at", "hyperparameters", "metrics", "training_data"}
    assert listed[0]["metrics"] == {"rmse": 0.85}
    path = Path(manager.save_model(fitted, "v2", {}))
    assert path == manager.models_dir / "matrix_factorization" / "v2"
    assert not list(manager.models_dir.rglob("*.pkl"))
    again = manager.load_model()
    assert again.facts["version"] == "v2"
    assert again.predict(5, 500) == fitted.predict(5, 500)
    assert again.movies["title"].tolist() == movies()["title"].tolist()
    assert manager.load_model("v1.0.1").facts["version"] == "v1.0.1"
    assert manager.get_best_model().facts["version"] == "v1.0.1"
    for version in ("v2", "latest", "../x", "", ".hidden"):
        with pytest.raises(UsageError):
            manager.save_model(fitted, version, {})
    with pytest.raises(UsageError, match="no version 'v9'"):
        manager.load_model("v9")


def test_a_version_that_cannot_be_loaded_falls_back_to_the_one_before(
    manager: MLModelManager, caplog: pytest.LogCaptureFixture
) -> None:
    folder = manager.models_dir / "matrix_factorization"
    damage(folder / "v1.0.2", "user_features.npy")
    damage(folder / "v1.0.1", "metadata.json")
    assert manager.load_model().facts["version"] == "v1.0.0"
    assert manager.load_model("v1.0.2").facts["version"] == "v1.0.0"
    assert "version v1.0.2 can't be loaded" in caplog.text
    assert [known["version"] for known in manager.list_versions()] == ["v1.0.2", "v1.0.0"]


def test_where_no_version_can_be_loaded_popular_films_are_recommended(
    manager: MLModelManager, fitted: MatrixFactorizationModel
) -> None:
    for version in ("v1.0.0", "v1.0.1", "v1.0.2"):
        damage(manager.models_dir / "matrix_factorization" / version, "user_features.npy")
    simple = manager.load_model()
    assert simple.model_type == "popular"
    assert simple.recommend(5, 7) == simple.recommend(999, 7) == fitted.recommend(999, 7)
    simple.genre_preferences[7] = ["Drama"]
    assert all(film % 500 % 3 == 1 for film in simple.recommend(7, 10))
    for path in manager.models_dir.rglob("items.npz"):
        path.unlink()
    with pytest.raises(ArtifactError, match="no version"):
        manager.load_model()
    with pytest.raises(ArtifactError):
        MLModelManager(manager.models_dir / "none").get_best_model()


# ---- training ------------------------------------------------------------------------------------


def test_fewer_than_a_hundred_ratings_are_refused_before_a_training() -> None:
    service = TrainingService()
    with pytest.raises(TooLittleDataError, match="99 interaction"):
        service.prepare_data(ratings().head(99))
    with pytest.raises(InputError, match="prepare_data"):
        service.train_model("matrix_factorization", SMALL)
    train, test = service.prepare_data(ratings().head(100))
    assert len(train) + len(test) == 100
    assert service.train_model("matrix_factorization", SMALL).is_fitted


def test_a_fifth_is_held_out_and_never_trained_on() -> None:
    train, test = TrainingService().prepare_data(ratings())
    pairs = [set(map(tuple, frame[["user_id", "movie_id"]].to_numpy().tolist())) for frame in (train, test)]
    assert not pairs[0] & pairs[1]
    assert len(pairs[0] | pairs[1]) == len(ratings())
    assert 0.15 < len(test) / len(ratings()) < 0.25
    again, _ = TrainingService().prepare_data(ratings().sample(frac=1, random_state=1))
    assert again.equals(train)


def test_the_model_before_stays_where_a_training_does_not_converge(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = TrainingService(tmp_path)
    service.prepare_data(ratings())
    too_fast = {**SMALL, "learning_rate": 1e6}
    with pytest.raises(DivergedError, match="grow without end"):
        service.train_model("matrix_factorization", too_fast)
    good = service.train_model("matrix_factorization", SMALL)
    assert set(good.facts["metrics"]) >= {"rmse", "precision_at_10", "recall_at_10", "coverage"}
    assert service.train_model("matrix_factorization", too_fast) is good
    assert "did not converge, and the model before stays" in caplog.text
    assert [known["version"] for known in service.manager.list_versions()] == ["v1.0.0"]


@pytest.mark.parametrize(
    ("model_type", "wrong"),
    [
        ("matrix_factorization", {"n_factors": 0}),
        ("matrix_factorization", {"learning_rate": -1.0}),
        ("matrix_factorization", {"epochs": 0}),
        ("matrix_factorization", {"epochs": 2.5}),
        ("matrix_factorization", {"depth": 3}),
        ("neural_cf", {"hidden_layers": [0]}),
        ("neural_cf", {"dropout": 1.0}),
        ("transformer", {}),
    ],
)
def test_hyperparameters_are_checked_and_no_default_stands_in(model_type: str, wrong: dict[str, object]) -> None:
    service = TrainingService()
    with pytest.raises(UsageError):  # before the data are looked at
        service.train_model(model_type, wrong)


def test_all_models_are_trained_again_and_one_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    service = TrainingService()
    service.prepare_data(ratings())
    first = service.train_model("matrix_factorization", SMALL)

    def no_jax() -> None:
        raise UsageError("JAX is not installed")

    monkeypatch.setattr("pipeline.models.neumf.require_jax", no_jax)
    results = service.retrain_all_models()
    assert results["matrix_factorization"]["status"] == "trained"
    assert results["matrix_factorization"]["metrics"]["rmse"] == first.facts["metrics"]["rmse"]
    assert results["neural_cf"] == {"status": "failed", "metrics": {}, "reason": "JAX is not installed"}
    assert service.models["matrix_factorization"] is not first
    assert service.models["matrix_factorization"].n_factors == 4


# ---- updates -------------------------------------------------------------------------------------


@pytest.fixture
def learner(fitted: MatrixFactorizationModel) -> RealtimeLearner:
    return RealtimeLearner(MatrixFactorizationModel.of_saved(fitted.saved))


@pytest.mark.parametrize("rating", [0.0, 0.49, 5.01, -1, float("nan"), float("inf"), True])
def test_a_rating_outside_the_scale_is_refused_and_changes_nothing(learner: RealtimeLearner, rating: float) -> None:
    before = learner.model.get_user_embedding(5).tobytes()
    for call in (
        lambda: learner.update_user_embedding(5, 500, rating),
        lambda: learner.update_movie_embedding(500, 5, rating),
        lambda: learner.apply_updates(
            [{"user_id": 5, "movie_id": 501, "rating": 4}, {"user_id": 5, "movie_id": 500, "rating": rating}]
        ),
    ):
        with pytest.raises(ValueError, match=r"^Rating must be between 0\.5 and 5\.0"):
            call()
    assert learner.model.get_user_embedding(5).tobytes() == before


def test_a_new_film_is_predicted_and_recommended_after_its_ratings(learner: RealtimeLearner) -> None:
    model = learner.model
    # Users 3, 6, … like the films 500 + 3n + 2; this one is like them.
    for user in (3, 6, 9, 12):
        embedding = learner.update_movie_embedding(900, user, 5.0)
    for user in (1, 2, 4, 5, 7, 8):
        embedding = learner.update_movie_embedding(900, user, 1.5)
    assert embedding.shape == (4,)
    assert embedding.tolist() == model.get_movie_embedding(900).tolist()
    likes, others = [model.predict(user, 900) for user in (15, 18, 21)], [model.predict(user, 900) for user in (10, 11)]
    assert min(likes) > max(others)
    assert 900 in model.recommend(15, 30)
    assert 900 not in model.recommend(3, 30)
    assert learner.apply_updates([{"user_id": 777, "movie_id": 900, "rating": 4.0}]) is True  # a new user, too
    assert 900 not in model.recommend(777, 30)


def test_an_update_that_fails_is_logged_and_the_others_are_made(
    learner: RealtimeLearner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    update = RealtimeLearner.update_movie_embedding

    def failing(self, movie_id, user_id, rating):
        if movie_id == 501:
            raise RanklineError("no memory")
        return update(self, movie_id, user_id, rating)

    monkeypatch.setattr(RealtimeLearner, "update_movie_embedding", failing)
    rows = [{"user_id": 999, "movie_id": film, "rating": 4.0} for film in (501, 502)]
    with caplog.at_level(logging.ERROR):
        assert learner.apply_updates(rows) is False
    assert "no memory" in caplog.text
    assert learner.model.rated(999) == {502: 4.0}
    with pytest.raises(ValueError, match=r"Missing required columns: \['rating'\]"):
        learner.apply_updates([{"user_id": 1, "movie_id": 2}])


def test_updates_at_once_lose_none_and_a_user_is_updated_by_one_at_a_time(
    learner: RealtimeLearner, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = list(range(500, 530))
    inside: dict[int, int] = dict.fromkeys((1000, 1001), 0)
    at_once: list[int] = []
    add = MatrixFactorizationModel.add_rating

    def watched(self, user_id, movie_id, rating):
        inside[user_id] += 1
        at_once.append(inside[user_id])
        add(self, user_id, movie_id, rating)
        inside[user_id] -= 1

    monkeypatch.setattr(MatrixFactorizationModel, "add_rating", watched)

    def rate(user: int, some: list[int]) -> None:
        for film in some:
            learner.update_user_embedding(user, film, 4.0)

    threads = [threading.Thread(target=rate, args=(1000 + n % 2, films[n // 2 :: 4])) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(at_once) == 1
    for user in (1000, 1001):
        assert sorted(learner.model.rated(user)) == films
        alone = RealtimeLearner(MatrixFactorizationModel.of_saved(learner.model.saved))
        for film in films:
            expected = alone.update_user_embedding(user, film, 4.0)
        assert np.array_equal(learner.model.get_user_embedding(user), expected)
    assert learner_module.RealtimeLearner is RealtimeLearner
