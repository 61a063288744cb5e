"""Specs: defaults, bounds, and what is said about a value that makes no sense."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.options import ReadOptions, ScoreOptions, TrainOptions, TuneMetric, TuneOptions

INITS = "one of ('random', 'nndsvd', 'nndsvda', 'nndsvdar')"
SPLITS = "one of ('auto', 'latest', 'random', 'last', 'time', 'users', 'items')"
LAYERS = "numbers of units from 1 to 4096 such as 64-32-16"
MOMENT = "a date or time such as 2024-03-31, or none"
TIME_FORMAT = "a pattern such as %d.%m.%Y, or one of seconds, milliseconds, microseconds, nanoseconds, days"
WEIGHTS = "kinds and weights such as view=1,cart=3,purchase=5"
SEPARATOR = "tab, space, or up to three marks such as |"
LIMITS = ("max_per_genre", "max_per_series")
INTEGER, NUMBER, BELOW_1 = "an integer", "a number", "at least 0 and below 1"

# (field, value, what the message says it must be)
REFUSED = {
    TrainOptions: [
        *(("n_components", value, "auto or at least 1") for value in (0, -1)),
        *(("n_components", value, "auto or an integer") for value in ("ten", "", 2.5, None, True)),
        *(("init", value, INITS) for value in ("custom", "", None)),
        *(("solver", value, "one of ('fast', 'sklearn', 'sgd', 'als')") for value in ("cd", "", None)),
        *(("threads", value, "at least 1, or none") for value in (0, -1)),
        *(("threads", value, "an integer, or none") for value in (1.5, "2", True)),
        *(("memory_limit", value, "at least 1, or none") for value in (0, -1)),
        *(("on_interrupt", value, "one of ('stop', 'keep')") for value in ("raise", None)),
        *(("budget_minutes", value, "above 0") for value in (0, -1.0)),
        ("budget_minutes", None, NUMBER),
        *(("max_iter", value, "at least 1") for value in (0, -5)),
        *(("max_iter", value, INTEGER) for value in (1.5, "200", None, True)),
        *(("tol", value, "at least 0") for value in (-1e-9, -1)),
        *(("tol", value, "finite") for value in (math.nan, math.inf, -math.inf)),
        *(("tol", value, NUMBER) for value in ("1e-4", None, True)),
        *(("random_state", value, "from 0 to 4294967295") for value in (-1, 2**32)),
        *(("random_state", value, INTEGER) for value in (None, 1.0)),
        ("alpha_W", -0.1, "at least 0"),
        ("alpha_W", math.nan, "finite"),
        ("alpha_W", "same", NUMBER),
        ("alpha_H", -0.1, "same or at least 0"),
        ("alpha_H", math.inf, "finite"),
        *(("alpha_H", value, "same or a number") for value in ("none", None)),
        *(("l1_ratio", value, "from 0 to 1") for value in (-0.01, 1.01)),
        ("l1_ratio", math.nan, "finite"),
        ("l1_ratio", None, NUMBER),
        *(("unobserved_weight", value, "from 0 to 1, or none") for value in (-0.01, 1.01)),
        ("unobserved_weight", math.nan, "finite"),
        *(("unobserved_weight", value, "a number, or none") for value in ("1", True)),
        ("confidence", -0.1, "at least 0"),
        ("confidence", math.inf, "finite"),
        ("confidence", None, NUMBER),
        ("dislike_weight", -0.1, "at least 0"),
        ("dislike_weight", None, NUMBER),
        ("reg_exponent", -0.1, "at least 0"),
        ("reg_exponent", math.nan, "finite"),
        ("reg_exponent", "1", NUMBER),
        *(("biases", value, "one of ('yes', 'no')") for value in (True, False, "", None)),
        *(("algorithm", value, "text") for value in (None, 3)),
        ("members", 3, "text, or none"),
        *(("n_neighbours", value, "at least 1") for value in (0, -5)),
        *(("n_neighbours", value, INTEGER) for value in (2.0, "200", None)),
        *(("cold_items", value, "at least 1, or none") for value in (0, -5)),
        *(("cold_items", value, "an integer, or none") for value in (2.0, "5")),
        *(("shrinkage", value, "at least 0") for value in (-1, -0.5)),
        ("shrinkage", None, NUMBER),
        *(("layers", value, LAYERS) for value in ("", "64-", "0", "64-x", "64,32", "4097", "1-1-1-1-1-1-1-1-1", 64)),
        *(("dropout", value, BELOW_1) for value in (-0.1, 1.0, 1)),
        ("dropout", None, NUMBER),
        *(("negatives_per_positive", value, "at least 1") for value in (0, -4)),
        ("negatives_per_positive", 4.0, INTEGER),
        *(("learning_rate", value, "above 0, or none") for value in (0, -0.1)),
        *(("regularization", value, "at least 0, or none") for value in (-1, -0.5)),
        *(("regularization", value, "a number, or none") for value in ("30", True)),
        *(("transform", value, "one of ('none', 'log1p', 'binary')") for value in ("log", None)),
        *(("duplicates", value, "one of ('last', 'sum', 'max', 'mean')") for value in ("first", None)),
        ("min_interactions", 0, "at least 1, or none"),
        ("min_interactions", 2.0, "an integer, or none"),
        ("max_interactions", 0, "at least 1, or none"),
        ("max_interactions", "10", "an integer, or none"),
        ("min_data", -1, "at least 0"),
        ("min_data", None, INTEGER),
        *(("holdout", value, BELOW_1) for value in (-0.1, 1.0, 1, 20)),
        ("holdout", math.nan, "finite"),
        ("holdout", "0.2", NUMBER),
        *(("half_life_days", value, "above 0, or none") for value in (0, -1.0)),
        ("half_life_days", math.inf, "finite"),
        *(("half_life_days", value, "a number, or none") for value in ("30", True)),
        *(("split", value, SPLITS) for value in ("holdout", "", None)),
        *(("split_last", value, "at least 1") for value in (0, -1)),
        *(("split_last", value, INTEGER) for value in (1.0, "1", None, True)),
        *(
            ("split_cutoff", value, MOMENT)
            for value in ("", "march", "20240331", "2024-03-32", "2024-03-31T00:00+01:00", 5)
        ),
    ],
    ReadOptions: [
        *(
            ("source_name", value, "1 to 200 printable characters, or none")
            for value in ("", " ", "a\nb", "x" * 201, 3)
        ),
        *(("source", value, "one of ('auto', 'warehouse', 'file')") for value in ("csv", None)),
        *(("format", value, "one of ('csv', 'parquet', 'json'), or none") for value in ("xml", "")),
        *(("on_bad_rows", value, "one of ('error', 'drop')") for value in ("skip", None)),
        *(("on_negative", value, "one of ('error', 'drop', 'zero'), or none") for value in ("skip", "")),
        *(("time_format", value, f"{TIME_FORMAT}, or none") for value in ("%q", "hours", "", 7)),
        *(("event_weights", value, f"{WEIGHTS}, or none") for value in ("a", "a=1,a=2", "a=-1", "=1", "", "a=inf")),
        *(("separator", value, f"{SEPARATOR}, or none") for value in ("", "ab", '"', "a", "\n")),
        ("header", "", "auto, off, or names of columns"),
        *(("encoding", value, "the name of an encoding such as latin-1") for value in ("", "no-such", "rot13", None)),
    ],
    ScoreOptions: [
        *(("k", value, "from 1 to 65535") for value in (0, -1, 65536)),
        *(("k", value, INTEGER) for value in (10.0, "10", None)),
        *((name, value, "at least 1, or none") for name in LIMITS for value in (0, -1)),
        *((name, value, "an integer, or none") for name in LIMITS for value in (2.0, "2", True)),
        *(("unknown", value, "one of ('skip', 'popular')") for value in ("error", None)),
        *((name, value, "from 0 to 1") for name in ("max_coverage_drop", "max_fallback") for value in (-0.1, 1.1)),
        *((name, value, NUMBER) for name in ("max_coverage_drop", "max_fallback") for value in ("0.2", None, True)),
        ("max_fallback", math.nan, "finite"),
        *(("accept_changes", value, "one of ('yes', 'no')") for value in (True, "", None)),
        *(("keep", value, "from 1 to 1000") for value in (0, 1001)),
        *(("keep", value, INTEGER) for value in (2.0, None, True)),
    ],
    TuneOptions: [
        *(("trials", value, "at least 1") for value in (0, -1)),
        *(("trials", value, INTEGER) for value in (2.0, "40", None, True)),
        *(("timeout", value, "above 0, or none") for value in (0, -1.5)),
        *(("timeout", value, "finite") for value in (math.inf, math.nan)),
        *(("timeout", value, "a number, or none") for value in ("60", True)),
        *(("metric", value, f"one of {typing.get_args(TuneMetric)}") for value in ("rmse", "", None)),
        *(("search", value, "auto, or names of options") for value in ("", None)),
        *(("resume", value, "one of ('yes', 'no')") for value in (True, "", None)),
    ],
}
# Fields that hold text or a path, of which there is nothing to check before it is used.
FREE = {
    TrainOptions: set(),
    ReadOptions: {
        *("query", "input", "items", "user_column", "item_column", "rating_column", "timestamp_column", "event_column")
    },
    ScoreOptions: {"model", "query", "user_column", "item_column"},
    TuneOptions: set(),
}
TAKEN = {
    TrainOptions: {
        "n_components": ["auto", 1, 5000],
        "init": ["random", "nndsvd", "nndsvda", "nndsvdar"],
        "solver": ["fast", "sklearn"],
        "threads": [1, 4, None],
        "memory_limit": [1, 10**6, None],
        "layers": ["1", "64-32-16", "4096"],
        "dropout": [0, 0.0, 0.9],
        "negatives_per_positive": [1, 99],
        "on_interrupt": ["stop", "keep"],
        "max_iter": [1, 10**6],
        "tol": [0, 0.0, 1e-12, 2.0],
        "random_state": [0, 2**32 - 1],
        "alpha_W": [0, 0.0, 1e6],
        "alpha_H": ["same", 0, 0.0, 1e6],
        "l1_ratio": [0, 1, 0.0, 1.0],
        "unobserved_weight": [0, 1, 0.0, 1.0, 1e-9],
        "confidence": [0, 0.0, 1e6],
        "dislike_weight": [1, 1.0, 1e6],
        "reg_exponent": [0, 0.0, 0.5, 3],
        "biases": ["no"],
        "transform": ["none", "log1p", "binary"],
        "duplicates": ["last", "sum", "max", "mean"],
        "min_interactions": [None, 1, 10**9],
        "max_interactions": [None, 1, 10**9],
        "min_data": [0, 10**9],
        "holdout": [0, 0.0, 0.999],
        "half_life_days": [None, 1, 0.5, 1e6],
        "split": ["auto", "latest", "random", "last", "time", "users"],
        "split_last": [1],
        "split_cutoff": [None],
    },
    ReadOptions: {
        "format": ["csv", "parquet", "json", None],
        "on_bad_rows": ["error", "drop"],
        "on_negative": ["error", "drop", "zero", None],
        "time_format": ["%Y%m%d", "%d.%m.%Y %H:%M", "seconds", "days", None],
        "event_weights": ["view=1,cart=3", " a = b = 0.5 ", "x=.5", None],
        "separator": ["|", "::", "tab", "space", "\t", "\\t", None],
        "header": ["auto", "off", "a,b"],
        "encoding": ["utf-8", "latin-1", "cp1252", "UTF-16"],
        "input": [Path("a"), (Path("a"), Path("b")), None],
        "rating_column": ["off", "x", None],
    },
    ScoreOptions: {
        "k": [1, 65535],
        **{name: [None, 1, 100] for name in LIMITS},
        "unknown": ["skip", "popular"],
        "model": [None, "rankline@champion"],
        "max_coverage_drop": [0, 1, 0.0, 1.0],
        "max_fallback": [0, 1, 0.0, 1.0],
        "accept_changes": ["yes", "no"],
        "keep": [1, 1000],
    },
    TuneOptions: {
        "trials": [1, 10**6],
        "timeout": [None, 1, 0.5],
        "metric": list(typing.get_args(TuneMetric)),
        "search": ["auto", "n_components"],
        "resume": ["yes", "no"],
    },
}


def cases(table):
    return [pytest.param(spec, *row, id=f"{spec.__name__}-{row[0]}-{row[1]}") for spec in table for row in table[spec]]


@pytest.mark.parametrize(("spec", "name", "value", "what"), cases(REFUSED))
def test_a_value_that_makes_no_sense_is_refused_by_name(spec, name, value, what):
    with pytest.raises(UsageError, match=f"^{re.escape(f'{name} must be {what}, got {value!r}')}$"):
        spec(**{name: value})


@pytest.mark.parametrize("spec", REFUSED)
def test_every_field_is_checked(spec):
    assert {row[0] for row in REFUSED[spec]} | FREE[spec] == {field.name for field in dataclasses.fields(spec)}


@pytest.mark.parametrize(
    ("spec", "name", "value"), [(s, name, v) for s in TAKEN for name, values in TAKEN[s].items() for v in values]
)
def test_the_ends_of_each_range_are_in_it(spec, name, value):
    assert getattr(spec(**{name: value}), name) == value


@pytest.mark.parametrize("spec", REFUSED)
def test_every_option_has_help_and_a_default(spec):
    for field in dataclasses.fields(spec):
        assert field.metadata["help"].endswith((".", "…")), field.name
        assert field.default is not dataclasses.MISSING, field.name
    assert spec() == spec()


@pytest.mark.parametrize("spec", REFUSED)
def test_a_spec_does_not_change(spec):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(spec(), dataclasses.fields(spec)[0].name, None)


# ---- ReadSpec -------------------------------------------------------------------------------------


def test_a_source_and_an_input_that_do_not_go_together():
    with pytest.raises(UsageError, match=r"^--source file needs --input PATH$"):
        ReadOptions(source="file")
    with pytest.raises(UsageError, match=r"^--source warehouse reads no --input; leave one of them out$"):
        ReadOptions(source="warehouse", input=Path("ratings.csv"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"source": "auto", "input": Path("ratings.csv")},
        {"source": "file", "input": Path("ratings.csv"), "format": "csv"},
        {"source": "warehouse", "query": Path("my.sql")},
    ],
)
def test_a_source_and_an_input_that_do(options):
    spec = ReadOptions(**options)
    assert {name: getattr(spec, name) for name in options} == options
