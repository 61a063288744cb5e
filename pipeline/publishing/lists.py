"""Lists as flat columns, and as Arrow rows of the recommendations table: with version, run and time of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["Lineage", "Recommendations", "as_rows", "from_rows"]


@dataclass(frozen=True, eq=False)
class Recommendations:
    """Flat columns of shape (n,), as they are written to the table.

    user_ids, item_ids : int64 or str; ranks : uint16 from 1; scores : float32; sources : str
    """

    user_ids: NDArray[np.generic]
    ranks: NDArray[np.uint16]
    item_ids: NDArray[np.generic]
    scores: NDArray[np.float32]
    sources: NDArray[np.str_]


@dataclass(frozen=True)
class Lineage:
    """What all rows of a batch say alike.

    Attributes
    ----------
    model_version, run_id : of the model
    generated_at_ms : when the batch began, by the warehouse's clock, milliseconds since 1970
    """

    model_version: str
    run_id: str
    generated_at_ms: int


def as_rows(block: Recommendations, lineage: Lineage) -> pa.Table:
    """The rows of the table, in the order of its columns."""
    n = block.ranks.size
    return pa.table(
        {
            "user_id": pa.array(block.user_ids),
            "rank": pa.array(block.ranks),
            "item_id": pa.array(block.item_ids),
            "score": pa.array(block.scores),
            "source": pa.array(block.sources, pa.string()),
            "model_version": pa.repeat(lineage.model_version, n),
            "run_id": pa.repeat(lineage.run_id, n),
            "generated_at": pa.repeat(pa.scalar(lineage.generated_at_ms, pa.timestamp("ms", "UTC")), n),
        }
    )


def from_rows(rows: pa.Table) -> Recommendations:
    """The columns of `as_rows` again."""
    columns = [_array(rows.column(name)) for name in ("user_id", "rank", "item_id", "score", "source")]
    return Recommendations(*columns)


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if pa.types.is_dictionary(column.type):
        column, text = column.cast(column.type.value_type), True
    values: NDArray[Any] = column.to_numpy()
    return values.astype(str) if text else values
