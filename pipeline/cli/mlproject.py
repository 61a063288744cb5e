"""The file MLproject, made from the options of the commands. `make mlproject` writes it.

Parameters that several entry points share stand once, under the key ``options``, which MLflow ignores; YAML merges
them into each entry point. Defaults are written as Python prints them, and ``none`` for an option that is not given,
since `mlflow run` logs each default as MLproject has it.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from pipeline.cli.options_page import options_page
from pipeline.options import Names, Options, PromotionLimits, ReadOptions, ScoreOptions, TrainOptions, TuneOptions
from pipeline.options.base import as_text

__all__ = ["mlproject"]

# Options of files: only the entry points with a parameter `input` have them.
_OF_FILES = ("input", "format", "event_column", "event_weights", "separator", "header", "encoding")

_HEAD = """\
# Made by `make mlproject` from pipeline/options and pipeline/cli/mlproject.py: change those, and make it anew.
# `mlflow run` passes on and logs every parameter as it stands here; "none" is "not given".
name: rankline

conda_env: conda.yaml
"""


@dataclass(frozen=True)
class _Entry:
    """An entry point: its script, the shared options, its own parameters, and the one that is passed as an argument."""

    name: str
    comment: str
    script: str
    shared: Sequence[str] = ()
    parameters: Sequence[tuple[str, str]] = ()
    argument: str = ""


def _defaults(options: type[Options]) -> dict[str, str]:
    return {entry.name: as_text(entry.default) for entry in fields(options)}


def _shared() -> dict[str, dict[str, str]]:
    """The parameters that several entry points share, by the name of their YAML anchor."""
    read = _defaults(ReadOptions)
    return {
        "train": _defaults(TrainOptions) | _defaults(Names),
        "read": {name: default for name, default in read.items() if name not in _OF_FILES},
        "files": {name: read[name] for name in _OF_FILES if name != "input"},
        "tune": _defaults(TuneOptions),
    }


_ENTRIES = (
    _Entry(
        "main",
        "The warehouse that RANKLINE_WAREHOUSE names (else the embedded one) -> a run and a registered model.",
        "train_model.py",
        ("train", "read"),
    ),
    _Entry(
        "files",
        "The same from a file of interactions.",
        "train_model.py",
        ("train", "read", "files"),
        (("input", "path"), ("source", "file")),
    ),
    _Entry(
        "tune",
        "Search the options that rank best, a nested run a trial -> the best of them, trained and registered.",
        "tune_model.py",
        ("tune", "train", "read"),
    ),
    _Entry(
        "tune_files",
        "The same from a file of interactions.",
        "tune_model.py",
        ("tune", "train", "read", "files"),
        (("input", "path"), ("source", "file")),
    ),
    _Entry(
        "score",
        "A registered version -> analytics.recommendations, or analytics.recommendations_NAME.",
        "score_users.py",
        (),
        tuple((_defaults(ScoreOptions) | _defaults(Names)).items()),
    ),
    _Entry(
        "promote",
        "The gate, and the alias `champion` behind it (by force: `rankline promote --force --reason …`, by hand).",
        "promote_model.py",
        (),
        (("model", "none"), *(_defaults(PromotionLimits) | _defaults(Names)).items()),
        "model",
    ),
    _Entry(
        "rollback",
        "The champion before is champion again.",
        "rollback_model.py",
        (),
        (("reason", "none"), *_defaults(Names).items()),
    ),
)


def mlproject() -> str:
    """The text of MLproject."""
    shared = _shared()
    lines = [_HEAD, "options:"]
    for name, parameters in shared.items():
        lines += [f"  {name}: &{name}", _in_braces([*map(_parameter, parameters.items())], 4)]
    lines += ["", "entry_points:"]
    for entry in _ENTRIES:
        lines += _entry(entry, shared)
    return "\n".join(lines) + "\n"


def _entry(entry: _Entry, shared: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    parameters = dict(entry.parameters)
    yield f"  # {entry.comment}"
    yield f"  {entry.name}:"
    yield "    parameters:"
    merged = [f"<<: [{', '.join(f'*{name}' for name in entry.shared)}]"] if entry.shared else []
    yield _in_braces([*merged, *map(_parameter, parameters.items())], 6)
    names = dict.fromkeys([name for part in entry.shared for name in shared[part]] + list(parameters))
    options = [f"--{name.replace('_', '-')} {{{name}}}" for name in names if name != entry.argument]
    command = [f"python mlflow/{entry.script}", *([f"{{{entry.argument}}}"] if entry.argument else []), *options]
    yield "    command: >-"
    yield _wrapped(" ".join(command), 6, keep=" {")  # keep an option and its value on one line


def _parameter(parameter: tuple[str, str]) -> str:
    name, default = parameter
    return f"{name}: " + ("path" if default == "path" else f"{{default: {_scalar(default)}}}")


def _in_braces(entries: Sequence[str], indent: int) -> str:
    """The entries of a mapping in braces, several on a line."""
    return _wrapped(f"{{{', '.join(entries)}}}", indent, keep=": ")


def _wrapped(text: str, indent: int, keep: str) -> str:
    """The text in lines of 118 characters at most, never broken at the space of `keep`."""
    text = re.sub(keep, keep.replace(" ", "\0"), text)
    lines = textwrap.wrap(text, 118 - indent, break_long_words=False, break_on_hyphens=False)
    return textwrap.indent("\n".join(lines).replace("\0", " "), " " * indent)


def _scalar(text: str) -> str:
    """The text as a YAML scalar, quoted if YAML would read it as a boolean or null."""
    return json.dumps(text) if text.lower() in ("yes", "no", "on", "off", "true", "false", "null", "") else text


if __name__ == "__main__":
    Path("MLproject").write_text(mlproject(), encoding="utf-8")
    Path("docs/options.md").write_text(options_page(), encoding="utf-8")
