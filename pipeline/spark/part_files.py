"""Interactions read in parts, by tasks: each reads row groups of a Parquet file, and later sorts a range of users.

Files in the folder, all without headers, of native byte order:

    part-N.npz                   as read: codes into the part's own ids, these ids, scores, times, rows of each user
    users.npy, items.npy         the ids of all parts, sorted, each once: a dense integer is the position in it
    part-N.COLUMN                as read, in dense integers, one range of users after the other
    users, items, scores, at     all interactions, sorted as `sort_interactions` sorts them
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.data.block_files import replacing
from pipeline.data.id_map import IdMap
from pipeline.data.interactions import Interactions
from pipeline.data.prepare import sort_interactions
from pipeline.data.sources.builder import InteractionsBuilder, OnBadRows
from pipeline.data.sources.columns import ChosenColumns, Columns
from pipeline.errors import InputError
from pipeline.models.solvers.block_steps import FileArray

__all__ = ["COLUMNS", "Part", "PartRead", "Range", "RangeFiles", "groups_of", "order_range", "read_part", "spread_part"]

COLUMNS = {"users": np.int32, "items": np.int32, "scores": np.float32, "at": np.int64}


class Part(NamedTuple):
    """What one task reads: row groups of a file, whose first row has this number."""

    number: int
    file: str
    groups: tuple[int, ...]
    first: int
    several: bool


class PartRead(NamedTuple):
    """What reading a part found.

    kinds : of the ids of users and of items, ``int`` or ``str``; "" where there is no row
    """

    n_rows: int
    n_bad: int
    bad_rows: list[dict[str, Any]]
    columns: ChosenColumns | None
    notes: tuple[str, ...]
    kinds: tuple[str, str]
    times: bool


class Range(NamedTuple):
    """Users first … end − 1, whose interactions stand from `at` on among all."""

    number: int
    first: int
    end: int
    at: int


def groups_of(file: Path, rows: int) -> list[tuple[tuple[int, ...], int, int]]:
    """The row groups of a Parquet file in parts of some `rows` each: groups, number of the first row, rows.

    Raises InputError for a file that is missing or is none.
    """
    try:
        with pq.ParquetFile(file) as opened:
            sizes = [opened.metadata.row_group(i).num_rows for i in range(opened.metadata.num_row_groups)]
    except FileNotFoundError:
        raise InputError(f"{file}: no such file. Correct --input.") from None
    except (OSError, ValueError) as error:  # Arrow's are ValueErrors
        raise InputError(f"{file} is no good parquet file ({str(error).splitlines()[0][:200]})") from None
    parts, groups, first, n = [], list[int](), 1, 0
    for group, size in enumerate(sizes):
        groups.append(group)
        n += size
        if n >= rows or group == len(sizes) - 1:
            parts.append((tuple(groups), first, n))
            groups, first, n = [], first + n, 0
    return parts


def read_part(folder: str, columns: Columns, on_bad_rows: OnBadRows, part: Part) -> PartRead:
    """Read a part, and store it. Raises as `read_file`."""
    from pipeline.data.sources.files import read_parquet

    builder = InteractionsBuilder(columns, on_bad_rows, part.file)
    builder.begin(part.file, "file", columns, "row", one_of_many=part.several, first=part.first)
    try:
        read_parquet(Path(part.file), part.file, builder, None, part.groups)
    except FileNotFoundError:
        raise InputError(f"{part.file} is gone, or not every executor sees it: put it where all of them do") from None
    read = builder.finish()
    x = read.interactions
    arrays: dict[str, NDArray[Any]] = {
        "users": x.users, "items": x.items, "scores": x.scores, "user_ids": x.user_ids.values,
        "item_ids": x.item_ids.values, "rows": np.bincount(x.users, minlength=len(x.user_ids)),
    }  # fmt: skip
    if x.at is not None:
        arrays["at"] = x.at.astype(np.int64)
    np.savez(Path(folder) / f"part-{part.number}.npz", allow_pickle=False, **arrays)
    kinds = (x.user_ids.kind, x.item_ids.kind) if len(x) else ("", "")
    return PartRead(read.n_rows, read.n_bad, read.bad_rows, read.columns, read.notes, kinds, x.at is not None)


def spread_part(folder: str, cuts: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Store a part anew in dense integers, a range of users after the other; where each begins in it (ranges + 1,)."""
    place = Path(folder)
    with np.load(place / f"part-{number}.npz", allow_pickle=False) as part:
        dense = {
            side: _dense(place / f"{side}.npy", part[f"{side[:-1]}_ids"])[part[side]] for side in ("users", "items")
        }
        columns = {**dense, "scores": part["scores"], **({"at": part["at"]} if "at" in part.files else {})}
    of_range = np.searchsorted(cuts, columns["users"], "right") - 1
    order = np.argsort(of_range, kind="stable")
    for name, values in columns.items():
        with replacing(place / f"part-{number}.{name}") as file:
            file.write(np.ascontiguousarray(values[order]).data)
    starts = np.zeros(cuts.size, np.int64)
    np.cumsum(np.bincount(of_range, minlength=cuts.size - 1), out=starts[1:])
    return starts


def _dense(table: Path, ids: NDArray[Any]) -> NDArray[np.int32]:
    """The dense integer of each id of a part."""
    known = np.load(table, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    return np.searchsorted(known, ids.astype(known.dtype, copy=False)).astype(np.int32)


class RangeFiles(NamedTuple):
    """What `order_range` needs besides its range.

    parts : their numbers, in order, and what `spread_part` gave for each
    columns : where all interactions are to stand, by name
    """

    folder: str
    parts: Sequence[tuple[int, NDArray[np.int64]]]
    columns: dict[str, FileArray]


def order_range(files: RangeFiles, users: Range) -> None:
    """Sort the interactions of a range of users, from all parts in their order, and store them in their place."""
    folder = Path(files.folder)
    read: dict[str, list[NDArray[Any]]] = {name: [] for name in files.columns}
    for number, starts in files.parts:
        first, end = int(starts[users.number]), int(starts[users.number + 1])
        for name, chunks in read.items():
            dtype = np.dtype(COLUMNS[name])
            with (folder / f"part-{number}.{name}").open("rb") as file:
                file.seek(first * dtype.itemsize)
                chunks.append(np.fromfile(file, dtype, end - first))
    columns = {name: np.concatenate(chunks) for name, chunks in read.items()}
    ids = {side: IdMap(np.load(folder / f"{side}.npy", allow_pickle=False)) for side in ("users", "items")}
    at = columns["at"].view("datetime64[ms]") if "at" in columns else None
    ordered = sort_interactions(
        Interactions(columns["users"], columns["items"], columns["scores"], ids["users"], ids["items"], at)
    )
    for name, file_array in files.columns.items():
        values = getattr(ordered, name)
        file_array.put(users.at, values.view(np.int64) if name == "at" else values)
