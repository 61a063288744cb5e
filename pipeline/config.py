"""``rankline.yaml``: a file of options. The command line and the environment override it.

    split:
      holdout: 0.1
    algorithm:
      n_components: 20

A value is parsed like a value on the command line. An unknown key is refused. A file that seems to hold a password
is refused, too, since each run stores the file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pipeline.errors import UsageError
from pipeline.options.base import Options, types_of
from pipeline.options.sections import FileOption, sections

__all__ = ["FILE_NAME", "ConfigFile", "ConfigValue", "differences", "options_from"]

_Options = TypeVar("_Options", bound=Options)

FILE_NAME = "rankline.yaml"  # also the name of the artifact
_LARGEST = 1 << 20  # bytes
_PASSWORD = re.compile(
    r"://[^/\s@'\"]+@|\b(?:password|passwd|pwd|token|secret|api_?key|access_?key)\b['\"]?\s*[:=]\s*\S", re.IGNORECASE
)
_YES = {"yes": "yes", "true": "yes", "on": "yes", "no": "no", "false": "no", "off": "no"}


@dataclass(frozen=True)
class ConfigValue:
    """One value of the file: its option, the parsed value (None for null), and the line number."""

    option: FileOption
    value: Any
    line: int


@dataclass(frozen=True)
class ConfigFile:
    """A parsed file. `text` is its content, which a run stores; `values` has an entry for each ``section.key``."""

    path: Path
    text: str
    values: Mapping[str, ConfigValue] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> ConfigFile:
        """Read and check the file. Raises UsageError, which names keys and lines, for an invalid file."""
        try:
            data = path.read_bytes()
            if len(data) > _LARGEST:
                raise UsageError(f"--config {path} has {len(data):,} bytes; it is no file of options")
            text = data.decode("utf-8-sig")
        except OSError as error:
            raise UsageError(f"--config {path} can't be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise UsageError(f"--config {path} is not UTF-8") from None
        if password := _PASSWORD.search(text):
            line = text.count("\n", 0, password.start()) + 1
            raise UsageError(
                f"{path} line {line} seems to hold a password. Every run keeps this file: "
                "leave the warehouse's address to RANKLINE_WAREHOUSE, and other secrets to the environment"
            )
        values, wrong = _checked(path, text)
        if wrong:
            raise UsageError(f"{path}: {'; '.join(wrong)}")
        return cls(path, text, values)

    @property
    def in_one_line(self) -> str:
        """``algorithm.max_iter: 20, model.name: shop``, cut to 500 characters."""
        line = ", ".join(f"{key}: {value.value}" for key, value in self.values.items())
        return line if len(line) <= 500 else line[:499] + "…"

    def values_of(self, options: type[Options]) -> dict[str, Any]:
        """The values that the file sets for the fields of a class of options."""
        return {value.option.field.name: value.value for value in self.values.values() if value.option.of is options}


def options_from(options: type[_Options], config: ConfigFile | None, environ: Mapping[str, str]) -> _Options:
    """Options without a command line: from ``RANKLINE_<OPTION>``, else the file, else the defaults.

    Raises UsageError for an invalid value.
    """
    values = {} if config is None else config.values_of(options)
    for name, kind in types_of(options).items():
        if text := environ.get(f"RANKLINE_{name.upper()}"):
            try:
                values[name] = kind.parse(text)
            except ValueError:
                raise UsageError(f"RANKLINE_{name.upper()}: {text!r} is not {kind.choices}") from None
    return options(**values)


def differences(a: str | None, b: str | None) -> list[tuple[str, str | None, str | None]]:
    """The differences between the texts of two files: (``section.key``, in a, in b), None for a missing key.

    Keys may be options of other versions. A text that is no YAML counts as one difference.
    """
    try:
        in_a, in_b = dict(_flat(a or "")), dict(_flat(b or ""))
    except yaml.YAMLError:
        return [] if a == b else [(FILE_NAME, "unreadable", "unreadable")]
    return [(key, in_a.get(key), in_b.get(key)) for key in sorted({*in_a, *in_b}) if in_a.get(key) != in_b.get(key)]


def _checked(path: Path, text: str) -> tuple[dict[str, ConfigValue], list[str]]:
    """The values of the file, and a message for each that is invalid."""
    known, values, wrong = sections(), dict[str, ConfigValue](), list[str]()
    for name, node in _entries(path, text):
        line = node.start_mark.line + 1
        section, _, key = name.partition(".")
        option = known.get(section, {}).get(key)
        if name in values:
            wrong.append(f"line {line}: {name} stands there twice")
        elif not key and section in known:
            if not _is_null(node):
                wrong.append(f"line {line}: {section} must hold options, such as {next(iter(known[section]))}: …")
        elif option is None:
            wrong.append(f"line {line}: {_unknown(section, key, known)}")
        elif not isinstance(node, yaml.ScalarNode):
            wrong.append(f"line {line}: {name} must be a single value")
        else:
            value, what = _value(option, node, path.parent)
            values[name] = ConfigValue(option, value, line)
            if what is not None:
                wrong.append(f"line {line}: {name} must be {what}, got {node.value!r}")
    return values, wrong


def _value(option: FileOption, node: Any, folder: Path) -> tuple[Any, str | None]:
    """The parsed value, and what it must be where it is invalid. A path is relative to the file's folder."""
    kind = option.kind
    text = str(node.value)
    if set(kind.words) == {"yes", "no"}:
        text = _YES.get(text.lower(), text)
    try:
        value = None if _is_null(node) else kind.parse(text)
    except ValueError:
        value = text
    if isinstance(value, Path):
        value = folder / value
    return value, kind.refusal(value)


def _unknown(section: str, key: str, known: Mapping[str, Mapping[str, FileOption]]) -> str:
    """The message for an unknown key, with the most similar option."""
    if "warehouse" in (section, key) and section not in known:
        return "warehouse is no option of this file: its address stays in RANKLINE_WAREHOUSE"
    if section not in known:
        homes = [name for name, keys in known.items() if section in keys]
        if homes:
            return f"{section} belongs under {' or '.join(homes)}"
        near = difflib.get_close_matches(section, known, 1)
        return f"there is no section {section}; " + (
            f"{near[0]} is meant?" if near else f"there are {', '.join(known)}"
        )
    near = difflib.get_close_matches(key, known[section], 1)
    homes = [name for name, keys in known.items() if key in keys]
    if homes:
        return f"{key} belongs under {' or '.join(homes)}, not under {section}"
    if not near:
        near = difflib.get_close_matches(
            key, [f"{name}.{option}" for name, keys in known.items() for option in keys], 1, 0.5
        )
    return f"{section}.{key} is no option" + (f"; {near[0]} is meant?" if near else "")


def _entries(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    """(``section.key``, node) for each value; (section, node) for a section without keys. Raises UsageError."""
    try:
        yield from _nodes(text)
    except yaml.YAMLError as error:
        # Leave out the error's snippet of the file: it may hold a secret.
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark is not None else ""
        raise UsageError(f"{path}{where} is no YAML: {getattr(error, 'problem', None) or 'unreadable'}") from None
    except RecursionError:
        raise UsageError(f"{path} is nested too deep for a file of options") from None


def _nodes(text: str) -> Iterator[tuple[str, Any]]:
    # Compose nodes only: a value stays text until the type of its option parses it.
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is None or _is_null(root):
        return
    if not isinstance(root, yaml.MappingNode):
        raise yaml.MarkedYAMLError(problem="sections with options are expected", problem_mark=root.start_mark)
    for name, body in root.value:
        if isinstance(body, yaml.MappingNode):
            for key, node in body.value:
                yield f"{name.value}.{key.value}", node
        else:
            yield str(name.value), body


def _flat(text: str) -> Iterator[tuple[str, str]]:
    for name, node in _nodes(text):
        if isinstance(node, yaml.ScalarNode):
            yield name, str(node.value)


def _is_null(node: Any) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")
