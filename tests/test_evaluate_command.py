"""`rankline evaluate` as other programs call it: small examples by hand, one JSON object, errors in one line."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from processes import ROOT

from pipeline import cli
from pipeline.errors import UsageError
from pipeline.evaluate_spec import EvaluateSpec, as_ks, as_models
from pipeline.interactions import Interactions
from pipeline.matrix import in_order
from pipeline.spec import TrainSpec
from pipeline.train import train

# Popularity: 10 and 20 three times, 30, 40 and 50 once; so 10, 20, 30, 40, 50 by count and id.
TRAIN = [(1, 10), (1, 20), (2, 10), (2, 30), (3, 10), (3, 20), (3, 40), (4, 20), (4, 50)]
# 99 is an item, and 9 a user, that training does not know.
TEST = [(1, 40), (1, 99), (2, 20), (2, 50), (4, 30), (9, 10)]
SECOND = 1 / math.log2(3)  # the gain of the second place


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("RANKLINE_", "MLFLOW_"))]:
        monkeypatch.delenv(name)


def table(path: Path, pairs, header: str | None = "user_id,item_id", names=lambda user, item: (user, item)) -> str:
    """A CSV of the pairs; without a header, tab-separated with a rating and a time."""
    rows = [names(user, item) for user, item in pairs]
    if header is None:
        lines = [f"{user}\t{item}\t{1 + n % 5}\t{978300000 + n}" for n, (user, item) in enumerate(rows)]
    else:
        lines = [header, *(f"{user},{item}" for user, item in rows)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def run(capfd):
    """The command in this process: (exit status, stdout, stderr)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main(["evaluate", *arguments])
        return (int(left.value.code or 0), *capfd.readouterr())

    return run


@pytest.fixture
def found(run):
    def found(*arguments: str) -> dict:
        status, out, err = run(*arguments, "--json")
        assert status == 0, err
        assert len(out.splitlines()) == 1
        return json.loads(out)

    return found


def failed(run, *arguments: str) -> tuple[int, str]:
    status, out, err = run(*arguments)
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert err.splitlines()[-1] == lines[0]
    assert "Traceback" not in err
    return status, lines[0]


# ---- by hand --------------------------------------------------------------------------------------

BY_HAND = {
    # Lists of two: user 1 30 40, user 2 20 40, user 4 10 30; hits at the second, first and second place.
    "precision_at_2": 1 / 2,
    "recall_at_2": (1 / 2 + 1 / 2 + 1) / 3,
    "hit_rate_at_2": 1.0,
    "ndcg_at_2": (SECOND / (1 + SECOND) + 1 / (1 + SECOND) + SECOND) / 3,
    "map_at_2": (1 / 4 + 1 / 2 + 1 / 2) / 3,
    "mrr_at_2": (1 / 2 + 1 + 1 / 2) / 3,
    "coverage_at_2": 4 / 5,
    "gini_at_2": 1 / 3,
    "precision_at_1": 1 / 3,
    "recall_at_1": (0 + 1 / 2 + 0) / 3,
    "ndcg_at_1": 1 / 3,
}


@pytest.mark.parametrize("headers", [("user_id,item_id", "movieId,userId"), (None, None), ("user_id,item_id", None)])
@pytest.mark.parametrize("text", [False, True])
def test_full_ranking_by_hand(found, tmp_path, headers, text):
    def names(user, item):
        return (f"u{user}", f"i{item}") if text else (user, item)

    def turned(user, item):
        return names(user, item)[::-1]

    learn = table(tmp_path / "train.rating" if headers[0] is None else tmp_path / "train.csv", TRAIN, headers[0], names)
    other = headers[1] == "movieId,userId"
    judge = table(tmp_path / "test.csv", TEST, headers[1], turned if other else names)
    result = found("--train", learn, "--test", judge, "--model", "popular", "--k", "1,2")
    assert {name: result[name] for name in BY_HAND} == pytest.approx(BY_HAND, abs=1e-12)
    about = {"model": "popular", "protocol": "full", "k": [1, 2], "n_users": 3, "n_held_out": 5}
    assert {name: result[name] for name in about} == about
    assert result["models"]["popular"].items() <= result.items()
    for name in ("novelty", "diversity", "popularity_lift", "map", "mrr", "hit_rate"):
        assert f"{name}_at_1" in result or name == "diversity"  # a list of one has no pairs
        assert f"{name}_at_2" in result


def protocol(folder: Path, names=lambda user, item: (user, item), train_pairs=TRAIN) -> list[str]:
    """Train, test and negatives as they are published, of users 1, 2 and 4."""
    negatives = {(1, 40): (30, 50), (2, 50): (20, 40), (4, 30): (40, 77)}
    lines = [
        "({},{})\t".format(*names(*pair)) + "\t".join(str(names(0, item)[1]) for item in items)
        for pair, items in negatives.items()
    ]
    (folder / "x.test.negative").write_text("\n".join(lines) + "\n")
    return [
        *("--train", table(folder / "x.train.rating", train_pairs, None, names)),
        *("--test", table(folder / "x.test.rating", negatives, None, names)),
        *("--negatives-file", str(folder / "x.test.negative")),
    ]


@pytest.mark.parametrize("names", [lambda u, i: (u, i), lambda u, i: (f"u{u}", f"i{i}"), lambda u, i: (u, f"{i:05d}")])
def test_given_negatives_by_hand(found, tmp_path, names):
    # All of one popularity but 20: 40 is behind 30; 50 behind 20 and 40; 30 is before 40, and 77 nobody knows.
    result = found(*protocol(tmp_path, names), "--model", "popular", "--k", "1,2,3")
    by_hand = {
        "hit_rate_at_1": 1 / 3,
        "hit_rate_at_2": 2 / 3,
        "recall_at_2": 2 / 3,
        "ndcg_at_2": (SECOND + 1) / 3,
        "mrr_at_2": (1 / 2 + 1) / 3,
        "hit_rate_at_3": 1.0,
        "ndcg_at_3": (SECOND + 1 / 2 + 1) / 3,
        "mrr_at_3": (1 / 2 + 1 / 3 + 1) / 3,
    }
    assert {name: result[name] for name in by_hand} == pytest.approx(by_hand, abs=1e-12)
    assert (result["protocol"], result["n_users"], result["n_held_out"]) == ("given negatives", 3, 3)


def test_the_form_of_the_public_files_byte_by_byte(found, tmp_path):
    (tmp_path / "train").write_text(
        "0\t32\t4\t978824330\n0\t34\t4\t978824330\n1\t25\t5\t978301398\n1\t174\t5\t1\n2\t25\t1\t2\n"
    )
    (tmp_path / "test").write_text("0\t25\t5\t978824351\n1\t32\t3\t978300174\n")
    (tmp_path / "negative").write_text("(0,25)\t1064\t174\t2791\t\n(1,32)\t25\t34\t\n")
    files = [f"--{name}={tmp_path / file}" for name, file in
             (("train", "train"), ("test", "test"), ("negatives-file", "negative"))]  # fmt: skip
    result = found(*files, "--model", "popular", "--k", "1")
    # 25 is the most popular; 32 is behind 25, and before 34 by id.
    assert (result["hit_rate_at_1"], result["ndcg_at_1"]) == (0.5, 0.5)


def test_a_model_that_scores_all_alike_gets_what_chance_gives(found, run, tmp_path):
    rng = np.random.default_rng(0)
    pairs = [(u, i) for u in range(300) for i in rng.choice(100, 4, replace=False)]
    held_out = [(u, i) for n, (u, i) in enumerate(pairs) if n % 4 == 0]
    rest = [pair for n, pair in enumerate(pairs) if n % 4] + [(999, item) for item in range(100)]
    learn = table(tmp_path / "train.csv", rest)
    arguments = ["--train", learn, "--test", table(tmp_path / "test.csv", held_out), "--model", "nmf"]
    # A penalty that leaves factors of zeros.
    arguments += ["--alpha-W", "1e6", "--l1-ratio", "1", "--k", "10"]
    for more in ([], ["--negatives", "49"]):
        result = found(*arguments, *more)
        assert 0.02 < result["hit_rate_at_10"] < (0.2 if not more else 0.35), more
    _, _, err = run(*arguments, "--negatives", "49")
    assert "300 of 300 held-out items have the very score of one of their negatives: the order of ids decides" in err


# ---- models and options ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blocks_of_taste(tmp_path_factory) -> tuple[str, str]:
    """Two groups of users, each with items of its own, and times; a fifth held out."""
    rng = np.random.default_rng(3)
    pairs = [(u, 2 * int(i) + u % 2) for u in range(60) for i in rng.choice(25, 12, replace=False)]
    rng.shuffle(pairs)
    folder = tmp_path_factory.mktemp("taste")
    held_out = {(u, i) for n, (u, i) in enumerate(map(tuple, pairs)) if n % 5 == 0}
    learn = [(u, i) for u, i in pairs if (u, i) not in held_out]
    return table(folder / "a.rating", learn, None), table(folder / "b.rating", sorted(held_out), None)


def test_an_independent_program_finds_the_same(found, blocks_of_taste):
    learn, judge = blocks_of_taste
    result = found("--train", learn, "--test", judge, "--model", "nmf,popular", "--k", "5,10", "--n-components", "4")
    pairs = np.loadtxt(learn, dtype=np.int64)
    held_out = np.loadtxt(judge, dtype=np.int64)
    x = in_order(Interactions.of(pairs[:, 0], pairs[:, 1], pairs[:, 2]))
    trained = train(x, TrainSpec(n_components=4, holdout=0.0))
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


def test_several_models_and_options_of_training(found, blocks_of_taste):
    learn, judge = blocks_of_taste
    files = ["--train", learn, "--test", judge]
    result = found(*files, "--model", "item_knn,recent", "--model", "nmf", "--n-components", "2")
    assert list(result["models"]) == ["item-knn", "recent", "nmf"]
    assert result["model"] == "item-knn"
    assert result["ndcg_at_10"] == result["models"]["item-knn"]["ndcg_at_10"]
    assert result["random_state"] == 42
    assert list(found(*files)["models"]) == ["nmf", "popular"]
    nmf = result["models"]["nmf"]
    assert min(nmf["ndcg_at_10"], result["ndcg_at_10"]) > 2 * result["models"]["recent"]["ndcg_at_10"]
    other = found(*files, "--model", "nmf", "--n-components", "5", "--unobserved-weight", "0.1", "--alpha-W", "0.1")
    assert other["ndcg_at_10"] != nmf["ndcg_at_10"]
    assert other["split_digest"] == result["split_digest"]


def test_drawn_negatives_are_the_seeds(found, blocks_of_taste):
    learn, judge = blocks_of_taste
    arguments = ["--train", learn, "--test", judge, "--model", "popular", "--negatives", "9", "--k", "3"]
    first = found(*arguments)
    assert found(*arguments) == first
    assert first["protocol"] == "sampled negatives"
    assert found(*arguments, "--random-state", "7")["ndcg_at_3"] != first["ndcg_at_3"]


def test_a_table_for_people(run, blocks_of_taste):
    learn, judge = blocks_of_taste
    status, out, err = run("--train", learn, "--test", judge, "--model", "popular", "--k", "10,20")
    assert status == 0
    assert err.startswith("equal scores are in the order of ids: ")
    assert err.endswith(" lists of 20\n")
    assert "144 held-out interactions of 58 users, among all training items" in out
    assert "recall_at_20" in out
    status, out, err = run("--train", learn, "--test", judge, "--model", "popular", "--log-format", "json")
    assert (status, out) == (0, "")
    assert json.loads(err.splitlines()[-1])["metadata"]["models"]["popular"]["ndcg_at_10"] > 0


def test_what_is_left_out_is_said(run, tmp_path):
    learn = table(tmp_path / "train.csv", [*TRAIN, (1, 10)])
    status, _, err = run("--train", learn, "--test", table(tmp_path / "test.csv", TEST), "--model", "popular,recent")
    assert status == 0
    said = err.splitlines()
    assert "--holdout" not in err
    assert said[0].startswith("9 of 10 rows of ")
    assert said[1] == f"recent ranks as popular does: {learn} has no times"
    assert "1 users with 1 held-out interactions are left out: they have no training interaction" in said
    assert "1 held-out interactions are of items that training has not seen: they count as missed" in said
    assert said[2:].count(said[-1]) == 1
    assert said[-1].startswith("equal scores are in the order of ids: the place of 3 of 4 held-out items")
    assert len(said) == 5  # once, not once a model
    arguments = protocol(tmp_path)
    (tmp_path / "x.test.negative").write_text("(1,40)\t30\t50\n")
    _, _, err = run(*arguments, "--model", "popular")
    assert f"2 held-out interactions are left out: {tmp_path / 'x.test.negative'} has no line for them" in err


def test_training_is_on_the_whole_training_side(run, blocks_of_taste):
    learn, judge = blocks_of_taste
    _, _, err = run("--train", learn, "--test", judge, "--model", "nmf", "--n-components", "2", "--json")
    assert "holdout" not in err
    _, _, err = run("--train", learn, "--test", judge, "--model", "nmf", "--max-iter", "2")
    assert "the fit stopped at max_iter = 2" in err


def test_ids_of_two_kinds_and_pairs_that_come_twice(found, tmp_path):
    # 40 in a file of integers is "40" in one that has "new" among its ids.
    learn = table(tmp_path / "train.csv", TRAIN)
    judge = table(tmp_path / "test.csv", [*TEST, TEST[0], (2, "new")])
    result = found("--train", learn, "--test", judge, "--model", "popular", "--k", "2")
    assert (result["n_users"], result["n_held_out"]) == (3, 6)
    assert result["hit_rate_at_2"] == 1.0
    assert result["recall_at_2"] == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)


def test_bad_rows_are_dropped_where_that_is_asked_for(run, tmp_path):
    learn = table(tmp_path / "train.csv", [*TRAIN, ("", 10)])
    files = ["--train", learn, "--test", table(tmp_path / "test.csv", TEST), "--model", "popular"]
    status, line = failed(run, *files)
    assert (status, "line 11 (user_id is empty)" in line) == (3, True)
    status, _, err = run(*files, "--on-bad-rows", "drop")
    assert status == 0
    assert f"1 bad row(s) of 10 in {learn} left out" in err


def test_the_process_prints_one_object_and_loads_no_mlflow(tmp_path):
    code = "import sys; from pipeline import cli\ntry: cli.main()\nfinally: assert 'mlflow' not in sys.modules"
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
        [sys.executable, "-m", "pipeline", "evaluate", "--help"], capture_output=True, text=True, cwd=ROOT, check=True,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "250", "TERM": "dumb"},
    )  # fmt: skip
    shown = re.sub(r"\s+", " ", done.stdout)
    for name in [one.name for spec in (EvaluateSpec, TrainSpec) for one in fields(spec)]:
        absent = name in ("holdout", "on_interrupt", "split", "split_last", "split_cutoff")
        assert (re.search(rf"--{name.replace('_', '-')}\s", shown) is None) is absent, name
    for said in (
        "--json prints the metrics of the first model at the top level",
        "equal scores by item id",
        "Example:",
    ):
        assert said in shown


# ---- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "svd"], "--model is one or more of popular, recent, item-knn, nmf, got 'svd'"),
        (["--model", ","], "got nothing"),
        (["--k", "0"], "--k is one or more lengths of lists from 1 to 65535, such as 10,20; got '0'"),
        (["--k", "10,-1"], "got '-1'"),
        (["--k", "ten"], "got 'ten'"),
        (["--negatives", "0"], "--negatives must be at least 1, got 0"),
        (["--negatives", "9", "--negatives-file", "x"], "leave one out"),
        (["--n-components", "0"], "n_components must be auto or at least 1"),
        (["--format", "xls"], "'xls' is not csv|parquet|json|none"),
        (["--holdout", "0.1"], "No such option: --holdout"),
    ],
)
def test_a_wrong_option_or_value_is_2(run, tmp_path, arguments, said):
    files = ["--train", table(tmp_path / "a.csv", TRAIN), "--test", table(tmp_path / "b.csv", TEST)]
    status, line = failed(run, *files, *arguments)
    assert (status, said in line) == (2, True), line


def test_both_files_are_needed(run):
    assert failed(run) == (2, "error: --train FILE and --test FILE must be given")
    assert failed(run, "--train", "a") == (2, "error: --test FILE must be given")


def test_input_that_is_missing_or_malformed_is_3(run, tmp_path):
    learn, judge = table(tmp_path / "a.csv", TRAIN), table(tmp_path / "b.csv", TEST)
    for arguments, said in (
        (["--train", "none.csv", "--test", judge], "none.csv: no such file. Correct --train."),
        (["--train", learn, "--test", "none.rating"], "none.rating: no such file. Correct --test."),
        (["--train", learn, "--test", judge, "--user-column", "who"], "Missing required columns: ['who'] in"),
        (["--train", learn, "--test", table(tmp_path / "c.csv", [], "a,b")], "Missing required columns"),
        (
            ["--train", learn, "--test", judge, "--negatives-file", "x.negative"],
            "x.negative can't be read: no such file. Correct --negatives-file.",
        ),
        (["--train", learn, "--test", judge, "--min-data", "10"], "9 interaction(s), and at least 10 are needed"),
        (
            ["--train", learn, "--test", judge, "--min-interactions", "10"],
            "is left to learn from: widen --min-interactions",
        ),
    ):
        status, line = failed(run, *arguments)
        assert (status, said in line) == (3, True), line


def test_a_pair_on_both_sides_is_refused(run, tmp_path):
    learn, judge = table(tmp_path / "a.csv", TRAIN), table(tmp_path / "b.csv", [*TEST, (1, 10), (4, 50)])
    status, line = failed(run, "--train", learn, "--test", judge)
    assert status == 3
    assert "2 interaction(s) are on the training side and on the test side" in line
    assert line.endswith("Take them out of one of the files.")


def test_negatives_of_another_test_file_are_refused(run, tmp_path):
    arguments = protocol(tmp_path)
    negatives = tmp_path / "x.test.negative"
    negatives.write_text(negatives.read_text() + "(1,50)\t30\n")
    status, line = failed(run, *arguments, "--model", "popular")
    assert (status, "1 pair(s) of the negatives are not held out, (1,50) first" in line) == (3, True), line
    negatives.write_text("1,50\t30\n")
    status, line = failed(run, *arguments)
    assert (status, "line 1: expected (user,item)" in line) == (3, True), line


def test_files_that_share_no_user_are_refused(run, tmp_path):
    learn, judge = table(tmp_path / "a.csv", TRAIN), table(tmp_path / "b.csv", [("x", 40)])
    status, line = failed(run, "--train", learn, "--test", judge)
    assert (status, "are they of the same data?" in line) == (3, True), line


def test_names_and_lengths_come_with_commas_or_repeated():
    assert as_models(["nmf, popular", "item_knn", "nmf"]) == ("nmf", "popular", "item-knn")
    assert as_ks(["20,5", "10", "5"]) == (5, 10, 20)
    with pytest.raises(UsageError):
        as_ks([])
