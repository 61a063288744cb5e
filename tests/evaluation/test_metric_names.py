"""The names of metrics: those of now, and those of older runs, which are still read."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest

from pipeline.evaluation.metric_names import HEADLINE, RENAMED, current_name, current_names, holdout_name, is_logged
from pipeline.evaluation.metric_names import words_of as words
from pipeline.evaluation.report.summary import side_by_side, verdict_in_words

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = json.loads((ROOT / "tests" / "fixtures" / "before_move" / "expected.json").read_text())


def table() -> str:
    """What docs/metrics.md says between its marks."""
    lines = ["| name | before | what it is |", "|---|---|---|"]
    lines += [f"| `{renamed.new}` | `{renamed.old}` | {renamed.meaning} |" for renamed in RENAMED]
    used = dict.fromkeys(word for renamed in RENAMED for word in re.findall(r"{(\w+)}", renamed.new))
    lines += ["", "| word | stands for |", "|---|---|"]
    lines += [f"| {{{word}}} | {' · '.join(f'`{each}`' for each in words(word))} |" for word in used if words(word)]
    return "\n".join(lines)


def test_the_page_lists_them_all() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    match = re.search(r"<!-- names:.*?-->\n(.*?)\n?<!-- end of names -->", page, re.DOTALL)
    assert match is not None
    assert match[1].strip() == table(), f"docs/metrics.md should say:\n{table()}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("holdout_ndcg_at_10", "holdout/ndcg_at_10"),
        ("holdout_n_users", "holdout/n_users"),
        ("holdout_popularity_lift_at_10", "holdout/popularity_lift_at_10"),
        ("holdout_popular_popularity_lift_at_10", "baseline/popular/popularity_lift_at_10"),
        ("holdout_item_knn_hit_rate_at_10", "baseline/item-knn/hit_rate_at_10"),
        ("holdout_item_rmse", "baseline/item-mean/rmse"),
        ("holdout_biases_mae", "baseline/biases/mae"),
        ("holdout_cold_ndcg_at_10", "segment/cold/ndcg_at_10"),
        ("holdout_recall_at_10_tail", "band/tail/recall_at_10"),
        ("holdout_mae_head", "band/head/mae"),
        ("holdout_ndcg_at_10_low", "interval/ndcg_at_10_low"),
        ("lift_over_popular", "lift_over_popular"),
        ("lift_over_popular_high", "interval/lift_over_popular_high"),
        ("seconds_judge", "cost/seconds_evaluate"),
        ("seconds_holdout", "cost/seconds_holdout"),
        ("estimated_peak_mb", "cost/estimated_peak_mb"),
        ("n_bad_rows", "data/n_bad_rows"),
        ("n_iter", "n_iter"),
        ("rmse", "rmse"),
        ("test_ndcg_at_10", "test/ndcg_at_10"),
        ("test_item_knn_map_at_10", "test/baseline/item-knn/map_at_10"),
        ("test_default_recall_at_10", "test/default/recall_at_10"),
        ("test_default_recall_at_10_tail", "test/default/band/tail/recall_at_10"),
        ("test_gain_over_default_low", "test/interval/gain_over_default_low"),
        ("best_validation_ndcg_at_10", "validation/best_ndcg_at_10"),
        ("validation_popular_recall_at_10", "validation/baseline/popular/recall_at_10"),
        ("n_trials_failed", "search/n_trials_failed"),
        ("my_own_metric", "my_own_metric"),
    ],
)
def test_an_old_name_is_read_as_the_new_one(old: str, new: str) -> None:
    assert current_name(old) == new
    assert current_name(new) == new  # read twice, it stays
    assert is_logged(new) == (new != "my_own_metric")


def test_each_old_name_has_one_new_name() -> None:
    """Every rule, each of its words: no two old names become one, and every new name is one that is logged."""
    spelled = {"metric": ["ndcg_at_10", "rmse", "n_users"], "stage": ["fit"]}
    seen: dict[str, str] = {}
    for renamed in RENAMED:
        used = list(dict.fromkeys(re.findall(r"{(\w+)}", renamed.old)))
        for values in itertools.product(*(spelled.get(word) or _old(word) for word in used)):
            old = renamed.old.format(**dict(zip(used, values, strict=True)))
            new = current_name(old)
            assert new != old
            assert is_logged(new), (old, new)
            assert seen.setdefault(new, old) == old
    assert len(seen) > 100


def _old(word: str) -> list[str]:
    return [each.replace("-mean", "").replace("-", "_") for each in words(word)]


def test_the_headline_comes_first_in_its_order() -> None:
    given = {name: 0.5 for name in reversed(HEADLINE) if name not in ("ndcg_at_10", "recall_at_10")}
    result = current_names({"seconds_fit": 1.0, "holdout_recall_at_10": 0.25, "holdout_ndcg_at_10": 0.125, **given})
    assert list(result) == [*HEADLINE, "cost/seconds_fit", "holdout/recall_at_10", "holdout/ndcg_at_10"]
    assert (result["ndcg_at_10"], result["recall_at_10"]) == (0.125, 0.25)
    assert current_names(result) == result
    assert list(current_names(result)) == list(result)


def test_names_of_held_out_metrics() -> None:
    assert holdout_name("rmse") == "holdout/rmse"
    assert holdout_name("rmse", baseline="user", segment="cold") == "baseline/user-mean/segment/cold/rmse"
    assert holdout_name("share_at_10_mid") == "band/mid/share_at_10"
    assert holdout_name("ndcg_at_10", part="test", baseline="item_knn") == "test/baseline/item-knn/ndcg_at_10"
    assert holdout_name("ndcg_at_10", part="") == "ndcg_at_10"


def test_a_run_of_before_is_shown_as_one_of_now() -> None:
    metrics = EXPECTED["versions"]["1"]["metrics"]
    assert any(name.startswith("holdout_") for name in metrics)
    ranking, stars = side_by_side(metrics)
    assert "item-kNN" in ranking.columns
    assert ranking.rows[0][:2] == ("holdout/ndcg_at_10", ranking.rows[0][1])
    assert "[" in ranking.rows[0][1]
    assert "mean of all" in stars.columns
    assert (verdict_in_words(metrics) or "").startswith("better than most popular: ")
