"""`rankline.yaml`: what is read, what is refused and how, and where it stands below command line and environment."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.config import ConfigFile, differences, options_from
from pipeline.errors import UsageError
from pipeline.options import DataLimits, PromotionLimits, ReadOptions, ScoreOptions, TrainOptions, TuneOptions
from pipeline.options.base import as_text
from pipeline.options.sections import CLASSES, json_schema, sections
from pipeline.settings import Settings


def config(folder: Path, text: str) -> ConfigFile:
    path = folder / "rankline.yaml"
    path.write_text(text, encoding="utf-8")
    return ConfigFile.read(path)


def test_a_value_is_read_as_if_it_were_typed(tmp_path: Path) -> None:
    read = config(
        tmp_path,
        """
source: {source: file, input: ratings.csv, query: null}
columns:
  user_column: 7
algorithm:
  n_components: 20
  tol: 1e-3
  alpha_H: same
  biases: yes
  unobserved_weight: 0
  threads: none
interactions: {transform: none}
split: {split: time, split_cutoff: 2024-03-31}
data_gate: {earliest: 2020-01-31, max_bad_share: 0.01}
promotion: {margin: 0.01}
publishing: {accept_changes: off}
tune:
""",
    )
    assert read.values_of(TrainOptions) == {
        "n_components": 20,
        "tol": 1e-3,
        "alpha_H": "same",
        "biases": "yes",
        "unobserved_weight": 0.0,
        "threads": None,
        "transform": "none",
        "split": "time",
        "split_cutoff": "2024-03-31",
    }
    # A path is relative to the file.
    assert read.values_of(ReadOptions) == {
        "source": "file",
        "input": tmp_path / "ratings.csv",
        "query": None,
        "user_column": "7",
    }
    assert read.values_of(DataLimits) == {"earliest": date(2020, 1, 31), "max_bad_share": 0.01}
    assert read.values_of(PromotionLimits) == {"margin": 0.01}
    assert read.values_of(ScoreOptions) == {"accept_changes": "no"}
    assert read.values_of(TuneOptions) == {}


def test_the_example_of_the_docs_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "config.md").read_text()
    read = config(tmp_path, page.split("```yaml\n")[1].split("```")[0])
    assert {name.partition(".")[0] for name in read.values} == set(sections())
    for options in CLASSES:
        options(**read.values_of(options))


@pytest.mark.parametrize("text", ["", "# nothing\n", "split:\n", "---\n", "null"])
def test_a_file_without_options_is_one(tmp_path: Path, text: str) -> None:
    assert config(tmp_path, text).values == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("split: {holdot: 0.1}", "line 1: split.holdot is no option; holdout is meant?"),
        ("\nalgorithm:\n  max_itre: 3", "line 3: algorithm.max_itre is no option; max_iter is meant?"),
        ("splitt: {holdout: 0.1}", "line 1: there is no section splitt; split is meant?"),
        ("holdout: 0.1", "line 1: holdout belongs under split"),
        ("algorithm: {holdout: 0.1}", "line 1: holdout belongs under split, not under algorithm"),
        ("zzz: {a: 1}", "line 1: there is no section zzz; there are source, columns, algorithm"),
        ("warehouse: db:9000", "line 1: warehouse is no option of this file: its address stays in RANKLINE_WAREHOUSE"),
        ("source: {warehouse: db}", "line 1: source.warehouse is no option"),
        ("split: {holdout: 2}", "line 1: split.holdout must be at least 0 and below 1, got '2'"),
        ("split: {holdout: .nan}", "line 1: split.holdout must be a number, got '.nan'"),
        ("split: {holdout: nan}", "line 1: split.holdout must be finite, got 'nan'"),
        ("algorithm: {max_iter: 1.5}", "line 1: algorithm.max_iter must be an integer, got '1.5'"),
        ("algorithm: {max_iter: true}", "line 1: algorithm.max_iter must be an integer, got 'true'"),
        ("algorithm: {max_iter: }", "line 1: algorithm.max_iter must be an integer, got ''"),
        ("algorithm: {max_iter: [3]}", "line 1: algorithm.max_iter must be a single value"),
        ("algorithm: {init: cusom}", "line 1: algorithm.init must be one of ('random', "),
        ("algorithm: 3", "line 1: algorithm must hold options, such as algorithm: …"),
        ("split: {holdout: 0.1, holdout: 0.2}", "line 1: split.holdout stands there twice"),
        ("data_gate: {earliest: 2020}", "line 1: data_gate.earliest must be a day such as 2020-01-31, or none"),
        ("data_gate: {min_users: 0}", "line 1: data_gate.min_users must be above 0, or none, got '0'"),
    ],
)
def test_what_can_not_be_used_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"rankline.yaml: {said}")):
        config(tmp_path, text)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"line 1: split.holdot .*; line 2: tune.trials must be at least 1"):
        config(tmp_path, "split: {holdot: 0.1}\ntune: {trials: 0}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n- b", "line 1 is no YAML: sections with options are expected"),
        ("split: {", "line 1 is no YAML: "),
        ("a: *nobody", "line 1 is no YAML: found undefined alias"),
        ("split: {}\n---\nsplit: {}", "is no YAML: but found another document"),
        ("x: " + "[" * 5000, "is nested too deep for a file of options"),
    ],
)
def test_what_is_no_yaml_is_said_so(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        config(tmp_path, text)


def test_no_object_is_made_of_a_tag(tmp_path: Path) -> None:
    marker = tmp_path / "made"
    with pytest.raises(UsageError, match=r"algorithm\.max_iter must be"):
        config(tmp_path, f'algorithm: {{max_iter: !!python/object/apply:os.mkdir ["{marker}"]}}')
    assert not marker.exists()


@pytest.mark.parametrize(
    "text",
    [
        "source: {query: 'clickhouse://anna:hunter2@db:8123'}",
        "# http://anna@mlflow\nsplit: {}",
        "password: hunter2",
        "split: {}  # API_KEY=hunter2",
        '"token": hunter2',
    ],
)
def test_a_password_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"line 1 seems to hold a password.*RANKLINE_WAREHOUSE") as caught:
        config(tmp_path, text)
    assert "hunter2" not in str(caught.value)
    assert "anna" not in str(caught.value)


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"can't be read \(No such file or directory\)"):
        ConfigFile.read(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(UsageError, match="is not UTF-8"):
        ConfigFile.read(tmp_path / "latin.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(UsageError, match="it is no file of options"):
        ConfigFile.read(tmp_path / "large.yaml")


# ---- command line, environment, file, default -----------------------------------------------------


class Asked(Exception):  # noqa: N818
    """Carries what the job was asked."""


def asked(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[TrainOptions, ReadOptions, Settings]:
    def job(*values: Any) -> None:
        raise Asked(*values[:3])

    monkeypatch.setattr("pipeline.jobs.train.train_job", job)
    result = CliRunner().invoke(app, ["train", *arguments])
    assert isinstance(result.exception, Asked), result.output
    return result.exception.args  # type: ignore[return-value]


def test_the_order_is_command_line_environment_file_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "algorithm: {max_iter: 11, n_components: 12, confidence: 13}\npublishing: {query: other.sql}\n"
    path = str(config(tmp_path, text).path)
    monkeypatch.setenv("RANKLINE_MAX_ITER", "21")
    monkeypatch.setenv("RANKLINE_N_COMPONENTS", "22")
    options, read, settings = asked(monkeypatch, "--config", path, "--max-iter", "31")
    assert (options.max_iter, options.n_components, options.confidence, options.min_data) == (31, 22, 13.0, 100)
    assert read.query is None  # that is publishing's
    assert settings.config is not None
    assert settings.config.text == text


def test_the_file_may_be_named_by_the_environment_and_is_not_used_unless_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config(tmp_path, "algorithm: {max_iter: 11}").path
    monkeypatch.chdir(tmp_path)
    options, _, settings = asked(monkeypatch)
    assert (options.max_iter, settings.config) == (200, None)
    monkeypatch.setenv("RANKLINE_CONFIG", str(path))
    options, _, settings = asked(monkeypatch)
    assert options.max_iter == 11
    monkeypatch.delenv("RANKLINE_CONFIG")
    assert asked(monkeypatch)[2].config is None


def test_limits_of_the_data_gate_hold_below_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(config(tmp_path, "data_gate: {min_users: 5, min_items: 6, earliest: 2020-01-31}").path)
    monkeypatch.setenv("RANKLINE_LIMIT_MIN_ITEMS", "7")
    limits = asked(monkeypatch, "--config", path)[2].data_limits
    assert limits == DataLimits(min_users=5, min_items=7, earliest=date(2020, 1, 31))


def test_a_wrong_file_is_status_2_for_every_command_that_takes_one(tmp_path: Path) -> None:
    path = tmp_path / "rankline.yaml"
    path.write_text("split: {holdot: 1}")
    for command in ("train", "tune", "estimate", "evaluate", "score", "promote", "check"):
        result = CliRunner().invoke(app, [command, "--config", str(path)])
        assert isinstance(result.exception, UsageError), command
        assert result.exception.exit_status == 2


def test_options_of_which_none_is_typed(tmp_path: Path) -> None:
    read = config(tmp_path, "publishing: {k: 20, keep: 3}")
    assert options_from(ScoreOptions, read, {"RANKLINE_KEEP": "4"}) == ScoreOptions(k=20, keep=4)
    assert options_from(ScoreOptions, None, {}) == ScoreOptions()
    with pytest.raises(UsageError, match="RANKLINE_KEEP: 'many' is not INTEGER"):
        options_from(ScoreOptions, read, {"RANKLINE_KEEP": "many"})


# ---- the sections and their schema ----------------------------------------------------------------


def test_every_option_has_one_place_in_the_file() -> None:
    places = [(one.of, name) for keys in sections().values() for name, one in keys.items()]
    assert len(places) == len(set(places))
    assert set(places) == {(options, one.name) for options in CLASSES for one in fields(options)}


def test_a_file_of_all_defaults_is_all_defaults(tmp_path: Path) -> None:
    lines = []
    for section, keys in sections().items():
        lines += [f"{section}:", *(f"  {name}: {as_text(key.field.default)}" for name, key in keys.items())]
    read = config(tmp_path, "\n".join(lines))
    for options in CLASSES:
        assert options(**read.values_of(options)) == options()


def test_the_schema_has_every_option_with_its_bounds_and_help() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["additionalProperties"] is False
    algorithm = schema["properties"]["algorithm"]
    assert algorithm["additionalProperties"] is False
    assert algorithm["properties"]["max_iter"] == {
        "description": "Most iterations.",
        "default": 200,
        "type": "integer",
        "minimum": 1,
    }
    assert algorithm["properties"]["n_components"]["anyOf"] == [{"enum": ["auto"]}, {"type": "integer", "minimum": 1}]
    holdout = schema["properties"]["split"]["properties"]["holdout"]
    assert (holdout["minimum"], holdout["exclusiveMaximum"]) == (0, 1)
    for section, keys in sections().items():
        assert set(schema["properties"][section]["properties"]) == set(keys)


def test_the_schema_is_one() -> None:
    jsonschema_rs.meta.validate(json_schema())
    valid = jsonschema_rs.Draft202012Validator(json_schema())
    assert valid.is_valid({"split": {"holdout": 0.1}, "algorithm": None, "source": {"input": "ratings.csv"}})
    assert not valid.is_valid({"split": {"holdot": 0.1}})
    assert not valid.is_valid({"split": {"holdout": 1}})


def test_what_differs_between_two_files() -> None:
    a, b = "split: {holdout: 0.1, split: last}\n", "# reviewed\nsplit:\n  holdout: 0.2\n  split: last\nold: {key: 1}\n"
    assert differences(a, b) == [("old.key", None, "1"), ("split.holdout", "0.1", "0.2")]
    assert differences(None, a) == [("split.holdout", None, "0.1"), ("split.split", None, "last")]
    assert differences(a, a) == differences(None, None) == []
    assert differences("{", a) == [("rankline.yaml", "unreadable", "unreadable")]
