"""The machine-learning design: each signature of its seven classes, and what they do."""

from __future__ import annotations

import inspect

import numpy as np
import pandas as pd
import pytest
from support.films import movies, ratings
from support.neural_models import neural_model

from pipeline import compat
from pipeline.compat import EvaluationService, ExplainerService, MatrixFactorizationModel, NeuralCF, RealtimeLearner
from pipeline.errors import TooLittleDataError, UnknownItemError, UnknownUserError, UsageError
from pipeline.ranking.scorer import Scorer

REQUIRED = inspect.Parameter.empty
USER_FILM = {"user_id": REQUIRED, "movie_id": REQUIRED}
RATING = {"rating": REQUIRED}
AT_K = {"recommendations": REQUIRED, "relevant": REQUIRED, "k": REQUIRED}
ON_TEST = {"model": REQUIRED, "test_data": REQUIRED}
SIGNATURES = {
    "MLModelManager": {
        "save_model": {"model": REQUIRED, "version": REQUIRED, "metadata": REQUIRED},
        "load_model": {"version": "latest"},
        "list_versions": {},
        "get_best_model": {},
    },
    "MatrixFactorizationModel": {
        "__init__": {"n_factors": 50, "learning_rate": 0.01},
        "fit": {"ratings_df": REQUIRED, "epochs": 20},
        "predict": USER_FILM,
        "recommend": {"user_id": REQUIRED, "n": 10},
        "get_user_embedding": {"user_id": REQUIRED},
        "get_movie_embedding": {"movie_id": REQUIRED},
    },
    "NeuralCF": {
        "__init__": {"embedding_dim": 32, "hidden_layers": (64, 32)},
        "build_model": {},
        "train": {"ratings_df": REQUIRED, "epochs": 10},
        "predict": USER_FILM,
        "recommend": {"user_id": REQUIRED, "n": 10},
    },
    "TrainingService": {
        "prepare_data": {"ratings_df": REQUIRED},
        "train_model": {"model_type": REQUIRED, "hyperparams": REQUIRED},
        "evaluate_model": ON_TEST,
        "retrain_all_models": {},
    },
    "EvaluationService": {
        "calculate_rmse": {"predictions": REQUIRED, "actuals": REQUIRED},
        "calculate_precision_at_k": AT_K,
        "calculate_recall_at_k": AT_K,
        "calculate_coverage": {"recommendations": REQUIRED, "all_items": REQUIRED},
        "generate_report": ON_TEST,
    },
    "ExplainerService": {
        "explain_recommendation": {**USER_FILM, "model": REQUIRED},
        "find_similar_rated_movies": {**USER_FILM, "n": 3},
        "get_genre_match_score": USER_FILM,
        "get_similar_users_influence": USER_FILM,
    },
    "RealtimeLearner": {
        "update_user_embedding": {**USER_FILM, **RATING},
        "update_movie_embedding": {"movie_id": REQUIRED, "user_id": REQUIRED, **RATING},
        "apply_updates": {"updates": REQUIRED},
    },
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_those_of_the_design(name: str) -> None:
    for method, expected in SIGNATURES[name].items():
        parameters = list(inspect.signature(getattr(getattr(compat, name), method)).parameters.values())[1:]
        assert [(one.name, one.default) for one in parameters] == list(expected.items()), method


@pytest.fixture(scope="module")
def fitted() -> MatrixFactorizationModel:
    made = MatrixFactorizationModel(n_factors=6)
    made.fit(ratings())
    made.movies = movies()
    return made


@pytest.fixture
def model(fitted: MatrixFactorizationModel) -> MatrixFactorizationModel:
    """The same model, which a test may change."""
    made = MatrixFactorizationModel.of_saved(fitted.saved)
    made.movies = movies()
    return made


# ---- models --------------------------------------------------------------------------------------


def test_a_fit_says_how_it_went() -> None:
    model = MatrixFactorizationModel(n_factors=4, learning_rate=0.05)
    told = model.fit(ratings(), epochs=60)
    assert 10 < told["epochs"] == len(told["loss"]) <= 60
    assert told["final_rmse"] < 0.7 * told["initial_rmse"]
    assert told["initial_rmse"] == pytest.approx(ratings()["rating"].std(ddof=0))
    errors = [model.predict(row.user_id, row.movie_id) - row.rating for row in ratings().itertuples()]
    assert told["final_rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), abs=0.05)  # these are bounded
    assert model.facts["training_data"] == {"n_users": 40, "n_movies": 30, "n_ratings": len(ratings())}
    assert model.facts["hyperparameters"] == {"n_factors": 4, "learning_rate": 0.05, "epochs": 60}


def test_lists_are_the_scorers_without_what_was_rated(model: MatrixFactorizationModel) -> None:
    rated = set(ratings().query("user_id == 5")["movie_id"])
    films = model.recommend(5)
    assert films == Scorer(model.saved).recommend(5, 10)[0].tolist()
    assert not rated & set(films)
    assert model.predict(5, films[0]) > model.predict(5, films[-1])
    assert len(model.recommend(5, 99)) == 30 - len(rated)


def test_who_or_what_is_not_known(model: MatrixFactorizationModel) -> None:
    counts = ratings()["movie_id"].value_counts()
    popular = sorted(counts.index, key=lambda film: (-counts[film], film))
    assert model.recommend(999, 4) == popular[:4]
    model.genre_preferences[999] = ["War", "Nothing"]
    films = model.recommend(999, 12)
    war = [film for film in popular if film % 500 % 3 == 2]
    assert films == [*war, *(film for film in popular if film not in war)][:12]
    assert model.predict(5, 9999) == pytest.approx(ratings().query("user_id == 5")["rating"].mean())
    assert model.predict(999, 9999) == pytest.approx(ratings()["rating"].mean())
    assert 0.5 <= model.predict(999, 500) <= 5
    with pytest.raises(UnknownUserError):
        model.get_user_embedding(999)
    with pytest.raises(UnknownItemError):
        model.get_movie_embedding(9999)
    with pytest.raises(ValueError, match="Model must be fitted before making predictions"):
        MatrixFactorizationModel().predict(1, 500)


def test_ratings_that_cannot_be_learned_from() -> None:
    with pytest.raises(TooLittleDataError, match="99 interaction"):
        MatrixFactorizationModel().fit(ratings().head(99))
    with pytest.raises(ValueError, match=r"Rating must be between 0\.5 and 5\.0, got 5\.5"):
        MatrixFactorizationModel().fit(ratings().assign(rating=5.5))
    with pytest.raises(ValueError, match=r"Missing required columns: \['movie_id', 'rating'\]"):
        MatrixFactorizationModel().fit(ratings()[["user_id"]])
    with pytest.raises(UsageError, match="n_components"):
        MatrixFactorizationModel(n_factors=0).fit(ratings())


def test_the_network_orders_films_and_predicts_on_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    network = NeuralCF(embedding_dim=4, hidden_layers=[5, 3])
    assert network.build_model().summary().splitlines() == [
        "product: 4", "layer 1: 8 x 5", "layer 2: 5 x 3", "output: 7 x 1",
    ]  # fmt: skip
    asked = []

    def fit(user_items, settings, iterations, transform):
        asked.append(settings)
        while iterations.left:
            iterations.add(1 / (1 + len(iterations.losses) // 100))
        return neural_model(np.random.default_rng(1), user_items, candidates=30)

    monkeypatch.setattr("pipeline.models.neumf.fit_neumf", fit)  # without JAX
    history = network.train(ratings(), epochs=3)
    assert (history.epoch, history.history) == ([0, 1, 2], {"loss": pytest.approx([1, 1 / 2, 1 / 3])})
    assert (asked[0].embedding, asked[0].layers) == (4, (5, 3))
    films = network.recommend(5, 5)
    assert films == Scorer(network.saved).recommend(5, 5)[0].tolist()
    predicted = [network.predict(5, film) for film in films]
    assert predicted == sorted(predicted, reverse=True)
    assert all(0.5 <= value <= 5 for value in predicted)
    again = NeuralCF.of_saved(network.saved)
    assert (again.embedding_dim, again.hidden_layers) == (4, [5, 3])
    assert again.predict(5, films[0]) == predicted[0]
    with pytest.raises(UsageError):
        NeuralCF(hidden_layers=[0]).build_model()


# ---- evaluation ----------------------------------------------------------------------------------


def test_metrics_by_hand() -> None:
    service = EvaluationService()
    assert service.calculate_rmse([3.0, 4.0], [3.5, 3.0]) == pytest.approx((1.25 / 2) ** 0.5)
    assert service.calculate_precision_at_k([1, 2, 3, 4], [2, 4, 9], 4) == 0.5
    assert service.calculate_precision_at_k([2], [2, 4], 10) == 0.1
    assert service.calculate_recall_at_k([1, 2, 3, 4], [2, 4, 9], 2) == pytest.approx(1 / 3)
    assert service.calculate_coverage([[1, 2], [2, 3]], [1, 2, 3, 4]) == 0.75
    assert service.calculate_coverage([1, 1], [1, 2]) == 0.5
    for call in (
        lambda: service.calculate_recall_at_k([1], [], 3),
        lambda: service.calculate_precision_at_k([1], [1], 0),
        lambda: service.calculate_coverage([], []),
        lambda: service.calculate_rmse([], []),
    ):
        with pytest.raises(ValueError, match=r"\w"):
            call()


def test_a_report_is_of_the_models_own_lists_and_predictions(model: MatrixFactorizationModel) -> None:
    test = pd.DataFrame({"user_id": [5, 5, 6], "movie_id": [*model.recommend(5, 1), 9999, 500], "rating": [4.0, 3, 2]})
    report = EvaluationService().generate_report(model, test)
    hit6 = 500 in model.recommend(6)
    assert report["precision_at_10"] == pytest.approx((0.1 + 0.1 * hit6) / 2)
    assert report["recall_at_10"] == pytest.approx((0.5 + hit6) / 2)
    assert report["coverage"] == len({*model.recommend(5), *model.recommend(6)}) / 30
    wrong = [model.predict(row.user_id, row.movie_id) - row.rating for row in test.itertuples()]
    assert report["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(wrong))))
    assert (report["n_users"], report["n_ratings"]) == (2, 3)


# ---- explanations --------------------------------------------------------------------------------


def test_an_explanation_has_the_parts_of_the_design(model: MatrixFactorizationModel) -> None:
    service = ExplainerService(model)
    film = model.recommend(5, 1)[0]
    told = service.explain_recommendation(5, film, model)
    assert (told["movie_id"], told["movie_title"]) == (film, f"Film {film - 500}")
    assert told["predicted_rating"] == model.predict(5, film)
    assert told["confidence"] == 1.0
    reasons = {reason["type"]: reason for reason in told["reasons"]}
    assert set(reasons) == {"similar_movies", "genre_match", "similar_users"}
    rated = dict(ratings().query("user_id == 5")[["movie_id", "rating"]].to_numpy())
    for near in reasons["similar_movies"]["movies"]:
        assert near["your_rating"] == rated[near["id"]]
        assert near["title"] == f"Film {near['id'] - 500}"
    assert service.find_similar_rated_movies(5, film, 1) == reasons["similar_movies"]["movies"][:1]
    # Every film is of the genre All.
    assert service.get_genre_match_score(5, film) == reasons["genre_match"]["match_score"] == pytest.approx(1)
    influence = service.get_similar_users_influence(5, film)
    assert len(influence) == reasons["similar_users"]["similar_user_count"]
    given = ratings().query(f"movie_id == {film}").set_index("user_id")["rating"]
    assert all(one["rating"] == given[one["user_id"]] for one in influence)
    assert np.mean([one["rating"] for one in influence]) == pytest.approx(reasons["similar_users"]["avg_rating"])


def test_a_stranger_gets_a_reason_and_an_unknown_film_is_an_error(model: MatrixFactorizationModel) -> None:
    service = ExplainerService(model)
    told = service.explain_recommendation(999, 500, model)
    count = int((ratings()["movie_id"] == 500).sum())
    assert [(reason["type"], reason["rating_count"]) for reason in told["reasons"]] == [("popularity", count)]
    assert told["confidence"] is None
    assert service.find_similar_rated_movies(999, 500) == service.get_similar_users_influence(999, 500) == []
    assert service.get_genre_match_score(999, 500) == 0
    with pytest.raises(UnknownItemError):
        service.explain_recommendation(5, 9999, model)
    with pytest.raises(ValueError, match="must be fitted"):
        ExplainerService().get_genre_match_score(5, 500)


def test_a_user_who_has_rated_since_is_explained_by_that(model: MatrixFactorizationModel) -> None:
    RealtimeLearner(model).update_user_embedding(999, 505, 5.0)
    film = model.recommend(999, 1)[0]
    near = ExplainerService(model).find_similar_rated_movies(999, film)
    assert [(one["id"], one["your_rating"]) for one in near] == [(505, 5.0)]
