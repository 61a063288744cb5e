"""Reads a Parquet file of somebody else's without filling the memory: its sizes are looked at before its rows."""

from __future__ import annotations

from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ArtifactError
from pipeline.models.safe_files import opened, whole
from pipeline.runtime.memory import memory_limit

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["bounded_table"]

_UNKNOWN_ROOM = 4 << 30  # bytes, where the free memory is not known
_LONGEST_ID = 4096  # bytes
_LARGEST_FOOTER = 16 << 20  # bytes
_CELL = 16  # bytes in memory: the value and what belongs to it, or a text's offset


def bounded_table(folder: Path, name: str, most_columns: int) -> pa.Table:
    """The table in a file of the folder.

    Raises ArtifactError where it has more columns, longer texts, or takes more memory than there is. A few bytes may
    state billions of values or of characters, so both are counted before any are made.
    """
    import pyarrow.parquet as pq

    limits: dict[str, Any] = {"thrift_string_size_limit": _LARGEST_FOOTER, "thrift_container_size_limit": 1_000_000}
    with opened(folder, name) as file:
        with pq.ParquetFile(file, **limits) as parquet:
            metadata = parquet.metadata
            if metadata.num_columns > most_columns:
                raise ArtifactError(f"it has {metadata.num_columns:,} columns, and {most_columns:,} at most are usual")
            chunks = [
                metadata.row_group(i).column(j)
                for i in range(metadata.num_row_groups)
                for j in range(metadata.num_columns)
            ]
            texts = sorted({chunk.path_in_schema for chunk in chunks if chunk.physical_type == "BYTE_ARRAY"})
            n_texts = sum(chunk.num_values for chunk in chunks if chunk.path_in_schema in texts)
            takes = sum(chunk.total_uncompressed_size + chunk.num_values * _CELL for chunk in chunks)
            _fits(max(takes, metadata.num_rows * _CELL, whole(file).length))
        longest = _longest(file, texts, limits)
        if longest > _LONGEST_ID:
            raise ArtifactError(f"it has a text of {longest:,} bytes, and an id has {_LONGEST_ID:,} at most")
        _fits(takes + n_texts * longest * 4)  # as numpy has it
        file.seek(0)
        with pq.ParquetFile(file, **limits) as parquet:
            return parquet.read()


def _longest(file: BufferedReader, texts: list[str], limits: dict[str, Any]) -> int:
    """The bytes of the longest text. Each different one is read once a part of the file, however often it comes."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    longest = 0
    file.seek(0)
    with pq.ParquetFile(file, read_dictionary=texts, **limits) as parquet:
        for i in range(parquet.metadata.num_row_groups if texts else 0):
            for column in parquet.read_row_group(i, columns=texts).columns:
                for chunk in column.chunks:
                    values = chunk.flatten() if pa.types.is_list(chunk.type) else chunk
                    different = values.dictionary if pa.types.is_dictionary(values.type) else values
                    longest = max(longest, pc.max(pc.binary_length(different)).as_py() or 0)
    return longest


def _fits(n_bytes: int) -> None:
    limit = memory_limit()
    room = limit.free if limit is not None else _UNKNOWN_ROOM
    if n_bytes > room:
        raise ArtifactError(f"it takes {n_bytes / 2**30:,.1f} GiB of memory, and {room / 2**30:,.1f} GiB are free")
