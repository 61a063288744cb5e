"""Variables by other names than ``RANKLINE_…``, which are read where neither ours nor an option says anything.

Each that counts is said. `mlflow run` types every option of the entry point, so a typed default is nothing said there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pipeline.errors import UsageError
from pipeline.options import Options, ServeOptions, TrainOptions
from pipeline.options.base import types_of

__all__ = ["OTHER_NAMES", "is_debug", "with_other_names"]

OTHER_NAMES: Mapping[tuple[type[Options], str], str] = {
    (ServeOptions, "host"): "API_HOST",
    (ServeOptions, "port"): "API_PORT",
    (ServeOptions, "workers"): "API_WORKERS",
    (TrainOptions, "n_components"): "NMF_N_COMPONENTS",
    (TrainOptions, "random_state"): "NMF_RANDOM_STATE",
}
_YES = ("1", "true", "yes", "on")


def with_other_names(
    spec: type[Options], values: Mapping[str, Any], unsaid: Collection[str], say: Callable[[str], None]
) -> dict[str, Any]:
    """The values of one class of options, those of variables by other names in place of defaults.

    Parameters
    ----------
    unsaid : names of options that nothing says: neither typed, nor in our variable, nor in the file of --config

    Raises UsageError for a text that is no value of the option.
    """
    found = dict(values)
    for (of, name), variable in OTHER_NAMES.items():
        text = os.environ.get(variable, "").strip()
        if of is not spec or name not in unsaid or not text:
            continue
        kind = types_of(spec)[name]
        try:
            found[name] = kind.parse(text)
        except ValueError:
            raise UsageError(f"{variable}: {text!r} is not {kind.choices}") from None
        say(f"{name} {found[name]} is from {variable}")
    return found


def is_debug(arguments: Sequence[str]) -> bool:
    """Whether DEBUG asks `serve` for tracebacks; other programs give it other values, which say nothing."""
    return "serve" in arguments[:1] and os.environ.get("DEBUG", "").strip().lower() in _YES
