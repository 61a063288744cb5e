"""What the champion learned from: its ids, up to when its interactions go, and by which options."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.id_map import IdMap
from pipeline.errors import ArtifactError, InputError
from pipeline.models.model_files import DEFAULT_NAMES, METADATA, load_ids
from pipeline.tracking import champion, registry
from pipeline.tracking.lookup import RunRef, text_of

__all__ = [
    "ChampionReference",
    "champion_reference",
    "earlier_references",
    "newest_interaction",
    "parameters_of",
]

_GATE = "data_gate.json"


@dataclass(frozen=True, eq=False)
class ChampionReference:
    """Attributes
    ----------
    label : ``rankline/3``
    version, run_id : in MLflow
    model : its name, which is the `source` of the rows that it ranks: ``nmf``
    source : ``warehouse`` or ``file``; "" if unknown
    users, items : the ids that it knows
    learned_ms : its newest interaction, milliseconds since 1970; None where its run does not say, or without times
    """

    label: str
    version: str
    run_id: str
    model: str
    source: str
    users: IdMap
    items: IdMap
    learned_ms: int | None


def champion_reference(model: str = registry.MODEL_NAME) -> ChampionReference:
    """The reference of the registered model's champion.

    Raises InputError where no version is champion or its run is gone, ArtifactError where its ids can't be read.
    """
    version = champion.champion(model)
    if version is None:
        typed = "" if model == registry.MODEL_NAME else f" --name {model}"
        raise InputError(
            f"No version of {model} is champion, so there is nothing to drift from: rankline promote{typed}"
        )
    return _reference(version)


def earlier_references(model: str = registry.MODEL_NAME, most: int = 3) -> Iterator[ChampionReference]:
    """Those of the champions before, the latest first, as far as they are still there and can be read."""
    versions = dict.fromkeys(reversed(champion.history(model)))
    for number in list(versions)[1 : 1 + most]:
        with suppress(InputError):  # deleted, or damaged
            yield _reference(registry.resolve(f"{model}/{number}"))


def parameters_of(version: registry.ModelVersion) -> object:
    """The options that the version was trained by, as its metadata has them. Raises as `champion_reference`."""
    return _ids_and_metadata(version)[2].get("parameters")


def newest_interaction(run: RunRef) -> int | None:
    """The time of the newest interaction that the run read, milliseconds since 1970; None where it says none.

    Raises ServerError.
    """
    return _newest(text_of(run, _GATE))


def _ids_and_metadata(version: registry.ModelVersion) -> tuple[IdMap, IdMap, Mapping[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
        try:
            with registry.signature_named(version):
                return load_ids(registry.download(version, Path(scratch), (METADATA,)))
        except OSError as error:
            raise ArtifactError(f"the {METADATA} of {version.label} can't be read ({error.strerror})") from None


def _reference(version: registry.ModelVersion) -> ChampionReference:
    users, items, meta = _ids_and_metadata(version)
    learned = newest_interaction(RunRef(version.run_id, version.label, "", version.version))
    kind = meta.get("kind")
    name = meta.get("model") or (DEFAULT_NAMES.get(kind) if isinstance(kind, str) else None) or ""  # type: ignore[call-overload]  # any text
    return ChampionReference(
        version.label, version.version, version.run_id, str(name), str(meta.get("source") or ""), users, items, learned
    )


def _newest(text: str | None) -> int | None:
    """The time of the newest interaction in the text of data_gate.json; None where it says none."""
    try:
        newest = json.loads(text or "")["facts"]["newest"]
        at = np.datetime64(newest, "ms").astype(np.int64) if isinstance(newest, str) else math.nan
    except (ValueError, KeyError, TypeError):
        return None
    return None if isinstance(at, float) else int(at)
