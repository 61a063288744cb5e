"""`rankline evaluate` as other programs call it: one JSON object, several models, settings, folds and repeats."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytrec_eval
from support.evaluate_command import TEST, TRAIN, failed, protocol, table
from support.processes import ROOT

from pipeline.data.interactions import Interactions
from pipeline.data.prepare import prepare_interactions
from pipeline.jobs import load_model
from pipeline.options import EvaluateOptions, TrainOptions
from pipeline.ranking.scorer import Scorer
from pipeline.training.train import train

pytest_plugins = ["support.evaluate_command"]


# ---- models and options ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blocks_of_taste(tmp_path_factory) -> tuple[str, str]:
    """Two groups of users, each with items of its own, and times; a fifth held out."""
    rng = np.random.default_rng(3)
    pairs = [(u, 2 * int(i) + u % 2) for u in range(60) for i in rng.choice(25, 12, replace=False)]
    rng.shuffle(pairs)
    folder = tmp_path_factory.mktemp("taste")
    held_out = {(u, i) for n, (u, i) in enumerate(map(tuple, pairs)) if n % 5 == 0}
    train_file = [(u, i) for u, i in pairs if (u, i) not in held_out]
    return table(folder / "a.rating", train_file, None), table(folder / "b.rating", sorted(held_out), None)


def test_an_independent_program_finds_the_same(evaluated, blocks_of_taste):
    train_file, held_out = blocks_of_taste
    result = evaluated(
        "--train", train_file, "--test", held_out, "--model", "nmf,popular", "--k", "5,10", "--n-components", "4"
    )
    pairs = np.loadtxt(train_file, dtype=np.int64)
    held_out = np.loadtxt(held_out, dtype=np.int64)
    x = prepare_interactions(Interactions.of(pairs[:, 0], pairs[:, 1], pairs[:, 2])).interactions
    trained = train(x, TrainOptions(n_components=4, holdout=0.0))
    model = trained.model
    items = model.items.values
    dense = model.user_factors.astype(np.float64) @ model.item_factors.astype(np.float64)
    count = {item: int((pairs[:, 1] == item).sum()) for item in items.tolist()}
    relevant = {str(u): {str(i): 1 for i in held_out[held_out[:, 0] == u, 1]} for u in np.unique(held_out[:, 0])}
    assert (result["n_users"], result["n_held_out"]) == (len(relevant), len(held_out))
    for name in ("nmf", "popular"):
        run = {}
        for user in relevant:
            had = set(pairs[pairs[:, 0] == int(user), 1].tolist())
            row = dense[model.users.rows([int(user)])[0]]
            scored = {i: row[n] if name == "nmf" else count[i] for n, i in enumerate(items.tolist()) if i not in had}
            ranked = sorted(scored, key=lambda i: (-scored[i], i))[:10]
            run[user] = {str(item): float(-rank) for rank, item in enumerate(ranked)}
        measures = {"ndcg_cut.5,10", "recall.5,10", "P.5,10", "success.5,10"}
        by_user = pytrec_eval.RelevanceEvaluator(relevant, measures).evaluate(run)
        for theirs, ours in (("ndcg_cut", "ndcg"), ("recall", "recall"), ("P", "precision"), ("success", "hit_rate")):
            for k in (5, 10):
                expected = np.mean([values[f"{theirs}_{k}"] for values in by_user.values()])
                assert result["models"][name][f"{ours}_at_{k}"] == pytest.approx(expected, abs=1e-9), (name, ours, k)


def test_several_models_and_options_of_training(evaluated, blocks_of_taste):
    train_file, held_out = blocks_of_taste
    files = ["--train", train_file, "--test", held_out]
    result = evaluated(*files, "--model", "item_knn,recent", "--model", "nmf", "--n-components", "2")
    assert list(result["models"]) == ["item-knn", "recent", "nmf"]
    assert result["model"] == "item-knn"
    assert result["ndcg_at_10"] == result["models"]["item-knn"]["ndcg_at_10"]
    assert result["random_state"] == 42
    assert list(evaluated(*files)["models"]) == ["nmf", "popular"]
    nmf = result["models"]["nmf"]
    assert min(nmf["ndcg_at_10"], result["ndcg_at_10"]) > 2 * result["models"]["recent"]["ndcg_at_10"]
    other = evaluated(*files, "--model", "nmf", "--n-components", "5", "--unobserved-weight", "0.1", "--alpha-W", "0.1")
    assert other["ndcg_at_10"] != nmf["ndcg_at_10"]
    assert other["split_digest"] == result["split_digest"]


def test_drawn_negatives_are_the_seeds(evaluated, blocks_of_taste):
    train_file, held_out = blocks_of_taste
    arguments = ["--train", train_file, "--test", held_out, "--model", "popular", "--negatives", "9", "--k", "3"]
    first = evaluated(*arguments)
    assert evaluated(*arguments) == first
    assert first["protocol"] == "sampled negatives"
    assert evaluated(*arguments, "--random-state", "7")["ndcg_at_3"] != first["ndcg_at_3"]


def test_a_table_for_people(run, blocks_of_taste):
    train_file, held_out = blocks_of_taste
    status, out, err = run("--train", train_file, "--test", held_out, "--model", "popular", "--k", "10,20")
    assert status == 0
    assert "\nitems of equal score are ordered by id: " in err
    assert err.endswith(" lists of 20\n")
    assert "144 held-out interactions of 58 users, among all training items" in out
    assert "recall_at_20" in out
    status, out, err = run("--train", train_file, "--test", held_out, "--model", "popular", "--log-format", "json")
    assert (status, out) == (0, "")
    assert json.loads(err.splitlines()[-1])["metadata"]["models"]["popular"]["ndcg_at_10"] > 0


def test_what_is_left_out_is_said(run, tmp_path):
    train_file = table(tmp_path / "train.csv", [*TRAIN, (1, 10)])
    status, _, err = run(
        "--train", train_file, "--test", table(tmp_path / "test.csv", TEST), "--model", "popular,recent"
    )
    assert status == 0
    said = err.splitlines()
    assert [line.startswith("columns of ") for line in said[:3]] == [True, True, False]
    said = said[2:]
    assert "--holdout" not in err
    assert said[0].startswith("9 of 10 rows of ")
    assert said[1] == f"recent ranks as popular does: {train_file} has no times"
    assert "1 users with 1 held-out interactions are left out: they have no training interaction" in said
    assert "1 held-out interactions are of items that training has not seen: they count as missed" in said
    assert said[2:].count(said[-1]) == 1
    assert said[-1].startswith("items of equal score are ordered by id: this decides the rank of 3 of 4 held-out items")
    assert "k = 10 exceeds the 5 items that are ranked: the lists end there" in said
    assert len(said) == 6  # once, not once a model
    arguments = protocol(tmp_path)
    (tmp_path / "x.test.negative").write_text("(1,40)\t30\t50\n")
    _, _, err = run(*arguments, "--model", "popular")
    assert f"2 held-out interactions are left out: {tmp_path / 'x.test.negative'} has no line for them" in err


def test_training_is_on_the_whole_training_side(run, blocks_of_taste):
    train_file, held_out = blocks_of_taste
    _, _, err = run("--train", train_file, "--test", held_out, "--model", "nmf", "--n-components", "2", "--json")
    assert "holdout" not in err
    _, _, err = run("--train", train_file, "--test", held_out, "--model", "nmf", "--max-iter", "2")
    assert "the fit stopped at max_iter = 2" in err


def test_ids_of_two_kinds_and_pairs_that_come_twice(evaluated, tmp_path):
    # 40 in a file of integers is "40" in one that has "new" among its ids.
    train_file = table(tmp_path / "train.csv", TRAIN)
    held_out = table(tmp_path / "test.csv", [*TEST, TEST[0], (2, "new")])
    result = evaluated("--train", train_file, "--test", held_out, "--model", "popular", "--k", "2")
    assert (result["n_users"], result["n_held_out"]) == (3, 6)
    assert result["hit_rate_at_2"] == 1.0
    assert result["recall_at_2"] == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)


def test_bad_rows_are_dropped_where_that_is_asked_for(run, tmp_path):
    train_file = table(tmp_path / "train.csv", [*TRAIN, ("", 10)])
    files = ["--train", train_file, "--test", table(tmp_path / "test.csv", TEST), "--model", "popular"]
    status, line = failed(run, *files)
    assert (status, "line 11 (user_id is empty)" in line) == (3, True)
    status, _, err = run(*files, "--on-bad-rows", "drop")
    assert status == 0
    assert f"1 bad row(s) of 10 in {train_file} left out" in err


def test_the_process_prints_one_object_and_loads_nothing_that_it_does_not_need(tmp_path):
    code = (
        "import sys; from pipeline.cli import main as cli\n"
        "try: cli.main()\n"
        "finally: assert not {'mlflow', 'scipy.stats'} & set(sys.modules)"
    )
    arguments = [*protocol(tmp_path), "--model", "popular", "--k", "2", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate", *arguments], capture_output=True, text=True, cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["hit_rate_at_2"] == pytest.approx(2 / 3)
    numbers = {name: value for name, value in result.items() if "_at_" in name}
    assert all(isinstance(value, float) and math.isfinite(value) for value in numbers.values())


def test_help_tells_every_option_and_the_form_of_the_json():
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "evaluate", "--help-all"],
        capture_output=True, text=True, cwd=ROOT, check=True,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "250", "TERM": "dumb"},
    )  # fmt: skip
    shown = re.sub(r"\s+", " ", done.stdout)
    for name in [field.name for spec in (EvaluateOptions, TrainOptions) for field in fields(spec)]:
        absent = name in (
            "algorithm",
            "budget_minutes",
            "holdout",
            "on_interrupt",
            "split",
            "split_last",
            "split_cutoff",
        )
        assert (re.search(rf"--{name.replace('_', '-')}[\s,]", shown) is None) is absent, name
    for said in (
        "--json prints the metrics of the first model at the top level",
        "equal scores by item id",
        "Examples:",
    ):
        assert said in shown


# ---- what counts as relevant --------------------------------------------------------------------


def test_relevant_from_a_score_equals_a_file_of_the_relevant_rows(evaluated, run, tmp_path):
    train_file = table(tmp_path / "train.csv", TRAIN)
    stars = dict(zip(TEST, (5, 4, 3, 4.5, 4, 1), strict=True))
    rows = [f"{user},{item},{score}" for (user, item), score in stars.items()]
    (tmp_path / "test.csv").write_text("\n".join(["user_id,item_id,rating", *rows]) + "\n")
    liked = table(tmp_path / "liked.csv", [pair for pair, score in stars.items() if score >= 4])
    options = ("--train", train_file, "--model", "popular", "--k", "2")
    result = evaluated(*options, "--test", str(tmp_path / "test.csv"), "--relevant-from", "4")
    expected = evaluated(*options, "--test", liked)
    ignored = ("split_digest", "models")
    assert {k: v for k, v in result.items() if k not in ignored} == {
        k: v for k, v in expected.items() if k not in ignored
    }
    assert result["n_held_out"] == 4
    status, _, err = run(*options, "--test", str(tmp_path / "test.csv"), "--relevant-from", "4")
    assert status == 0
    assert "4 of 6 held-out interactions are relevant: their score is at least 4" in err
    # An item of the test file that its user did not like is no negative either.
    result = evaluated(*options, "--test", str(tmp_path / "test.csv"), "--relevant-from", "4", "--negatives", "1")
    assert result["n_held_out"] == 4
    status, line = failed(run, *options, "--test", str(tmp_path / "test.csv"), "--relevant-from", "6")
    assert status == 3
    assert "has a score of at least 6 (the largest is 5): lower --relevant-from" in line


def test_a_k_beyond_the_items_is_said(run, tmp_path):
    train_file, held_out = table(tmp_path / "train.csv", TRAIN), table(tmp_path / "test.csv", TEST)
    status, _, err = run("--train", train_file, "--test", held_out, "--model", "popular", "--k", "2,50")
    assert status == 0
    assert "k = 50 exceeds the 5 items that are ranked: the lists end there" in err


# ---- settings, folds, repeats, seen negatives ---------------------------------------------------


def test_several_settings_in_one_call(evaluated, blocks_of_taste):
    train_file, held_out = blocks_of_taste
    files = ["--train", train_file, "--test", held_out]
    words = "nmf,nmf:n_components=3:alpha_w=0.1,item-knn:n-neighbours=4"
    result = evaluated(*files, "--model", words, "--n-components", "2", "--max-iter", "20")
    assert list(result["models"]) == ["nmf", "nmf:n_components=3:alpha_W=0.1", "item-knn:n_neighbours=4"]
    alone = evaluated(*files, "--model", "nmf", "--n-components", "3", "--alpha-W", "0.1", "--max-iter", "20")
    assert result["models"]["nmf:n_components=3:alpha_W=0.1"] == alone["models"]["nmf"]
    assert result["models"]["nmf"] != alone["models"]["nmf"]
    knn = evaluated(*files, "--model", "item-knn", "--n-neighbours", "4")
    assert result["models"]["item-knn:n_neighbours=4"] == knn["models"]["item-knn"]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("nmf:depth=3", "error: --model nmf:depth=3: after the name come options of NMF, such as NAME:option=value"),
        ("popular:n_components=3", "'n_components=3' is none; it has: none"),
        ("nmf:n_components", "'n_components' is none; it has: "),
        (
            "nmf:n_components=many",
            "error: --model nmf:n_components=many: n_components must be INTEGER|auto, got 'many'",
        ),
        ("nmf:alpha_W=-1", "error: --model nmf:alpha_W=-1: alpha_W must be at least 0, got -1.0"),
        ("magic:x=1", "error: --model is one of NMF, "),
    ],
)
def test_a_wrong_setting_is_2(run, blocks_of_taste, model, said):
    train_file, held_out = blocks_of_taste
    status, line = failed(run, "--train", train_file, "--test", held_out, "--model", model)
    assert status == 2
    assert said in line


def test_a_registered_version_stands_for_its_kind_and_options(evaluated, blocks_of_taste, monkeypatch):
    train_file, held_out = blocks_of_taste
    files = ["--train", train_file, "--test", held_out]
    read = prepare_interactions(Interactions.of([1, 1, 2, 2], [1, 2, 1, 3])).interactions
    trained = train(read, TrainOptions(algorithm="item-knn", n_neighbours=4, min_data=1, holdout=0))

    @contextmanager
    def loaded(word, *_):
        assert word == "rankline/3"
        yield Scorer(trained.model, "item-knn"), SimpleNamespace(label="rankline/3")

    monkeypatch.setattr(load_model, "loaded", loaded)
    result = evaluated(*files, "--model", "rankline/3,popular")
    assert list(result["models"]) == ["rankline/3", "popular"]
    alone = evaluated(*files, "--model", "item-knn:n_neighbours=4")
    assert result["models"]["rankline/3"] == alone["models"]["item-knn:n_neighbours=4"]


def test_given_folds_are_evaluated_one_by_one(evaluated, run, blocks_of_taste, tmp_path):
    train_file, held_out = blocks_of_taste
    other = table(tmp_path / "other.csv", TRAIN), table(tmp_path / "other_test.csv", TEST)
    both = ["--train", f"{train_file},{other[0]}", "--test", f"{held_out},{other[1]}", "--model", "popular,item-knn"]
    result = evaluated(*both)
    alone = [
        evaluated("--train", side, "--test", test, "--model", "popular,item-knn")
        for side, test in zip((train_file, other[0]), (held_out, other[1]), strict=True)
    ]
    assert [of_fold["models"] for of_fold in result["runs"]] == [of_fold["models"] for of_fold in alone]
    assert [of_fold["split_digest"] for of_fold in result["runs"]] == [of_fold["split_digest"] for of_fold in alone]
    assert result["n_held_out"] == sum(of_fold["n_held_out"] for of_fold in alone)
    values = [of_fold["models"]["popular"]["ndcg_at_10"] for of_fold in alone]
    assert result["models"]["popular"]["ndcg_at_10"] == pytest.approx(np.mean(values))
    assert result["spread"]["popular"]["ndcg_at_10"] == pytest.approx(np.std(values, ddof=1))
    _, out, _ = run(*both)
    assert out.startswith("2 evaluations, mean ± standard deviation: ")
    assert f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}" in out
    status, line = failed(run, "--train", f"{train_file},{other[0]}", "--test", held_out)
    assert status == 2
    assert "the numbers of files differ: --train 2, --test 1" in line


def test_folds_of_one_file_hold_each_row_out_once(evaluated, run, blocks_of_taste):
    train_file, held_out = blocks_of_taste
    arguments = ["--train", train_file, "--folds", "4", "--model", "popular"]
    result = evaluated(*arguments)
    n_rows = len(Path(train_file).read_text().splitlines())
    assert len(result["runs"]) == 4
    assert result["n_held_out"] == n_rows
    assert len({of_fold["split_digest"] for of_fold in result["runs"]}) == 4
    assert evaluated(*arguments) == result
    assert evaluated(*arguments, "--random-state", "7")["runs"] != result["runs"]
    assert failed(run, *arguments, "--test", held_out)[0] == 2


def test_repeats_take_one_seed_after_another(evaluated, blocks_of_taste):
    train_file, held_out = blocks_of_taste
    arguments = ["--train", train_file, "--test", held_out, "--model", "nmf,popular", "--n-components", "3"]
    result = evaluated(*arguments, "--max-iter", "5", "--repeats", "3", "--random-state", "7")
    assert [of_seed["random_state"] for of_seed in result["runs"]] == [7, 8, 9]
    last = evaluated(*arguments, "--max-iter", "5", "--random-state", "9")
    assert result["runs"][2]["models"] == last["models"]
    assert result["spread"]["popular"]["ndcg_at_10"] == 0
    assert result["spread"]["nmf"]["ndcg_at_10"] > 0


def test_given_negatives_that_the_user_has_in_training_are_counted_and_left_out(evaluated, run, tmp_path):
    train_file, held_out = table(tmp_path / "train.csv", TRAIN), table(tmp_path / "test.csv", [(1, 40), (2, 20)])
    given = tmp_path / "test.negative"
    given.write_text("(1,40)\t10\t20\t30\t50\n(2,20)\t10\t40\t50\n")  # user 1 has 10 and 20, user 2 has 10
    arguments = ["--train", train_file, "--test", held_out, "--negatives-file", str(given), "--model", "popular"]
    _, _, err = run(*arguments, "--k", "1,2")
    assert "3 of 7 given negatives are items that their user has in training: held-out items are ranked among" in err
    with_seen = evaluated(*arguments, "--k", "1,2")
    without = evaluated(*arguments, "--k", "1,2", "--exclude-seen-negatives")
    # By count and id 10, 20, 30, 40, 50: 40 is fourth among all four, second among 30 and 50; 20 is first without 10.
    assert (with_seen["hit_rate_at_1"], with_seen["hit_rate_at_2"]) == (0.0, 0.5)
    assert (without["hit_rate_at_1"], without["hit_rate_at_2"]) == (0.5, 1.0)
    assert "they are left out" in run(*arguments, "--exclude-seen-negatives")[2]
    given.write_text("(1,40)\t30\t50\n(2,20)\t40\t50\n")
    assert "given negatives are items" not in run(*arguments)[2]
