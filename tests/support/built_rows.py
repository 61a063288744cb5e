"""Blocks of rows read by the builder of interactions, and its slow twin."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipeline.data.sources.builder import InteractionsBuilder, ReadResult


def read(table, **options) -> ReadResult:
    builder = InteractionsBuilder(**options)
    builder.add(table if isinstance(table, pa.Table | pa.RecordBatch) else pa.table(table))
    return builder.finish()


def rows_of(result: ReadResult) -> list[tuple]:
    """(user, item, score, milliseconds or None) of each interaction."""
    x = result.interactions
    at = [None] * len(x) if x.at is None else x.at.astype(np.int64).tolist()
    return list(
        zip(x.user_ids.ids(x.users).tolist(), x.item_ids.ids(x.items).tolist(), x.scores.tolist(), at, strict=True)
    )
