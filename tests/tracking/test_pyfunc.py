"""The registered recommender: blocks of users beside one user at a time, and what it refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import requests
import uvicorn
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import init
from scipy import sparse
from support.processes import answers, free_port

from pipeline.errors import ArtifactError
from pipeline.models.factor_model import FactorModel
from pipeline.models.item_snapshot import ItemTexts
from pipeline.ranking.rules import Rule, Rules
from pipeline.ranking.scorer import Scorer
from pipeline.tracking import pyfunc
from pipeline.tracking.pyfunc import Recommender
from pipeline.tracking.upload import recommender_parts

COLUMNS = ["user_id", "rank", "item_id", "score", "source"]


@pytest.fixture(params=[False, True], ids=["integers", "text"])
def recommender(request, make_model, rng, tmp_path) -> Recommender:
    model: FactorModel = make_model(rng, 40, 12, density=0.3, text_ids=request.param)
    seen = model.seen.toarray()
    seen[0] = 1  # nothing is left for this user
    seen[1, :-2] = 1
    model = replace(model, seen=sparse.csr_matrix(seen))
    model.save(tmp_path / "model")
    loaded = Recommender()
    loaded.load_context(SimpleNamespace(artifacts={"model": str(tmp_path / "model")}))
    return loaded


def ask(recommender: Recommender, users: list, **params) -> pd.DataFrame:
    return recommender.predict(None, pd.DataFrame({"user_id": users}), params)


def one_at_a_time(scorer: Scorer, users: list, k: int, exclude_seen: bool, unknown: str) -> list[list]:
    rows = []
    for user in users:
        ranking = scorer.recommend(user, k, exclude_seen=exclude_seen, unknown=unknown)
        pairs = zip(ranking.items.tolist(), ranking.scores.tolist(), strict=True)
        rows += [[user, rank, item, score, ranking.source] for rank, (item, score) in enumerate(pairs, 1)]
    return rows


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("k", [1, 5, 100])
def test_blocks_give_what_users_get_one_at_a_time(recommender, monkeypatch, rng, k, exclude_seen):
    monkeypatch.setattr(pyfunc, "_BLOCK", 7)
    scorer = recommender.scorer
    stranger = "nobody" if scorer.users.kind == "str" else 10**9
    users = rng.permutation([*scorer.users.values.tolist() * 2]).tolist()
    users[3:3] = [stranger, stranger]
    users = [stranger if str(user) == str(stranger) else scorer.users.parse(user) for user in users]
    expected = one_at_a_time(scorer, users, k, exclude_seen, "popular")
    answer = ask(recommender, users, k=k, exclude_seen=exclude_seen, unknown="popular")
    assert list(answer.columns) == COLUMNS
    assert answer.to_numpy().tolist() == expected
    skipped = ask(recommender, users, k=k, exclude_seen=exclude_seen, unknown="skip")
    assert skipped.to_numpy().tolist() == [row for row in expected if row[0] != stranger]


@pytest.mark.parametrize("unknown", ["popular", "skip"])
def test_lists_are_the_rows_one_row_a_user(recommender, monkeypatch, unknown):
    """As many rows as users, in their order: callers such as `spark_udf` put them beside their own columns."""
    monkeypatch.setattr(pyfunc, "_BLOCK", 7)
    users = recommender.scorer.users.values.tolist()
    asked = [users[5], *users[:20], users[5], "nobody" if recommender.scorer.users.kind == "str" else 10**9]
    rows = ask(recommender, asked, unknown=unknown, k=5)
    lists = ask(recommender, asked, unknown=unknown, k=5, lists=True)
    assert lists.columns.tolist() == ["user_id", "items", "scores", "sources"]
    assert lists["user_id"].tolist() == asked
    for entry in lists.itertuples():
        own = rows[rows["user_id"] == entry.user_id].drop_duplicates("rank")
        assert entry.items == own["item_id"].tolist()
        assert entry.scores == own["score"].tolist()
        assert entry.sources == own["source"].tolist()
    assert [len(items) for items in lists["items"][[1, len(asked) - 1]]] == [0, 5 if unknown == "popular" else 0]
    assert ask(recommender, [], lists=True).columns.tolist() == lists.columns.tolist()


def test_nobody_and_nobody_known_give_no_rows_but_columns(recommender):
    stranger = "nobody" if recommender.scorer.users.kind == "str" else 10**9
    assert list(ask(recommender, []).columns) == COLUMNS
    assert ask(recommender, [stranger], unknown="skip").shape == (0, 5)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"k": 2.5}, "k must be an integer of at least 1, got 2.5"),
        ({"k": "3"}, "k must be an integer of at least 1, got '3'"),
        ({"k": True}, "k must be an integer of at least 1, got True"),
        ({"k": 0}, "k must be an integer of at least 1, got 0"),
        ({"unknown": "invent"}, "unknown must be one of ('error', 'popular', 'skip'), got 'invent'"),
        ({"exclude_seen": "yes"}, "exclude_seen must be true or false, got 'yes'"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_a_clients_error(recommender, params, message):
    with pytest.raises(MlflowException) as error:
        ask(recommender, recommender.scorer.users.values[:1].tolist(), **params)
    assert error.value.message == message
    assert error.value.get_http_status_code() == 400


def test_none_is_the_default_and_numpy_integers_are_integers(recommender):
    user = recommender.scorer.users.values[:1].tolist()
    expected = ask(recommender, user)
    assert ask(recommender, user, k=None, unknown=None).equals(expected)
    assert ask(recommender, user, k=np.int64(10)).equals(expected)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_missing_user_is_refused_with_its_row(recommender, missing):
    known = recommender.scorer.users.values[:2].tolist()
    with pytest.raises(MlflowException, match=r"missing in 1 row\(s\); the first is row 1, counted from 0") as error:
        ask(recommender, [known[0], missing, known[1]])
    assert error.value.get_http_status_code() == 400


def test_users_of_the_other_kind(recommender):
    """Taken where that is certain; a user who is known must not get the popular list for it."""
    known = recommender.scorer.users.values[2:4].tolist()
    answer = ask(recommender, known, unknown="popular")
    if recommender.scorer.users.kind == "int":
        assert ask(recommender, list(map(str, known)), unknown="popular").equals(answer)
        for users in (["nobody"], [f" {known[0]}"], [known[0] + 0.5], [f"{known[0]}.0"]):
            with pytest.raises(MlflowException, match=r"these ids are integers|Ids must be integers") as error:
                ask(recommender, users, unknown="popular")
            assert error.value.get_http_status_code() == 400
    else:
        assert ask(recommender, [7], unknown="skip").shape == (0, 5)


def test_an_unknown_user_is_named(recommender):
    known = recommender.scorer.users.values[:1].tolist()
    stranger = "nobody" if recommender.scorer.users.kind == "str" else 10**9
    with pytest.raises(MlflowException, match=f"Unknown user {stranger!r}") as error:
        ask(recommender, [*known, stranger])
    assert error.value.get_http_status_code() == 400
    with pytest.raises(MlflowException, match="user_id"):
        recommender.predict(None, pd.DataFrame({"user": known}), {})


@pytest.fixture
def served(tmp_path) -> Iterator[Callable[..., str]]:
    """Serves a model as `mlflow models serve` does; gives the address."""
    servers = []

    def serve(model: FactorModel, texts: ItemTexts | None = None) -> str:
        model.save(tmp_path / "artifacts", texts)
        parts = recommender_parts(tmp_path / "artifacts", model, tmp_path / "scratch")
        mlflow.pyfunc.save_model(str(tmp_path / "model"), **parts)
        app, port = init(mlflow.pyfunc.load_model(str(tmp_path / "model"))), free_port()
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        servers.append((server, thread))
        answers(f"http://127.0.0.1:{port}/health")
        return f"http://127.0.0.1:{port}/invocations"

    yield serve
    for server, thread in servers:
        server.should_exit = True
        thread.join()


def test_a_model_server_answers_with_the_message(make_model, rng, served):
    model: FactorModel = make_model(rng, 12, 30)
    ids = model.items.values.tolist()
    address = served(model, ItemTexts(genres={str(item): [("Drama", "Horror")[i % 2]] for i, item in enumerate(ids)}))
    user = int(model.users.values[3])

    def answer(users: list, **params) -> tuple[int, dict]:
        request = {"dataframe_split": {"columns": ["user_id"], "data": [[entry] for entry in users]}, "params": params}
        response = requests.post(address, json=request, timeout=60)
        return response.status_code, response.json()

    status, body = answer([user], k=2)
    assert status == 200
    assert [row["rank"] for row in body["predictions"]] == [1, 2]
    assert answer([user, 10**9], unknown="skip") == answer([user])
    everything = [row["item_id"] for row in answer([user], k=30)[1]["predictions"]]
    for params, expected in (
        ({"deny": everything[:4], "k": 3}, everything[4:7]),
        ({"allow": everything[5:8]}, everything[5:8]),
        ({"genre": ["horror"], "k": 30}, [item for item in everything if ids.index(item) % 2]),
        (
            {"max_per_genre": 1, "k": 2},
            [everything[0], next(i for i in everything if (ids.index(i) - ids.index(everything[0])) % 2)],
        ),
    ):
        status, body = answer([user], **params)
        assert (status, [row["item_id"] for row in body["predictions"]]) == (200, expected)
    for users, params, message in (
        ([10**9], {}, "Unknown user 1000000000"),
        ([user], {"k": 0}, "k must be an integer of at least 1, got 0"),
        ([user], {"unknown": "invent"}, "unknown must be one of"),
        ([user, None], {}, ""),
        ([user], {"k": "3"}, "k"),
        ([user], {"k": 2.5}, "k"),
        ([user], {"max_per_genre": -1}, "max_per_genre must be an integer of at least 0, got -1"),
        ([user], {"genre": ["Western"]}, "No item of the model has the genre 'Western'; its genres are drama, horror"),
        ([user], {"deny": ["x"]}, "deny"),
        ([user], {"allow": 5}, "allow"),
    ):
        status, body = answer(users, **params)
        assert status == 400, (users, params, body)
        assert message in body["message"]


@pytest.fixture
def with_genres(make_model, rng, tmp_path) -> Recommender:
    """Of 12 items each has one of two genres, but for the last two."""
    model: FactorModel = make_model(rng, 10, 12, density=0.1)
    ids = model.items.values.tolist()
    texts = ItemTexts(genres={str(item): ["Drama", "Horror"][i % 2 :][:1] for i, item in enumerate(ids[:10])})
    model.save(tmp_path / "model", texts)
    loaded = Recommender()
    loaded.load_context(SimpleNamespace(artifacts={"model": str(tmp_path / "model")}))
    return loaded


def test_what_a_call_allows_and_denies(with_genres):
    scorer = with_genres.scorer
    users, ids = [*scorer.users.values.tolist(), 10**6], scorer.items.values.tolist()

    def listed(**params) -> set[int]:
        return set(ask(with_genres, users, k=12, unknown="popular", **params)["item_id"].tolist())

    assert listed() == set(ids)
    assert listed(allow=[], deny=[], genre=[], max_per_genre=0) == set(ids)
    assert listed(allow=ids[3:9]) == set(ids[3:9])
    assert listed(allow=list(map(str, ids[3:9])), deny=np.array(ids[:5])) == set(ids[5:9])
    assert listed(genre=["DRAMA"]) == set(ids[0:10:2])
    assert listed(genre=["drama", "horror"], allow=ids[8:], deny=[ids[8]]) == {ids[9]}
    assert listed(deny=[10**9, ids[0]]) == set(ids[1:])
    answer = ask(with_genres, users, k=12, unknown="popular", max_per_genre=1)
    assert answer.groupby("user_id").size().max() == 4, "one of each genre, and two that have none"
    assert ask(with_genres, users, unknown="popular", allow=[10**9]).empty


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"deny": ["007"]}, "The id '007' is text, and these ids are integers"),
        ({"allow": [1.5]}, "Ids must be integers or strings, got float"),
        ({"genre": [7]}, "genre must be names of genres, got [7]"),
        ({"genre": "Western"}, "No item of the model has the genre 'Western'; its genres are drama, horror"),
        ({"max_per_genre": 1.5}, "max_per_genre must be an integer of at least 0, got 1.5"),
        ({"deny": range(100_001)}, "deny has 100,001 values, and may have 100,000"),
    ],
)
def test_filters_that_make_no_sense_are_a_clients_error(with_genres, params, message):
    with pytest.raises(MlflowException) as error:
        ask(with_genres, with_genres.scorer.users.values[:1].tolist(), **params)
    assert message in error.value.message
    assert error.value.get_http_status_code() == 400


def test_a_genre_of_a_model_without_genres_is_a_clients_error(recommender):
    with pytest.raises(MlflowException, match="items of this model have no series"):
        ask(recommender, recommender.scorer.users.values[:1].tolist(), max_per_series=2)
    for params in ({"genre": ["Drama"]}, {"max_per_genre": 2}):
        with pytest.raises(MlflowException, match="items of this model have no genres") as error:
            ask(recommender, recommender.scorer.users.values[:1].tolist(), **params)
        assert error.value.get_http_status_code() == 400


def test_the_served_model_follows_the_file_of_rules(make_model, rng, tmp_path, monkeypatch):
    """An item that is denied is in the next answer no more, without a new model; nor are popular lists spared."""
    model: FactorModel = make_model(rng, 10, 12, density=0.3)
    model.save(tmp_path / "model")
    path = tmp_path / "rules.json"
    monkeypatch.setenv("RANKLINE_RULES", str(path))
    served = Recommender()
    context = SimpleNamespace(artifacts={"model": str(tmp_path / "model")})
    with pytest.raises(ArtifactError, match="RANKLINE_RULES names"):
        served.load_context(context)
    Rules().write(path)
    served.load_context(context)
    users = [*model.users.values.tolist(), 10**6]
    first = ask(served, users, k=12, unknown="popular")
    denied = first["item_id"].iloc[0].item()
    Rules((Rule("deny", str(denied)),)).write(path)
    after = ask(served, users, k=12, unknown="popular")
    left = first[first["item_id"] != denied]
    assert after["item_id"].tolist() == left["item_id"].tolist()
    assert after["score"].tolist() == left["score"].tolist()
    # One that is not among anybody's first four, as what it is.
    last = first[first["rank"] > 4]["item_id"].mode().iloc[0].item()
    Rules((Rule("promote", str(last), label="spring"),)).write(path)
    promoted = ask(served, users, k=4, unknown="popular")
    listed = promoted[promoted["source"] == "promoted:spring"]
    assert set(listed["item_id"]) == {last}
    assert len(listed) == len(first[(first["item_id"] == last) & (first["rank"] > 4)])
    path.unlink()
    with pytest.raises(MlflowException, match="RANKLINE_RULES names"):
        ask(served, users, unknown="popular")
