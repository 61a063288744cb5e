"""The names under which metrics are logged, and how the names of older runs are read.

The headline has no slash and is logged first. Everything else stands in groups, so that the charts of the MLflow UI
have sections: ``holdout/ndcg_at_10``, ``baseline/popular/ndcg_at_10``, ``cost/seconds_fit``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

from pipeline.evaluation.metrics import BANDS, SEGMENTS
from pipeline.models import registry

__all__ = [
    "HEADLINE",
    "REFERENCES",
    "RENAMED",
    "Renamed",
    "current_name",
    "current_names",
    "holdout_name",
    "is_logged",
    "seconds_by_stage",
]

HEADLINE = (
    "ndcg_at_10", "recall_at_10", "lift_over_popular", "reconstruction_error", "rmse", "mae", "observed_rmse",
    "observed_mae", "sparsity", "n_iter", "loss",
)  # fmt: skip
# What a split by whole items is compared with besides the baselines: see `evaluation.cold_items`.
REFERENCES = {"random": "random order", "held_out_popular": "held-out popularity"}
# Those of the headline that a group has too.
_FROM_HOLDOUT = {name: f"holdout/{name}" for name in ("ndcg_at_10", "recall_at_10")}
_MEANS = {"global": "global-mean", "user": "user-mean", "item": "item-mean", "biases": "biases"}


class Renamed(NamedTuple):
    """What metrics were called, what they are called now, and what they are; {words} stand for those of `_WORDS`."""

    old: str
    new: str
    meaning: str


_ERROR, _RANKING = "rmse|mae", r"[a-z_]+_at_\d+"
# What may stand for each {word}: a pattern of the old name; the new one spells an underscore as it says.
_WORDS = {
    "metric": f"{_RANKING}|{_ERROR}|n_users|consumed_popularity",
    "error": _ERROR,
    "segment": "|".join(SEGMENTS),
    "band": "|".join(BANDS),
    "baseline": "|".join([*(renamed.key for renamed in registry.baselines()), *REFERENCES]),
    "average": "|".join(_MEANS),
    "end": "low|high",
    "stage": r"\w+",
    "count": "bad_rows|duplicates|users_left_out|interactions_left_out",
    "state": "complete|pruned|failed|before",
}
RENAMED = (  # the first that fits is taken
    Renamed("holdout_ndcg_at_10_{end}", "interval/ndcg_at_10_{end}", "ends of its 95 % bootstrap interval over users"),
    Renamed("lift_over_popular_{end}", "interval/lift_over_popular_{end}", "ends of its 95 % bootstrap interval"),
    Renamed("holdout_{baseline}_{metric}", "baseline/{baseline}/{metric}", "the same for a baseline"),
    Renamed("holdout_{average}_{error}", "baseline/{average}/{error}", "errors of the mean of all scores, of the "
            "user's, of the item's, and of both levels together, on the same cells"),
    Renamed("holdout_{segment}_{metric}", "segment/{segment}/{metric}", "the same for a third of the users: with the "
            "fewest training interactions, the middle, the most"),
    Renamed("holdout_{metric}_{band}", "band/{band}/{metric}", "the same for the most popular items, the middle, the "
            "rest"),
    Renamed("holdout_{metric}", "holdout/{metric}", "the model on the held-out interactions"),
    Renamed("seconds_judge", "cost/seconds_evaluate", "time of the evaluation"),
    Renamed("seconds_{stage}", "cost/seconds_{stage}", "time of each stage, and `total`"),
    Renamed("peak_memory_mb", "cost/peak_memory_mb", "peak resident memory"),
    Renamed("estimated_peak_mb", "cost/estimated_peak_mb", "the peak expected before the fit"),
    Renamed("estimated_fit_seconds", "cost/estimated_fit_seconds", "the time of the fit expected before it"),
    Renamed("estimated_seconds", "cost/estimated_seconds", "the time of everything after the read, expected before it"),
    Renamed("n_{count}", "data/n_{count}", "rows, users and interactions that were left out"),
    Renamed("test_{baseline}_{metric}", "test/baseline/{baseline}/{metric}", "a search: a baseline on the test part"),
    Renamed("test_default_{metric}_{band}", "test/default/band/{band}/{metric}", "the same by popularity band"),
    Renamed("test_default_{metric}", "test/default/{metric}", "a search: the default options on the test part"),
    Renamed("test_lift_over_popular_{end}", "test/interval/lift_over_popular_{end}", "ends of its interval"),
    Renamed("test_gain_over_default_{end}", "test/interval/gain_over_default_{end}", "ends of its interval"),
    Renamed("test_lift_over_popular", "test/lift_over_popular", "a search: the winner over most popular, minus 1"),
    Renamed("test_gain_over_default", "test/gain_over_default", "a search: the winner minus the default options"),
    Renamed("test_{metric}_{band}", "test/band/{band}/{metric}", "a search: the winner by popularity band"),
    Renamed("test_{metric}", "test/{metric}", "a search: the winner on the test part"),
    Renamed("best_validation_{metric}", "validation/best_{metric}", "a search: the best trial so far, by trial"),
    Renamed("validation_{baseline}_{metric}", "validation/baseline/{baseline}/{metric}", "a search: a baseline on the "
            "validation part"),
    Renamed("validation_{metric}_after", "validation/{metric}_after", "a trial: its value after each iteration looked "
            "at"),
    Renamed("validation_{metric}", "validation/{metric}", "a trial, and the search by trial"),
    Renamed("best_trial", "search/best_trial", "a search: the number of the best trial"),
    Renamed("n_trials_{state}", "search/n_trials_{state}", "a search: trials by how they ended, and those done before"),
    Renamed("n_trials", "search/n_trials", "a search: trials"),
    Renamed("seconds", "cost/seconds", "a trial: its time"),
)  # fmt: skip


def holdout_name(name: str, *, part: str = "holdout", baseline: str = "", segment: str = "") -> str:
    """A metric of the held-out interactions as it is logged; the name may end with a popularity band.

    ``holdout/ndcg_at_10``, ``baseline/item-knn/ndcg_at_10``, ``segment/cold/rmse``, ``band/tail/recall_at_10``.

    Parameters
    ----------
    part : "test" for the test part of a search (``test/baseline/popular/ndcg_at_10``); "" for names without a part
    baseline : a baseline's name or that of an average
    segment : of users
    """
    stem, _, band = name.rpartition("_")
    groups = ["baseline", _MEANS.get(baseline, baseline).replace("_", "-")] if baseline else []
    groups += ["segment", segment] if segment else []
    if band in BANDS:
        name, groups = stem, [*groups, "band", band]
    if part and (part != "holdout" or not groups):
        groups = [part, *groups]
    return "/".join([*groups, name])


def current_name(name: str) -> str:
    """What a metric of that name is called now; a name of now, or of somebody else, stays."""
    for pattern, new in _patterns():
        if match := pattern.fullmatch(name):
            words = {word: _MEANS.get(text, text.replace("_", "-")) if word in ("baseline", "average") else text
                     for word, text in match.groupdict().items()}  # fmt: skip
            return new.format(**words)
    return name


def current_names(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics of a run of any age by the names of now: the headline first, in its order."""
    renamed = {current_name(name): value for name, value in metrics.items()}
    for name, same in _FROM_HOLDOUT.items():
        if same in renamed:
            renamed.setdefault(name, renamed[same])
    first = {name: renamed[name] for name in HEADLINE if name in renamed}
    return first | {name: value for name, value in renamed.items() if name not in first}


def is_logged(name: str) -> bool:
    """Whether the name is one of the headline, or of the groups that `RENAMED` lists."""
    return name in HEADLINE or any(pattern.fullmatch(name) for pattern in _new_patterns())


def seconds_by_stage(seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each stage by their logged names."""
    return {f"cost/seconds_{stage}": value for stage, value in seconds.items()}


def words_of(word: str) -> list[str]:
    """What a {word} of `RENAMED` may be in a name of now; [] where that is open."""
    old = _WORDS[word].split("|")
    if word in ("baseline", "average"):
        old = [_MEANS.get(text, text.replace("_", "-")) for text in old]
    return [] if any(re.search(r"[\\\[]", text) for text in old) else old


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    return [(_pattern(renamed.old, _WORDS.items()), renamed.new) for renamed in RENAMED]


@cache
def _new_patterns() -> list[re.Pattern[str]]:
    words = {word: "|".join(words_of(word)) or pattern for word, pattern in _WORDS.items()}
    return [_pattern(renamed.new, words.items()) for renamed in RENAMED]


def _pattern(name: str, words: Iterable[tuple[str, str]]) -> re.Pattern[str]:
    for word, pattern in words:
        name = name.replace(f"{{{word}}}", f"(?P<{word}>{pattern})")
    return re.compile(name)
