"""The second stage: its trees beside LightGBM's own predictions, features, decision, files, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from support.contract_data import make_interactions

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems, to_matrix
from pipeline.data.prepare import prepare_interactions
from pipeline.errors import ArtifactError, UsageError
from pipeline.models import block_scores
from pipeline.models.ease import fit_ease
from pipeline.models.item_snapshot import ItemTexts
from pipeline.models.registry import find
from pipeline.models.rerank import learn
from pipeline.models.rerank.candidates import candidates_of
from pipeline.models.rerank.features import NAMES, item_facts
from pipeline.models.rerank.learn import Examples, decide
from pipeline.models.rerank.trees import Trees
from pipeline.models.rerank_model import RerankModel
from pipeline.options import TrainOptions, TuneOptions
from pipeline.ranking.explain import explain
from pipeline.ranking.scorer import Scorer
from pipeline.training.train import train
from pipeline.training.tune import tune

lightgbm = pytest.importorskip("lightgbm")
ALGORITHM = find("rerank")


def examples(gain: float, n: int = 120, size: int = 40, seed: int = 0) -> Examples:
    """Users whose choices depend on the item's age, so much."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, size, len(NAMES)))
    features[:, :, 0] = np.log2(2 + np.arange(size))
    wish = gain * features[:, :, NAMES.index("age")] + rng.normal(size=(n, size))
    relevant = wish >= np.sort(wish, axis=1)[:, -4:-3]
    return Examples(features, relevant, relevant.sum(axis=1))


@pytest.fixture(scope="module")
def learned() -> Trees:
    return decide(examples(3.0), 1).trees


def test_numpy_gives_the_bits_of_lightgbm(learned):
    rows = np.random.default_rng(5).normal(size=(5000, len(NAMES)))
    threshold = float(learned.text.split("\nthreshold=")[1].split(" ")[0])
    rows[:50] = threshold  # at a threshold a value goes to the left
    rows[50:60] = 0.0
    theirs = lightgbm.Booster(model_str=learned.text).predict(rows, raw_score=True)
    assert len(learned) == 100
    assert learned.predict(rows).tobytes() == theirs.tobytes()
    assert learned.predict(rows[:7]).tobytes() == theirs[:7].tobytes()


@pytest.mark.slow
def test_the_same_examples_give_the_same_text(learned):
    assert decide(examples(3.0), 1).trees.text == learned.text


@pytest.mark.slow
def test_scoring_needs_no_lightgbm(learned, tmp_path):
    (tmp_path / "trees.txt").write_text(learned.text)
    program = (
        "import sys; sys.modules['lightgbm'] = None\n"
        "import numpy as np; from pipeline.models.rerank.trees import Trees; import pipeline.ranking.scorer\n"
        f"trees = Trees(open({str(tmp_path / 'trees.txt')!r}).read(), {len(NAMES)})\n"
        f"print(trees.predict(np.zeros((1, {len(NAMES)})))[0])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) == learned.predict(np.zeros((1, len(NAMES))))[0]


@pytest.mark.slow
def test_a_second_stage_is_kept_where_it_is_surely_better():
    better, not_better, few = decide(examples(3.0), 1), decide(examples(0.0), 1), decide(examples(3.0, n=49), 1)
    assert better.better
    assert 0 < better.low < better.difference < better.high
    assert better.difference == pytest.approx(better.reranked - better.base)
    for decision in (not_better, few):
        assert (decision.better, decision.trees.text) == (False, "")


def test_a_fold_is_measured_by_trees_of_the_others(monkeypatch):
    asked, whole = [], learn._learned
    monkeypatch.setattr(learn, "_learned", lambda part: asked.append(part.n_relevant.size) or whole(part))
    decide(examples(3.0, n=50), 1)
    assert asked == [40] * 5 + [50]


def test_without_lightgbm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(UsageError, match=r"pip install 'rankline\[rerank\]'"):
        train(make_interactions("int"), TrainOptions(algorithm="rerank"))


# ---- features ---------------------------------------------------------------------------------


def test_features_are_what_they_say():
    x = prepare_interactions(make_interactions("int"), "last", None, None, 0).interactions
    genres = {str(item): ("Drama", "War")[: 1 + i % 2] for i, item in enumerate(x.item_ids.values.tolist()) if i % 3}
    facts = item_facts(x, x.item_ids, ItemTexts({}, genres))
    model = fit_ease(to_matrix(x), 5.0)
    rows = np.array([4, 9])
    found = candidates_of(model, facts, rows)
    newest = x.at.max()
    for place, row in enumerate(rows):
        seen = model.seen[row].indices
        scores = model.predict(np.full(24, row), np.arange(24))
        unseen = sorted(set(range(24)) - set(seen.tolist()), key=lambda i: (-scores[i], i))
        assert found.items[place, : len(unseen)].tolist() == unseen
        assert found.unseen[place].tolist() == [True] * len(unseen) + [False] * len(seen)
        for rank, item in enumerate(unseen):
            ages = sorted((newest - x.at[x.items == item]) / np.timedelta64(1, "D"))
            own = genres.get(str(x.item_ids.values[item]), ())
            shares = [np.mean([g in genres.get(str(x.item_ids.values[i]), ()) for i in seen]) for g in own]
            expected = {
                "rank": np.log2(2 + rank), "count": np.log1p(len(ages)), "age": np.log1p(ages[-1]),
                "idle": np.log1p(ages[0]), "history": np.log1p(len(seen)),
                "trend": np.log((1 + sum(a <= 30 for a in ages)) / (1 + sum(30 < a <= 60 for a in ages))),
                "recent": np.log1p(sum(0.5 ** (a / 30) for a in ages)), "genres": np.mean(shares) if own else 0.0,
            }  # fmt: skip
            told = dict(zip(NAMES, found.features[place, rank], strict=True))
            assert {name: told[name] for name in expected} == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_without_times_and_genres_these_features_are_0():
    x = prepare_interactions(make_interactions("int"), "last", None, None, 0).interactions
    facts = item_facts(replace(x, at=None), x.item_ids, None)
    assert not facts.values[:, 1:].any()
    found = candidates_of(fit_ease(to_matrix(x), 5.0), facts, np.array([0]))
    assert not found.features[:, :, NAMES.index("genres")].any()


# ---- the model --------------------------------------------------------------------------------


@pytest.fixture
def model(learned) -> RerankModel:
    x = prepare_interactions(make_interactions("str"), "last", None, None, 0).interactions
    texts = ItemTexts({}, {str(item): ("Drama",) for item in x.item_ids.values.tolist()[::2]})
    matrix = to_matrix(x)
    facts = item_facts(x, x.item_ids, texts)
    base = fit_ease(matrix, 5.0)
    return RerankModel(base, learned, facts, matrix.users, matrix.items, matrix.scores, {"model": "rerank"})


def test_scores_are_of_the_candidates_alone(model, monkeypatch):
    monkeypatch.setattr(block_scores, "TOP", 6)
    scores = model.scores(np.arange(30))
    for row in range(30):
        found = candidates_of(model.base, model.facts, np.array([row]))
        raw = [model.trees.predict(f[None])[0] for f in found.features[0]]
        expected = np.zeros(24)
        expected[found.items[0]] = 1 / (1 + np.exp(-np.array(raw)))
        assert scores[row] == pytest.approx(expected)
        assert np.count_nonzero(scores[row]) == 6
    alone = np.vstack([model.scores(np.array([row])) for row in range(30)])
    assert scores.tobytes() == alone.tobytes()


def test_lists_hold_what_is_left_beyond_the_candidates(model, monkeypatch):
    monkeypatch.setattr(block_scores, "TOP", 6)
    ranking = Scorer(model).recommend("u000", 50)
    assert len(ranking.items) == 24 - model.seen[0].nnz
    assert ranking.source == "rerank"
    assert (ranking.scores[:6] > 0).all()
    assert not ranking.scores[6:].any()
    assert explain(model, 0, 1).score == model.predict([0], [1])[0]


def test_a_folded_in_history_gives_the_same_list(model):
    history = UserItems(model.seen[:3], IdMap(np.arange(3)), model.items)
    rows = np.arange(3)
    again = Scorer(model).for_users(history).recommend_rows(rows, 8)
    assert again.items.tobytes() == Scorer(model).recommend_rows(rows, 8).items.tobytes()


@pytest.mark.parametrize("mapped", [False, True])
def test_saved_and_loaded_it_is_the_same(model, tmp_path, mapped):
    again = Scorer.load(model.save(tmp_path), mapped=mapped).model
    assert again.trees.text == model.trees.text
    assert again.scores(np.arange(30)).tobytes() == model.scores(np.arange(30)).tobytes()
    assert again.base.users is again.users


def test_without_trees_the_first_model_ranks(model, tmp_path):
    plain = replace(model, trees=Trees("", len(NAMES)))
    again = Scorer.load(plain.save(tmp_path))
    ours, theirs = again.recommend_rows(np.arange(30), 9), Scorer(model.base).recommend_rows(np.arange(30), 9)
    assert (ours.items.tobytes(), ours.scores.tobytes()) == (theirs.items.tobytes(), theirs.scores.tobytes())
    assert explain(again.model, 2, 3) == explain(model.base, 2, 3)


def test_a_changed_file_of_trees_is_refused_by_its_digest(model, tmp_path, monkeypatch):
    folder = model.save(tmp_path)
    path = folder / "trees.txt"
    path.write_text(path.read_text().replace("num_leaves=15", "num_leaves=14", 1))
    monkeypatch.setattr(Trees, "__post_init__", lambda self: pytest.fail("it was parsed"))
    with pytest.raises(ArtifactError, match=r"trees\.txt has a wrong checksum"):
        Scorer.load(folder)


def test_a_long_file_of_trees_is_not_read(model, tmp_path):
    folder = model.save(tmp_path)
    with (folder / "trees.txt").open("r+b") as file:
        file.truncate(1 << 30)
    with pytest.raises(ArtifactError, match=r"trees\.txt has 1,073,741,824 bytes"):
        Scorer.load(folder)


def test_another_first_model_is_refused(model, tmp_path):
    folder = model.save(tmp_path)
    metadata = folder / "members" / "0" / "metadata.json"
    metadata.write_text(metadata.read_text().replace('"ease"', '"elsa"'))
    with pytest.raises(ArtifactError, match=r"members/0/metadata\.json has a wrong checksum"):
        Scorer.load(folder)


def first(text: str, name: str, value: str) -> str:
    """The text with another value of the first line of that name."""
    before, found, after = text.partition(f"\n{name}=")
    assert found
    return before + found + value + after[after.index("\n") :]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("split_feature", " ".join(["9"] * 14)),
        ("split_feature", " ".join(["-1"] * 14)),
        ("left_child", " ".join(["0"] * 14)),
        ("left_child", " ".join(["14"] * 14)),
        ("right_child", " ".join(["-16"] * 14)),
        ("decision_type", " ".join(["1"] * 14)),
        ("leaf_value", " ".join(["nan"] * 15)),
        ("leaf_value", "1 2 3"),
        ("threshold", " ".join(["nan"] * 14)),
        ("threshold", " ".join(["x"] * 14)),
        ("num_leaves", "0"),
        ("num_leaves", "100000"),
        ("num_leaves", "9" * 5000),
        ("num_cat", "1"),
        ("is_linear", "1"),
        ("num_tree_per_iteration", "3"),
    ],
)
def test_text_that_is_no_such_trees_is_refused(learned, name, value):
    with pytest.raises(ArtifactError):
        Trees(first(learned.text, name, value), len(NAMES))


def test_no_text_and_other_text(learned):
    assert len(Trees("", 3)) == 0
    assert Trees("", 3).predict(np.zeros((2, 3))).tolist() == [0.0, 0.0]
    for text in ("x", "tree\n", "\0" * 100, learned.text[40:]):
        with pytest.raises(ArtifactError):
            Trees(text, len(NAMES))
    with pytest.raises(ArtifactError):
        Trees(learned.text, 2)


def test_trees_that_are_cut_or_altered_anywhere_are_read_or_refused(learned):
    rng, text = np.random.default_rng(2), learned.text[:6000]
    for _ in range(200):
        at = int(rng.integers(0, len(text)))
        some = text[:at] + (chr(int(rng.integers(32, 127))) + text[at + 1 :] if rng.random() < 0.7 else "")
        try:
            trees = Trees(some, len(NAMES))
        except ArtifactError:
            continue
        assert np.isfinite(trees.predict(np.zeros((2, len(NAMES))))).all()


# ---- the algorithm ----------------------------------------------------------------------------


def test_the_final_fit_takes_the_trees_that_were_measured(learned, monkeypatch):
    told = learn.Decision(learned, 0.1, 0.12, 0.02, 0.01, 0.03, 610)
    monkeypatch.setattr(learn, "decide", lambda examples, seed: told)
    x = make_interactions("int")
    texts = ItemTexts({}, {str(item): ("Drama",) for item in x.item_ids.values.tolist()})
    trained = train(x, TrainOptions(algorithm="rerank", members="ease:regularization=50"), texts=texts)
    assert trained.model.trees is learned
    assert trained.model.facts.genres.nnz == 24
    assert (trained.facts["rerank_shipped"], trained.facts["rerank_genres"]) == ("yes", "yes")
    (sentence,) = [message for message in trained.report.messages if "second stage" in message]
    assert sentence == (
        "a second stage on EASE:regularization=50 is trained (NDCG@10 of 610 validation users: EASE:regularization=50 "
        "0.1000, in a new order 0.1200 (cross-validated), difference +0.0200 (+0.0100 to +0.0300))"
    )
    assert trained.algorithm.label(trained.spec, trained.facts) == "two-stage on EASE:regularization=50"


def test_the_first_model_alone_is_trained_and_said():
    x = make_interactions("int")
    trained, base = (train(x, TrainOptions(algorithm=name)) for name in ("rerank", "ease"))
    assert any(m.startswith("EASE alone is trained: no second stage is surely") for m in trained.report.messages)
    assert trained.algorithm.label(trained.spec, trained.facts) == "two-stage: EASE alone"
    assert trained.report.metrics["holdout/ndcg_at_10"] == base.report.metrics["holdout/ndcg_at_10"]


@pytest.mark.parametrize("members", ["ease:weight=2", "ease,als", "", "ensemble", "rerank"])
def test_a_first_model_that_can_not_be_is_refused(members):
    with pytest.raises(UsageError, match="--members"):
        ALGORITHM.check_options(TrainOptions(algorithm="rerank", members=members))


def test_it_is_not_searched():
    with pytest.raises(UsageError, match="tune the first model"):
        tune(make_interactions("int"), TrainOptions(algorithm="rerank"), TuneOptions())
