"""The ten correctness properties of the machine-learning design, of the product's own code: a hundred examples each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.films import GENRES, movies, ratings
from support.neural_models import neural_model
from support.served import Workers, put_copy

from pipeline.compat import EvaluationService, MatrixFactorizationModel, MLModelManager, NeuralCF
from pipeline.data.interactions import Interactions
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import prepare_interactions
from pipeline.data.splits import random_split
from pipeline.evaluation.rating_errors import mean_errors
from pipeline.models.saved_model import ItemTexts, load_saved_model
from pipeline.options import TrainOptions
from pipeline.ranking.scorer import Scorer
from pipeline.serving.live_folder import LiveFolder, Pointer, write_json
from pipeline.training.train import Trained, train

LOW, HIGH = 0.5, 5.0
USERS, ITEMS = range(100, 130), range(1000, 1040)


def interactions(frame: pd.DataFrame) -> Interactions:
    return Interactions.of(frame["user_id"], frame["movie_id"], frame["rating"])


@st.composite
def frames(draw, least: int = 1) -> pd.DataFrame:
    """Ratings 0.5–5 of a few users for a few films, at least so many."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_users, n_films = draw(st.integers(12, 25)), draw(st.integers(12, 25))
    n = draw(st.integers(max(least, 20), n_users * n_films))
    cells = rng.permutation(n_users * n_films)[:n]
    taste = rng.normal(0, draw(st.sampled_from([0.0, 1.0])), (2, max(n_users, n_films), 3))
    users, films = np.divmod(cells, n_films)
    wanted = 2.75 + (taste[0, users] * taste[1, films]).sum(1) + rng.normal(0, 0.7, n)
    values = np.clip(np.round(2 * wanted) / 2, LOW, HIGH)
    values[:2] = LOW, HIGH  # no two data are all alike
    return pd.DataFrame({"user_id": 1 + users, "movie_id": 50 + films, "rating": values})


def trained(frame: pd.DataFrame, algorithm: str, **options):
    return train(interactions(frame), TrainOptions(algorithm=algorithm, holdout=0, min_data=0, **options))


SMALL = {
    "nmf": {"n_components": 3, "max_iter": 5},
    "svd": {"n_components": 3, "max_iter": 5},
    "als": {"n_components": 3, "max_iter": 3},
    "ease": {},
    "item-knn": {},
    "popular": {},
}


# Feature: ml-enhancement, Property 1: a model that was saved and loaded predicts what it predicted before, to the bit
@given(frames(), st.sampled_from(sorted(SMALL)))
def test_1_a_loaded_model_predicts_the_same(frame: pd.DataFrame, algorithm: str) -> None:
    model = trained(frame, algorithm, **SMALL[algorithm]).model
    with tempfile.TemporaryDirectory() as folder:
        again = load_saved_model(model.save(folder))
    rows, cols = np.divmod(np.arange(len(model.users) * len(model.items)), len(model.items))
    assert again.predict(rows, cols).tobytes() == model.predict(rows, cols).tobytes()
    before, after = (Scorer(one).recommend_rows(np.arange(len(model.users)), 5) for one in (model, again))
    assert before.items.tobytes() == after.items.tobytes()


# ---- the service ---------------------------------------------------------------------------------


def served(tmp_path: Path, algorithm: str, **options) -> Workers:
    """Two workers with a model of users 100 … 129 and films 1000 … 1039."""
    frame = ratings(n_films=40, n_users=30, share=0.3)
    x = Interactions.of(frame["user_id"] + 99, frame["movie_id"] + 500, frame["rating"])
    model = train(x, TrainOptions(algorithm=algorithm, holdout=0, **options)).model
    made = Workers(tmp_path / algorithm, n=0)
    made.folder.make()
    made.folder.flip(put_copy(made.folder, model))
    for _ in range(2):
        made.runner.run(made._start())
    return made


@pytest.fixture(scope="module")
def of_ratings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    made = served(tmp_path_factory.mktemp("live"), "svd", n_components=4, learning_rate=0.05)
    yield made
    made.close()


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    made = served(tmp_path_factory.mktemp("live"), "NMF", n_components=4)
    yield made
    made.close()


@cache
def some_trained() -> Trained:
    return trained(ratings().head(60), "als", n_components=2, max_iter=1)


anybody = st.sampled_from([*USERS, *range(5000, 5010)])
any_item = st.sampled_from(ITEMS)
stars = st.integers(1, 10).map(lambda value: value / 2)


# Feature: ml-enhancement, Property 2: every predicted rating lies on the scale, 0.5 to 5.0, whoever rates what
@given(
    user=anybody, items=st.lists(any_item, min_size=1, max_size=5), new=st.booleans(), rating=stars,
    scale=st.sampled_from([1e-3, 1.0, 100.0]), seed=st.integers(0, 2**32), ranks=st.booleans(),
)  # fmt: skip
def test_2_predictions_are_on_the_scale(
    of_ratings: Workers, workers: Workers, user, items, new, rating, scale, seed, ranks
) -> None:
    service = workers if ranks else of_ratings  # scores of a model that ranks are anywhere
    if new:
        event = {"user_id": user, "item_id": items[0], "rating": rating}
        assert service.post("/api/v1/interactions", event).status_code == 201
    answer = service.post("/api/v1/predict", {"user_id": user, "item_ids": items}).json()
    predicted = [row["predicted_rating"] for row in answer["predictions"]]
    if answer["source"] == "popular":  # nothing is known of the user
        assert predicted == [None] * len(items)
    else:
        assert all(LOW <= value <= HIGH for value in predicted)
    # A model whose scores are anywhere; and people and films that it does not know.
    rng, few = np.random.default_rng(seed), some_trained()
    wild = replace(few.model, item_factors=(scale * rng.normal(size=(2, len(few.model.items)))).astype(np.float32))
    network = neural_model(rng, few.matrix)
    for model in (MatrixFactorizationModel.of_saved(wild), NeuralCF.of_saved(network)):
        for person, film in ((1, 500), (1, 9), (9999, 501), (9999, 9)):
            assert LOW <= model.predict(person, film) <= HIGH


# Feature: ml-enhancement, Property 3: after a training on 100 ratings or more the RMSE is below the one at the start
@given(frames(least=100), st.sampled_from([0, 1, 42]))
def test_3_a_training_lowers_the_rmse(frame: pd.DataFrame, seed: int) -> None:
    result = trained(frame, "svd", n_components=4, max_iter=15, random_state=seed)
    assert result.report.metrics["observed_rmse"] < frame["rating"].std(ddof=0)  # of the mean, with which it begins
    factors = trained(frame, "nmf", n_components=4, max_iter=15, random_state=seed)
    assert factors.losses[-1] <= factors.losses[0]
    x = factors.matrix.scores
    zeros = np.sqrt((x.data.astype(np.float64) ** 2).sum() / (x.shape[0] * x.shape[1]))  # of no factors at all
    assert factors.report.metrics["rmse"] < zeros


# Feature: ml-enhancement, Property 4: the next list of any worker knows a rating that was acknowledged
@given(user=anybody, item=any_item, rating=stars, writer=st.integers(0, 1))
def test_4_the_next_list_knows_a_rating(workers: Workers, user, item, rating, writer) -> None:
    path = f"/api/v1/recommendations/{user}?k=100"
    workers.get(path, 1 - writer)  # may be in the other worker's cache
    event = {"user_id": user, "item_id": item, "rating": rating}
    assert workers.post("/api/v1/interactions", event, writer).status_code == 201
    expected = None
    for worker in (0, 1):
        answer = workers.get(path, worker).json()
        assert answer["source"] == "fold_in"
        assert item not in [row["item_id"] for row in answer["recommendations"]]
        assert expected is None or answer == expected
        expected = answer
    # The whole list is that of what the user has done by now.
    scorer = Scorer(workers.services[0].model.served().scorer.model)
    row = scorer.users.row(user)
    done = {} if row < 0 else dict(zip(*_cells(scorer, row), strict=True))
    done |= {event.item_id: event.rating for event in workers.logs[0].of_user(user, 0)}
    items, scores = scorer.recommend_from(list(done), list(done.values()), 100)
    assert [row["item_id"] for row in expected["recommendations"]] == items.tolist()
    assert [np.float32(row["score"]) for row in expected["recommendations"]] == scores.tolist()


def _cells(scorer: Scorer, row: int) -> tuple[list[int], list[float]]:
    seen = scorer.model.seen
    own = slice(seen.indptr[row], seen.indptr[row + 1])
    return scorer.items.ids(seen.indices[own]).tolist(), seen.data[own].tolist()


# Feature: ml-enhancement, Property 5: each recommended item has at least one reason, and figures that carry it
@given(user=anybody, place=st.integers(0, 9), ratings_first=st.booleans())
def test_5_each_recommendation_has_a_reason(workers: Workers, of_ratings: Workers, user, place, ratings_first) -> None:
    service = of_ratings if ratings_first else workers
    listed = service.get(f"/api/v1/recommendations/{user}").json()["recommendations"]
    if not listed:  # they have rated all there is
        return
    item = listed[min(place, len(listed) - 1)]["item_id"]
    told = service.get(f"/api/v1/explain/{user}/{item}").json()
    reasons = told["reasons"]
    match, users = reasons["genre_match"], reasons["similar_users"]
    carried = [
        *(film["similarity"] > 0 and film["item_id"] != item for film in reasons["similar_movies"]),
        match is not None and match["score"] > 0 and bool(match["genres"]),
        users["count"] > 0,
        reasons.get("popularity", 0) > 0,
    ]
    assert any(carried)
    assert (told["item_id"], bool(told["movie_title"])) == (item, True)


def test_5_an_item_that_nothing_else_speaks_for_is_at_least_popular(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("support.served.item_texts", lambda model: ItemTexts())  # no genres
    x = Interactions.of([1, 2, 2], [10, 20, 30], [3.0, 4.0, 5.0])  # the two have nothing in common
    made = Workers(tmp_path, n=0)
    made.folder.make()
    model = train(x, TrainOptions(algorithm="popular", holdout=0, min_data=0)).model
    made.folder.flip(put_copy(made.folder, model))
    made.runner.run(made._start())
    told = made.get("/api/v1/explain/1/20").json()
    made.close()
    assert told["source"] == "popular"
    assert told["reasons"] == {
        "similar_movies": [],
        "genre_match": None,
        "similar_users": {"count": 0, "among": 0, "average": None},
        "popularity": 1,
    }


# Feature: ml-enhancement, Property 6: somebody who has rated nothing gets popular items of the genres they like
@given(number=st.integers(10**6, 10**9), liked=st.lists(st.sampled_from(GENRES), min_size=1, max_size=2, unique=True))
def test_6_a_newcomer_gets_what_is_popular_of_their_genres(workers: Workers, number, liked) -> None:
    assert workers.ask("PUT", f"/api/v1/users/{number}/preferences", json={"genres": liked}).status_code == 200
    answer = workers.get(f"/api/v1/recommendations/{number}", 1).json()
    assert answer["source"] == "popular:" + "|".join(liked)
    listed = answer["recommendations"]
    assert len(listed) == 10
    assert all(set(row["genres"]) & set(liked) for row in listed)
    counts = [row["score"] for row in listed]
    assert counts == sorted(counts, reverse=True)
    snapshot = workers.services[0].model.served().snapshot
    rows = np.unique(np.concatenate([snapshot.popular_in(genre) for genre in liked]))
    assert counts == sorted(snapshot.popularity[rows].tolist(), reverse=True)[:10]


# ---- versions, metrics, shapes -------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> MatrixFactorizationModel:
    made = MatrixFactorizationModel(n_factors=2)
    made.fit(ratings(), epochs=2)
    made.movies = movies()
    return made


# Feature: ml-enhancement, Property 7: of two versions the newer has the later time, whatever the clock did
@given(steps=st.lists(st.integers(-5_000, 5_000), min_size=2, max_size=3))
def test_7_newer_versions_are_later(small: MatrixFactorizationModel, steps) -> None:
    clock = [datetime(2026, 1, 1, tzinfo=UTC)]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.compat.model_manager._now", lambda: clock[0])
        manager = MLModelManager(folder)
        for number, step in enumerate(steps):
            clock[0] += timedelta(milliseconds=step)
            manager.save_model(small, f"v{number}", {})
        listed = manager.list_versions()
    assert [known["version"] for known in listed] == [f"v{number}" for number in reversed(range(len(steps)))]
    times = [known["saved_at"] for known in listed]
    assert times == sorted(set(times), reverse=True)


# Feature: ml-enhancement, Property 7: the service's copies of versions are ordered by the time they were fetched
@given(st.lists(st.integers(0, 10**13), min_size=2, max_size=5, unique=True))
def test_7_the_newest_copy_is_the_one_fetched_last(times: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        live = LiveFolder(Path(folder))
        live.make()
        for number, at in enumerate(times):
            pointer = Pointer(f"{number:064x}", "rankline", str(number), "run", True, at)
            live.model_folder(pointer.digest).mkdir()
            write_json(live.models / f"{pointer.digest}.json", asdict(pointer), durable=False)
        listed = live.copies()
    assert [copy.at for copy in listed] == sorted(times, reverse=True)
    assert all(int(copy.version) == times.index(copy.at) for copy in listed)


# Feature: ml-enhancement, Property 8: the RMSE that the product states is the one that the formula gives by hand
@given(frame=frames(), seed=st.integers(0, 2**32))
def test_8_the_rmse_is_that_of_the_formula(frame: pd.DataFrame, seed: int) -> None:
    split = random_split(prepare_interactions(interactions(frame)).interactions, 0.3, seed % 1000)
    matrix = to_matrix(split.train)
    spec = TrainOptions(algorithm="svd", n_components=2, max_iter=2, holdout=0, min_data=0)
    scorer = Scorer(train(split.train, spec).model)
    low, high = float(split.train.scores.min()), float(split.train.scores.max())
    squares, absolute = [], []
    for user, item, score in zip(split.test.users, split.test.items, split.test.scores, strict=True):
        person, film = split.test.user_ids.values[user].item(), split.test.item_ids.values[item].item()
        if matrix.users.row(person) >= 0 and matrix.items.row(film) >= 0:
            predicted = min(max(float(scorer.predict(person, [film])[0]), low), high)
            squares.append((float(score) - predicted) ** 2)
            absolute.append(abs(float(score) - predicted))
    stated = mean_errors(scorer, split)
    if not squares:
        assert stated == {}
        return
    assert stated["rmse"] == pytest.approx((sum(squares) / len(squares)) ** 0.5, rel=1e-6, abs=2e-6)
    assert stated["mae"] == pytest.approx(sum(absolute) / len(absolute), rel=1e-6, abs=2e-6)
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(LOW, HIGH, (2, len(squares))).tolist()
    by_hand = (sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)) ** 0.5
    assert EvaluationService().calculate_rmse(a, b) == pytest.approx(by_hand, rel=1e-12)


# Feature: ml-enhancement, Property 9: an embedding has as many numbers as factors were asked for, of new users, too
@given(frame=frames(least=100), n_factors=st.integers(1, 12), algorithm=st.sampled_from(["nmf", "als"]))
def test_9_embeddings_have_the_size_that_was_asked_for(frame: pd.DataFrame, n_factors: int, algorithm: str) -> None:
    model = trained(frame, algorithm, n_components=n_factors, max_iter=2).model
    users, items = np.arange(len(model.users)), np.arange(len(model.items))
    assert model.user_embeddings(users).shape == (users.size, n_factors)
    assert model.item_embeddings(items).shape == (items.size, n_factors)
    assert Scorer(model).fold_in(model.items.values[:3], [1, 2, 3]).shape == (n_factors,)
    design = MatrixFactorizationModel(n_factors=n_factors)
    design.fit(frame, epochs=1)
    design.add_rating(9999, int(frame["movie_id"].iloc[0]), 4.0)
    for user in (int(frame["user_id"].iloc[0]), 9999):
        assert design.get_user_embedding(user).shape == (n_factors,)
    assert design.get_movie_embedding(int(frame["movie_id"].iloc[0])).shape == (n_factors,)


# Feature: ml-enhancement, Property 10: a list of N holds N different items, or all that the user has not had
@given(user=anybody, n=st.integers(1, 60), item=any_item, new=st.booleans())
def test_10_a_list_holds_as_many_different_items_as_were_asked_for(workers: Workers, user, n, item, new) -> None:
    if new:
        workers.post("/api/v1/interactions", {"user_id": user, "item_id": item, "rating": 3.0})
    listed = workers.get(f"/api/v1/recommendations/{user}?k={n}", int(new)).json()["recommendations"]
    scorer = workers.services[0].model.served().scorer
    row = scorer.users.row(user)
    had = set() if row < 0 else set(_cells(scorer, row)[0])
    had |= {event.item_id for event in workers.logs[0].of_user(user, 0)}
    ids = [row["item_id"] for row in listed]
    assert len(ids) == len(set(ids)) == min(n, len(ITEMS) - len(had))
    assert not had & set(ids)
    assert [row["rank"] for row in listed] == list(range(1, len(ids) + 1))
