"""The ids of a saved model, as its metadata lists them: of one kind, short enough, in order, with their checksums."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.id_map import MAX_ID_LENGTH, IdMap, as_ids
from pipeline.errors import ArtifactError, InputError

__all__ = ["both_ids"]


def both_ids(path: Path, metadata: Mapping[str, Any]) -> tuple[IdMap, IdMap]:
    """Users and items of the metadata that was read from `path`. Raises ArtifactError, which names it."""
    try:
        return _ids(metadata, "user_ids"), _ids(metadata, "movie_ids")
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None


def _ids(metadata: Mapping[str, Any], key: str) -> IdMap:
    values = metadata[key]
    kinds = {type(value) for value in values}
    if kinds - {int} and kinds - {str}:
        raise ArtifactError(f"{key} are neither all integers nor all strings")
    # Checked before the array is made, which gives every id the width of the longest.
    if kinds == {str} and max(map(len, values)) > MAX_ID_LENGTH:
        raise ArtifactError(f"{key}: Ids must be at most {MAX_ID_LENGTH} characters long")
    try:
        ids = IdMap(as_ids(np.array(values, dtype=str if kinds == {str} else np.int64)))
    except (InputError, OverflowError) as error:
        raise ArtifactError(f"{key}: {error}") from None
    digests = metadata.get("id_digests")
    if ids.values.size and (not isinstance(digests, dict) or digests.get(key) != ids.digest):
        raise ArtifactError(f"{key} have a wrong checksum: they are damaged or were changed after training")
    return ids
