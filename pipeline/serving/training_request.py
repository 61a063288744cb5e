"""What a training may be asked for over HTTP: the algorithm, its hyperparameters and the split, and nothing else.

Where the interactions come from, and all that is not asked for, is as `rankline train` has it in the environment of the
service and its rankline.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pipeline.errors import UsageError
from pipeline.options import TrainOptions
from pipeline.options.base import as_text, section_of, types_of

__all__ = ["HYPERPARAMETERS", "SPLIT", "arguments", "asked_options"]

# Of the machine, not of the model; and who stops it is decided by the service.
_NOT = frozenset(("algorithm", "threads", "on_interrupt"))
HYPERPARAMETERS = frozenset(
    entry.name for entry in fields(TrainOptions) if section_of(TrainOptions, entry) == "algorithm"
).difference(_NOT) | {"transform", "half_life_days"}
SPLIT = frozenset(("split", "holdout", "split_last", "split_cutoff"))
_OTHER_NAMES = {"way": "split", "test": "holdout", "last": "split_last", "cutoff": "split_cutoff"}
_LONGEST = 1000  # characters of a value


def asked_options(
    algorithm: str | None, hyperparameters: Mapping[str, Any], split: Mapping[str, Any] | str | None
) -> dict[str, Any]:
    """The options of `rankline train` that a request asks for.

    split : a way such as ``latest``, or an object of `SPLIT`; ``test`` is another name of ``holdout``

    Raises UsageError for an option that is not of the list, or a value that it does not take.
    """
    wanted = {"split": split} if isinstance(split, str) else dict(split or {})
    wanted = {_OTHER_NAMES.get(name, name): value for name, value in wanted.items()}
    _refuse_others("hyperparameters", hyperparameters, HYPERPARAMETERS)
    _refuse_others("split", wanted, SPLIT)
    values: dict[str, Any] = {} if algorithm is None else {"algorithm": algorithm}
    values |= {name: _plain(name, value) for name, value in (*hyperparameters.items(), *wanted.items())}
    TrainOptions(**values)  # its own checks
    return values


def arguments(options: Mapping[str, Any]) -> list[str]:
    """Options as `rankline train` takes them. Raises UsageError for one that is not of the list."""
    _refuse_others("options", options, HYPERPARAMETERS | SPLIT | {"algorithm"})
    return [f"--{name.replace('_', '-')}={as_text(value)}" for name, value in options.items()]


def _refuse_others(where: str, given: Mapping[str, Any], known: frozenset[str] | set[str]) -> None:
    if others := sorted(str(name)[:80] for name in given if name not in known):
        raise UsageError(f"{where}: there is no {', '.join(others[:5])}; there are {', '.join(sorted(known))}")


def _plain(name: str, value: Any) -> Any:
    """A JSON value as the option has it: booleans are ``yes`` and ``no``."""
    if isinstance(value, bool):
        value = "yes" if value else "no"
    if isinstance(value, str):
        if len(value) > _LONGEST or not value.isprintable():
            raise UsageError(f"{name} must be printable text of at most {_LONGEST} characters")
        kind = types_of(TrainOptions)[name]
        if kind.optional and value.lower() == "none":
            return None
    return value
