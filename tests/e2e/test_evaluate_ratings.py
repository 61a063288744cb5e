"""`rankline evaluate` of predicted ratings, by hand, and what it says of each fit."""

from __future__ import annotations

import json
import re

import pytest
from support.evaluate_command import TEST, TRAIN, table

pytest_plugins = ["support.evaluate_command"]

STARS = [
    (1, 10, 5), (1, 20, 4), (1, 30, 1), (2, 10, 4), (2, 20, 5), (2, 40, 2), (3, 20, 3), (3, 30, 2), (3, 40, 2),
    (4, 10, 5), (4, 30, 1), (4, 40, 1),
]  # fmt: skip
UNSEEN_STARS = [(1, 40, 1), (2, 30, 2), (3, 10, 4), (4, 20, 5), (4, 99, 5), (9, 10, 3)]


@pytest.fixture
def stars(tmp_path) -> list[str]:
    arguments = []
    for name, rows in (("train", STARS), ("test", UNSEEN_STARS)):
        lines = [f"{user},{item},{score}" for user, item, score in rows]
        (tmp_path / f"{name}.csv").write_text("\n".join(["user_id,item_id,rating", *lines]) + "\n")
        arguments += [f"--{name}", str(tmp_path / f"{name}.csv")]
    return arguments


def test_averages_are_models_and_their_errors_are_by_hand(evaluated, stars):
    result = evaluated(*stars, "--model", "global-mean,user-mean,item-mean,biases,popular")
    mean = sum(score for *_, score in STARS) / len(STARS)
    known = UNSEEN_STARS[:4]  # the others are of a user or an item that training does not have

    def average(side, row):
        scores = [rated[2] for rated in STARS if rated[side] == row]
        return sum(scores) / len(scores)

    def damped(side, row, taken):
        left = [rated[2] - taken(rated) for rated in STARS if rated[side] == row]
        return sum(left) / (len(left) + 5)

    def biases(user, item):
        of_item = damped(1, item, lambda _: mean)
        return mean + of_item + damped(0, user, lambda rated: mean + damped(1, rated[1], lambda _: mean))

    predicted = {
        "global-mean": [mean for _ in known],
        "user-mean": [average(0, user) for user, *_ in known],
        "item-mean": [average(1, item) for _, item, _ in known],
        "biases": [biases(user, item) for user, item, _ in known],
    }
    for name, values in predicted.items():
        errors = [value - score for value, (*_, score) in zip(values, known, strict=True)]
        assert result["models"][name]["rmse"] == pytest.approx((sum(e * e for e in errors) / 4) ** 0.5, rel=1e-6)
        assert result["models"][name]["mae"] == pytest.approx(sum(abs(e) for e in errors) / 4, rel=1e-6)
    assert result["rmse"] == result["models"]["global-mean"]["rmse"]
    assert "rmse" not in result["models"]["popular"]


def test_estimated_ratings_are_cut_to_the_range_of_training_unless_that_is_not_wanted(evaluated, run, stars):
    # Of all cells: most estimates are under 1, the lowest score.
    model = ("--model", "nmf", "--n-components", "1", "--unobserved-weight", "1")
    within, beyond = evaluated(*stars, *model), evaluated(*stars, *model, "--clip", "no")
    assert within["mae"] != beyond["mae"]
    assert within["ndcg_at_10"] == beyond["ndcg_at_10"]
    _, out, err = run(*stars, *model)
    assert "rmse and mae: ratings are cut to the range of those of training, 1 to 5 (--clip no)" in err
    assert re.search(rf"^rmse +{within['rmse']:.4f}", out, re.MULTILINE)
    _, _, err = run(*stars, *model, "--clip", "no")
    assert "ratings are as the models estimate them" in err


def test_errors_are_of_all_ratings_and_lists_of_the_relevant_ones(evaluated, stars):
    liked, whole = (
        evaluated(*stars, "--model", "biases", "--relevant-from", "4"),
        evaluated(*stars, "--model", "biases"),
    )
    assert liked["rmse"] == whole["rmse"]
    assert liked["n_held_out"] < whole["n_held_out"]


def test_the_json_tells_what_each_fit_used_and_took(run, stars):
    _, out, err = run(
        *stars, "--model", "svd,svd:solver=als:regularization=3,recent,biases", "--max-iter", "7", "--json"
    )
    fits = json.loads(out)["fits"]
    assert list(fits) == ["svd", "svd:solver=als:regularization=3.0", "recent", "biases"]
    sgd, als = fits["svd"], fits["svd:solver=als:regularization=3.0"]
    assert (sgd["options"]["learning_rate"], sgd["options"]["regularization"]) == (0.01, 1.2)
    assert (als["options"]["solver"], als["options"]["regularization"]) == ("als", 3.0)
    assert (sgd["n_iter"], sgd["converged"], sgd["options"]["n_components_used"]) == (7, False, 3)
    assert 0 < als["loss"] != sgd["loss"] > 0
    assert fits["recent"]["options"] == {"half_life_days": 30.0}
    assert "n_iter" not in fits["biases"]
    assert all(fit["fit_seconds"] >= 0 and fit["peak_memory_mb"] > 10 for fit in fits.values())
    assert "over all cells" not in err


def test_events_that_all_count_the_same_are_no_ratings(run, tmp_path):
    files = ["--train", table(tmp_path / "train.csv", TRAIN), "--test", table(tmp_path / "test.csv", TEST)]
    status, out, err = run(*files, "--model", "nmf", "--n-components", "2")
    assert status == 0
    assert "rmse" not in out + err
