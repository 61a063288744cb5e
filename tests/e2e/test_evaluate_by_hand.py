"""`rankline evaluate` on small examples by hand."""

from __future__ import annotations

import numpy as np
import pytest
from support.evaluate_command import SECOND, TEST, TRAIN, protocol, table

pytest_plugins = ["support.evaluate_command"]


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
def test_full_ranking_by_hand(evaluated, tmp_path, headers, text):
    def names(user, item):
        return (f"u{user}", f"i{item}") if text else (user, item)

    def turned(user, item):
        return names(user, item)[::-1]

    train_file = table(
        tmp_path / "train.rating" if headers[0] is None else tmp_path / "train.csv", TRAIN, headers[0], names
    )
    other = headers[1] == "movieId,userId"
    held_out = table(tmp_path / "test.csv", TEST, headers[1], turned if other else names)
    result = evaluated("--train", train_file, "--test", held_out, "--model", "popular", "--k", "1,2")
    assert {name: result[name] for name in BY_HAND} == pytest.approx(BY_HAND, abs=1e-12)
    about = {"model": "popular", "protocol": "full", "k": [1, 2], "n_users": 3, "n_held_out": 5}
    assert {name: result[name] for name in about} == about
    assert result["models"]["popular"].items() <= result.items()
    for name in ("novelty", "diversity", "popularity_lift", "map", "mrr", "hit_rate"):
        assert f"{name}_at_1" in result or name == "diversity"  # a list of one has no pairs
        assert f"{name}_at_2" in result


@pytest.mark.parametrize("names", [lambda u, i: (u, i), lambda u, i: (f"u{u}", f"i{i}"), lambda u, i: (u, f"{i:05d}")])
def test_given_negatives_by_hand(evaluated, tmp_path, names):
    # All of one popularity but 20: 40 is behind 30; 50 behind 20 and 40; 30 is before 40, and 77 nobody knows.
    result = evaluated(*protocol(tmp_path, names), "--model", "popular", "--k", "1,2,3")
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


def test_the_form_of_the_public_files_byte_by_byte(evaluated, tmp_path):
    (tmp_path / "train").write_text(
        "0\t32\t4\t978824330\n0\t34\t4\t978824330\n1\t25\t5\t978301398\n1\t174\t5\t1\n2\t25\t1\t2\n"
    )
    (tmp_path / "test").write_text("0\t25\t5\t978824351\n1\t32\t3\t978300174\n")
    (tmp_path / "negative").write_text("(0,25)\t1064\t174\t2791\t\n(1,32)\t25\t34\t\n")
    files = [f"--{name}={tmp_path / file}" for name, file in
             (("train", "train"), ("test", "test"), ("negatives-file", "negative"))]  # fmt: skip
    result = evaluated(*files, "--model", "popular", "--k", "1")
    # 25 is the most popular; 32 is behind 25, and before 34 by id.
    assert (result["hit_rate_at_1"], result["ndcg_at_1"]) == (0.5, 0.5)


def test_a_model_that_scores_all_alike_gets_what_chance_gives(evaluated, run, tmp_path):
    rng = np.random.default_rng(0)
    pairs = [(u, i) for u in range(300) for i in rng.choice(100, 4, replace=False)]
    held_out = [(u, i) for n, (u, i) in enumerate(pairs) if n % 4 == 0]
    rest = [pair for n, pair in enumerate(pairs) if n % 4] + [(999, item) for item in range(100)]
    train_file = table(tmp_path / "train.csv", rest)
    arguments = ["--train", train_file, "--test", table(tmp_path / "test.csv", held_out), "--model", "nmf"]
    # A penalty that leaves factors of zeros.
    arguments += ["--alpha-W", "1e6", "--l1-ratio", "1", "--k", "10"]
    for more in ([], ["--negatives", "49"]):
        result = evaluated(*arguments, *more)
        assert 0.02 < result["hit_rate_at_10"] < (0.2 if not more else 0.35), more
    _, _, err = run(*arguments, "--negatives", "49")
    assert "300 of 300 held-out items have the very score of one of their negatives: their ids decide the order" in err
