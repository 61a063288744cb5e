"""What `rankline evaluate` refuses, in one line each."""

from __future__ import annotations

import json

import pytest
from support.evaluate_command import TEST, TRAIN, failed, protocol, table

from pipeline.errors import UsageError
from pipeline.jobs.model_settings import settings_of
from pipeline.options import TrainOptions, as_ks
from pipeline.runtime.progress import Reporter, silent

pytest_plugins = ["support.evaluate_command"]


# ---- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "magic"], "--model is one of NMF, "),
        (["--model", ","], "got nothing"),
        (["--k", "0"], "--k is one or more lengths of lists from 1 to 65535, such as 10,20; got '0'"),
        (["--k", "10,-1"], "got '-1'"),
        (["--k", "ten"], "got 'ten'"),
        (["--negatives", "0"], "negatives must be at least 1, or none, got 0"),
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
    train_file, held_out = table(tmp_path / "a.csv", TRAIN), table(tmp_path / "b.csv", TEST)
    for arguments, said in (
        (["--train", "none.csv", "--test", held_out], "none.csv: no such file. Correct --train."),
        (["--train", train_file, "--test", "none.rating"], "none.rating: no such file. Correct --test."),
        (["--train", train_file, "--test", held_out, "--user-column", "who"], "Missing required columns: ['who'] in"),
        (["--train", train_file, "--test", table(tmp_path / "c.csv", [], "a,b")], "Missing required columns"),
        (
            ["--train", train_file, "--test", held_out, "--negatives-file", "x.negative"],
            "x.negative can't be read: no such file. Correct --negatives-file.",
        ),
        (
            ["--train", train_file, "--test", held_out, "--min-data", "10"],
            "9 interaction(s), and at least 10 are needed",
        ),
        (
            ["--train", train_file, "--test", held_out, "--min-interactions", "10"],
            "is left to learn from: widen --min-interactions",
        ),
    ):
        status, line = failed(run, *arguments)
        assert (status, said in line) == (3, True), line


def test_a_pair_on_both_sides_is_refused(run, tmp_path):
    train_file, held_out = table(tmp_path / "a.csv", TRAIN), table(tmp_path / "b.csv", [*TEST, (1, 10), (4, 50)])
    status, line = failed(run, "--train", train_file, "--test", held_out)
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
    train_file, held_out = table(tmp_path / "a.csv", TRAIN), table(tmp_path / "b.csv", [("x", 40)])
    status, line = failed(run, "--train", train_file, "--test", held_out)
    assert (status, "are they of the same data?" in line) == (3, True), line


def test_items_of_another_kind_are_refused(run, tmp_path):
    """They would all count as missed: metrics of 0, and status 0."""
    train_file, held_out = table(tmp_path / "a.csv", TRAIN), table(tmp_path / "b.csv", [(1, "m40"), (2, "m50")])
    status, line = failed(run, "--train", train_file, "--test", held_out)
    assert status == 3
    assert f"No item of {held_out} has a row in {train_file}" in line
    assert "Its item ids are text such as 'm40', those of the training file integers such as '10'" in line


@pytest.mark.parametrize("strange", [("x", 40), (1, "x"), ("007", "008")])
def test_a_row_of_the_test_file_does_not_change_what_is_trained(run, tmp_path, strange):
    """Its ids are text, and those of the training file stay integers, in their order."""
    train_file, few = table(tmp_path / "a.csv", TRAIN), table(tmp_path / "b.csv", TEST)
    more = table(tmp_path / "c.csv", [*TEST, strange])
    results = []
    for held_out in (few, more):
        status, out, _ = run(
            "--train", train_file, "--test", held_out, "--model", "nmf,popular", "--n-components", "2", "--json"
        )
        assert status == 0
        results.append(json.loads(out))
    assert results[0]["train_digest"] == results[1]["train_digest"]
    assert results[0]["split_digest"] != results[1]["split_digest"]
    if strange[0] != 1:  # of a user whom training does not know
        for key in ("models", "n_users", "n_held_out"):
            assert results[0][key] == results[1][key]


def test_names_and_lengths_come_with_commas_or_repeated():
    settings = settings_of(["nmf, Popular", "item_knn", "NMF"], TrainOptions(), Reporter(print, silent))
    assert [setting.label for setting in settings] == ["nmf", "popular", "item-knn"]
    assert as_ks(["20,5", "10", "5"]) == (5, 10, 20)
    with pytest.raises(UsageError):
        as_ks([])
    with pytest.raises(UsageError, match="got nothing"):
        settings_of([" , "], TrainOptions(), Reporter(print, silent))
