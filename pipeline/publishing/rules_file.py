"""A CSV file of rules, as `rankline rules push` reads it."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pipeline.data.id_map import MAX_ID_LENGTH
from pipeline.errors import BadRowsError, InputError, MissingColumnsError
from pipeline.options.base import types_of
from pipeline.options.names import Names
from pipeline.ranking.rules import Rule

__all__ = ["COLUMNS", "bad_rules", "read_rules_file"]

COLUMNS = ("item_id", "genre", "action", "valid_from", "valid_until", "reason", "model", "quota", "label")
_ADVICE = f"A file of rules begins with a line of names out of {', '.join(COLUMNS)}; docs/rules.md has an example."
_SHOWN = 5
_YEARS = range(1970, 2200)  # what a DateTime64 holds, and no typing error


def read_rules_file(path: Path) -> list[tuple[int, str, Rule]]:
    """For each rule its line, the name of its model ("" for all) and the rule itself.

    Raises InputError, MissingColumnsError, and BadRowsError with the first lines that can't be read.
    """
    rules, faults = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [name.strip().lower() for name in reader.fieldnames or []]
            _check_columns(columns, path)
            reader.fieldnames = columns
            for row in reader:
                try:
                    rules.append((reader.line_num, *_rule_of(row)))
                except ValueError as error:
                    faults.append(f"line {reader.line_num} ({error})")
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path} is no CSV file (line {reader.line_num}: {error})") from None
    if faults:
        raise bad_rules(path, faults, len(faults) + len(rules))
    return rules


def bad_rules(path: Path, faults: list[str], n_rows: int) -> BadRowsError:
    """The error of rules that can't be loaded; `faults` has a sentence for each."""
    more = " …" if len(faults) > _SHOWN else ""
    return BadRowsError(
        f"{len(faults)} of {n_rows} rules in {path} can't be loaded: {'; '.join(faults[:_SHOWN])}{more}. "
        "Nothing was loaded"
    )


def _check_columns(columns: list[str], path: Path) -> None:
    missing = [name for name in ("action",) if name not in columns]
    if not {"item_id", "genre"} & set(columns):
        missing = ["item_id", *missing]
    if missing:
        raise MissingColumnsError(missing, columns, str(path), advice=_ADVICE)
    if unknown := sorted(set(columns) - set(COLUMNS)):
        # A misspelt valid_until would be a rule without an end.
        raise InputError(f"{path} has columns that rules don't have: {unknown}; they have {list(COLUMNS)}")


def _rule_of(row: Mapping[str | None, str | None]) -> tuple[str, Rule]:
    """The model's name and the rule. Raises ValueError."""
    if None in row:
        raise ValueError("more cells than columns")
    cells = {str(name): (value or "").strip() for name, value in row.items()}
    model = cells.get("model", "")
    if model and (what := types_of(Names)["name"].refusal(model)):
        raise ValueError(f"model must be {what}, got {model!r}")
    rule = Rule(
        cells["action"].lower(),
        cells.get("item_id", ""),
        cells.get("genre", ""),
        _time("valid_from", cells.get("valid_from", "")),
        _time("valid_until", cells.get("valid_until", "")),
        cells.get("reason", ""),
        _quota(cells.get("quota", "")),
        cells.get("label", ""),
    )
    if max(len(rule.item_id), len(rule.genre)) > MAX_ID_LENGTH:
        raise ValueError(f"longer than {MAX_ID_LENGTH} characters")
    if rule.fault:
        raise ValueError(rule.fault)
    return model, rule


def _quota(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"quota must be a whole number from 1, got {text[:40]!r}")
    return int(text)


def _time(column: str, text: str) -> int | None:
    """Milliseconds since 1970 of a day or a time; a time without an offset is in UTC."""
    if not text:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{column} is no time such as 2026-12-31 or 2026-12-31T18:00, got {text[:40]!r}") from None
    if when.year not in _YEARS:
        raise ValueError(f"{column} is not within {_YEARS.start} and {_YEARS.stop - 1}, got {text[:40]!r}")
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return int(when.timestamp() * 1000)
