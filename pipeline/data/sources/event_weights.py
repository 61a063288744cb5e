"""Kinds of events → scores, by the weight of each kind."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.data.sources.values import plain

__all__ = ["weigh"]


def weigh(
    column: pa.ChunkedArray, weights: Mapping[str, float]
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """The weight of each event, (n,) float32, and which have none."""
    kinds = pc.utf8_trim_whitespace(plain(column).cast(pa.large_string()))
    positions = pc.fill_null(pc.index_in(kinds, value_set=pa.array(list(weights), pa.large_string())), -1)
    codes = positions.to_numpy().astype(np.intp)
    scores = np.append(np.array(list(weights.values()), np.float32), np.float32(0))[codes]
    bad = codes < 0
    return scores, bad if bad.any() else None
